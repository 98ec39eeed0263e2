"""Numbers from predictions, by scikit-learn's definitions; fake is the positive class."""

from typing import Any

import numpy as np

from fakeimg.scoring import Predictions

SCALARS = ('loss', 'accuracy', 'precision', 'recall', 'f1', 'auc', 'average_precision')


def compute_metrics(predictions: Predictions, threshold: float = 0.5) -> dict[str, Any]:
    """Returns the metrics of a split as plain numbers.

    `n`, `skipped`, `loss` (binary cross-entropy, nats), `threshold` on P(fake), `accuracy`, `precision`,
    `recall`, `f1`, `auc` (area under the ROC curve), `average_precision`, `confusion` (`tp`, `fp`, `tn`, `fn`).
    What a split of one class or of nothing does not define is None.
    """
    labels, scores = predictions.labels, predictions.probabilities
    decided = (scores >= threshold).astype(np.int32)
    tn, fp, fn, tp = (int(count) for count in np.bincount(2 * labels + decided, minlength=4))
    logits = predictions.logits.astype(np.float64)
    losses = np.logaddexp(0, logits) - labels * logits
    return {
        'n': len(labels),
        'skipped': predictions.skipped,
        'loss': _rounded(losses.mean() if len(labels) else None),
        'threshold': threshold,
        'accuracy': _ratio(tp + tn, len(labels)),
        'precision': _ratio(tp, tp + fp),
        'recall': _ratio(tp, tp + fn),
        'f1': _ratio(2 * tp, 2 * tp + fp + fn),
        'auc': _rounded(roc_auc(labels, logits)),
        'average_precision': _rounded(average_precision(labels, logits)),
        'confusion': {'tp': tp, 'fp': fp, 'tn': tn, 'fn': fn},
    }


def roc_auc(labels: np.ndarray, logits: np.ndarray) -> float | None:
    """Area under the ROC curve, ranked by logit: probabilities near 0 and 1 tie in floats. None for one class."""
    # scikit-learn takes a second to import, which a mistake on the command line should not have to wait for.
    import sklearn.metrics

    return float(sklearn.metrics.roc_auc_score(labels, logits)) if _has_both(labels) else None


def average_precision(labels: np.ndarray, logits: np.ndarray) -> float | None:
    """Area under the precision-recall curve as a step function, ranked by logit. None for one class."""
    import sklearn.metrics

    return float(sklearn.metrics.average_precision_score(labels, logits)) if _has_both(labels) else None


def _has_both(labels: np.ndarray) -> bool:
    return 0 < labels.sum() < len(labels)


def one_line(metrics: dict[str, Any]) -> str:
    """The main metrics, for a line of text."""
    shown = [f'{name} {metrics[name]:.4f}' for name in ('accuracy', 'auc', 'f1', 'loss') if metrics[name] is not None]
    skipped = f', {metrics["skipped"]} unreadable' if metrics['skipped'] else ''
    return f'{", ".join(shown)} (n = {metrics["n"]:,}{skipped})'


def _ratio(part: int, whole: int) -> float | None:
    return _rounded(part / whole if whole else None)


def _rounded(value: float | None) -> float | None:
    # Finer digits of a float32 sum depend on how the batch was split over devices.
    return None if value is None else round(float(value), 6)

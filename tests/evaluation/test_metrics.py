import numpy as np
import pytest
import sklearn.metrics

from fakeimg.evaluation.metrics import compute_metrics
from fakeimg.scoring import Predictions


def predictions(labels: np.ndarray, logits: np.ndarray, skipped: int = 0) -> Predictions:
    names = [str(index) for index in range(len(labels))]
    return Predictions(names, labels.astype(np.int32), logits.astype(np.float32), skipped)


def test_metrics_equal_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 500)
    logits = random.normal(size=500) + labels - 0.8
    scored = predictions(labels, logits, skipped=3)
    metrics = compute_metrics(scored, threshold=0.4)
    scores = scored.probabilities
    decided = scores >= 0.4
    assert metrics['n'] == 500
    assert metrics['skipped'] == 3
    for name, expected in {
        'accuracy': sklearn.metrics.accuracy_score(labels, decided),
        'precision': sklearn.metrics.precision_score(labels, decided),
        'recall': sklearn.metrics.recall_score(labels, decided),
        'f1': sklearn.metrics.f1_score(labels, decided),
        'auc': sklearn.metrics.roc_auc_score(labels, scores),
        'average_precision': sklearn.metrics.average_precision_score(labels, scores),
        'loss': sklearn.metrics.log_loss(labels, scores),
    }.items():
        assert metrics[name] == pytest.approx(expected, abs=1e-6), name
    tn, fp, fn, tp = sklearn.metrics.confusion_matrix(labels, decided).ravel()
    assert metrics['confusion'] == {'tp': tp, 'fp': fp, 'tn': tn, 'fn': fn}


def test_fake_is_the_positive_class() -> None:
    metrics = compute_metrics(predictions(np.array([1, 1, 0]), np.array([5.0, -5.0, -5.0])))
    assert metrics['confusion'] == {'tp': 1, 'fn': 1, 'tn': 1, 'fp': 0}
    assert metrics['precision'] == 1.0
    assert metrics['recall'] == 0.5


def test_what_one_class_does_not_define_is_none() -> None:
    metrics = compute_metrics(predictions(np.zeros(4), np.full(4, -1.0)))
    assert metrics['auc'] is None
    assert metrics['average_precision'] is None
    assert metrics['precision'] is None
    assert metrics['accuracy'] == 1.0
    assert compute_metrics(predictions(np.zeros(0), np.zeros(0)))['accuracy'] is None


def test_extreme_logits_neither_overflow_nor_tie() -> None:
    scored = predictions(np.array([0, 1, 1, 0]), np.array([-1000.0, 200.0, 100.0, 50.0]))
    np.testing.assert_array_equal(scored.probabilities > 0.5, [False, True, True, True])
    assert np.isfinite(compute_metrics(scored)['loss'])
    assert compute_metrics(scored)['auc'] == 1.0  # as probabilities, the last three would be equal

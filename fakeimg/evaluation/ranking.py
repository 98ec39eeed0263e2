"""Metrics over scores that are sorted once: each takes many resamples of the images at the same time."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

PARTIAL_FPR = 0.1
FPRS = {'tpr_at_fpr_5': 0.05, 'tpr_at_fpr_1': 0.01, 'tpr_at_fpr_0.1': 0.001}


@dataclasses.dataclass(frozen=True)
class Ranked:
    """Labels and scores, the highest score first.

    Attributes:
        order: int[n], places of the sorted images in the caller's arrays.
        labels: int[n], sorted.
        logits: float64[n], sorted, descending.
        ends: int[m], place of the last image of each distinct score.
    """

    order: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, logits: np.ndarray) -> 'Ranked':
        """Sorts int[n] of 0 and 1 and float[n]."""
        order = np.argsort(-logits, kind='stable')
        ordered = logits[order].astype(np.float64)
        ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(ordered) else np.zeros(0, int)
        return cls(order, labels[order], ordered, ends)

    def count(self, counts: np.ndarray | None = None) -> 'Counts':
        """Counts of resamples, int[d, n] in the caller's order; None counts each image once (d = 1)."""
        counts = np.ones((1, len(self.order)), np.int32) if counts is None else counts[:, self.order]
        fake = counts * self.labels.astype(counts.dtype)
        return Counts(_running(fake, self.ends), _running(counts - fake, self.ends))

    def place(self, called: np.ndarray) -> int:
        """Which entry of `Counts` calls these fake: bool[n] in the caller's order, all above a threshold."""
        return int(np.searchsorted(self.ends, called.sum()))


def _running(counts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    running = np.zeros((len(counts), len(ends) + 1))
    running[:, 1:] = np.cumsum(counts, axis=1, dtype=counts.dtype)[:, ends]
    return running


@dataclasses.dataclass(frozen=True)
class Counts:
    """Images called fake at every threshold: none first, then down to each distinct score, all last.

    Attributes:
        tp: float64[d, m + 1], fake images called fake, in d resamples.
        fp: float64[d, m + 1], real images called fake.

    A metric is float64[d]; NaN where a resample does not define it.
    """

    tp: np.ndarray
    fp: np.ndarray

    @functools.cached_property
    def tpr(self) -> np.ndarray:
        with np.errstate(invalid='ignore'):
            return self.tp / self.tp[:, -1:]

    @functools.cached_property
    def fpr(self) -> np.ndarray:
        with np.errstate(invalid='ignore'):
            return self.fp / self.fp[:, -1:]

    def auc(self) -> np.ndarray:
        """Area under the ROC curve by trapezoids, so ties count half."""
        return _area(self.fpr, self.tpr)

    def partial_auc(self) -> np.ndarray:
        """Area up to `PARTIAL_FPR`, scaled so that chance is 0.5 (McClish, Medical Decision Making 9, 1989)."""
        x, y = self.fpr, self.tpr
        last = int((x < PARTIAL_FPR).sum(1).max(initial=0)) + 1  # beyond it nothing counts
        x, y = x[:, : last + 1], y[:, : last + 1]
        left, right = (np.minimum(part, PARTIAL_FPR) for part in (x[:, :-1], x[:, 1:]))
        with np.errstate(invalid='ignore', divide='ignore'):
            slope = np.where(x[:, 1:] > x[:, :-1], np.diff(y, axis=1) / np.diff(x, axis=1), 0)
        upper = y[:, :-1] + slope * (right - x[:, :-1])
        area = ((right - left) * (y[:, :-1] + upper) / 2).sum(1)
        chance = PARTIAL_FPR**2 / 2
        return (1 + (area - chance) / (PARTIAL_FPR - chance)) / 2

    def average_precision(self) -> np.ndarray:
        """Area under the precision-recall curve as a step function, as scikit-learn defines it."""
        with np.errstate(invalid='ignore', divide='ignore'):
            precision = np.where(self.tp[:, 1:] > 0, self.tp[:, 1:] / (self.tp + self.fp)[:, 1:], 0)
        return np.where(self.fp[:, -1] > 0, (np.diff(self.tpr, axis=1) * precision).sum(1), np.nan)

    def eer(self) -> np.ndarray:
        """Equal error rate: where the ROC curve, its points joined by lines, has FPR = 1 - TPR."""
        gap = self.fpr + self.tpr - 1  # from -1 to 1, never falling
        after = np.clip((gap < 0).sum(1), 1, gap.shape[1] - 1)
        rows = np.arange(len(gap))
        first, last = gap[rows, after - 1], gap[rows, after]
        share = np.clip(-first / np.where(last > first, last - first, 1), 0, 1)
        rate = self.fpr[rows, after - 1] + share * (self.fpr[rows, after] - self.fpr[rows, after - 1])
        return np.where(np.isnan(last), np.nan, rate)

    def tpr_at(self, fpr: float) -> np.ndarray:
        """The largest TPR of a threshold whose FPR is at most `fpr`."""
        allowed = np.floor(fpr * self.fp[:, -1:] + 1e-9)
        place = (self.fp <= allowed).sum(1) - 1
        rate = self.tpr[np.arange(len(self.tp)), place]
        return np.where(self.fp[:, -1] > 0, rate, np.nan)

    def decisions(self, place: int) -> dict[str, np.ndarray]:
        """The metrics of decisions at one threshold, see `Ranked.place`."""
        return decision_metrics(self.tp[:, place], self.fp[:, place], self.tp[:, -1], self.fp[:, -1])

    def best_place(self) -> int:
        """Of the first resample: the strictest threshold with the highest balanced accuracy."""
        return int(np.argmax(self.tpr[0] - self.fpr[0]))


def decision_metrics(tp: np.ndarray, fp: np.ndarray, fake: np.ndarray, real: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of decisions, each float64[d], from float64[d] of images called fake and of all; NaN where undefined."""
    fn, tn = fake - tp, real - fp
    with np.errstate(invalid='ignore', divide='ignore'):
        root = np.sqrt((tp + fp) * fake * real * (tn + fn))
        return {
            'accuracy': (tp + tn) / (fake + real),
            'balanced_accuracy': (tp / fake + tn / real) / 2,
            'precision': tp / (tp + fp),
            'recall': tp / fake,
            'specificity': tn / real,
            'f1': 2 * tp / (2 * tp + fp + fn),
            'f1_real': 2 * tn / (2 * tn + fp + fn),
            # scikit-learn's convention where all images are called the same: 0.
            'mcc': np.where((root == 0) & (fake * real > 0), 0, (tp * tn - fp * fn) / root),
            'fpr': fp / real,
        }


def _area(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.diff(x, axis=1) * (y[:, 1:] + y[:, :-1]) / 2).sum(1)


def thin(points: Sequence[np.ndarray], most: int = 400) -> list[list[float]]:
    """Rows of plain numbers from arrays float[m], to six digits, at most `most` of them, ends included."""
    rows = np.round(np.stack(points, axis=1), 6)
    if len(rows) > most:
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int))]
    return rows.tolist()

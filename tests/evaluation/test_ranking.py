from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from fakeimg.evaluation.ranking import Counts, Ranked, decision_metrics, thin

ROWS = st.lists(st.tuples(st.booleans(), st.integers(-4, 4), st.integers(0, 3)), min_size=1, max_size=40)


def _eer(labels: np.ndarray, scores: np.ndarray) -> float:
    fpr, tpr, _ = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
    grid = np.linspace(0, 1, 200_001)
    # Along the curve itself, not along FPR: it has vertical parts.
    at = np.linspace(0, len(fpr) - 1, len(grid))
    x, y = (np.interp(at, np.arange(len(fpr)), rate) for rate in (fpr, tpr))
    return float(x[np.argmin(np.abs(x + y - 1))])


METRICS: dict[str, tuple[Callable[[Counts], np.ndarray], Callable[..., float], float]] = {
    'auc': (Counts.auc, sklearn.metrics.roc_auc_score, 1e-12),
    'partial_auc': (Counts.partial_auc, lambda y, s: sklearn.metrics.roc_auc_score(y, s, max_fpr=0.1), 1e-12),
    'average_precision': (Counts.average_precision, sklearn.metrics.average_precision_score, 1e-12),
    'eer': (Counts.eer, _eer, 1e-3),
}


@given(ROWS)
def test_metrics_of_resamples_are_scikit_learns_of_repeated_images(rows: list[tuple[bool, int, int]]) -> None:
    labels = np.array([row[0] for row in rows], int)
    scores, counts = (np.array([row[place] for row in rows]) for place in (1, 2))
    found = Ranked.of(labels, scores / 2).count(np.stack([np.ones(len(rows), int), counts]))
    for draw, repeated in enumerate((np.ones(len(rows), int), counts)):
        y, s = np.repeat(labels, repeated), np.repeat(scores / 2, repeated)
        for name, (ours, theirs, tolerance) in METRICS.items():
            value = ours(found)[draw]
            if 0 < y.sum() < len(y):
                assert value == pytest.approx(theirs(y, s), abs=tolerance), name
            else:
                assert np.isnan(value), name


@given(ROWS, st.floats(0, 1))
def test_the_tpr_at_an_fpr_is_that_of_the_best_threshold(rows: list[tuple[bool, int, int]], limit: float) -> None:
    labels, scores = np.array([row[0] for row in rows], int), np.array([row[1] for row in rows])
    if not 0 < labels.sum() < len(labels):
        return
    fpr, tpr, _ = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
    assert Ranked.of(labels, scores).count().tpr_at(limit)[0] == pytest.approx(tpr[fpr <= limit + 1e-9].max())


@given(ROWS, st.integers(-5, 5))
def test_decisions_are_scikit_learns(rows: list[tuple[bool, int, int]], threshold: int) -> None:
    labels, scores = np.array([row[0] for row in rows], int), np.array([row[1] for row in rows])
    called = (scores >= threshold).astype(int)
    ranked = Ranked.of(labels, scores)
    found = {name: float(value[0]) for name, value in ranked.count().decisions(ranked.place(called)).items()}
    m: Any = sklearn.metrics
    expected = {
        'accuracy': m.accuracy_score(labels, called),
        'precision': m.precision_score(labels, called, zero_division=np.nan),
        'recall': m.recall_score(labels, called, zero_division=np.nan),
        'specificity': m.recall_score(labels, called, pos_label=0, zero_division=np.nan),
        'f1': m.f1_score(labels, called, zero_division=np.nan),
        'f1_real': m.f1_score(labels, called, pos_label=0, zero_division=np.nan),
    }
    if 0 < labels.sum() < len(labels):
        expected['balanced_accuracy'] = m.balanced_accuracy_score(labels, called)
        expected['mcc'] = m.matthews_corrcoef(labels, called)
        expected['fpr'] = 1 - expected['specificity']
    else:
        assert np.isnan(found['mcc']) and np.isnan(found['balanced_accuracy'])
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, nan_ok=True), name


def test_the_best_threshold_and_thin_curves() -> None:
    ranked = Ranked.of(np.array([0, 1, 0, 1, 1]), np.array([0.0, 1, 2, 3, 4]))
    counts = ranked.count()
    assert (counts.tp[0, counts.best_place()], counts.fp[0, counts.best_place()]) == (2, 0)
    assert thin((np.arange(5.0),), 3) == [[0], [2], [4]]
    assert np.isnan(decision_metrics(*np.zeros((4, 1)))['accuracy'][0])

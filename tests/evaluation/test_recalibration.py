import numpy as np
import pytest
import scipy.special
import sklearn.linear_model
import sklearn.metrics
from hypothesis import given, settings

from fakeimg.errors import UserError
from fakeimg.evaluation import recalibration
from fakeimg.evaluation.calibration import log_loss
from tests.evaluation.test_calibration import scored, simulated

METHODS = [recalibration.temperature, recalibration.platt]


@pytest.mark.parametrize('seed', range(3))
def test_platt_equals_logistic_regression_on_its_targets(seed: int) -> None:
    labels, logits = simulated(400, slope=0.3, seed=seed)
    found = recalibration.platt(labels, 5 * logits - 7)
    fakes, reals = labels.sum(), (1 - labels).sum()
    targets = np.where(labels == 1, (fakes + 1) / (fakes + 2), 1 / (reals + 2))
    model = sklearn.linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.tile(logits, 2)[:, None], np.repeat([1, 0], 400), sample_weight=np.concatenate([targets, 1 - targets])
    )
    expected = model.coef_[0, 0] * logits + model.intercept_[0]
    np.testing.assert_allclose(found.apply(5 * logits - 7), expected, atol=1e-4)


@pytest.mark.parametrize('slope', [0.1, 1, 20])
def test_temperature_is_the_best_of_a_search(slope: float) -> None:
    labels, logits = simulated(5000)
    found = recalibration.temperature(labels, logits * slope)
    losses = {factor: log_loss(labels, logits * slope * factor) for factor in np.geomspace(0.01, 20, 400)}
    assert found.slope == pytest.approx(min(losses, key=lambda factor: losses[factor]), rel=0.03)
    assert found.slope * slope == pytest.approx(1, abs=0.1)
    assert found.intercept == 0


@settings(max_examples=20, deadline=None)
@given(scored())
def test_fits_are_finite_and_keep_the_order(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = case
    for method in (*METHODS, recalibration.choose):
        found = method(labels, logits)
        assert np.isfinite([found.slope, found.intercept]).all() and found.slope > 0
        order = np.argsort(logits)
        assert (np.diff(found.apply(logits)[order]) >= 0).all()
    assert log_loss(labels, recalibration.choose(labels, logits).apply(logits)) <= log_loss(labels, logits)


def test_degenerate_sets() -> None:
    separable, rising = np.repeat([0, 1], 50), np.linspace(-1, 1, 100)
    for method in METHODS:
        scores = scipy.special.expit(method(separable, rising).apply(rising))
        assert 0.9 < scores.max() < 1  # not without bound, though no error speaks against it
        falling = method(separable, -rising)
        assert 0 < falling.slope < 0.01
    constant = recalibration.platt(np.repeat([0, 1], (30, 10)), np.full(40, 3.0))
    assert scipy.special.expit(constant.apply(np.array([3.0]))) == pytest.approx(0.25, abs=0.02)
    assert recalibration.temperature(separable, np.zeros(100)).slope == 1
    one = recalibration.platt(np.zeros(50, int), np.linspace(-1, 1, 50))
    assert scipy.special.expit(one.apply(np.array([0.0]))) == pytest.approx(1 / 52, abs=0.01)
    for labels in (np.zeros(50, int), np.ones(50, int), np.eye(1, 50, dtype=int)[0], np.zeros(0, int)):
        assert recalibration.choose(labels, np.linspace(-9, 1, 50)[: len(labels)]).method == 'none'


@pytest.mark.parametrize(
    ('slope', 'shift', 'method'), [(1, 0, 'none'), (6, 0, 'temperature'), (0.3, 0, 'temperature'), (4, 9, 'platt')]
)
def test_validation_chooses(slope: float, shift: float, method: str) -> None:
    labels, logits = simulated(3000, seed=1)
    distorted = slope * logits + shift
    chosen = recalibration.choose(labels, distorted)
    assert chosen.method == method
    new_labels, new = simulated(3000, seed=2)
    for truth, scores in ((labels, distorted), (new_labels, slope * new + shift)):
        before, after = log_loss(truth, scores), log_loss(truth, chosen.apply(scores))
        assert after < before if method != 'none' else after == before
        assert sklearn.metrics.roc_auc_score(truth, chosen.apply(scores)) == pytest.approx(
            sklearn.metrics.roc_auc_score(truth, scores), abs=1e-12
        )


def test_groups_are_kept_together_in_a_fold() -> None:
    labels, logits = simulated(300)
    units = np.arange(300) // 7
    fold = recalibration._folds(labels, units, 5, seed=0)
    assert all(len(set(fold[units == unit])) == 1 for unit in range(43))
    assert np.ptp(np.bincount(recalibration._folds(labels, np.arange(300), 5, seed=0)[labels == 1])) <= 1
    assert recalibration.choose(labels, 3 * logits, ['one'] * 300).method == 'none'


def test_another_prevalence() -> None:
    random = np.random.default_rng(0)
    labels = (random.random(40_000) < 0.1).astype(int)
    logits = 2 * random.normal(size=40_000) + 4 * labels - 2  # log-odds where half of the images are fake
    corrected = recalibration.to_prevalence(logits, 0.5, 0.1)
    assert scipy.special.expit(corrected).mean() == pytest.approx(0.1, abs=0.006)
    found = recalibration.platt(labels, corrected)
    assert (found.slope, found.intercept) == pytest.approx((1, 0), abs=0.08)
    np.testing.assert_allclose(recalibration.to_prevalence(corrected, 0.1, 0.5), logits, atol=1e-12)
    for stated in (0, 1, 1.2, float('nan')):
        with pytest.raises(UserError, match='prevalence is .*; it must lie between 0 and 1'):
            recalibration.to_prevalence(logits, 0.5, stated)
    with pytest.raises(UserError, match='one class only'):
        recalibration.to_prevalence(logits, 1.0, 0.5)

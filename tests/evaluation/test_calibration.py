import time

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats
import sklearn.calibration
import sklearn.isotonic
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeimg.evaluation import abstention, calibration

STATISTICS = [
    calibration.log_loss,
    calibration.brier,
    calibration.cllr,
    calibration.cllr_min,
    calibration.ece,
    calibration.smooth_ece,
    abstention.augrc,
]


VALUES = np.concatenate([[-800.0, -40.0, 0.0, 40.0, 800.0], np.random.default_rng(0).normal(size=123).round(3) * 3])


@st.composite
def scored(draw: st.DrawFn, largest: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits, with ties and extremes; of one class and of one image too."""
    drawn = np.frombuffer(draw(st.binary(min_size=1, max_size=largest)), np.uint8)
    return (drawn % 2).astype(int), VALUES[drawn // 2]


def simulated(n: int, slope: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the logits times `slope`: with 1, the logits are calibrated."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=n) * 2.5
    return (random.random(n) < scipy.special.expit(slope * logits)).astype(int), logits


@settings(max_examples=25, deadline=None)
@given(scored(), st.integers(0, 1000))
def test_weights_are_copies_of_images(case: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    labels, logits = case
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(labels)))
    for statistic in STATISTICS:
        rows = [statistic(np.repeat(labels, row), np.repeat(logits, row)) for row in weights]
        np.testing.assert_allclose(statistic(labels, logits, weights), rows, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(statistic(labels, logits, weights[0]), rows[0], rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(scored())
def test_proper_scores_equal_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = case
    scores = scipy.special.expit(logits)
    assert calibration.brier(labels, logits) == pytest.approx(sklearn.metrics.brier_score_loss(labels, scores))
    logits = np.clip(logits, -20, 20)  # scikit-learn clips probabilities
    expected = sklearn.metrics.log_loss(labels, scipy.special.expit(logits), labels=[0, 1])
    assert calibration.log_loss(labels, logits) == pytest.approx(expected, abs=1e-7)


@settings(max_examples=25, deadline=None)
@given(scored())
def test_cllr_is_log_loss_in_bits_with_balanced_classes(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = case
    if len(set(labels.tolist())) == 1:
        assert np.isnan(calibration.cllr(labels, logits))
        assert np.isnan(calibration.cllr_min(labels, logits))
        return
    logits = np.clip(logits, -20, 20)
    balance = np.where(labels == 1, 1 / labels.sum(), 1 / (1 - labels).sum())
    expected = sklearn.metrics.log_loss(labels, scipy.special.expit(logits), sample_weight=balance) / np.log(2)
    assert calibration.cllr(labels, logits) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(scored())
def test_cllr_min_is_cllr_after_isotonic_regression(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = case
    fakes, reals = labels.sum(), (1 - labels).sum()
    if not fakes or not reals:
        return
    fitted = sklearn.isotonic.IsotonicRegression().fit_transform(logits, labels)  # ties are averaged
    with np.errstate(divide='ignore'):
        ratios = np.clip(np.log(fitted) - np.log1p(-fitted) - np.log(fakes / reals), -700, 700)
    lowest = calibration.cllr_min(labels, logits)
    assert lowest == pytest.approx(calibration.cllr(labels, ratios), abs=1e-9)
    assert lowest <= calibration.cllr(labels, logits) + 1e-12
    assert lowest == pytest.approx(calibration.cllr_min(labels, logits / 8 + 3))


def test_cllr_has_the_prior_of_its_logits_taken_off() -> None:
    labels, logits = simulated(2000)
    shifted = calibration.cllr(labels, logits + np.log(0.2 / 0.8), prior=0.2)
    assert shifted == pytest.approx(calibration.cllr(labels, logits))
    assert calibration.cllr(labels, np.zeros(2000)) == pytest.approx(1)
    assert calibration.cllr_min(np.array([0, 0, 1]), np.array([0.0, 1.0, 2.0])) == 0


@pytest.mark.parametrize(('n', 'bins'), [(1500, 15), (1507, 15), (40, 10)])
def test_plain_ece_equals_bins_by_quantile(n: int, bins: int) -> None:
    labels, logits = simulated(n, slope=0.5)
    order = np.argsort(logits)
    cuts = np.round(n * np.arange(1, bins) / bins).astype(int)
    parts = zip(np.split(labels[order], cuts), np.split(scipy.special.expit(logits[order]), cuts), strict=True)
    expected = sum(abs(part.sum() - scores.sum()) for part, scores in parts) / n
    assert calibration.ece(labels, logits, bins=bins, debiased=False) == pytest.approx(expected)
    if n % bins == 0:
        shares, means = sklearn.calibration.calibration_curve(
            labels, scipy.special.expit(logits), n_bins=bins, strategy='quantile'
        )
        assert calibration.ece(labels, logits, bins=bins, debiased=False) == pytest.approx(
            np.abs(shares - means).mean(), abs=1e-3
        )


@settings(max_examples=15, deadline=None)
@given(scored(), st.randoms(use_true_random=False))
def test_the_order_of_tied_images_changes_nothing(case: tuple[np.ndarray, np.ndarray], random) -> None:
    labels, logits = case
    order = list(range(len(labels)))
    random.shuffle(order)
    for statistic in STATISTICS:
        expected = statistic(labels, logits)
        assert statistic(labels[order], logits[order]) == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


def test_debiased_ece_subtracts_what_normal_noise_adds() -> None:
    labels, logits = simulated(600, slope=0.6)
    rows = calibration.reliability(labels, logits)
    shares, means, counts = (np.array([row[name] for row in rows]) for name in ('share_fake', 'p', 'n'))
    noise = np.random.default_rng(0).normal(size=(100_000, len(rows))) * np.sqrt(shares * (1 - shares) / counts)
    expected = counts @ (2 * np.abs(shares - means) - np.abs(shares + noise - means).mean(0)) / 600
    assert calibration.ece(labels, logits) == pytest.approx(expected, abs=2e-4)


def test_debiasing_brings_the_estimate_closer_to_the_truth() -> None:
    _, logits = simulated(1_000_000)
    truth = np.abs(scipy.special.expit(0.7 * logits) - scipy.special.expit(logits)).mean()
    sets = [simulated(1000, slope=0.7, seed=seed) for seed in range(40)]
    plain = np.mean([calibration.ece(*one, debiased=False) for one in sets])
    debiased = np.mean([calibration.ece(*one) for one in sets])
    assert abs(debiased - truth) < abs(plain - truth) / 3


@pytest.mark.parametrize(('n', 'expected'), [(200, 0.074), (1000, 0.033), (5000, 0.0145), (20_000, 0.0075)])
def test_a_perfect_model_has_an_ece_above_zero(n: int, expected: float) -> None:
    _, logits = simulated(n)
    mean, low, high = calibration.ece_perfect(logits, debiased=False, draws=100)
    assert mean == pytest.approx(expected, rel=0.06)
    assert low < mean < high
    assert calibration.ece_perfect(logits, draws=100)[0] < 0.7 * mean
    assert calibration.ece_perfect(logits, draws=5) == calibration.ece_perfect(logits, draws=5)


def test_what_a_perfect_model_would_show_is_what_one_shows() -> None:
    _, logits = simulated(500)
    labels = np.random.default_rng(1).random((300, 500)) < scipy.special.expit(logits)
    for debiased in (True, False):
        shown = [calibration.ece(row, logits, debiased=debiased) for row in labels.astype(int)]
        expected = [np.mean(shown), *np.quantile(shown, (0.025, 0.975))]
        assert calibration.ece_perfect(logits, debiased=debiased) == pytest.approx(expected, rel=0.1, abs=0.003)


def brute_smooth_ece(labels: np.ndarray, logits: np.ndarray) -> float:
    """By the definition: images of the kernel beyond 0 and 1, quadrature, bisection."""
    scores = scipy.special.expit(logits)
    grid = np.linspace(0, 1, 2001)

    def error(width: float) -> float:
        shifts = [mirror * grid[:, None] + 2 * k for k in range(-3, 4) for mirror in (1, -1)]
        kernel = sum(scipy.stats.norm.pdf(shift - scores, scale=width) for shift in shifts)
        return scipy.integrate.trapezoid(np.abs(kernel @ (labels - scores)) / len(labels), grid)

    return scipy.optimize.root_scalar(lambda width: error(width) - width, bracket=(1e-3, 1), xtol=1e-5).root


@pytest.mark.parametrize(('n', 'slope'), [(1, 1), (12, 1), (60, 0.2), (60, -1)])
def test_smooth_ece_equals_its_definition(n: int, slope: float) -> None:
    labels, logits = simulated(n, slope=slope)
    assert calibration.smooth_ece(labels, logits) == pytest.approx(brute_smooth_ece(labels, logits), abs=2e-4)


def test_smooth_ece_of_the_extremes() -> None:
    logits = np.array([-800.0, 800.0])
    assert calibration.smooth_ece(np.array([0, 1]), logits) == 0
    wrong = np.array([1, 0])
    assert calibration.smooth_ece(wrong, logits) == pytest.approx(brute_smooth_ece(wrong, logits), abs=2e-4)


def test_smooth_ece_is_fast() -> None:
    labels, logits = simulated(20_000)
    seconds = []
    for _ in range(10):
        start = time.process_time()
        calibration.smooth_ece(labels, logits)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.05


def test_rows_of_a_reliability_diagram() -> None:
    labels, logits = simulated(1000)
    rows = calibration.reliability(labels, logits)
    assert [row['n'] for row in rows] == pytest.approx([1000 / 15] * 15, abs=1)
    assert sum(row['n'] * row['share_fake'] for row in rows) == pytest.approx(labels.sum())
    for row in rows:
        interval = scipy.stats.binomtest(round(row['n'] * row['share_fake']), row['n']).proportion_ci(method='wilson')
        assert (row['low'], row['high']) == pytest.approx((interval.low, interval.high))
    assert [row['p'] for row in rows] == sorted(row['p'] for row in rows)
    assert [row['n'] for row in calibration.reliability(labels, np.zeros(1000))] == [1000]
    assert calibration.reliability(labels[:0], logits[:0]) == []

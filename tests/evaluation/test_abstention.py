import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeimg.evaluation import abstention
from tests.evaluation.test_calibration import scored, simulated


@settings(max_examples=30, deadline=None)
@given(scored(), st.sampled_from([0.5, 0.2, 0.9]))
def test_augrc_equals_its_closed_form(case: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    """Traub et al., equation 7: by the accuracy and how well confidence ranks the errors last, ties counting half."""
    labels, logits = case
    right = (scipy.special.expit(logits) >= threshold) == labels
    accuracy, ranked = right.mean(), 0.5
    if 0 < accuracy < 1:
        ranked = sklearn.metrics.roc_auc_score(right, np.abs(logits - scipy.special.logit(threshold)))
    expected = (1 - ranked) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert abstention.augrc(labels, logits, threshold=threshold) == pytest.approx(expected, abs=1e-12)


def test_augrc_of_guesses_and_of_perfection() -> None:
    labels = np.arange(1000) % 2
    assert abstention.augrc(labels, np.ones(1000)) == pytest.approx(0.25)
    assert abstention.augrc(labels, labels - 0.5) == 0
    assert np.isnan(abstention.augrc(labels[:0], np.zeros(0)))


def band(labels: np.ndarray, scores: np.ndarray, *more) -> tuple[float, float]:
    found = abstention.unsure_band(labels, scores, *more)
    return found['low'], found['high']


@pytest.mark.parametrize(
    ('distance', 'n', 'sets'),
    [
        (1.2, 400, 300),
        (2.5, 300, 100),
        pytest.param(1.2, 1000, 1000, marks=pytest.mark.slow),
        pytest.param(1.6, 3000, 300, marks=pytest.mark.slow),
    ],
)
def test_the_unsure_band_keeps_its_word(distance: float, n: int, sets: int) -> None:
    """The true error rate among decided images, of detectors whose logits of each class are normal."""
    random, rates, covered = np.random.default_rng(0), [], []
    for _ in range(sets):
        labels = random.integers(0, 2, n)
        logits = random.normal((2 * labels - 1) * distance, 1)
        found = abstention.unsure_band(labels, scipy.special.expit(2 * distance * logits))
        if 'why' in found:  # nothing was promised
            continue
        low, high = scipy.special.logit([found['low'], found['high']]) / (2 * distance)
        wrong = scipy.stats.norm.cdf(low - distance) + scipy.stats.norm.sf(high + distance)
        right = scipy.stats.norm.sf(high - distance) + scipy.stats.norm.cdf(low + distance)
        rates.append(wrong / (wrong + right))
        covered.append((wrong + right) / 2)
    assert len(rates) > 0.85 * sets
    assert np.sum(np.array(rates) > 0.05) / sets <= 0.05
    assert np.mean(covered) > (0.99 if distance > 2 else 0.5)


def test_a_group_of_copies_is_one_image() -> None:
    labels, logits = simulated(600, seed=3)
    scores = scipy.special.expit(2 * logits)
    copies, groups = np.repeat([labels, scores], 3, axis=1), [f'{row // 3}' for row in range(1800)]
    one, three = band(labels, scores, 0.1), band(copies[0].astype(int), copies[1], 0.1, groups)
    assert three == pytest.approx(one, abs=0.03)
    assert band(copies[0].astype(int), copies[1], 0.1)[1] < one[1]


def test_bands_of_degenerate_sets() -> None:
    labels = np.arange(200) % 2
    assert band(labels, labels * 0.8 + 0.1) == (0.5, 0.5)
    assert band(labels, labels.astype(float)) == (0.5, 0.5)
    assert band(np.zeros(200, int), np.full(200, 0.3)) == (0.5, 0.5)
    refused = {'why': 'even of the surest images, more than 0.05 may be wrong'}
    for scores in (np.full(200, 0.3), np.full(200, 0.5), 1.0 - labels):
        assert abstention.unsure_band(labels, scores) == refused
    assert abstention.unsure_band(labels[:71], labels[:71] / 1) == {'why': 'needs 72 images, has 71'}
    assert 'low' in abstention.unsure_band(labels[:72], labels[:72] / 1)
    groups = [f'{row // 10}' for row in range(200)]
    why = 'needs 72 images, has 200 in groups, which count as 20'
    assert abstention.unsure_band(labels, labels / 1, 0.05, groups) == {'why': why}


def test_the_band_promises_what_a_band_for_the_point_estimate_breaks() -> None:
    random, broken = np.random.default_rng(0), []
    for _ in range(200):
        labels = random.integers(0, 2, 1000)
        logits = random.normal((2 * labels - 1) * 1.2, 1)
        curve = np.array(abstention.risk_coverage(labels, logits))
        coverage = curve[curve[:, 1] <= 0.05, 0].max()
        edge = np.quantile(np.abs(logits), 1 - coverage)
        wrong, right = scipy.stats.norm.sf(edge + 1.2), scipy.stats.norm.sf(edge - 1.2)
        broken.append(wrong / (wrong + right) > 0.05)
    assert np.mean(broken) > 0.3


def test_risk_coverage_curve() -> None:
    labels, logits = simulated(500)
    curve = np.array(abstention.risk_coverage(labels, logits))
    confidence, wrong = np.abs(logits), (logits >= 0) != labels
    for coverage, risk in curve:
        decided = confidence >= np.quantile(confidence, 1 - coverage, method='inverted_cdf')
        surest = np.argsort(-confidence)[: round(500 * coverage)]
        assert risk == pytest.approx(wrong[surest].mean())
        assert decided.sum() >= len(surest)
    assert len(curve) == 200 and curve[-1].tolist() == [1, wrong.mean()]
    assert abstention.risk_coverage(np.array([1, 0, 0, 1]), np.array([2.0, 2.0, 1.0, 1.0])) == [[0.5, 0.5], [1, 0.5]]
    assert abstention.risk_coverage(labels[:0], logits[:0]) == []


def ordered(wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of images that are surest first, and wrong where `wrong` is 1."""
    scores = np.where(np.arange(len(wrong)) % 2, 0.5, -0.5) * np.linspace(0.99, 0.01, len(wrong)) + 0.5
    return ((scores >= 0.5) != wrong.astype(bool)).astype(int), scores


def test_a_sequence_of_bands_ends_where_one_is_first_refused() -> None:
    """Later ones that would do again are not looked at: the certainty holds for the first refusal alone."""
    wrong = np.zeros(4000)
    for start, stop, errors in ((0, 800, 20), (800, 1000, 30), (1000, 2400, 30), (2400, 2600, 50)):
        wrong[np.linspace(start, stop - 1, errors).astype(int)] = 1
    labels, scores = ordered(wrong)
    low, high = band(labels, scores)
    decided = (scores < low) | (scores >= high)
    assert 0.6 <= decided.mean() < 0.65
    assert wrong.mean() < 0.04  # all of them would pass a test of their own


def test_images_that_are_equally_sure_are_decided_together() -> None:
    """Of 1,000 equally sure images half are wrong; the order in which they stand must not let some of them in."""
    wrong = np.concatenate([np.zeros(1000), np.tile([0, 1], 500)])
    for order in (np.arange(2000), np.concatenate([np.arange(1000), 1000 + np.argsort(wrong[1000:], kind='stable')])):
        sure = np.where(np.arange(2000) < 1000, 0.4, 0.1)
        scores = 0.5 + np.where(np.arange(2000) // 2 % 2, 1, -1) * sure
        labels = ((scores >= 0.5) != wrong[order].astype(bool)).astype(int)
        low, high = band(labels, scores)
        decided = (scores < low) | (scores >= high)
        assert decided[:1000].all() and not decided[1000:].any()


def test_groups_count_among_the_decided_images_alone() -> None:
    """The surest 600 are videos of 5 frames, which allow no error where bands begin, whatever there is besides."""
    wrong = np.zeros(1200)
    wrong[10] = 1
    wrong[600:] = np.arange(600) % 2
    labels, scores = ordered(wrong)
    groups = [f'{row // 5}' if row < 600 else '' for row in range(1200)]
    assert abstention.unsure_band(labels, scores, 0.05, groups)['why'].startswith('even of the surest images')
    assert 'low' in abstention.unsure_band(labels, scores, 0.05)

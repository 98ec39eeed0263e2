import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeimg.errors import UserError
from fakeimg.evaluation import bounds, thresholds
from fakeimg.evaluation.intervals import upper_bound
from tests.evaluation.test_calibration import scored

SETS = 1000
# 95 % of the sets, but for the chance of so many sets themselves.
MOST_BROKEN = scipy.stats.binom.ppf(0.999, SETS, 0.05) / SETS
REAL = {'normal': scipy.stats.norm(-2, 1.5), 'heavy tails': scipy.stats.t(3, -2), 'skewed': scipy.stats.gumbel_r(-3, 2)}
FAST = [('normal', 300), ('heavy tails', 1000), ('skewed', 5000)]


def sensible(t: float, scores: np.ndarray) -> bool:
    """Whether a threshold is halfway between neighbouring scores, of which 0 and 1 are two."""
    edges = np.unique([0.0, *scores, 1.0])
    middles = (edges[1:] + edges[:-1]) / 2
    return bool(np.isclose(t, np.append(middles, edges), rtol=1e-12, atol=0).any())


def fit(rule: str, labels: np.ndarray, scores: np.ndarray, groups: list[str] | None = None) -> float:
    return thresholds.fit(thresholds.parse(rule), labels, scores, groups)['threshold']


@pytest.mark.parametrize('rate', [0.001, 0.01, 0.05, 0.5])
def test_errors_allowed_are_exactly_those_of_clopper_and_pearson(rate: float) -> None:
    for n in (1, 2, 59, 298, 299, 300, 473, 1000, 2994, 2995, 5000):
        errors = bounds.allowed(n, rate)
        assert errors < 0 or scipy.stats.binom.cdf(errors, n, rate) <= 0.05
        assert scipy.stats.binom.cdf(errors + 1, n, rate) > 0.05
    assert upper_bound(1, bounds.needed(rate, 1)) <= rate < upper_bound(1, bounds.needed(rate, 1) - 1)


def test_images_that_are_needed() -> None:
    assert [bounds.needed(rate) for rate in (0.001, 0.01, 0.05)] == [2995, 299, 59]
    for rate, needed in ((0.01, 299), (0.05, 59)):
        rule = thresholds.parse(f'fpr={rate}')
        scores = np.linspace(0.1, 0.9, needed)
        assert 'threshold' in thresholds.fit(rule, np.zeros(needed, int), scores)
        refused = thresholds.fit(rule, np.zeros(needed - 1, int), scores[1:])
        assert refused == {'why': f'needs {needed} real images, has {needed - 1}'}


@pytest.mark.parametrize(
    ('name', 'size'),
    [
        pytest.param(name, size, marks=[] if (name, size) in FAST else pytest.mark.slow)
        for name in REAL
        for size in (300, 1000, 5000)
    ],
)
def test_a_false_positive_rate_is_kept_where_the_quantile_breaks_it(name: str, size: int) -> None:
    random = np.random.default_rng(size)
    labels, kept, quantile = np.repeat([0, 1], (size, 50)), [], []
    for real in scipy.special.expit(REAL[name].rvs((SETS, size), random_state=random)):
        scores = np.concatenate([real, scipy.special.expit(random.normal(2, 1.5, 50))])
        found = thresholds.fit(thresholds.parse('fpr=0.01'), labels, scores)
        kept.append(found.get('threshold', 1.0))  # none where real images have a score of 1
        quantile.append(np.quantile(real, 0.99))
    assert np.mean(REAL[name].sf(scipy.special.logit(kept)) > 0.01) <= MOST_BROKEN
    assert np.mean(REAL[name].sf(scipy.special.logit(quantile)) > 0.01) > 0.4


def test_a_false_positive_rate_is_kept_where_images_come_in_groups() -> None:
    random = np.random.default_rng(0)
    rates: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(SETS // 2):
        sizes = random.integers(1, 8, 150)
        groups = [f'video{number}' for number in np.repeat(np.arange(150), sizes)]
        logits = np.repeat(random.normal(-2, 1.4, 150), sizes) + random.normal(0, 0.5, sizes.sum())
        deviation = np.hypot(1.4, 0.5)
        for known, rate in rates.items():
            threshold = fit(
                'fpr=0.05', np.zeros(len(groups), int), scipy.special.expit(logits), groups if known else None
            )
            rate.append(float(scipy.stats.norm.sf(scipy.special.logit(threshold), -2, deviation)))
    assert np.mean(np.array(rates[True]) > 0.05) <= 0.05
    assert np.mean(np.array(rates[False]) > 0.05) > 0.12


def test_groups_count_as_few_images() -> None:
    labels, scores = np.zeros(600, int), np.linspace(0.1, 0.9, 600)
    rule = thresholds.parse('fpr=0.01')
    groups = [f'{row // 5}' for row in range(600)]
    assert bounds.effective_number(bounds.unit_numbers(labels, groups)) == 120
    why = 'needs 299 real images, has 600 in groups, which count as 120'
    assert thresholds.fit(rule, labels, scores, groups) == {'why': why}
    assert bounds.effective_number(bounds.unit_numbers(labels, [''] * 600)) == 600
    assert bounds.effective_number(bounds.unit_numbers(np.zeros(300), ['a'] * 290 + [''] * 10)) == 1
    assert bounds.effective_number(np.zeros(0, int)) == 0


@settings(max_examples=60, deadline=None)
@given(scored(largest=80), st.sampled_from([0.1, 0.3, 0.5]))
def test_the_least_strict_threshold_that_keeps_the_rate(case: tuple[np.ndarray, np.ndarray], rate: float) -> None:
    labels, scores = case[0], scipy.special.expit(case[1])
    found = thresholds.fit(thresholds.parse(f'fpr={rate}'), labels, scores)
    real = scores[labels == 0]
    edges = np.unique([0.0, *scores, 1.0, *(np.unique(scores)[1:] + np.unique(scores)[:-1]) / 2])
    keeps = [t for t in edges if len(real) and upper_bound((real >= t).sum(), len(real)) <= rate]
    if 'why' in found:
        assert not keeps
        return
    threshold = found['threshold']
    assert upper_bound((real >= threshold).sum(), len(real)) <= rate
    assert (scores >= threshold).tolist() == (scores >= min(keeps)).tolist()
    assert 0 <= threshold <= 1 and sensible(threshold, scores)


@settings(max_examples=60, deadline=None)
@given(scored(), st.sampled_from(['youden', 'balanced_accuracy', 'f1']))
def test_best_thresholds_equal_a_search(case: tuple[np.ndarray, np.ndarray], rule: str) -> None:
    labels, scores = case[0], scipy.special.expit(case[1])
    if len(set(labels.tolist())) == 1:
        why = f'needs images of both classes, has {(1 - labels).sum()} real and {labels.sum()} fake'
        assert thresholds.fit(thresholds.parse(rule), labels, scores) == {'why': why}
        return

    def quality(t: float) -> float:
        tp, fp = ((scores[labels == label] >= t).sum() for label in (1, 0))
        if rule == 'f1':
            return 2 * tp / (tp + fp + labels.sum())
        return (tp / labels.sum() + 1 - fp / (1 - labels).sum()) / 2

    threshold = fit(rule, labels, scores)
    edges = np.unique([*scores, 1.0])
    reference = sklearn.metrics.f1_score if rule == 'f1' else sklearn.metrics.balanced_accuracy_score
    assert reference(labels, scores >= threshold) == pytest.approx(max(map(quality, edges)))
    best = max(t for t in edges if quality(t) > quality(threshold) - 1e-9)  # the strictest of the best
    assert (scores >= threshold).tolist() == (scores >= best).tolist()
    assert sensible(threshold, scores)
    assert fit('youden', labels, scores) == fit('balanced_accuracy', labels, scores)


def test_a_score_that_equals_the_threshold_is_fake() -> None:
    above = np.nextafter(0.5, 1)  # nothing lies between the two
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.5, above, 0.9])
    for rule in ('youden', 'f1'):
        assert fit(rule, labels, scores) == above
    assert fit('youden', labels, np.array([0.1, 0.2, 0.6, 0.9])) == pytest.approx(0.4)
    assert fit('f1', np.array([1, 1, 0]), np.array([0.0, 0.0, 0.0])) == 0
    real = thresholds.fit(thresholds.parse('fpr=0.5'), np.zeros(9, int), np.ones(9))
    assert real == {'why': 'too many real images have the highest score'}


@pytest.mark.parametrize(
    ('text', 'name', 'number'),
    [('0.5', '0.5', 0.5), (0.25, '0.25', 0.25), ('fpr=1e-2', 'fpr=0.01', 0.01), (' f1', 'f1', None)],
)
def test_rules_are_read(text: str | float, name: str, number: float | None) -> None:
    rule = thresholds.parse(text)
    assert (rule.name, rule.number) == (name, number)
    assert rule.is_fixed == name.startswith('0')
    if rule.is_fixed:
        assert thresholds.fit(rule, np.zeros(0, int), np.zeros(0)) == {'threshold': number}


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('best', "threshold is 'best'; it must be a number from 0 to 1, or one of the rules fpr=RATE, youden, "
                 'balanced_accuracy, f1.'),
        ('fpr=', "threshold is 'fpr='; it must be a number"),
        ('fpr=1', "threshold is 'fpr=1'; the false positive rate must lie between 0 and 1, as in fpr=0.01."),
        ('fpr=0', "threshold is 'fpr=0'; the false positive rate must"),
        ('fpr=nan', "threshold is 'fpr=nan'; the false positive rate must"),
        ('1.5', 'threshold is 1.5; it must be a probability, from 0 to 1.'),
        ('nan', 'threshold is nan; it must be a probability'),
    ],
)  # fmt: skip
def test_other_words_are_refused(text: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        thresholds.parse(text)
    assert str(refused.value).startswith(words)

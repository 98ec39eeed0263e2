import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fakeimg.evaluation import intervals


@given(st.integers(0, 400), st.integers(0, 400))
def test_wilson_and_clopper_pearson_are_scipys(successes: int, failures: int) -> None:
    n = successes + failures
    if n == 0:
        assert intervals.wilson(0, 0) == (0, 1)
        return
    result = scipy.stats.binomtest(successes, n)
    np.testing.assert_allclose(intervals.wilson(successes, n), result.proportion_ci(method='wilson'), atol=1e-12)
    np.testing.assert_allclose(intervals.clopper_pearson(successes, n), result.proportion_ci(method='exact'), atol=1e-9)
    bound = scipy.stats.binomtest(successes, n, alternative='less').proportion_ci(method='exact').high
    assert intervals.upper_bound(successes, n) == pytest.approx(bound)
    assert 1 - intervals.lower_bound_of_all(n) == pytest.approx(intervals.upper_bound(0, n))


def test_wilson_covers_where_shares_are_extreme() -> None:
    """Coverage summed over the binomial distribution; Wald's is 0.63 at 0.99 and n = 100."""
    for share in (0.5, 0.9, 0.99):
        for n in (100, 330, 1000):
            counts = np.arange(n + 1)
            low, high = np.array([intervals.wilson(int(count), n) for count in counts]).T
            covered = scipy.stats.binom.pmf(counts, n, share)[(low <= share) & (share <= high)].sum()
            assert 0.92 < covered < 0.985


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_delong_is_its_definition(rows: list[tuple[bool, int, int]]) -> None:
    labels = np.array([row[0] for row in rows], int)
    scores = np.array([row[1:] for row in rows], float).T
    if labels.sum() < 2 or len(labels) - labels.sum() < 2:
        return
    fake, real = scores[:, labels == 1], scores[:, labels == 0]
    wins = (fake[:, :, None] > real[:, None, :]) + 0.5 * (fake[:, :, None] == real[:, None, :])
    areas, covariance = intervals.delong(labels, scores)
    np.testing.assert_allclose(areas, wins.mean((1, 2)))
    expected = np.cov(wins.mean(2)) / fake.shape[1] + np.cov(wins.mean(1)) / real.shape[1]
    np.testing.assert_allclose(covariance, expected, atol=1e-12)


@pytest.mark.parametrize('area', [0.75, 0.95, 0.99])
@pytest.mark.parametrize('n', [100, 330, 1000])
def test_the_interval_of_the_auc_covers(area: float, n: int) -> None:
    """Normal scores; 95 % intervals hold the truth in 93 to 97 % of 600 sets, but for what 600 can tell (2 points)."""
    rng = np.random.default_rng(n)
    labels = np.arange(n) % 2
    shift = math.sqrt(2) * scipy.stats.norm.ppf(area)
    found = [intervals.auc(labels, rng.normal(size=n) + shift * labels) for _ in range(600)]
    assert 0.925 <= np.mean([figure['low'] <= area <= figure['high'] for figure in found]) <= 0.975


def test_the_auc_of_perfect_tiny_and_one_class_sets() -> None:
    perfect = intervals.auc(np.array([0] * 40 + [1] * 60), np.arange(100.0))
    assert perfect['value'] == perfect['high'] == 1
    assert perfect['low'] == pytest.approx(0.05 ** (1 / 40), abs=1e-6)
    hopeless = intervals.auc(np.array([1] * 40 + [0] * 60), np.arange(100.0))
    assert (hopeless['value'], hopeless['low']) == (0, 0)
    assert intervals.auc(np.ones(5, int), np.arange(5.0)) == {'value': None, 'why': 'only one class', 'n': 5}
    one = intervals.auc(np.array([0, 1, 1, 1]), np.array([1.0, 0, 2, 3]))
    assert (one['low'], one['high']) == (0, 1)
    tied = intervals.auc(np.array([0, 1, 0, 1]), np.zeros(4))
    assert (tied['value'], tied['low'], tied['high']) == (0.5, 0, 1)

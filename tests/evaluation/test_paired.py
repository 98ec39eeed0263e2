import time
from typing import Any

import hypothesis
import hypothesis.extra.numpy as of_numpy
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.special
import scipy.stats

from fakeimg.evaluation import paired
from fakeimg.evaluation.metrics import roc_auc

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def scores(random: np.random.Generator, n: int, auc_a: float, auc_b: float, correlation: float = 0.6) -> Arrays:
    """Labels, half of them fake, and normal scores of two detectors with these areas under their curves."""
    labels = np.repeat([0, 1], n // 2)
    noise = random.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], len(labels))
    shifts = np.sqrt(2) * scipy.special.ndtri([auc_a, auc_b])
    return labels, noise[:, 0] + shifts[0] * labels, noise[:, 1] + shifts[1] * labels


def brute_force(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The difference of the areas and its variance, from the matrix of all pairs of a fake and a real image."""
    wins = [np.sign(s[labels == 1][:, None] - s[labels == 0][None]) / 2 + 0.5 for s in (a, b)]
    gain = wins[0] - wins[1]
    variance = gain.mean(1).var(ddof=1) / len(gain) + gain.mean(0).var(ddof=1) / len(gain[0])
    return gain.mean(), variance


@pytest.mark.parametrize('digits', [8, 0])  # without and with ties
def test_paired_delong_equals_all_pairs(digits: int) -> None:
    labels, a, b = scores(np.random.default_rng(0), 120, 0.9, 0.8)
    a, b = a.round(digits), b.round(digits)
    found = paired.auc_difference(labels, a, b)
    difference, variance = brute_force(labels, a, b)
    assert found['value'] == pytest.approx(difference, abs=1e-6)
    assert found['p'] == pytest.approx(2 * scipy.stats.norm.sf(difference / variance**0.5))
    half = 1.959964 * variance**0.5  # of the interval on the plain scale, which is as wide in the middle
    assert (found['low'], found['high']) == pytest.approx((difference - half, difference + half), abs=0.015)
    assert (found['n'], found['method']) == (120, 'paired DeLong, logit scale')


def test_seeds_are_averaged() -> None:
    labels, a, b = scores(np.random.default_rng(7), 200, 0.9, 0.8)
    _, c, d = scores(np.random.default_rng(8), 200, 0.92, 0.82)
    found = paired.auc_difference(labels, np.stack([a, c]), np.stack([b, d]))
    once = [roc_auc(labels, one) or 0 for one in (a, c, b, d)]
    assert found['value'] == pytest.approx((once[0] + once[1] - once[2] - once[3]) / 2, abs=1e-6)
    wins = [np.sign(s[labels == 1][:, None] - s[labels == 0][None]) / 2 + 0.5 for s in (a, c, b, d)]
    gain = (wins[0] + wins[1] - wins[2] - wins[3]) / 2
    deviation = (gain.mean(1).var(ddof=1) / 100 + gain.mean(0).var(ddof=1) / 100) ** 0.5
    assert found['p'] == pytest.approx(2 * scipy.stats.norm.sf(gain.mean() / deviation))
    right = [(one > 0.9) == labels for one in (a, c, b, d)]
    found = paired.accuracy_difference(labels, np.stack([a, c]) > 0.9, np.stack([b, d]) > 0.9)
    expected: Any = scipy.stats.ttest_1samp((right[0] * 1.0 + right[1] - right[2] - right[3]) / 2, 0)
    assert found['value'] == pytest.approx(np.mean(right[:2]) - np.mean(right[2:]), abs=1e-6)
    assert found['p'] == pytest.approx(expected[1], rel=1e-3)
    assert 'only_a' not in found
    same = paired.auc_difference(labels, np.stack([a, c]), np.stack([a, c]))
    assert (same['low'], same['high']) == (0, 0)


def test_paired_delong_agrees_with_a_bootstrap() -> None:
    labels, a, b = scores(np.random.default_rng(1), 400, 0.92, 0.88)
    found = paired.auc_difference(labels, a, b)
    alone = [f'video {place}' for place in range(399)] + ['video 398']  # a pair, so that groups are resampled
    drawn = paired.auc_difference(labels, a, b, alone)
    assert (drawn['low'], drawn['high']) == pytest.approx((found['low'], found['high']), abs=0.003)
    assert (drawn['groups'], drawn['method']) == (399, 'bootstrap, 2,000 draws of whole groups within each class')


@pytest.mark.parametrize('digits', [8, 0])
def test_a_weight_counts_as_repeating_the_image_does(digits: int) -> None:
    random = np.random.default_rng(2)
    labels, a, _ = scores(random, 60, 0.8, 0.8)
    a, counts = a.round(digits), random.integers(0, 4, (60, 5)).astype(float)
    expected = [roc_auc(np.repeat(labels, draw), np.repeat(a, draw)) for draw in counts.T.astype(int)]
    assert paired.weighted_auc(labels, a)(counts) == pytest.approx(np.array(expected))


def test_groups_widen_the_interval_and_two_runs_agree() -> None:
    labels, a, b = (np.repeat(values, 8) for values in scores(np.random.default_rng(3), 100, 0.9, 0.8))
    groups = [f'video {place // 8}' for place in range(800)]
    for found, alone in (
        (paired.auc_difference(labels, a, b, groups), paired.auc_difference(labels, a, b)),
        (paired.accuracy_difference(labels, a > 1, b > 1, groups), paired.accuracy_difference(labels, a > 1, b > 1)),
    ):
        assert found['value'] == alone['value'] and found['groups'] == 100
        assert found['high'] - found['low'] > 2 * (alone['high'] - alone['low'])
        assert found['p'] > alone['p']
    assert paired.auc_difference(labels, a, b, groups) == paired.auc_difference(labels, a, b, groups)


def test_group_bootstrap_is_fast() -> None:
    random = np.random.default_rng(4)
    labels, a, b = scores(random, 20_000, 0.9, 0.88)
    groups = [f'video {code}' for code in random.integers(0, 5_000, 20_000)]
    since = time.process_time()
    paired.auc_difference(labels, a, b, groups)
    assert time.process_time() - since < 3


@pytest.mark.parametrize(
    'counts', [(1, 0, 44), (0, 0, 10), (10, 0, 10), (0, 10, 10), (5, 5, 10), (8, 1, 30), (3, 90, 4000)]
)
def test_tango_inverts_the_score_test(counts: tuple[int, int, int]) -> None:
    """At an end of the interval the score statistic, by a search for the likelihood's maximum, is 1.96."""
    only_a, only_b, n = counts
    for end, other in zip(paired.tango(*counts), (-1, 1), strict=True):
        if end == other:
            continue
        shares = np.linspace(max(0, -end), (1 - end) / 2, 2_000_001)[1:-1]  # of images that only b gets right
        with np.errstate(divide='ignore'):
            likelihood = scipy.special.xlogy(only_a, shares + end) + scipy.special.xlogy(only_b, shares)
            likelihood += scipy.special.xlogy(n - only_a - only_b, 1 - 2 * shares - end)
        share = shares[likelihood.argmax()]
        score = (only_a - only_b - n * end) / np.sqrt(n * (2 * share + end - end**2))
        assert abs(score) == pytest.approx(1.96, abs=0.01)


def test_mcnemar_is_exact() -> None:
    random = np.random.default_rng(5)
    for n in (1, 2, 7, 40, 3_000):
        labels, a, b = random.integers(0, 2, (3, n))
        only_a, only_b = paired.discordant(labels, a, b)
        assert (only_a, only_b) == (((a == labels) & (b != labels)).sum(), ((b == labels) & (a != labels)).sum())
        expected = scipy.stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
        assert paired.mcnemar(labels, a, b) == pytest.approx(expected)


def test_holm_by_hand() -> None:
    assert paired.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm([0.9, None, 0.6]) == [1.0, None, 1.0]
    assert paired.holm([None]) == [None] and paired.holm([]) == []


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(data=st.data(), n=st.integers(0, 12))
def test_degenerate_inputs_give_an_interval_or_say_why(data: st.DataObject, n: int) -> None:
    few = of_numpy.arrays(np.float64, n, elements=st.sampled_from([-1.0, 0.0, 0.5, 1e6]))
    labels = data.draw(of_numpy.arrays(np.int32, n, elements=st.integers(0, 1)))
    a, b = data.draw(few), data.draw(few)
    groups = data.draw(st.none() | st.lists(st.sampled_from(['', 'one', 'two']), min_size=n, max_size=n))
    of_auc = paired.auc_difference(labels, a, b, groups)
    of_accuracy = paired.accuracy_difference(labels, a > 0, b > 0, groups)
    assert (of_auc['value'] is None) == (labels.min(initial=1) == labels.max(initial=0) or not n)
    for found in (of_auc, of_accuracy):
        if found['value'] is None:
            assert found['why']
            continue
        assert -1 <= found['low'] <= found['value'] <= found['high'] <= 1
        assert found['p'] is None or 0 <= found['p'] <= 1
    same = paired.auc_difference(labels, a, 2 * a + 1, groups)
    assert same['value'] is None or (same['low'], same['value'], same['high'], same['p']) == (0, 0, 0, 1)


def test_swapping_the_detectors_turns_the_difference_round() -> None:
    labels, a, b = scores(np.random.default_rng(6), 200, 0.9, 0.8)
    groups = [f'{place // 3}' for place in range(200)]
    for first, second in (
        (paired.auc_difference(labels, a, b, groups), paired.auc_difference(labels, b, a, groups)),
        (paired.accuracy_difference(labels, a > 1, b > 1), paired.accuracy_difference(labels, b > 1, a > 1)),
    ):
        assert (first['low'], first['value'], first['high']) == pytest.approx(
            (-second['high'], -second['value'], -second['low'])
        )
        assert first['p'] == pytest.approx(second['p'])


@pytest.mark.slow
@pytest.mark.parametrize('n', [100, 330, 1_000])
def test_paired_intervals_keep_their_word(n: int) -> None:
    """Simulated coverage of 95 % intervals: AUC near 0.75, 0.95 and 0.99, detectors alike and 0.02 apart."""
    random = np.random.default_rng(n)
    for auc in (0.75, 0.95, 0.99):
        for apart in (0.0, 0.02):
            shifts = np.sqrt(2) * scipy.special.ndtri([auc, auc - apart])
            accuracies = scipy.special.ndtr(shifts / 2)
            held = np.zeros(2)
            for _ in range(500):
                labels, a, b = scores(random, n, auc, auc - apart)
                for row, (found, true) in enumerate(
                    (
                        (paired.auc_difference(labels, a, b), apart),
                        (
                            paired.accuracy_difference(labels, a > shifts[0] / 2, b > shifts[1] / 2),
                            -np.diff(accuracies)[0],
                        ),
                    )
                ):
                    held[row] += found['low'] <= true <= found['high']
            assert (held / 500 >= 0.93).all() and (held / 500 <= 0.98).all(), (auc, apart, held / 500)


@pytest.mark.slow
def test_intervals_of_groups_keep_their_word() -> None:
    random, held, naive, trials = np.random.default_rng(9), 0, 0, 300
    groups = [f'video {place // 10}' for place in range(600)]
    for _ in range(trials):
        labels = np.repeat([0, 1], 300)
        shared = np.repeat(random.normal(size=(2, 60)), 10, axis=1)  # each video is easier for one or the other
        a, b = (labels + one + random.normal(size=600) for one in shared)
        for is_grouped in (True, False):
            found = paired.auc_difference(labels, a, b, groups if is_grouped else None)
            hit = found['low'] <= 0 <= found['high']
            held, naive = held + hit * is_grouped, naive + hit * (not is_grouped)
    assert 0.93 <= held / trials <= 0.98
    assert naive / trials < 0.88

import numpy as np
import pytest
import scipy.stats

from fakeimg.evaluation.ranking import Ranked, decision_metrics
from fakeimg.evaluation.resampling import Resampler, number_of_draws


def test_draws_keep_the_classes_and_whole_groups() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    groups = ['a', 'a', '', 'b', 'b', 'c', '', 'c']
    drawn = np.concatenate([*Resampler.of(labels).draws()])
    assert drawn.shape == (2000, 8)
    assert (drawn[:, labels == 1].sum(1) == 4).all() and (drawn[:, labels == 0].sum(1) == 4).all()
    assert drawn.mean(0) == pytest.approx(np.ones(8), abs=0.1)
    resampler = Resampler.of(labels, groups)
    drawn = np.concatenate([*resampler.draws()])
    assert resampler.is_grouped and resampler.smallest == 1  # c alone has both classes
    assert (drawn[:, 0] == drawn[:, 1]).all() and (drawn[:, 3] == drawn[:, 4]).all()
    assert (drawn[:, [5, 7]] == 1).all()
    assert (drawn[:, 0] + drawn[:, 2] == 2).all()
    np.testing.assert_array_equal(drawn, np.concatenate([*resampler.draws()]))
    assert number_of_draws(20_000) == 2000 and number_of_draws(10**7) == 200


def test_chunks_are_one_sequence_ofdraws(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(50) % 2
    whole = Resampler.of(labels, count=40).measure(lambda counts: {'first': counts[:, 0].astype(float)})
    monkeypatch.setattr('fakeimg.evaluation.resampling._CHUNK', 350)
    parts = Resampler.of(labels, count=40).measure(lambda counts: {'first': counts[:, 0].astype(float)})
    assert whole['first'].shape == parts['first'].shape == (40,)


def _coverage(with_groups: bool, sets: int = 250) -> np.ndarray:
    """How often the intervals of AUC, accuracy and F1 hold the truth: videos of 8 frames that share most of a score."""
    rng = np.random.default_rng(7)
    videos, frames, shift = 60, 8, 2.0
    labels = np.repeat(np.arange(videos) % 2, frames)
    names = np.repeat([f'v{video}' for video in range(videos)], frames).tolist()
    rate = scipy.stats.norm.cdf(shift / 2 / np.sqrt(1.3))
    truth = np.array([scipy.stats.norm.cdf(shift / np.sqrt(2.6)), rate, rate])
    hits = np.zeros(3)
    for _ in range(sets):
        scores = np.repeat(rng.normal(size=videos), frames) + np.sqrt(0.3) * rng.normal(size=labels.size)
        scores += shift * (labels - 0.5)
        called = scores >= 0
        ranked = Ranked.of(labels, scores)

        def measure(counts: np.ndarray, ranked: Ranked = ranked, called: np.ndarray = called) -> dict[str, np.ndarray]:
            tp, fp = ((counts * (called & (labels == label))).sum(1) for label in (1, 0))
            fake, real = ((counts * (labels == label)).sum(1) for label in (1, 0))
            decided = decision_metrics(tp, fp, fake, real)
            return {'auc': ranked.count(counts).auc(), 'accuracy': decided['accuracy'], 'f1': decided['f1']}

        resampler = Resampler.of(labels, names if with_groups else (), 300)
        drawn = resampler.measure(measure)
        low, high = resampler.interval(np.stack([*drawn.values()], axis=1))
        hits += (low <= truth) & (truth <= high)
    return hits / sets


@pytest.mark.slow
def test_whole_groups_cover_and_images_do_not() -> None:
    assert (_coverage(True) >= 0.92).all() and (_coverage(True) <= 0.98).all()
    assert (_coverage(False) < 0.88).all()

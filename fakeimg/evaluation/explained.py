"""What the scores of an evaluation rest on: maps of the images that its report shows, and two checks of such maps."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fakeimg.console import SILENT, Console
from fakeimg.data.datasets import Split
from fakeimg.detector import Detector
from fakeimg.evaluation import gallery, intervals, robustness
from fakeimg.evaluation.gallery import Maps
from fakeimg.evaluation.intervals import Figure
from fakeimg.evaluation.resampling import Resampler
from fakeimg.explaining import checks
from fakeimg.explaining.checks import Randomisation, Replaced
from fakeimg.explaining.maps import Explainer, Explanation
from fakeimg.scoring import Predictions

IMAGES = 200  # of the checks: each is scored once more for every stage of the network, and three times besides


def explain(
    detector: Detector,
    split: Split,
    predictions: Predictions,
    threshold: float,
    *,
    images: bool = True,
    console: Console = SILENT,
) -> tuple[dict[str, Any] | None, Maps]:
    """Explains the images that the report shows, and checks the maps of up to `IMAGES` others.

    Args:
        detector: that scored the split.
        split: the images.
        predictions: of those of them that can be read.
        threshold: on P(fake), which decides what the report shows.
        images: whether it shows any.
        console: is told when the maps do not depend on the weights.

    Returns:
        For metrics.json: `drops` of the log-odds when the highest fifth of an image's cells is replaced, and a random
        fifth, and their difference; `randomisation`, the rank correlations with maps of drawn weights; and what the
        maps are. None where there are no images. And the maps by the names of the images.
    """
    seed, explainer = 0, Explainer.create(detector)
    place = {name: row for row, name in enumerate(split.names)}
    rng = np.random.default_rng(seed)

    def replaced(rows: np.ndarray) -> list[tuple[Explanation, Replaced]]:
        """In a random order, for in many sets the next image is of the same class."""
        names = [predictions.names[row] for row in rows]
        explanations = explainer.explain(_encoded(split, [place[name] for name in names]))
        return list(checks.replaced(explainer, explanations, seed))

    sampled = rng.permutation(robustness.sample(predictions.names, predictions.labels, IMAGES, seed))
    found = [(row, *pair) for row, pair in zip(sampled, replaced(sampled), strict=True) if pair[0].error is None]
    if not found:
        return None, {}
    rows, explanations, drops = (list(column) for column in zip(*found, strict=True))
    check = checks.randomisation(explainer, np.stack([one.crop for one in explanations]), seed)
    if check.looks_same:
        console.warn(check.verdict)
    part = predictions.take(np.array(rows))
    metrics = {
        'n': len(explanations),
        'seed': seed,
        'cells': list(explanations[0].cells.shape),
        'cell': explanations[0].cell,
        'exact': explanations[0].exact,
        'drops': _drops(part, drops),
        'randomisation': _randomisation(part, check),
    }
    shown = rng.permutation(sorted({row for *_, chosen in gallery.groups(predictions, threshold) for row in chosen}))
    pairs = zip(shown, replaced(shown), strict=True) if images else ()
    return metrics, {predictions.names[row]: pair for row, pair in pairs if pair[0].error is None}


def _encoded(split: Split, rows: list[int]) -> Iterator[bytes]:
    for row in rows:
        try:
            yield split[row]
        except OSError:  # it was there when it was scored
            yield b''


def _drops(part: Predictions, drops: Sequence[Replaced]) -> dict[str, Figure]:
    names = ('highest', 'random', 'difference')
    if drops[0].highest is None:
        return dict.fromkeys(names, intervals.undefined(drops[0].why, n=0))
    highest, random = (np.array([getattr(one, name) for one in drops], np.float64) for name in names[:2])
    values = (highest, random, highest - random)
    return {name: _mean(value, part, 'no image') for name, value in zip(names, values, strict=True)}


def _randomisation(part: Predictions, check: Randomisation) -> dict[str, Any]:
    rows = [
        {'drawn': stage, 'correlation': _mean(values, part, 'the maps are constant')}
        for stage, values in zip(check.stages, check.correlations, strict=True)
    ]
    return {'limit': checks.SAME, 'rows': rows, 'looks_same': check.looks_same, 'verdict': check.verdict}


def _mean(values: np.ndarray, part: Predictions, why: str) -> Figure:
    """The mean over the images that have a value, by the bootstrap; NaN: they have none."""
    has = ~np.isnan(values)
    known, part = values[has], part.take(has)
    if len(known) < 2:
        return intervals.undefined(why if not len(known) else 'a single image', n=len(known))
    resampler = Resampler.of(part.labels, part.groups)
    drawn = resampler.measure(lambda counts: {'': (counts @ known) / counts.sum(1)})['']
    low, high = (float(bound[0]) for bound in resampler.interval(drawn[:, None]))
    return intervals.figure(float(known.mean()), low, high, len(known), resampler.method)

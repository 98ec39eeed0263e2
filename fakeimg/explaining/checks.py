"""What maps are worth: whether the score rests on the cells that they name, and whether they depend on the weights.

Both checks judge a detector together with its maps: a map adds up to the score whatever the network has learned.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, UInt8

from fakeimg.explaining.maps import Explainer, Explanation
from fakeimg.models import stage_of

SHARE = 0.2  # of the cells that is replaced
SAME = 0.3  # rank correlation from which the maps of two networks look the same
_FEWEST = 5  # cells, of which a fifth is one


@dataclasses.dataclass(frozen=True)
class Replaced:
    """What replacing a fifth of an image's cells does to its score.

    A drop is how far the log-odds move from the class that the score calls, fake at P(fake) 0.5 and above, towards the
    other; below 0 they move away from it.

    Attributes:
        highest: drop where the cells are those that speak most for the class called; None where there is no neighbour.
        random: drop where they are random ones, as many.
        neighbour: name of the image whose pixels are put in their place.
        why: there are no drops, in words.
    """

    highest: float | None = None
    random: float | None = None
    neighbour: str = ''
    why: str = ''


def replaced(
    explainer: Explainer, explanations: Iterable[Explanation], seed: int = 0
) -> Iterator[tuple[Explanation, Replaced]]:
    """Yields each explanation with what its score loses without the fifth of the cells that speaks most for it.

    The pixels of these cells are replaced by those at the same place of the neighbour, which is the next image; of the
    last one of a batch the first. A region that is blanked out would look like a fake to many detectors, so the drop
    only says something next to that of a random fifth.

    Args:
        explainer: that made the explanations.
        explanations: in order; as many as a batch holds are looked at together.
        seed: of the random cells.
    """
    explanations, rng = iter(explanations), np.random.default_rng(seed)
    before: Explanation | None = None
    while part := list(itertools.islice(explanations, explainer.detector.config.batch_size)):
        readable = [one for one in part if one.error is None]
        neighbours = [*readable[1:], *([readable[0]] if len(readable) > 1 else [before])] if readable else []
        found = dict(zip(map(id, readable), _replaced(explainer, readable, neighbours, rng), strict=True))
        yield from ((one, found.get(id(one), Replaced(why='the image cannot be read'))) for one in part)
        before = readable[-1] if readable else before


def _replaced(
    explainer: Explainer, images: list[Explanation], neighbours: list[Any], rng: np.random.Generator
) -> list[Replaced]:
    if not images:
        return []
    if images[0].cells.size < _FEWEST:
        return [Replaced(why='the map has too few cells')] * len(images)
    if neighbours[0] is None:
        return [Replaced(why='there is no other image to take regions from')]
    crops = []
    for one, other in zip(images, neighbours, strict=True):
        for cells in (_side(one) * one.cells, rng.random(one.cells.shape)):
            is_replaced = one.on_pixels(highest(cells))
            crops.append(np.where(is_replaced[..., None], other.crop, one.crop))
    logits = explainer.run(np.stack(crops))[0].reshape(-1, 2).astype(np.float64)
    drops = [(_side(one) * (one.logit - row)).tolist() for one, row in zip(images, logits, strict=True)]
    return [Replaced(*row, neighbour=other.name) for row, other in zip(drops, neighbours, strict=True)]


def _side(one: Explanation) -> int:
    return 1 if one.logit >= 0 else -1


def highest(cells: Float[np.ndarray, 'h w']) -> Bool[np.ndarray, 'h w']:
    """The highest fifth of the cells; of equal ones the first."""
    count = max(1, round(SHARE * cells.size))
    chosen = np.zeros(cells.size, bool)
    chosen[np.argsort(-cells.ravel(), kind='stable')[:count]] = True
    return chosen.reshape(cells.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Randomisation:
    """How alike the maps of a network are to those of the same network with drawn weights.

    Attributes:
        stages: what is drawn in each row: the first names the head, each further one what is drawn besides.
        correlations: float64[stages, n], Spearman's rank correlation of the absolute cells of each image with those of
            the detector; NaN where one of the two maps is constant.
    """

    stages: list[str]
    correlations: np.ndarray

    @property
    def means(self) -> list[float | None]:
        """The mean correlation of each row over the images that have one."""
        return [float(row[~np.isnan(row)].mean()) if not np.isnan(row).all() else None for row in self.correlations]

    @property
    def looks_same(self) -> bool | None:
        """Whether the maps look the same when all weights are drawn; None where they cannot be compared."""
        return None if self.means[-1] is None else self.means[-1] >= SAME

    @property
    def verdict(self) -> str:
        """What the check says, in words."""
        if self.looks_same is None:
            return 'The maps cannot be compared with those of drawn weights: they are constant, or have a single cell.'
        found = f'rank correlation {self.means[-1]:.2f}, limit {SAME:g}, {self.correlations.shape[1]:,} images'
        if self.looks_same:
            return (
                f'The maps of a network with drawn weights look the same ({found}): these maps show the images and the '
                'form of the network, not what it has learned. Do not read them as reasons.'
            )
        return f'The maps of a network with drawn weights look different ({found}): these maps depend on the weights.'


def randomisation(explainer: Explainer, crops: UInt8[np.ndarray, 'n s s 3'], seed: int = 0) -> Randomisation:
    """Draws the weights anew, stage by stage from the head to the input, and compares the maps each time.

    Cascading randomisation of Adebayo et al., NeurIPS 2018, "Sanity Checks for Saliency Maps", section 3.

    Args:
        explainer: of the detector.
        crops: as `Explanation.crop`.
        seed: of the weights; one network is drawn.
    """
    detector = explainer.detector
    own = np.abs(explainer.run(crops)[1])
    names, rows = [], []
    variables = jax.device_get(detector.variables)
    for stage in reversed(range(len(detector.model.stages))):
        variables = drawn(detector.model, variables, stage, seed)
        cells = np.abs(explainer.run(crops, detector.devices.replicate(variables))[1])
        names.append(stage_name(detector.model, variables['params'], stage))
        rows.append(rank_correlations(own, cells))
    return Randomisation(names, np.stack(rows))


def drawn(model: nn.Module, variables: dict[str, Any], stage: int, seed: int) -> dict[str, Any]:
    """Variables in which those of one stage are drawn at random, at the scale of those that were learned.

    Kernels are drawn from a normal distribution with their root mean square, and vectors (biases, scales, statistics)
    are shuffled. Initial weights would not do: the head of a ResNet begins with zeros, and its normalisation, without
    statistics of the drawn kernels, would let activations overflow.
    """
    leaves: dict[Any, Any] = flax.traverse_util.flatten_dict(variables)
    for number, (path, value) in enumerate(sorted(leaves.items())):
        if stage_of(model, path[1]) == stage:
            leaves[path] = _drawn(np.asarray(value), np.random.default_rng((seed, number)))
    return {**variables, **flax.traverse_util.unflatten_dict(leaves)}


def _drawn(value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if value.ndim < 2:
        return rng.permutation(value)
    return (np.sqrt(np.mean(value**2)) * rng.standard_normal(value.shape)).astype(value.dtype)


def stage_name(model: nn.Module, params: dict[str, Any], stage: int) -> str:
    """`head`, `stage4`, `fc6, fc7`: what the names of a stage have in common."""
    parts = [name.split('_')[0] for name in params if stage_of(model, name) == stage]
    return ', '.join(sorted({part for part in parts if not part.startswith('bn')}))


def rank_correlations(a: Float[np.ndarray, 'n h w'], b: Float[np.ndarray, 'n h w']) -> Float[np.ndarray, ' n']:
    """Spearman's rank correlation of the cells of each pair of maps; NaN where one of them is constant."""
    ranks = [scipy.stats.rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (a, b)]
    centred = [rank - rank.mean(1, keepdims=True) for rank in ranks]
    spread = [np.sqrt((rows**2).sum(1)) for rows in centred]
    with np.errstate(invalid='ignore'):
        return (centred[0] * centred[1]).sum(1) / (spread[0] * spread[1])

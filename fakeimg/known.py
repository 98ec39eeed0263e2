"""What a detector was trained on, as far as it tells whether a new image is unlike it; `known.npz` of a run folder.

Fitted on validation images, which are of the same kind as those of train. About 2 of 100 images of that kind are called
unlike too, by the quantiles below.
"""

import dataclasses
import json
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from fakeimg import files
from fakeimg.data import decode

FILE = 'known.npz'
_PIXELS = 'ppm'  # the format of arrays and of crops, which have none of their own
UNLIKE = 'unlike the training images'
MOST = 2000  # validation images that are looked at
LEAST = 40  # with fewer, nothing is said
Look = Callable[[Sequence[bytes], np.ndarray], Sequence[Any]]
_RANGE = (0.001, 0.999)  # quantiles of what single facts may be
_FAR = 0.99  # quantile of the distance
_COMPONENTS = 32
_SIDE = 64  # pixels of the centre on which sharpness is measured
# How far beyond the range a fact has to be: sizes and shapes of one set may all be the same.
_SLACK = {'size': 1.5, 'aspect': 1.25, 'sharpness': 1.5, 'colour': 1.25, 'brightness': 1.25}
FACTS = tuple(_SLACK)


class Facts(NamedTuple):
    """What an image is like.

    Attributes:
        kind: its format.
        values: as FACTS names them: short side, pixels; long side / short side; variance of the Laplacian of green
            levels, at the size that the network is given; mean of largest less smallest channel, and of green, levels.
    """

    kind: str
    values: tuple[float, ...]


def look(contents: Sequence[bytes], squares: UInt8[np.ndarray, 'n s s 3']) -> list[Facts]:
    """The facts of images by their bytes, and by their pixels as the network is given them."""
    side = squares.shape[1]
    start, step = max(0, side - _SIDE) // 2, max(1, side // 16)
    green = squares[:, start : start + _SIDE, start : start + _SIDE, 1].astype(np.int16)
    edges = green[:, :-2, 1:-1] + green[:, 2:, 1:-1] + green[:, 1:-1, :-2] + green[:, 1:-1, 2:]
    edges = (edges - 4 * green[:, 1:-1, 1:-1]).reshape(len(squares), -1).astype(np.float32)
    sharpness = edges.var(1)
    # Channel by channel: numpy reduces an axis of three very slowly.
    r, g, b = (squares[:, ::step, ::step, channel].reshape(len(squares), -1) for channel in range(3))
    colour = (np.maximum(np.maximum(r, g), b) - np.minimum(np.minimum(r, g), b)).mean(1)
    brightness = g.mean(1)
    found = []
    for data, *values in zip(contents, sharpness.tolist(), colour.tolist(), brightness.tolist(), strict=True):
        try:
            kind, width, height = decode.identify(data)
        except decode.BadImage:
            kind, width, height = '', side, side
        short, long = sorted((width, height))
        found.append(Facts(kind, (short, long / max(1, short), *values)))
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """The kind of images that a detector knows.

    Attributes:
        kinds: formats.
        ranges: float64[len(FACTS), 2], least and greatest usual value.
        means: float32[c, F], of the features of each class.
        basis: float32[F, k], directions in which features vary most within a class.
        scales: float32[k], their deviations.
        rest: mean square of what is left, in each of the other directions.
        far: distance that 1 of 100 images exceeds.
        digest: of the weights.
    """

    kinds: tuple[str, ...]
    ranges: np.ndarray
    means: np.ndarray
    basis: np.ndarray
    scales: np.ndarray
    rest: float
    far: float
    digest: str

    def distances(self, features: Float[np.ndarray, 'n f']) -> Float[np.ndarray, ' n']:
        """How far features are from the nearer class, float64[n]; 1 is the distance that 1 of 100 exceeds.

        Mahalanobis distance with a covariance that the classes share (Lee et al., NeurIPS 2018, section 2.1), of
        principal components and one variance for all other directions (Tipping and Bishop, 1999).
        """
        return _distances(features, self.means, self.basis, self.scales, self.rest) / self.far

    def reasons(self, facts: Facts, distance: float) -> dict[str, str]:
        """In what an image is unlike the ones that are known, by the name of the fact; empty if it is like them."""
        found = {}
        for name, value, (low, high) in zip(FACTS, facts.values, self.ranges.tolist(), strict=True):
            slack = _SLACK[name]
            if value < low / slack or value > high * slack:
                found[name] = _reason(name, value, low, high)
        if facts.kind not in self.kinds and facts.kind != _PIXELS:
            found['format'] = f'{facts.kind or "unknown"} format, not {" or ".join(self.kinds)}'
        if distance > 1:
            found['features'] = f'its features lie {distance:.1f} times as far out as those of 99 of 100'
        return found

    def unlike(self, facts: Facts, distance: float) -> str:
        """The reasons as words for a note; '' if there are none."""
        found = self.reasons(facts, distance)
        return f'{UNLIKE}: {", ".join(found.values())}' if found else ''

    def write(self, path: pathlib.Path) -> None:
        """Writes a file that `read` takes."""
        arrays = {name: getattr(self, name).astype(np.float32) for name in ('ranges', 'means', 'basis', 'scales')}
        about = {'kinds': self.kinds, 'rest': self.rest, 'far': self.far, 'digest': self.digest}
        with files.replacing(path, 'wb') as file:
            np.savez_compressed(file, about=json.dumps(about), **arrays)


def read(path: pathlib.Path, digest: str | None = None) -> Known | None:
    """What `write` wrote; None where there is nothing, nothing whole, or of other weights than `digest`."""
    try:
        with open(path, 'rb') as file, np.load(file) as arrays:
            about: dict[str, Any] = json.loads(str(arrays['about']))
            found = {name: arrays[name].astype(np.float64) for name in ('ranges', 'means', 'basis', 'scales')}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    known = Known(**{**about, 'kinds': tuple(about['kinds'])}, **found)
    return known if digest in (None, known.digest) else None


def beside(known: Known | None, further: Look | None) -> Look | None:
    """Shows images to both: pairs of their facts, where something is known, and of what `further` says."""
    if known is None and further is None:
        return None

    def show(contents: Sequence[bytes], squares: np.ndarray) -> list[tuple[Any, Any]]:
        facts = [None] * len(contents) if known is None else look(contents, squares)
        return list(zip(facts, [None] * len(contents) if further is None else further(contents, squares), strict=True))

    return show


def fit(
    facts: Sequence[Facts], features: Float[np.ndarray, 'n f'], labels: Int[np.ndarray, ' n'], digest: str
) -> Known | None:
    """Learns what images of validation are like; None of fewer than LEAST.

    Directions are fitted on every other image of a class, and the distance that 1 of 100 exceeds on the others.
    """
    features = np.asarray(features, np.float64)
    if len(facts) < LEAST:
        return None
    kinds, counts = np.unique([one.kind for one in facts], return_counts=True)
    ranges = np.quantile(np.array([one.values for one in facts]), _RANGE, axis=0).T
    rows = np.zeros(len(labels), bool)
    for label in np.unique(labels):  # half of each class, in whatever order they come
        rows[np.flatnonzero(labels == label)[::2]] = True
    fitted, own = features[rows], labels[rows]
    means = np.stack([fitted[own == label].mean(0) for label in np.unique(own)])
    within = fitted - means[np.searchsorted(np.unique(own), own)]
    _, values, directions = np.linalg.svd(within, full_matrices=False)
    variances = values**2 / len(within)
    number = max(1, min(_COMPONENTS, len(within) // 10, int((variances > variances[0] * 1e-6).sum())))
    others = max(1, features.shape[1] - number)
    rest = max(float(variances[number:].sum()) / others, float(variances[0]) * 1e-6, 1e-12)
    basis, scales = directions[:number].T, np.sqrt(np.maximum(variances[:number], rest))
    far = max(1e-9, float(np.quantile(_distances(features[~rows], means, basis, scales, rest), _FAR)))
    usual = tuple(str(kind) for kind, count in zip(kinds, counts, strict=True) if count >= 0.005 * len(facts))
    return Known(usual, ranges, means, basis, scales, rest, far, digest)


def _distances(
    features: np.ndarray, means: np.ndarray, basis: np.ndarray, scales: np.ndarray, rest: float
) -> np.ndarray:
    away = np.asarray(features, np.float64)[:, None] - means
    parts = away @ basis
    left = np.maximum((away**2).sum(-1) - (parts**2).sum(-1), 0)
    return np.sqrt(((parts / scales) ** 2).sum(-1) + left / rest).min(-1)


def _reason(name: str, value: float, low: float, high: float) -> str:
    is_less = value < low
    if name == 'size':
        theirs = f'{low:.0f}' if round(low) == round(high) else f'{low:.0f} to {high:.0f}'
        return f'{value:.0f} pixels, not {theirs}'
    if name == 'aspect':
        return f'{value:.1f} times as long as wide'
    words = {'sharpness': ('blurred', 'sharper'), 'colour': ('colourless', 'more colourful'),
             'brightness': ('darker', 'brighter')}[name]  # fmt: skip
    return words[0 if is_less else 1]

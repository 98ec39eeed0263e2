"""How much a detector loses on images that others have recompressed, resized or edited, each loss with an interval."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from fakeimg.console import SILENT, Console
from fakeimg.data.datasets import Split
from fakeimg.errors import UserError
from fakeimg.evaluation import intervals, paired
from fakeimg.evaluation.degraded import KINDS, TIERS, Cell, DegradedFiles
from fakeimg.evaluation.intervals import Figure
from fakeimg.scoring import Predictions

IMAGES = 2000  # of each curve: an AUC of 0.95 then has an interval of 0.02


class Scorer(Protocol):
    """What scores images: `detector.Detector` and `foreign.Scorer` do."""

    def score(self, split: Split, name: str, *, console: Console = ...) -> tuple[Predictions, Any]: ...


def evaluate(
    detector: Scorer,
    split: Split,
    name: str,
    *,
    clean: Predictions,
    threshold: float,
    seed: int = 0,
    images: int = IMAGES,
    console: Console = SILENT,
) -> dict[str, Any]:
    """Scores a split at the tiers of `degraded.TIERS`, and a part of it along the curves of `degraded.KINDS`.

    Every degradation is compared with the same images as they are stored. An image that has no score as it is stored
    counts nowhere.

    Args:
        detector: one of a run, or of `foreign.running`.
        split: the images.
        name: of the split, for messages.
        clean: what `detector.score` gives for the images as they are stored.
        threshold: on the P(fake) of `detector.score`, from which an image is called fake.
        seed: of noise, and of which images the curves take.
        images: at most as many for the curves, with each class's share of the split; 0 takes all.
        console: shows the progress.

    Returns:
        `seed`, `n` (images of the curves), `clean` (their figures as stored), `tiers` and `curves`. A row has `auc` and
        `accuracy`, and `auc_drop` and `accuracy_drop`: clean minus degraded, with a paired interval.

    Raises:
        UserError: fewer than 0 images, or too many that cannot be read.
    """
    if images < 0:
        raise UserError(f'robustness is asked for with {images} images; give their number, or 0 for all.')
    place = {image: row for row, image in enumerate(split.names)}
    split, stored = split.take(np.array([place[image] for image in clean.names], int)), clean.logits.astype(np.float64)
    tiers = [*map(Cell, TIERS)]
    posted = _score(detector, split, f'{name} at {len(tiers)} tiers', tiers, seed, console)
    rows = sample(split.names, split.labels, images, seed)
    part = split.take(rows)
    cells = [Cell(kind, severity) for kind, (_, severities, _) in KINDS.items() for severity in severities]
    degraded = _score(detector, part, f'{name} under {len(cells)} degradations', cells, seed, console)
    whole = _Judge.of(split, stored, threshold)
    judge = _Judge.of(part, stored[rows], threshold)
    of_part = judge.row(judge.clean)
    curves = {kind: {'unit': KINDS[kind].unit, 'rows': []} for kind in KINDS}
    for cell, logits in zip(cells, degraded.T, strict=True):
        curves[cell.kind]['rows'].append({'severity': cell.severity, **judge.row(logits)})
    return {
        'seed': seed,
        'n': len(part),
        'clean': {name: of_part[name] for name in ('auc', 'accuracy')},
        'tiers': [
            {'name': 'clean', 'what': 'as stored', **whole.row(stored)},
            *(
                {'name': tier, 'what': f'{side} px, JPEG {quality}', **whole.row(logits)}
                for (tier, (side, quality)), logits in zip(TIERS.items(), posted.T, strict=True)
            ),
        ],
        'curves': curves,
    }


def sample(names: Sequence[str], labels: Int[np.ndarray, ' n'], images: int, seed: int) -> Int[np.ndarray, ' m']:
    """Chooses `images` of n, each class in proportion, by the hash of their names; ascending. 0 chooses all.

    The choice does not depend on the order of the images; of two numbers, the larger chooses what the smaller does.
    """
    if not 0 < images < len(names):
        return np.arange(len(names))
    ranks = [hashlib.sha256(os.fsencode(f'{seed}/{name}')).digest() for name in names]
    chosen = []
    fakes = min(max(round(images * labels.mean()), int(labels.any())), images - int(not labels.all()))
    for label, count in ((0, images - fakes), (1, fakes)):
        members = np.flatnonzero(labels == label).tolist()
        chosen += sorted(members, key=ranks.__getitem__)[:count]
    return np.sort(np.array(chosen, int))


def _score(
    detector: Scorer, split: Split, name: str, cells: list[Cell], seed: int, console: Console
) -> Float[np.ndarray, 'n cells']:
    """Log-odds of every image under every cell; NaN where there is no such image."""
    files = DegradedFiles(split.files, cells, seed)
    repeated = split.take(np.repeat(np.arange(len(split)), len(cells)))
    degraded = dataclasses.replace(repeated, files=files, digests=np.empty(0, 'S32'))
    predictions, _ = detector.score(degraded, name, console=console)
    logits = dict(zip(predictions.names, predictions.logits.tolist(), strict=True))
    return np.array([logits.get(name, np.nan) for name in files.names]).reshape(len(split), len(cells))


@dataclasses.dataclass(frozen=True, eq=False)
class _Judge:
    """Compares degraded images with the same ones as stored.

    Attributes:
        labels: int[n].
        groups: of the images; None if there are none.
        clean: float64[n], log-odds as stored.
        threshold: on P(fake).
    """

    labels: np.ndarray
    groups: list[str] | None
    clean: np.ndarray
    threshold: float

    @classmethod
    def of(cls, split: Split, clean: np.ndarray, threshold: float) -> '_Judge':
        return cls(split.labels, split.groups if any(split.groups) else None, clean, threshold)

    def row(self, logits: Float[np.ndarray, ' n']) -> dict[str, Figure]:
        """The figures of a cell and its drops, of the images that it has (NaN: it has none)."""
        has = ~np.isnan(logits)
        labels, clean, logits = self.labels[has], self.clean[has], logits[has]
        groups = None if self.groups is None else [group for group, kept in zip(self.groups, has, strict=True) if kept]
        called = self._called(logits)
        if groups is None:
            right = int((called == labels).sum())
            auc, accuracy = intervals.auc(labels, logits), intervals.proportion(right, len(labels))
        else:  # against a detector that knows nothing, and one that is always wrong: whole groups are resampled
            auc = _raised(paired.auc_difference(labels, logits, np.zeros_like(logits), groups), 0.5)
            accuracy = _raised(paired.accuracy_difference(labels, called, 1 - labels, groups), 0.0)
        return {
            'auc': auc,
            'accuracy': accuracy,
            'auc_drop': paired.auc_difference(labels, clean, logits, groups),
            'accuracy_drop': paired.accuracy_difference(labels, self._called(clean), called, groups),
        }

    def _called(self, logits: np.ndarray) -> np.ndarray:
        return Predictions([], self.labels, logits, 0).probabilities >= self.threshold


def _raised(difference: Figure, by: float) -> Figure:
    """The figure of a detector from its difference to one whose figure is `by`."""
    found = {name: value for name, value in difference.items() if name not in ('p', 'only_a', 'only_b')}
    if found['value'] is None:
        return found
    return {**found, **{name: round(min(1.0, found[name] + by), 6) for name in ('value', 'low', 'high')}}

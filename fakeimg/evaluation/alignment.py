"""The scores of several detectors on the same images, in the same order."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fakeimg.data.labels import LABELS
from fakeimg.errors import UserError
from fakeimg.evaluation import matching
from fakeimg.evaluation.entrants import Entrant, EntrantScores
from fakeimg.scoring import Predictions


@dataclasses.dataclass(eq=False)
class Aligned:
    """One data set, and what each detector says of the images that all of them scored.

    Attributes:
        name, path: of the set.
        digest: of its content; None where only tables say what it is.
        labels: int32[n], 1 = fake.
        groups: of the n images; empty where none is known.
        scores: of each detector that has any.
        rows: detector -> int64[n], where the n images are among its scores.
        notes: warnings for the user.
    """

    name: str
    path: str | None
    digest: str | None
    labels: np.ndarray
    groups: list[str]
    scores: Mapping[Entrant, EntrantScores]
    rows: Mapping[Entrant, np.ndarray]
    notes: list[str]

    def logits(self, entrant: Entrant) -> np.ndarray:
        """float64[n], log-odds of fake."""
        return self.scores[entrant].logits[self.rows[entrant]]

    def threshold(self, entrant: Entrant, asked: str) -> float:
        """The threshold on P(fake): the number asked for, or that of the operating point of that name.

        Raises:
            UserError: neither a number nor an operating point of this evaluation.
        """
        try:
            value = float(asked)
        except ValueError:
            points = (self.scores[entrant].metrics or {}).get('operating_points', [])
            named = {point['name']: point['threshold'] for point in points if point.get('achievable', True)}
            if asked not in named:
                known = f'one of {", ".join(named)}' if named else 'a probability, for this evaluation has no others'
                raise UserError(f'threshold is {asked!r}; for {entrant.name} it must be {known}.') from None
            return float(named[asked])
        return value

    def decided(self, entrant: Entrant, asked: str) -> np.ndarray:
        """bool[n], what a detector calls fake."""
        return Predictions([], self.labels, self.logits(entrant), 0).probabilities >= self.threshold(entrant, asked)

    def described(self) -> dict[str, Any]:
        """For `compare.json`."""
        fake = int(self.labels.sum())
        groups = len({group for group in self.groups if group})
        return {'name': self.name, 'path': self.path, 'content_digest': self.digest, 'n': len(self.labels),
                'real': len(self.labels) - fake, 'fake': fake, 'groups': groups}  # fmt: skip


def same_set(scores: Mapping[Entrant, EntrantScores]) -> str | None:
    """The content digest of the first evaluation; None where there are only tables.

    Raises:
        UserError: evaluations are of different sets, and do not all know what the files held.
    """
    seen: dict[str, Entrant] = {}
    for entrant, scored in scores.items():
        if scored.content_digest:
            seen.setdefault(scored.content_digest, entrant)
    if len(seen) > 1 and not all(len(scored.digests) for scored in scores.values() if scored.content_digest):
        one, other, *_ = seen.values()
        raise UserError(
            f'{one.name} was scored on {_where(scores[one])}, {other.name} on {_where(scores[other])}, and these '
            'images are not the same; name the set that both should be scored on, and give run folders.',
            add=[('data', 'DIR')],
        )
    return next(iter(seen), None)


def _where(scored: EntrantScores) -> str:
    metrics = scored.metrics or {}
    return f'{metrics.get("split")} of {metrics.get("data_path")}'


def align(
    scores: Mapping[Entrant, EntrantScores],
    name: str,
    path: str | None,
    digest: str | None,
    base: tuple[list[str], np.ndarray, list[str]] | None = None,
) -> Aligned:
    """Brings scores into one order, and restricts them to the images that all have.

    Args:
        scores: of each detector.
        name, path, digest: of the set. Evaluations of a set with another digest are matched by what files hold.
        base: names, labels and groups of its images; None takes those of the first evaluation, or the first table.

    Raises:
        UserError: no images in common, no labels, or labels that contradict each other.
    """
    first = None
    if base is None:
        first = min(
            scores.values(),
            key=lambda one: (one.metrics is None, one.content_digest != digest, len(one.labels) == 0),
        )
        base = first.names, first.labels, first.groups
    names, labels, groups = base
    if len(labels) < len(names):
        raise UserError(
            'no table says which images are fake; add a column of labels (label NAME=real and NAME=fake define what '
            'its names mean), or name the data they are of.'
        )
    rows, notes = {}, []
    held = np.ones(len(names), bool)
    for entrant, scored in scores.items():
        if first is None or scored.content_digest in (None, digest):
            places = _places(scored, names, entrant)
        else:
            places = matching.match_bytes(scored.digests, scored.labels, first.digests, labels)
            notes.append(_by_bytes(entrant, scored, places))
        rows[entrant] = np.full(len(names), -1)
        rows[entrant][places[places >= 0]] = np.flatnonzero(places >= 0)
        held &= rows[entrant] >= 0
        _require_agreement(scored, places, names, labels, entrant)
        notes += [f'{entrant.name}: {note}' for note in scored.notes]
    if scores and not held.any():
        raise UserError(
            f'{" and ".join(entrant.name for entrant in scores)} have no images in common; compare scores of the same '
            'images, or name a set on which all run folders are scored.'
        )
    most = max([len(names), *(len(scored.names) for scored in scores.values())])
    if scores and held.sum() < most:
        notes.append(f'{name}: only the {held.sum():,} images that all have scores of are compared, of {most:,}')
    if not any(groups):
        groups = next((_spread(scored, rows[one]) for one, scored in scores.items() if any(scored.groups)), [])
    groups = [groups[row] for row in np.flatnonzero(held)] if any(groups) else []
    notes += _copies(scores, name)
    kept = {entrant: places[held] for entrant, places in rows.items()}
    return Aligned(name, path, digest, labels[held], groups, scores, kept, notes)


def _by_bytes(entrant: Entrant, scored: EntrantScores, places: np.ndarray) -> str:
    found = scored.digests[places >= 0]
    note = f'{entrant.name} was scored on {_where(scored)}, and its images are matched by what the files hold'
    copies = len(found) - len(np.unique(found))
    return f'{note}; {copies:,} of them have the same bytes as others, in the same order' if copies else note


def _copies(scores: Mapping[Entrant, EntrantScores], name: str) -> list[str]:
    """Which detectors have seen images of a set in training."""
    who: dict[tuple[int, int], list[str]] = {}
    for entrant, scored in scores.items():
        copies = ((scored.metrics or {}).get('without_copies') or {}).get('copies')
        if copies:
            who.setdefault((copies, len(scored.names)), []).append(entrant.name)
    return [
        f'{copies:,} of the {n:,} images of {name} were in training or validation, byte for byte, of {", ".join(names)}'
        for (copies, n), names in who.items()
    ]


def _places(scored: EntrantScores, names: list[str], entrant: Entrant) -> np.ndarray:
    """int64[m], where each scored image is among `names`; -1 where it is not."""
    place = {name: row for row, name in enumerate(names)}
    places = np.array([place.get(name, -1) for name in scored.names], np.int64)
    if (places < 0).all() and len(places):  # full paths, or file names alone
        places = matching.match(scored.names, names, entrant.path.name)
    return places


def _spread(scored: EntrantScores, rows: np.ndarray) -> list[str]:
    return [scored.groups[row] if row >= 0 else '' for row in rows]


def _require_agreement(
    scored: EntrantScores, places: np.ndarray, names: list[str], labels: np.ndarray, entrant: Entrant
) -> None:
    if not len(scored.labels):
        return
    rows = np.flatnonzero(places >= 0)
    wrong = rows[scored.labels[rows] != labels[places[rows]]]
    if len(wrong):
        said, meant = (list(LABELS)[int(value)] for value in (scored.labels[wrong[0]], labels[places[wrong[0]]]))
        raise UserError(
            f'the labels of {entrant.name} contradict the others for {len(wrong):,} of {len(rows):,} images (first: '
            f'{names[places[wrong[0]]]!r} is {said} there and {meant} elsewhere); correct them, or leave it out.'
        )

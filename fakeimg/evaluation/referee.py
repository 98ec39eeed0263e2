"""Scores of any detector, joined with the images they are of, so that they are judged as our own detectors' are."""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from fakeimg.data.datasets import Split
from fakeimg.data.labels import CLASS_NAMES, LABELS
from fakeimg.errors import UserError
from fakeimg.evaluation import matching, metrics, score_table
from fakeimg.scoring import Predictions

_NO_NAME = re.compile(r'row \d+$')


@dataclasses.dataclass(frozen=True)
class ForeignScores:
    """The scores of a detector that is not ours.

    Attributes:
        predictions: of the n images with a score, in the order of the split, or of the table without a split.
        split: the n images, in the same order; None without a split.
        missing: images of the split without a score, each with the reason; they count as skipped.
        columns: the other columns of the table by name, n values each.
        notes: warnings for the user, without a full stop.
        validation: of other images, which fix thresholds and calibration; None where there are none.
    """

    predictions: Predictions
    split: Split | None
    missing: list[tuple[str, str]]
    columns: dict[str, list[str]]
    notes: list[str]
    validation: Predictions | None = None


def with_validation(scores: ForeignScores, validation: Predictions) -> ForeignScores:
    """The same scores, with those of other images that fix thresholds and calibration.

    Raises:
        UserError: half of them or more are scores that are judged, or the other way round.
    """
    judged = scores.predictions
    rows = [
        {
            (name, logit)
            for name, logit in zip(part.names, part.logits.tolist(), strict=True)
            if not _NO_NAME.match(name)
        }
        for part in (judged, validation)
    ]
    same = len(rows[0] & rows[1])
    if np.array_equal(judged.logits, validation.logits) or 0 < min(map(len, rows)) <= 2 * same:
        raise UserError(
            f'validation ({len(validation.names):,} scores) holds scores that are judged ({len(judged.names):,}); '
            'thresholds and calibration are fixed on other images than those.'
        )
    return dataclasses.replace(scores, validation=validation)


def read_scores(
    path: str,
    split: Split | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    class_names: Mapping[str, int] = CLASS_NAMES,
    scale: str | None = None,
    max_missing: float = 0.0,
) -> ForeignScores:
    """Reads a table of scores: CSV, TSV, JSONL or JSON with a name and a score in each row, perhaps a label.

    Args:
        path: of the table.
        split: the images that were scored; the table's names must be theirs, and its labels agree with theirs.
        columns: which column holds what, see `score_table.columns_of`; others are found by their names.
        class_names: the class of each label, in lower case. Without an entry, the labels 0 and 1 are real and fake.
        scale: one of `score_table.SCALES`; None is logit for a column of that name, and probability for others.
        max_missing: share of the split that may have no score.

    Raises:
        UserError: no such table; no scores or labels in it; a score that is no number, or no probability; names that
            the split does not have, that fit several images or come twice; images without a score; labels that
            contradict the split's.
    """
    table = score_table.read(path, columns or {}, class_names, scale, has_labels=split is not None)
    if split is not None:
        return _joined(table, split, max_missing)
    if not table.labels:
        raise table.lacks('label', ', or name the data whose labels to use')
    names = table.names or [f'row {number}' for number in range(1, len(table.logits) + 1)]  # _NO_NAME
    matching.refuse_doubles(names, table.name)
    sources, groups = (table.others.pop(what, []) for what in ('source', 'group'))
    predictions = Predictions(names, np.array(table.labels, np.int32), table.logits, 0, sources, groups)
    return ForeignScores(predictions, None, [], table.others, [*table.notes, *warnings_about(predictions)])


def _joined(table: score_table.ScoreTable, split: Split, max_missing: float) -> ForeignScores:
    """The scores in the order of the split."""
    if not table.names:
        raise table.lacks('path')
    places = matching.match(table.names, split.names, table.name)
    if table.labels:
        _require_agreement(np.array(table.labels), split.labels[places], table)
    missing = [split.names[place] for place in np.setdiff1d(np.arange(len(split)), places)]
    if len(missing) > max_missing * len(split):
        raise UserError(
            f'{table.name} has no score for {len(missing):,} of the {len(split):,} images (first: {missing[0]!r}); add '
            'them, or allow that share with max_bad_fraction.'
        )
    order = np.argsort(places)
    part = split.take(places[order])
    others = {name: [values[row] for row in order] for name, values in table.others.items()}
    sources, groups = (  # the split's own where it knows any
        own if any(own) else others.pop(what, own)
        for what, own in (('source', part.generators), ('group', part.groups))
    )
    predictions = Predictions(part.names, part.labels, table.logits[order], len(missing), sources, groups)
    reasons = [(name, f'no score in {table.name}') for name in missing]
    return ForeignScores(predictions, part, reasons, others, [*table.notes, *warnings_about(predictions)])


def _require_agreement(labels: np.ndarray, known: np.ndarray, table: score_table.ScoreTable) -> None:
    different = np.flatnonzero(labels != known)
    if len(different):
        row = int(different[0])
        said, meant = (list(LABELS)[int(values[row])] for values in (labels, known))
        advice = 'correct one of them'
        if len(different) == len(labels):
            advice = 'all are swapped: define what they mean with label NAME=real and NAME=fake'
        raise UserError(
            f'{table.name} contradicts the labels of the data for {len(different):,} of {len(labels):,} images (first: '
            f'{table.names[row]!r} is {said} in the table and {meant} in the data); {advice}.'
        )


_IF_TURNED = (
    'if these are P(real), define that with scores_are probability_of_real (or logit_of_real), otherwise check which '
    'label means fake'
)


def warnings_about(predictions: Predictions, if_turned: str = _IF_TURNED) -> list[str]:
    """What is suspicious about scores: decisions in place of scores, and an order that is the wrong way round."""
    labels, logits = predictions.labels, predictions.logits
    notes = []
    values = np.unique(logits)
    if len(values) <= 2 < len(logits):
        what = 'all scores are the same' if len(values) < 2 else 'there are two different scores only, as of decisions'
        notes.append(f'{what}: AUC and curves are those of one decision; give P(fake) to judge the ranking')
    fake = int(labels.sum())
    real = len(labels) - fake
    auc = metrics.roc_auc(labels, logits)
    if auc is not None and auc < 0.5 - 3 * np.sqrt((len(labels) + 1) / (12 * real * fake)):  # 3 errors off chance
        notes.append(f'AUC is {auc:.4f}, well below 0.5: real images get the higher scores; {if_turned}')
    return notes

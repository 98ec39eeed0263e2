"""The same figures for parts of a set: per generator, video, format, size, JPEG quality, or a column of a table."""

import bisect
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fakeimg.auditing.headers import read_header
from fakeimg.data import tables
from fakeimg.data.datasets import Split
from fakeimg.data.rows import SUFFIXES, read_rows
from fakeimg.errors import UserError
from fakeimg.evaluation import intervals
from fakeimg.evaluation.intervals import Figure
from fakeimg.evaluation.ranking import Ranked
from fakeimg.evaluation.resampling import Resampler, share
from fakeimg.scoring import Predictions

MOST_ROWS = 100
FEWEST_FOR_NEXT = 5  # sources, to say something about one that was not seen
_FEW_VALUES = 30  # of a column that somebody else's table happens to have
_DRAWS = 500
_SIDES = (32, 64, 128, 256, 512, 1024, 2048)  # pixels, where ranges begin
_QUALITIES = (50, 70, 80, 90, 95)


def header_columns(split: Split, names: Sequence[str]) -> dict[str, list[str]]:
    """What the headers of some images of a split say: `format`, `size` (of the shorter side), `jpeg_quality`."""
    places = {name: place for place, name in enumerate(split.names)}
    columns: dict[str, list[str]] = {'format': [], 'size': [], 'jpeg_quality': []}
    for name in names:
        try:
            header = read_header(split[places[name]])
        except OSError:  # gone since it was scored
            header = read_header(b'')
        columns['format'].append(header.format)
        columns['size'].append(_range(min(header.width, header.height), _SIDES, ' px'))
        columns['jpeg_quality'].append(_range(header.jpeg_quality, _QUALITIES) if header.jpeg_quality else '')
    return columns


def table_columns(path: str, names: Sequence[str], wanted: Sequence[str]) -> dict[str, list[str]]:
    """Columns of the table that lists images, one value for each of `names`; '' where it has none.

    Raises:
        UserError: the images do not come from a table, or it has no such column.
    """
    if not wanted:
        return {}
    if not path.lower().endswith(SUFFIXES):
        raise UserError(f'{path} is no table, so there is no column {wanted[0]!r} to slice by.')
    records = read_rows(pathlib.Path(path).read_bytes(), os.path.basename(path))
    keys = {tables.column_key(name): name for name in records[0]}
    for name in wanted:
        if tables.column_key(name) not in keys:
            raise UserError(f'{path} has no column {name!r} to slice by; its columns are {", ".join(keys.values())}.')
    paths = next(keys[name] for name in tables.COLUMNS['path'] if name in keys)
    by_path = {os.path.normpath(str(record[paths])): record for record in records}
    found = [by_path.get(os.path.normpath(name), {}) for name in names]
    return {name: [str(row.get(keys[tables.column_key(name)], '')) for row in found] for name in wanted}


def few_valued(columns: dict[str, list[str]], asked: Sequence[str]) -> dict[str, list[str]]:
    """The columns that were asked for, and those with few different values, which therefore name kinds of images.

    Raises:
        UserError: a column was asked for that is not there.
    """
    for name in asked:
        if name not in columns:
            raise UserError(f'there is no column {name!r} to slice by; there are {", ".join(columns) or "none"}.')
    return {name: values for name, values in columns.items() if name in asked or len({*values}) <= _FEW_VALUES}


def _range(value: int, starts: Sequence[int], unit: str = '') -> str:
    place = bisect.bisect(starts, value)
    if place == 0:
        return f'below {starts[0]}{unit}'
    if place == len(starts):
        return f'{starts[-1]}{unit} and more'
    return f'{starts[place - 1]} to {starts[place] - 1}{unit}'


def rows(predictions: Predictions, values: Sequence[str], threshold: float) -> list[dict[str, Any]]:
    """One row for each value of a column, the worst AUC first; '' is no value.

    A part with one class only is ranked against all images of the other class, and says so in `against`.

    Args:
        predictions: of n images.
        values: of each of them.
        threshold: on P(fake).
    """
    labels, column = predictions.labels, np.asarray(values, object)
    found = []
    for value in sorted({*values} - {''}):
        part = column == value
        real, fake = int((labels[part] == 0).sum()), int(labels[part].sum())
        row: dict[str, Any] = {'value': value, 'n': real + fake, 'real': real, 'fake': fake}
        row |= _decisions(predictions.take(part), threshold)
        rest = None
        if real == 0 or fake == 0:
            other = 1 - int(fake > 0)
            rest = part | (labels == other)
            row['against'] = f'all {("real", "fake")[other]} images'
        row['auc'] = _auc(predictions.take(part if rest is None else rest))
        found.append(row)
    found.sort(key=lambda row: (_badness(row), row['value']))
    return found[:MOST_ROWS]


def _badness(row: dict[str, Any]) -> tuple[float, float]:
    auc, accuracy = row['auc']['value'], row['accuracy']['value']
    return (1.0 if auc is None else auc, accuracy)


def _decisions(part: Predictions, threshold: float) -> dict[str, Figure | None]:
    labels = part.labels
    right, fake = (part.probabilities >= threshold) == labels, labels == 1
    resampler = Resampler.of(labels, part.groups, _DRAWS)
    of = {'accuracy': np.ones(len(labels), bool), 'recall': fake, 'specificity': ~fake}
    return {name: share(right, rows, resampler) if rows.any() else None for name, rows in of.items()}


def _auc(part: Predictions) -> Figure:
    labels, logits = part.labels, part.logits.astype(np.float64)
    resampler = Resampler.of(labels, part.groups, _DRAWS)
    if not resampler.is_grouped or not 0 < labels.sum() < len(labels):
        return intervals.auc(labels, logits)
    ranked = Ranked.of(labels, logits)
    drawn = resampler.measure(lambda counts: {'auc': ranked.count(counts).auc()})
    low, high = (float(bound[0]) for bound in resampler.interval(drawn['auc'][:, None]))
    value, units = float(ranked.count().auc()[0]), len(np.unique(resampler.units))
    if low == high and value in (0.0, 1.0):
        bound = intervals.lower_bound_of_all(resampler.smallest)
        low, high = (bound, 1.0) if value else (0.0, 1 - bound)
    return intervals.figure(value, min(low, value), max(high, value), len(labels), resampler.method, groups=units)


def macro(found: Sequence[dict[str, Any]]) -> dict[str, Figure]:
    """Means over the rows of a column, every row alike, with intervals for a value that is not among them."""
    return {name: _mean_of_rows([row[name]['value'] for row in found], name) for name in ('accuracy', 'auc')}


def _mean_of_rows(values: Sequence[float | None], name: str) -> Figure:
    known = np.array([value for value in values if value is not None])
    if len(known) < FEWEST_FOR_NEXT:
        return intervals.undefined(f'fewer than {FEWEST_FOR_NEXT} rows', n=len(known))
    resampler = Resampler.of(np.zeros(len(known), int))
    drawn = resampler.measure(lambda counts: {name: counts @ known / len(known)})[name]
    low, high = (float(bound[0]) for bound in resampler.interval(drawn[:, None]))
    return intervals.figure(float(known.mean()), low, high, len(known), 'bootstrap of the rows')


def by_group(predictions: Predictions) -> Predictions:
    """One score for each group, a video for example: the mean of its images' log-odds; images without a group go.

    A group with both classes is left out and counts as skipped.
    """
    places: dict[str, list[int]] = {}
    for place, group in enumerate(predictions.groups):
        if group:
            places.setdefault(group, []).append(place)
    pure = {group: rows for group, rows in places.items() if len({*predictions.labels[rows].tolist()}) == 1}
    first = [rows[0] for rows in pure.values()]
    return Predictions(
        names=list(pure),
        labels=predictions.labels[first] if first else np.zeros(0, np.int32),
        logits=np.array([predictions.logits[rows].astype(np.float64).mean() for rows in pure.values()]),
        skipped=len(places) - len(pure),
        sources=[predictions.sources[place] for place in first] if predictions.sources else (),
    )

"""A table of scores as somebody's script wrote it: names, scores as log-odds of fake, perhaps labels and more."""

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fakeimg.data import tables
from fakeimg.data.labels import LABELS
from fakeimg.data.rows import read_rows
from fakeimg.errors import UserError

SCALES = ('probability', 'logit', 'probability_of_real', 'logit_of_real')
# Names of columns, the ones to prefer first; those that often hold decisions come last.
_LOG_ODDS = ('logit', 'logits', 'log_odds', 'fake_logit', 'logit_fake')
_SCORES = (
    'p_fake', 'p(fake)', 'prob_fake', 'fake_prob', 'fake_probability', 'probability_fake', 'fake_score', 'score_fake',
    'probability', 'prob', 'probs', 'probabilities', 'score', 'scores', 'y_score', 'y_prob', 'y_hat', 'sigmoid',
    *_LOG_ODDS, 'fake', 'deepfake', 'output', 'pred', 'preds', 'prediction', 'predictions', 'y_pred', 'predicted',
)  # fmt: skip
_COLUMNS = {
    'path': (*tables.COLUMNS['path'], 'names', 'paths', 'files', 'filenames', 'id', 'image_id'),
    'score': _SCORES,
    **{what: tables.COLUMNS[what] for what in ('label', 'source', 'group')},
}
_OURS = {'name', 'label', 'probability', 'logit'}  # columns of predictions.csv, where label 1 is fake
_NUMERALS = {'0': LABELS['real'], '1': LABELS['fake']}
_CERTAIN = float(np.log1p(-1e-12) - np.log(1e-12))  # log-odds of certainty, where none of the others are higher
_ROUNDING = 1e-6  # by which a float32 probability may leave 0 to 1

Row = dict[str, Any]  # by the key of the column, see `tables.column_key`


@dataclasses.dataclass(frozen=True)
class ScoreTable:
    """The rows of a table of scores.

    Attributes:
        name: of the file.
        names: of the n images; empty where the table has no column of names.
        logits: float64[n], log-odds of fake, finite.
        labels: n labels, 0 = real, 1 = fake; empty where the table has none.
        others: the columns that are neither, `source` and `group` among them under these names; n values each.
        column_names: all columns, for messages.
        notes: warnings for the user, without a full stop.
    """

    name: str
    names: list[str]
    logits: np.ndarray
    labels: list[int]
    others: dict[str, list[str]]
    column_names: list[str]
    notes: list[str]

    def lacks(self, what: str, instead: str = '') -> UserError:
        """The error of a table without some column."""
        return _lacks(self.name, what, self.column_names, instead)


def columns_of(settings: Sequence[str]) -> dict[str, str]:
    """Reads `path=NAME`, `score=NAME`, `label=NAME` and so on: which column of a table of scores holds what.

    Raises:
        UserError: another form, or something that no table of scores has a column for.
    """
    return tables.columns_of(settings, tuple(_COLUMNS), 'score_columns')


def read(
    path: str, columns: Mapping[str, str], class_names: Mapping[str, int], scale: str | None, has_labels: bool
) -> ScoreTable:
    """Reads a table of scores.

    Args:
        path: of a CSV, TSV, JSONL or JSON file.
        columns: which column holds what, see `columns_of`; the others are found by their names.
        class_names: the class of each label, in lower case. Without an entry, the labels 0 and 1 are real and fake.
        scale: one of SCALES; None is logit for a column of that name, and probability for others.
        has_labels: whether labels are known otherwise: the table's may then be missing or not be understood.

    Raises:
        UserError: no such table, no scores in it, a score that is no number or no probability, an unknown label.
    """
    table = os.path.basename(path)
    records = _read_records(path, table)
    keys = {tables.column_key(name): name for name in dict.fromkeys(itertools.chain(*records))}
    rows = [{key: record.get(name) for key, name in keys.items()} for record in records]
    found = {what: _find(what, keys, columns, table) for what in _COLUMNS}
    notes: list[str] = []
    score = _score_column(rows, found, has_labels, table, notes)
    label, labels, problem = _labels(rows, [key for key in found['label'] if key != score], class_names, table)
    if problem is not None:
        if not has_labels or 'label' in columns:
            raise problem
        notes.append(f'the labels in {table} are not understood and left out; those of the set are used')
    name = next(iter(found['path']), None)
    names = [] if name is None else [_text(row[name]) for row in rows]
    if '' in names:
        raise UserError(f'{table}: row {names.index("") + 1} has no name; correct it.')
    logits = _log_odds([row[score] for row in rows], score, scale, names, table)
    if label and not (has_labels or keys.keys() >= _OURS or _NUMERALS.keys() & class_names.keys()):
        if any(_text(row[label]) in ('0', '1', '0.0', '1.0') for row in rows):
            notes.append(
                f'{table}: label 0 is taken for real and 1 for fake; if not so, define label 0=fake and 1=real'
            )
    renamed = {found[what][0]: what for what in ('source', 'group') if found[what]}
    others = {renamed.get(key, original): [_text(row[key]) for row in rows] for key, original in keys.items()
              if key not in (name, score, label)}  # fmt: skip
    return ScoreTable(table, names, logits, labels, others, list(keys.values()), notes)


def _read_records(path: str, table: str) -> list[dict[str, Any]]:
    try:
        data = pathlib.Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f'the scores {path} cannot be read ({error.strerror}); give a CSV or JSONL table.') from None
    if data.startswith(b'PK\3\4'):
        raise UserError(f'{table} is a spreadsheet or an archive; save it as CSV.')
    records = _read_json(data, table) if table.lower().endswith('.json') else read_rows(data, table)
    if not records:
        raise UserError(f'{table} has no scores; it must have a line of column names and a row for each image.')
    return records


def _read_json(data: bytes, table: str) -> list[dict[str, Any]]:
    """An array of objects, or one object of scores by name."""
    try:
        value = json.loads(data)
        if isinstance(value, dict):
            return [{'path': name, 'score': score} for name, score in value.items()]
        return [dict(row.items()) for row in value]
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise UserError(f'{table} is not a JSON array of objects with a name and a score; correct it.') from None


def _find(what: str, keys: Mapping[str, str], given: Mapping[str, str], table: str) -> list[str]:
    """The columns that may hold it, the best first."""
    if what not in given:
        return [name for name in _COLUMNS[what] if name in keys]
    if given[what] not in keys:
        raise UserError(
            f'{table} has no column {given[what]!r}, which score_columns names as {what}; its columns are '
            f'{", ".join(keys.values())}.'
        )
    return [given[what]]


def _lacks(table: str, what: str, columns: Sequence[str], instead: str = '') -> UserError:
    examples = ', '.join({'path': ('name', 'path', 'file'), 'score': ('p_fake', 'probability', 'score', 'logit')}.get(
        what, _COLUMNS[what][1:4]))  # fmt: skip
    advice = f'name it with score_columns {what}=NAME'
    if any(_number(name) is not None for name in columns):
        advice = 'give it a first line with the names of the columns'
    return UserError(
        f'{table} has no column of {what}s ({examples}); its columns are {", ".join(columns)}; {advice}{instead}.'
    )


def _score_column(rows: list[Row], found: dict[str, list[str]], has_labels: bool, table: str, notes: list[str]) -> str:
    """The first column that may hold scores and has more than two values, as decisions and labels have."""
    if not found['score'] and rows[0].keys() == {'path', 'label'} and has_labels and _has_scores(rows, 'label'):
        found['label'] = []  # a table without a line of column names
        return 'label'
    many = [key for key in found['score'] if _has_scores(rows, key)]
    few = [key for key in found['score'] if key not in found['label'] or (has_labels and found['score'] == [key])]
    scores = many or few[:1]
    if not scores:
        raise _lacks(table, 'score', list(rows[0]))
    if rows[0].keys() >= _OURS and scores[:2] == ['probability', 'logit']:
        return 'logit'  # which has more digits
    if len(scores) > 1:
        notes.append(
            f'{table}: column {scores[0]} is taken for the scores; {" and ".join(scores[1:])} may hold some as well: '
            'name the one to judge with score_columns score=NAME'
        )
    return scores[0]


def _has_scores(rows: list[Row], key: str) -> bool:
    return len({_text(row[key]) for row in rows}) > 2


def _labels(
    rows: list[Row], keys: Sequence[str], class_names: Mapping[str, int], table: str
) -> tuple[str | None, list[int], UserError | None]:
    """The first column whose labels are understood, and these; else, where there are columns, what is wrong."""
    if not _NUMERALS.keys() & class_names.keys():
        class_names = {**class_names, **_NUMERALS}
    problem = None
    for key in keys:
        try:
            return key, tables.read_labels(rows, [key], class_names, table), None
        except UserError as error:
            problem = problem or error
    return None, [], problem


def _log_odds(values: list[Any], column: str, scale: str | None, names: list[str], table: str) -> np.ndarray:
    def named(row: int) -> str:
        return f'{names[row]!r}' if names else f'row {row + 1}'

    scale = scale or ('logit' if column in _LOG_ODDS else 'probability')
    numbers = [_number(value) for value in values]
    for row, number in enumerate(numbers):
        if number is None or np.isnan(number):
            raise UserError(
                f'{table}: the score of {named(row)} is {_text(values[row])!r} (column {column}), which is not '
                'a number; correct it, or name another column with score_columns score=NAME.'
            )
    return to_log_odds(np.array(numbers, np.float64), scale, lambda row: f'{named(row)}, column {column}', table)


def to_log_odds(scores: np.ndarray, scale: str, named: Callable[[int], str], source: str) -> np.ndarray:
    """Returns scores as finite log-odds of fake, float64[n].

    Probabilities of 0 and 1 stay below and above all others, and tie.

    Args:
        scores: float64[n] without NaN.
        scale: one of SCALES.
        named: says which image a score is of, by its number.
        source: of the scores, for messages.

    Raises:
        UserError: another scale, or a probability outside 0 to 1.
    """
    if scale not in SCALES:
        raise UserError(f'scores_are is {scale!r}; it must be {", ".join(SCALES[:-1])} or {SCALES[-1]}.')
    logits = scores
    if not scale.startswith('logit'):
        outside = np.flatnonzero((scores < -_ROUNDING) | (scores > 1 + _ROUNDING))
        if len(outside):
            advice = 'if they are log-odds, define that with scores_are logit'
            if 0 <= scores.min() and 50 < scores.max() <= 100:
                advice = 'if they are percentages, divide them by 100'
            raise UserError(
                f'{source} has {len(outside):,} of {len(scores):,} scores outside 0 to 1 (first: '
                f'{scores[outside[0]]:g} for {named(int(outside[0]))}), which are no probabilities; {advice}.'
            )
        scores = np.clip(scores, 0, 1)
        with np.errstate(divide='ignore'):
            logits = np.log(scores) - np.log1p(-scores)
    certain = max(_CERTAIN, np.abs(logits[np.isfinite(logits)]).max(initial=0) + 1)
    logits = np.where(np.isfinite(logits), logits, np.copysign(certain, logits))
    return -logits if scale.endswith('real') else logits


def _number(value: Any) -> float | None:
    text = _text(value)
    for form in (text, text.replace(',', '.')):  # spreadsheets of half of the world write 0,93
        try:
            return float(form)
        except ValueError:
            continue
    return {'true': 1.0, 'false': 0.0}.get(text.lower())


def _text(value: Any) -> str:
    return '' if value is None else str(value).strip()

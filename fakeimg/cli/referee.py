"""Flags of evaluate for detectors that are not ours: a table of scores, or a Python function."""

import contextlib
import hashlib
import os
import pathlib

from absl import flags

from fakeimg.cli import data_names, verb
from fakeimg.console import Console
from fakeimg.data.datasets import Split, open_path
from fakeimg.data.labels import class_names
from fakeimg.data.tables import columns_of
from fakeimg.evaluation import foreign, referee, score_table
from fakeimg.evaluation.referee import Scores

_PREDICTIONS = flags.DEFINE_string(
    'predictions', None, "Another detector's scores to judge: CSV, TSV, JSONL; labels in it, or those of --data_path."
)
_DETECTOR = flags.DEFINE_string(
    'detector', None, 'A Python function to judge: FILE.py:FUNCTION, from a list of paths to P(fake) of each.'
)
_PYTHON = flags.DEFINE_string('python', None, 'Python, or folder of an environment, that runs --detector.')
_TIMEOUT = flags.DEFINE_float('timeout', 600.0, 'Seconds that a batch may take with --detector.')
_SCORES_ARE = flags.DEFINE_enum(
    'scores_are', None, score_table.SCALES, 'What the scores of --predictions or --detector are.'
)
_SCORE_COLUMNS = flags.DEFINE_list(
    'score_columns', [], 'Columns of --predictions: path=NAME,score=NAME,label=NAME, also source and group.'
)


def named() -> str:
    """The detector to judge, by the name that a report shows; '' where it is one of ours."""
    return os.path.basename(_PREDICTIONS.value or _DETECTOR.value or '')


def digest(data_path: str | None, split: str) -> str:
    """Of the table or the detector's file, and of which images they are judged by."""
    path = _PREDICTIONS.value or (_DETECTOR.value or '').rpartition(':')[0]
    found = hashlib.sha256(f'{os.path.abspath(data_path or path)}:{split}\n'.encode('utf-8', 'surrogateescape'))
    with contextlib.suppress(OSError):  # which is said when it is read
        found.update(pathlib.Path(path).read_bytes())
    return found.hexdigest()


def scores(
    data_path: str | None, split: str, *, batch_size: int, max_bad_fraction: float | None, console: Console
) -> Scores:
    """Reads or makes the scores that the flags name.

    Raises:
        UserError: see `referee.read_scores`, `foreign.find` and `foreign.score`.
    """
    verb.require(
        not (_PREDICTIONS.value and _DETECTOR.value), 'detector', _DETECTOR.value, 'left out with --predictions'
    )
    names = class_names(data_names.labels())
    if _PREDICTIONS.value:
        found = referee.read_scores(
            _PREDICTIONS.value,
            _open(data_path, split, console) if data_path else None,
            columns=score_table.columns_of(_SCORE_COLUMNS.value),
            class_names=names,
            scale=_SCORES_ARE.value,
            max_missing=max_bad_fraction or 0.0,
        )
    else:
        verb.require(bool(data_path), 'data_path', data_path, 'given with --detector: the images to judge it by')
        detector = foreign.find(
            _DETECTOR.value or '',
            python=_PYTHON.value,
            scale=_SCORES_ARE.value,
            timeout=_TIMEOUT.value,
            batch=batch_size or 64,
        )
        images = _open(data_path or '', split, console)
        share = 0.1 if max_bad_fraction is None else max_bad_fraction
        found = foreign.score(detector, images, split, max_missing=share, console=console)
    for note in found.notes:
        console.warn(note)
    return found


def _open(data_path: str, split: str, console: Console) -> Split:
    data = open_path(
        data_path,
        unsorted_split=split.split('[')[0],
        class_names=class_names(data_names.labels()),
        columns=columns_of(data_names.columns()),
    )
    for note in data.notes:
        console.warn(note)
    return data.get(split)

"""Flags of evaluate for detectors that are not ours: a table of scores, or a Python function."""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterator

from absl import flags

from fakeimg.cli import data_names, verb
from fakeimg.console import Console
from fakeimg.data.datasets import DataSet, Split, open_path
from fakeimg.data.labels import class_names
from fakeimg.data.tables import columns_of
from fakeimg.errors import UserError
from fakeimg.evaluation import evaluator, foreign, referee, score_table
from fakeimg.evaluation.options import Options
from fakeimg.evaluation.referee import ForeignScores

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
_VALIDATION = flags.DEFINE_string(
    'validation', None, 'Scores of other images, which fix thresholds and calibration: a second table with '
    '--predictions, another split of --data_path with --detector.'
)  # fmt: skip
_SCORE_COLUMNS = flags.DEFINE_list(
    'score_columns', [], 'Columns of --predictions: path=NAME,score=NAME,label=NAME, also source and group.'
)


def named() -> str:
    """The detector to judge, by the name that a report shows; '' where it is one of ours."""
    return os.path.basename(_PREDICTIONS.value or _DETECTOR.value or '')


def refuse_flags() -> None:
    """Raises UserError where a flag for detectors of others is given with none of them."""
    own = flags.FLAGS.get_flags_for_module(__name__)
    for flag in own:
        if flag.present:
            raise UserError(f'--{flag.name} is for detectors of others, --predictions or --detector; leave it out.')


def check(options: Options) -> None:
    """Raises UserError for options that the scores to be read or made will not allow, before any is."""
    evaluator.check_options(options, has_validation=bool(_VALIDATION.value), can_score=bool(_DETECTOR.value))


def digests(data_path: str | None, split: str) -> dict[str, str]:
    """What tells these scores from others: the table or the detector's file, the images, and those of validation."""
    path = _PREDICTIONS.value or (_DETECTOR.value or '').rpartition(':')[0]
    found = {'scores_digest': _digest(path, f'{os.path.abspath(data_path or path)}:{split}')}
    if _VALIDATION.value:
        found['validation_digest'] = _digest(_VALIDATION.value, _VALIDATION.value)
    return found


def _digest(path: str, words: str) -> str:
    found = hashlib.sha256(f'{words}\n'.encode('utf-8', 'surrogateescape'))
    with contextlib.suppress(OSError):  # which is said when it is read; a split is no file
        found.update(pathlib.Path(path).read_bytes())
    return found.hexdigest()


@contextlib.contextmanager
def scored(
    data_path: str | None, split: str, *, batch_size: int, max_bad_fraction: float | None, console: Console
) -> Iterator[tuple[ForeignScores, foreign.Scorer | None]]:
    """Reads or makes the scores that the flags name; with a detector, it can score further images in the block.

    Raises:
        UserError: see `referee.read_scores`, `foreign.find`, `foreign.running` and `foreign.Scorer.score`.
    """
    verb.require(
        not (_PREDICTIONS.value and _DETECTOR.value), 'detector', _DETECTOR.value, 'left out with --predictions'
    )
    detector = None
    if _DETECTOR.value:
        verb.require(bool(data_path), 'data_path', data_path, 'given with --detector: the images to judge it by')
        detector = foreign.find(
            _DETECTOR.value,
            python=_PYTHON.value,
            scale=_SCORES_ARE.value,
            timeout=_TIMEOUT.value,
            batch=batch_size or 64,
        )
    data = _open(data_path, split, console) if data_path else None
    if detector is None or data is None:
        found = _read(_PREDICTIONS.value or '', data.get(split) if data else None, max_bad_fraction)
        if _VALIDATION.value:
            images = data.get('validation') if data and 'validation' in data.splits else None
            other = _read(_VALIDATION.value, images, max_bad_fraction)
            found = referee.with_validation(found, other.predictions)
        _warn(found, console)
        yield found, None
        return
    images, fixing = data.get(split), _VALIDATION.value or ''
    if fixing:
        same = fixing.split('[')[0] == split.split('[')[0]
        verb.require(not same, 'validation', fixing, f'another split than {split}, whose scores are judged')
    others = data.get(fixing) if fixing else None
    with foreign.running(detector, 0.1 if max_bad_fraction is None else max_bad_fraction) as scorer:
        found = scorer.judged(images, split, console=console)
        if others is not None:
            predictions, _ = scorer.score(others, fixing, console=console)
            found = referee.with_validation(found, predictions)
        _warn(found, console)
        yield found, scorer


def _read(path: str, images: Split | None, max_missing: float | None) -> ForeignScores:
    return referee.read_scores(
        path,
        images,
        columns=score_table.columns_of(_SCORE_COLUMNS.value),
        class_names=class_names(data_names.labels()),
        scale=_SCORES_ARE.value,
        max_missing=max_missing or 0.0,
    )


def _warn(scores: ForeignScores, console: Console) -> None:
    for note in scores.notes:
        console.warn(note)


def _open(data_path: str, split: str, console: Console) -> DataSet:
    data = open_path(
        data_path,
        unsorted_split=split.split('[')[0],
        class_names=class_names(data_names.labels()),
        columns=columns_of(data_names.columns()),
    )
    for note in data.notes:
        console.warn(note)
    return data

"""Evaluates a trained detector: fakeimg evaluate --workdir runs/resnet50 --split test

Reads a checkpoint, scores every image of the split once, writes evaluations/SPLIT/ in the run folder, or --out.
Detectors of others are judged by --predictions scores.csv, or --detector my.py:predict --data_path DIR.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from fakeimg import detector, files
from fakeimg.cli import data_names, referee, verb
from fakeimg.console import Console
from fakeimg.errors import UserError
from fakeimg.evaluation import evaluator, metrics

_WORKDIR = flags.DEFINE_string('workdir', None, 'Run folder.')
_SPLIT = flags.DEFINE_string('split', 'test', 'train, validation, test, or a part as TFDS slices it: test[:10%].')
_STEP = flags.DEFINE_string('step', 'best', 'Checkpoint: best (validation AUC), latest, or its step.')
_DATA_PATH = flags.DEFINE_string(
    'data_path', None, 'Other images than those trained on: folder, archive, table, prepared set.'
)
_MOVED_TO = flags.DEFINE_string('moved_to', None, 'Where the images that the run was trained on are now.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 0, 'Images per step over all devices; 0: as in training.')
_MAX_BAD_FRACTION = flags.DEFINE_float(
    'max_bad_fraction', None, 'Share of a split that may be unreadable, and is left out and listed; default 0.1.'
)
_THRESHOLD = flags.DEFINE_float('threshold', 0.5, 'P(fake) from which an image is called fake.')
_NAME = flags.DEFINE_string('name', None, 'Name of the folder below evaluations/ in the run folder.')
_OUT = flags.DEFINE_string('out', None, 'Folder to write to; default evaluations/NAME in the run folder.')

data_names.define()


def main(argv: Sequence[str]) -> None:
    verb.refuse_arguments(argv)
    console = verb.console()
    if referee.named():
        _judge_other(console)
        return
    if not _WORKDIR.value:
        raise UserError('no run given; pass --workdir runs/NAME.')
    trained = detector.load(_WORKDIR.value, _STEP.value, batch_size=_BATCH_SIZE.value)
    if _MOVED_TO.value:
        verb.require(not _DATA_PATH.value, 'data_path', _DATA_PATH.value, 'left out where --moved_to is given')
        trained = evaluator.moved(trained, _MOVED_TO.value)
    trained = trained.tolerating(_MAX_BAD_FRACTION.value)
    if _DATA_PATH.value:
        trained.config.data.labels = data_names.for_other_data(trained.config.data.labels)
        trained.config.data.columns = tuple(data_names.columns())
    else:
        data_names.apply(trained.config)
    results, folder = evaluator.evaluate(
        trained,
        _SPLIT.value,
        data_path=_DATA_PATH.value,
        threshold=_THRESHOLD.value,
        out=_folder(),
        console=console,
    )
    console.say(f'{_SPLIT.value}, checkpoint {results["step"]}: {metrics.one_line(results)}')
    if others := results.get('without_copies'):
        rest = f'without these: {metrics.one_line(others)}' if 'n' in others else 'there are no others'
        console.warn(
            f'{others["copies"]:,} of {results["n"]:,} images were in train or validation too, byte for byte; {rest}'
        )
    console.say(f'report: {folder / "report.html"}')


def _judge_other(console: Console) -> None:
    """Judges a detector that is not ours, in a folder evaluations/ here, or --out."""
    verb.require(not _WORKDIR.value, 'workdir', _WORKDIR.value, 'left out with --predictions or --detector')
    folder = pathlib.Path(_OUT.value or f'evaluations/{_NAME.value or referee.named().replace(":", "_")}').expanduser()
    files.require_writable(folder)
    scores = referee.scores(
        _DATA_PATH.value,
        _SPLIT.value,
        batch_size=_BATCH_SIZE.value,
        max_bad_fraction=_MAX_BAD_FRACTION.value,
        console=console,
    )
    results = metrics.compute_metrics(scores.predictions, _THRESHOLD.value)
    scores.predictions.write_csv(folder / 'predictions.csv')
    files.write_json(folder / 'metrics.json', {'detector': {'name': referee.named()}, **results})
    console.say(f'{referee.named()}: {metrics.one_line(results)}')
    console.say(f'results: {folder}')


def _folder() -> pathlib.Path | None:
    """Where the user wants the results, or None."""
    if not _NAME.value:
        return pathlib.Path(_OUT.value).expanduser() if _OUT.value else None
    verb.require(not _OUT.value, 'out', _OUT.value, 'left out where --name is given')
    verb.require('/' not in _NAME.value, 'name', _NAME.value, 'a name, not a path, which would be --out')
    return pathlib.Path(_WORKDIR.value or '').expanduser() / 'evaluations' / _NAME.value

"""Evaluates a trained detector: fakeimg evaluate --workdir runs/resnet50 --split test

Reads a checkpoint, scores every image of the split once, writes evaluations/SPLIT/ in the run folder, or --out.
A published detector is named by --model (hf://OWNER/NAME, a file, cifake), and writes evaluations/SPLIT/ here.
Detectors of others are judged by --predictions scores.csv, or --detector my.py:predict --data_path DIR.
"""

import json
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from fakeimg import detector
from fakeimg.cli import data_names, models, referee, verb
from fakeimg.console import Console
from fakeimg.evaluation import evaluator, judge, metrics, places
from fakeimg.evaluation.options import Options

_WORKDIR = flags.DEFINE_string('workdir', None, 'Run folder.')
_SPLIT = flags.DEFINE_string('split', 'test', 'train, validation, test, or a part as TFDS slices it: test[:10%].')
_STEP = flags.DEFINE_string('step', 'best', 'Checkpoint: best (by validation), latest, or its step.')
_DATA_PATH = flags.DEFINE_string(
    'data_path', None, 'Other images than those trained on: folder, archive, table, prepared set.'
)
_MOVED_TO = flags.DEFINE_string('moved_to', None, 'Where the images that the run was trained on are now.')
_BATCH_SIZE = flags.DEFINE_integer(
    'batch_size', 0, 'Images per step over all GPUs, or given to --detector at once; 0: as in training, or 64.'
)
_MAX_BAD_FRACTION = flags.DEFINE_float(
    'max_bad_fraction', None, 'Share of a split that may be unreadable, and is left out and listed; default 0.1.'
)
_THRESHOLD = flags.DEFINE_string(
    'threshold', '0.5', 'P(fake) from which an image is called fake, or a rule that validation fixes: '
    'fpr=0.01, youden, balanced_accuracy, f1.'
)  # fmt: skip
_PREVALENCE = flags.DEFINE_float('prevalence', None, 'Share of fakes where the detector is used; corrects the scores.')
_FLIP = flags.DEFINE_bool('flip', False, 'Score each image and its mirror image, and take the mean of the log-odds.')
_ERROR_RATE = flags.DEFINE_float('error_rate', 0.05, 'Of the images that are not called unsure.')
_SLICE = flags.DEFINE_multi_string('slice', [], 'Column of the table of images: figures for each value; repeatable.')
_ROBUSTNESS = flags.DEFINE_bool('robustness', False, 'Score degraded images too: recompressed, resized, edited.')
_ROBUSTNESS_IMAGES = flags.DEFINE_integer('robustness_images', 2000, 'Most images for each curve; 0: all.')
_EXPLAIN = flags.DEFINE_bool('explain', False, 'Show in the report what scores rest on, and check it.')
_NO_IMAGES = flags.DEFINE_bool('no_images', False, 'Leave the images out of the report.')
_MIN_AUC = flags.DEFINE_float('min_auc', None, "Exit with 1 unless the AUC's interval lies above this.")
_MIN_ACCURACY = flags.DEFINE_float('min_accuracy', None, "Exit with 1 unless the accuracy's interval lies above this.")
_JSON = flags.DEFINE_bool('json', False, 'Print metrics.json on stdout, and everything else on stderr.')
_NAME = flags.DEFINE_string('name', None, 'Name of the folder below evaluations/ in the run folder.')
_OUT = flags.DEFINE_string('out', None, 'Folder to write to; default evaluations/NAME in the run folder.')

data_names.define()


def main(argv: Sequence[str]) -> int:
    verb.refuse_arguments(argv)
    for name, least in (('min_auc', _MIN_AUC.value), ('min_accuracy', _MIN_ACCURACY.value)):
        verb.require(least is None or 0 <= least <= 1, name, least, 'between 0 and 1')
    console = verb.console(stream=sys.stderr if _JSON.value else None)
    if referee.named():
        return _judge_other(console)
    referee.refuse_flags()
    trained = detector.load(models.chosen(_WORKDIR.value), _STEP.value, batch_size=_BATCH_SIZE.value)
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
        options=_options(),
        out=_folder(),
        console=console,
    )
    if others := results.get('without_copies'):
        rest = f'without these: {metrics.one_line(others)}' if 'n' in others else 'there are no others'
        console.warn(
            f'{others["copies"]:,} of {results["n"]:,} images were in train or validation too, byte for byte; {rest}'
        )
    return _say(f'{_SPLIT.value}, checkpoint {results["step"]}', results, folder, console)


def _judge_other(console: Console) -> int:
    """Judges a detector that is not ours, in a folder evaluations/ here, or --out."""
    for flag, value in (('workdir', _WORKDIR.value), ('model', models.named())):
        verb.require(not value, flag, value, 'left out with --predictions or --detector')
    name, options = referee.named(), _options()
    referee.check(options)
    key = {'referee': name, **referee.digests(_DATA_PATH.value, _SPLIT.value), **options.key}
    folder = _folder() or places.free(pathlib.Path('evaluations'), name.replace(':', '_'), key)
    places.require_other(folder, key)
    data, split = (_DATA_PATH.value, _SPLIT.value) if _DATA_PATH.value else (name, 'all')
    with referee.scored(
        _DATA_PATH.value,
        _SPLIT.value,
        batch_size=_BATCH_SIZE.value,
        max_bad_fraction=_MAX_BAD_FRACTION.value,
        console=console,
    ) as (scores, scorer):
        about = {**key, 'data_path': data, 'split': split}
        results = evaluator.judge_scores(scores, about, folder, options, scorer, console)
    return _say(f'{name} on {data}', results, folder, console)


def _say(what: str, results: dict[str, Any], folder: pathlib.Path, console: Console) -> int:
    """Prints the figures, and returns the exit code: 1 where a figure may be lower than asked for."""
    console.say(f'{what}: {metrics.one_line(results)}')
    for line in judge.lines(results):
        console.say(line)
    console.say(f'report: {folder / "report.html"}')
    if _JSON.value:
        print(json.dumps(results))
    points = results['operating_points']
    failed = [
        f'{name} may be as low as {figure["low"]:.4f}, which is below {least:g}'
        if 'low' in figure
        else f'{name} is undefined, so it is not shown to be {least:g}'
        for name, figure, least in (
            ('AUC', results['figures']['auc'], _MIN_AUC.value),
            ('accuracy', points[0]['figures']['accuracy'] if points else {}, _MIN_ACCURACY.value),
        )
        if least is not None and figure.get('low', 0.0) < least
    ]
    for sentence in failed:
        console.warn(sentence)
    return 1 if failed else 0


def _options() -> Options:
    return Options(
        threshold=_THRESHOLD.value,
        prevalence=_PREVALENCE.value,
        flip=_FLIP.value,
        error_rate=_ERROR_RATE.value,
        slices=tuple(_SLICE.value),
        robustness=_ROBUSTNESS.value,
        robustness_images=_ROBUSTNESS_IMAGES.value,
        explain=_EXPLAIN.value,
        images=not _NO_IMAGES.value,
        command=shlex.join(['fakeimg', 'evaluate', *sys.argv[1:]]),
    )


def _folder() -> pathlib.Path | None:
    """Where the user wants the results, or None."""
    if not _NAME.value:
        return pathlib.Path(_OUT.value).expanduser() if _OUT.value else None
    verb.require(not _OUT.value, 'out', _OUT.value, 'left out where --name is given')
    verb.require('/' not in _NAME.value, 'name', _NAME.value, 'a name, not a path, which would be --out')
    return pathlib.Path(_WORKDIR.value or '.').expanduser() / 'evaluations' / _NAME.value

"""Probes a frozen network with simple classifiers: fakeimg probe --config configs/resnet50_probe.py

Computes the features of every image once, cross-validates logistic regression, a linear and an RBF SVM on the
training split, then scores another. --workdir runs/NAME in place of --config takes the network of a trained checkpoint.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from fakeimg import detector, untrained
from fakeimg.cli import recipe, verb
from fakeimg.errors import UserError
from fakeimg.probing import prober, report
from fakeimg.runtime.start import start

_CONFIG = recipe.define_config()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Run folder, whose checkpoint and data are taken instead of a recipe.')
_STEP = flags.DEFINE_string('step', 'best', 'Checkpoint of the run: best (by validation), latest, or its step.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 0, 'With --workdir, images per step on GPUs; 0: as in training.')
_SPLIT = flags.DEFINE_string('split', 'test', 'The split to score; validation is scored too, where there is one.')
_FOLDS = flags.DEFINE_integer('folds', 5, 'Folds of the cross-validation on the training split.')
_MAX_EXAMPLES = flags.DEFINE_integer('max_examples', 10_000, 'Most images that the RBF SVM is fitted on.')
_MAX_BAD_FRACTION = flags.DEFINE_float(
    'max_bad_fraction', None, 'Share of a split that may be unreadable, and is left out and listed; default 0.1.'
)
_OUT = flags.DEFINE_string('out', None, 'Folder to write to; default runs/probe_NAME, or WORKDIR/probe.')


def main(argv: Sequence[str]) -> None:
    verb.refuse_arguments(argv)
    has_config = flags.FLAGS['config'].present > 0
    if has_config == bool(_WORKDIR.value):
        both = 'both were given' if has_config else 'neither was given'
        raise UserError(f'pass --config NAME or --workdir runs/NAME; {both}.')
    options = prober.Options(_SPLIT.value, _FOLDS.value, _MAX_EXAMPLES.value)
    start()
    if _WORKDIR.value:
        console = verb.console()
        network = detector.load(_WORKDIR.value, _STEP.value, batch_size=_BATCH_SIZE.value)
        default = f'{_WORKDIR.value}/probe'
    else:
        config, name = recipe.read_config(_CONFIG)
        console = verb.console(recipe.without_effect(config, trains=False))
        network = untrained.from_recipe(config)
        default = f'runs/probe_{name.removesuffix("_probe")}'
    out = pathlib.Path(_OUT.value or default).expanduser()
    network = network.tolerating(_MAX_BAD_FRACTION.value)
    results = prober.probe(network, out, options, console)
    if results:
        console.say(f'{results["features"]:,} features of {results["model"]}, {results["weights"]}')
        report.print_table(results, console)
    console.say(f'report: {out / "report.html"}')

"""Trains a detector: fakeimg train --config resnet50

The same command continues a run that stopped. Any field can be overridden: --config.batch_size=64.
"""

import pathlib
import shlex
from collections.abc import Sequence

from absl import flags

from fakeimg.cli import recipe, verb
from fakeimg.runtime.start import start
from fakeimg.training import loop

_CONFIG = recipe.define_config()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Run folder; default runs/NAME for the recipe NAME.')


def main(argv: Sequence[str]) -> int:
    verb.refuse_arguments(argv)
    config, name = recipe.read_config(_CONFIG)
    workdir = pathlib.Path(_WORKDIR.value or f'runs/{name}').expanduser()
    start()
    console = verb.console()
    result = loop.train(config, workdir, console)
    if result.interrupted_by is not None:
        console.say(
            f'stopped by {result.interrupted_by.name} after step {result.step:,} of {result.total_steps:,}; '
            'saved, the same command continues.'
        )
        return 128 + result.interrupted_by  # as a shell reports it: what follows && must not run
    console.say(f'finished: {result.step:,} steps, run folder {workdir}')
    split = next((name for name in ('test', 'validation') if name in result.splits), 'train')
    console.say(f'next: fakeimg evaluate --workdir {shlex.quote(str(workdir))} --split {split}')
    return 0

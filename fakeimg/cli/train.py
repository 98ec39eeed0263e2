"""Trains a detector: fakeimg train --config own --config.data.path=DIR

The same command continues a run that stopped. Any field can be overridden: --config.batch_size=64.
"""

import pathlib
import shlex
from collections.abc import Sequence

from absl import flags

from fakeimg.cli import choice, folders, recipe, verb
from fakeimg.runtime import parallel
from fakeimg.runtime.start import start
from fakeimg.training import loop

_CONFIG = recipe.define_config()
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Run folder; default runs/NAME-DATA for a recipe and a data set, -seedN for another seed than 0.'
)
_WITH_CHANGES = flags.DEFINE_bool(
    'continue_with_changes', False, 'Continue what another recipe, other images or another seed began in that folder.'
)


def main(argv: Sequence[str]) -> int:
    verb.refuse_arguments(argv)
    config, name = recipe.read_config(_CONFIG)
    workdir = pathlib.Path(_WORKDIR.value).expanduser() if _WORKDIR.value else folders.default_workdir(name, config)
    start()
    config, reason = choice.chosen(config, workdir)
    console = verb.console(recipe.without_effect(config))
    if reason:
        console.say(reason)
    result = loop.train(config, workdir, console, with_changes=_WITH_CHANGES.value)
    if result.interrupted_by is not None:
        console.say(
            f'stopped by {result.interrupted_by.name} after step {result.step:,} of {result.total_steps:,}; '
            'saved, the same command continues.'
        )
        return 128 + result.interrupted_by  # as a shell reports it: what follows && must not run
    console.say(f'finished: {result.step:,} steps, run folder {workdir}')
    from fakeimg.training import curves  # with matplotlib, for half a second that no start should wait for

    if parallel.is_first_process() and (figure := curves.draw(workdir)):
        console.say(f'curves: {figure}')
    split = next((name for name in ('test', 'validation') if name in result.splits), 'train')
    console.say(f'next: fakeimg evaluate --workdir {shlex.quote(str(workdir))} --split {split}')
    return 0

"""Trains a detector: python -m fakeimg.main --config configs/resnet50.py

The same command continues a run that stopped. Any field can be overridden: --config.batch_size=64.
With --search, it trains every candidate that the recipe's get_search() names and ranks them by validation.
"""

import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from absl import flags

from fakeimg.cli import verb
from fakeimg.config import Config
from fakeimg.runtime import parallel
from fakeimg.training import loop

_CONFIG = verb.define_config()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Run folder; default runs/NAME for configs/NAME.py.')
_SEARCH = flags.DEFINE_bool('search', False, "Train each candidate of the recipe's get_search(), and rank them.")


def main(argv: Sequence[str]) -> int:
    verb.refuse_arguments(argv)
    config, name = verb.read_config(_CONFIG)
    workdir = pathlib.Path(_WORKDIR.value or f'runs/{name}').expanduser()
    stages = verb.read_search() if _SEARCH.value else None
    parallel.initialize_distributed()
    if stages is not None:
        return _search(config, stages, workdir)
    result = loop.train(config, workdir)
    if result.interrupted_by is not None:
        verb.say(f'stopped by {result.interrupted_by.name} after step {result.step:,} of {result.total_steps:,}; '
                'saved, the same command continues.')  # fmt: skip
        return 128 + result.interrupted_by  # as a shell reports it: what follows && must not run
    verb.say(f'finished: {result.step:,} steps, run folder {workdir}')
    split = next((name for name in ('test', 'validation') if name in result.splits), 'train')
    verb.say(f'next: python -m fakeimg.evaluate --workdir {workdir} --split {split}')
    return 0


def _search(config: Config, stages: list[list[dict[str, Any]]], workdir: pathlib.Path) -> int:
    from fakeimg.searching import search  # brings matplotlib, half a second of every start

    found = search.search(config, stages, workdir, verb.say)
    verb.say(f'\ntable and plot: {workdir / "search.html"}')
    if found.interrupted_by is not None:
        verb.say(f'stopped by {found.interrupted_by.name} with {len(found.rows)} of {found.total} candidates done; '
                'saved, the same command continues.')  # fmt: skip
        return 128 + found.interrupted_by
    best = found.rows[0]
    folder, longer = shlex.quote(str(workdir / best.name)), shlex.quote(f'{workdir}_best')
    recipe = verb.recipe_flags({**best.fields, **search.longer(config)})
    verb.say(f'best: {best.name}; as it is: python -m fakeimg.evaluate --workdir {folder} --split {found.split}')
    verb.say(f'next, {search.LONGER} times as long: python -m fakeimg.main {recipe} --workdir {longer}')
    return 0


if __name__ == '__main__':
    verb.run_verb(main)

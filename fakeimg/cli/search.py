"""Trains the candidates that a recipe's get_search() names: fakeimg search --config cifake_search

Each gets its own run folder; validation ranks them, and the test split stays closed. The same command continues a
search that stopped.
"""

import pathlib
import runpy
import shlex
from collections.abc import Sequence
from typing import Any

from absl import flags

from fakeimg.cli import folders, recipe, verb
from fakeimg.errors import UserError
from fakeimg.runtime.start import start
from fakeimg.searching import search

_CONFIG = recipe.define_config()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the search; default runs/NAME-DATA, as for train.')


def main(argv: Sequence[str]) -> int:
    verb.refuse_arguments(argv)
    config, name = recipe.read_config(_CONFIG)
    workdir = pathlib.Path(_WORKDIR.value).expanduser() if _WORKDIR.value else folders.default_workdir(name, config)
    stages = _read_stages()
    start()
    searched = {field for stage in stages for fields in stage if isinstance(fields, dict) for field in fields}
    console = verb.console(recipe.without_effect(config, searched))

    def next_commands(best: search.Row, split: str) -> list[str]:
        folder, longer = shlex.quote(str(workdir / best.name)), shlex.quote(f'{workdir}_best')
        flags_of_best = recipe.as_flags({**best.fields, **search.longer(config)})
        return [
            f'fakeimg evaluate --workdir {folder} --split {split}',
            f'fakeimg train {flags_of_best} --workdir {longer}',
        ]

    result = search.search(config, stages, workdir, console, next_commands)
    console.say(f'\ntable and plot: {workdir / "search.html"}')
    if result.interrupted_by is not None:
        console.say(
            f'stopped by {result.interrupted_by.name} with {len(result.rows)} of {result.total} candidates done; '
            'saved, the same command continues.'
        )
        return 128 + result.interrupted_by
    best = result.rows[0]
    evaluate, train = next_commands(best, result.split)
    console.say(f'best: {best.name}; next: {evaluate}')
    console.say(f'or train it {search.LONGER} times as long: {train}')
    return 0


def _read_stages() -> list[list[dict[str, Any]]]:
    """The stages of the recipe's `get_search()`: lists of candidates, each the fields it changes."""
    path = recipe.path()
    get_search = runpy.run_path(str(path)).get('get_search')
    if get_search is None:
        raise UserError(f'{path} has no get_search(), which names the candidates; configs/cifake_search.py shows one.')
    stages = [list(stage) for stage in get_search() or []]
    searched = {field for stage in stages for fields in stage if isinstance(fields, dict) for field in fields}
    if overridden := searched & recipe.overrides().keys():
        field = min(overridden)
        raise UserError(f'--config.{field} is what the search tries; leave it out, or change get_search() in {path}.')
    return stages

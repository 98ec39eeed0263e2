"""Detectors side by side: seeds folded, paired tests on the same images, and every detector on every data set."""

import contextlib
import datetime
import itertools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import fakeimg
from fakeimg import files
from fakeimg.console import SILENT, Console
from fakeimg.data import layouts
from fakeimg.errors import UserError
from fakeimg.evaluation import alignment, compare_page, compare_tables, entrants
from fakeimg.evaluation.alignment import Aligned
from fakeimg.evaluation.contests import ALL_PAIRS, System, cell, pairs
from fakeimg.evaluation.entrants import Entrant, EntrantScores


def compare(
    sources: Sequence[str],
    data: Sequence[str] = (),
    split: str = 'test',
    *,
    labels: Sequence[str] = (),
    columns: Sequence[str] = (),
    threshold: str = '0.5',
    step: str = 'best',
    out: pathlib.Path | None = None,
    command: str = '',
    console: Console = SILENT,
) -> tuple[dict[str, Any], pathlib.Path]:
    """Compares detectors and writes tables and a page.

    Args:
        sources: run folders, evaluations of runs, tables of scores; runs that differ in nothing but their seed are one
            system.
        data: sets that all of them are scored on; without any, each run's own set, which must be the same.
        split: of the images.
        labels: NAME=real or NAME=fake, what names in `data` and in tables of scores mean, besides the words that the
            first run folder knows.
        columns: of tables in `data`, see `tables.columns_of`.
        threshold: on P(fake), a number, or the name of an operating point that every evaluation has, as `fpr=0.01`.
        step: the checkpoint of run folders.
        out: folder to write to; default `comparisons/NAMES`.
        command: that was typed, for the page.
        console: gets warnings and progress.

    Returns:
        What `compare.json` holds, and the folder with it, `tables.md`, `tables.tex`, CSV files and `compare.html`.

    Raises:
        UserError: nothing that can be compared, different images, labels that contradict each other, or a folder that
            holds another comparison.
    """
    if not sources:
        raise UserError('nothing to compare; give run folders, evaluations or tables of scores.')
    found = [entrants.read(source, step, labels) for source in sources]
    refuse_doubles(found)
    _check(found, split, threshold)
    systems = fold(found)
    out = out or pathlib.Path('comparisons', '-vs-'.join(system.name for system in systems[:ALL_PAIRS])[:100])
    key = {'sources': [str(one.path.resolve()) for one in found], 'split': split, 'threshold': threshold,
           'data': [os.path.abspath(os.path.expanduser(path)) for path in data],
           **{name: list(given) for name, given in (('labels', labels), ('columns', columns)) if given}}  # fmt: skip
    if (out / 'compare.json').exists() and json.loads((out / 'compare.json').read_text()).get('key') != key:
        raise UserError(f'{out} holds another comparison; choose another folder.')
    files.require_writable(out)
    members = [member for system in systems for member in system.members]
    sets = entrants.open_all(data, split, members, labels, columns)
    results = [_column(members, split, images, out, console) for images in (sets or [None])]
    if not any(column.scores for column in results):
        raise UserError(f'none of the detectors has scores of {" or ".join(data)}; give run folders.')
    _name_apart(results)
    result = {
        'key': key,
        'date': datetime.date.today().isoformat(),
        'fakeimg': fakeimg.__version__,
        'command': command,
        'split': split,
        'threshold': threshold,
        'systems': [_described(system) for system in systems],
        'data': [column.described() for column in results],
        'cells': [cell(system, column, threshold) for column in results for system in systems],
        'pairs': [],
        'notes': _notes(systems, results),
    }
    result['cells'] = [one for one in result['cells'] if one]
    result['pairs'] = pairs(systems, results, threshold)
    for note in result['notes']:
        console.warn(note)
    files.write_json(out / 'compare.json', result)
    compare_tables.write(out, result)
    compare_page.write(out / 'compare.html', result)
    return result, out


def _check(found: Sequence[Entrant], split: str, threshold: str) -> None:
    """Raises UserError at what would go wrong after images were scored."""
    for entrant in found:
        its = (entrant.metrics or {}).get('split', split)
        if its != split:
            raise UserError(
                f'{entrant.path} is an evaluation of the split {its}, not of {split}; ask for that split, or give the '
                'run folder.',
                add=[('split', its)],
            )
    with contextlib.suppress(ValueError):
        if not 0 <= float(threshold) <= 1:
            raise UserError(f'threshold is {threshold}; it must be a probability, from 0 to 1.')


def refuse_doubles(found: Sequence[Entrant]) -> None:
    """Raises UserError where two entrants are the same thing."""
    for one, other in itertools.combinations(found, 2):
        if one.path.resolve() == other.path.resolve():
            raise UserError(f'{other.path} is given twice; leave one out.')


def fold(found: Sequence[Entrant]) -> list[System]:
    """Makes systems of entrants: runs of one recipe on the same images with different seeds are one."""
    groups: dict[Any, list[Entrant]] = {}
    for entrant in found:
        groups.setdefault(entrant.recipe or id(entrant), []).append(entrant)
    systems = []
    for members in groups.values():
        seeds = {member.seed for member in members}
        parts = [members] if len(seeds) == len(members) else [[member] for member in members]
        systems += [System(_name(part), part) for part in parts]
    names = [system.name for system in systems]
    doubled = {name for name in names if names.count(name) > 1}
    return [
        System(files.shown(system.members[0].path), system.members) if system.name in doubled else system
        for system in systems
    ]


def _name(members: Sequence[Entrant]) -> str:
    """What the names of the seeds' folders share: `cifake` of cifake-0 and cifake-1."""
    if len(members) == 1:
        return members[0].name
    name = os.path.commonprefix([member.name for member in members]).rstrip('-_. ')
    return name.removesuffix('seed').rstrip('-_. ') or members[0].model


def _column(
    members: Sequence[Entrant], split: str, images: entrants.Images | None, out: pathlib.Path, console: Console
) -> Aligned:
    scores: dict[Entrant, EntrantScores] = {}
    for member in members:
        scored = entrants.score(member, split, images, out, console)
        if scored is not None:
            scores[member] = scored
    if images is not None:
        base = (images.names, images.labels, images.groups)
        return alignment.align(scores, images.name, images.path, images.digest, base)
    digest = alignment.same_set(scores)
    paths = [str(one.metrics['data_path']) for one in scores.values() if one.metrics and one.metrics.get('data_path')]
    name = layouts.set_name(paths[0]) if paths else 'the images of the tables'
    return alignment.align(scores, name, paths[0] if paths else None, digest)


def _name_apart(columns: Sequence[Aligned]) -> None:
    names = [column.name for column in columns]
    for column in columns:
        if names.count(column.name) > 1:
            column.name += f' {(column.digest or "")[:8]}'


def _described(system: System) -> dict[str, Any]:
    members = [
        {'path': str(member.path), 'seed': member.seed, 'step': member.step, 'model': member.model}
        for member in system.members
    ]
    return {'name': system.name, 'members': members}


def _notes(systems: Sequence[System], columns: Sequence[Aligned]) -> list[str]:
    notes = [note for column in columns for note in column.notes]
    notes += [
        f'{member.name} has no scores of {column.name}, and is left out there'
        for column, system in itertools.product(columns, systems)
        for member in system.members
        if member not in column.scores
    ]
    if len(systems) == 1:
        what = f'{len(systems[0].members)} seeds of one recipe' if len(systems[0].members) > 1 else 'one detector'
        notes.append(f'{systems[0].name} is {what}: there are its figures, and nothing to test against')
    recipes = [system.members[0].recipe for system in systems if system.members[0].recipe]
    if len(set(recipes)) < len(recipes):
        notes.append('some runs have the same recipe and the same seed, and are kept apart')
    if len(systems) > ALL_PAIRS:
        notes.append(f'of {len(systems)} systems, each is tested against the first, {systems[0].name}, alone')
    if any(len(system.members) == 1 and system.members[0].recipe for system in systems) and len(systems) > 1:
        notes.append(
            'a test between single seeds is about these trained networks; another seed of the same recipe may differ '
            'by more'
        )
    return notes

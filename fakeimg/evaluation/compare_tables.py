"""The tables of a comparison: for the terminal, and as Markdown, LaTeX and CSV."""

import csv
import dataclasses
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import rich.markup
import rich.table

from fakeimg import files
from fakeimg.evaluation.intervals import Figure

TITLES = {'auc': 'AUC', 'accuracy': 'accuracy'}
_LATEX = {'\\': r'\textbackslash{}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}', '<': '$<$', '>': '$>$',
          '±': r'$\pm$', '−': '$-$', '|': r'\textbar{}', **{sign: f'\\{sign}' for sign in '&%$#_{}'}}  # fmt: skip
_FIGURE = ('value', 'low', 'high')


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table of text; `note` says what its figures are."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ''


def grids(result: dict[str, Any]) -> list[Grid]:
    """The tables of a comparison, from what `compare.json` holds."""
    found = [_results(result)]
    if len(result['data']) > 1:
        found += [_matrix(result, metric) for metric in TITLES]
    if result['pairs']:
        found.append(_differences(result, 'images'))
    if any('recipes' in pair for pair in result['pairs']):
        found.append(_differences(result, 'recipes'))
    if any(member['copies'] for cell in result['cells'] for member in cell['members']):
        found.append(_without_copies(result))
    return found


def shown(figure: Figure) -> str:
    """`0.9312 [0.9181, 0.9423]`, with the deviation over seeds where there is one."""
    if figure['value'] is None:
        return f'undefined: {figure["why"]}'
    deviation = f' ± {figure["deviation"]:.4f}' if 'deviation' in figure else ''
    return f'{figure["value"]:.4f}{deviation} [{figure["low"]:.4f}, {figure["high"]:.4f}]'


def shown_difference(figure: Figure) -> str:
    """`+0.0133 [+0.0101, +0.0165]`; U+2212 is the minus sign."""
    if figure['value'] is None:
        return f'undefined: {figure["why"]}'
    value, low, high = (f'{figure[name]:+.4f}'.replace('-', '−') for name in _FIGURE)
    return f'{value} [{low}, {high}]'


def shown_p(p: float | None) -> str:
    """A p-value in words of a table."""
    if p is None:
        return 'none'
    return '<0.0001' if p < 0.0001 else f'{p:.4f}' if p < 0.001 else f'{p:.3f}'


def write(out: pathlib.Path, result: dict[str, Any]) -> None:
    """Writes `tables.md`, `tables.tex`, `results.csv` and `differences.csv`."""
    found = grids(result)
    _write_text(out / 'tables.md', '\n'.join(_markdown(grid) for grid in found))
    _write_text(out / 'tables.tex', '% needs \\usepackage{booktabs}\n' + '\n'.join(map(_latex, found)))
    _write_results(out / 'results.csv', result)
    _write_differences(out / 'differences.csv', result)


def for_terminal(grid: Grid) -> rich.table.Table:
    """A table for `Console.table`."""
    table = rich.table.Table(title=grid.title, title_justify='left', box=None, pad_edge=False, caption_justify='left')
    for place, name in enumerate(grid.head):
        table.add_column(name, overflow='fold', justify='left' if place < 2 else 'right')
    for row in grid.rows:
        table.add_row(*(rich.markup.escape(cell.replace(' [', '\n[')) for cell in row))
    return table


def _results(result: dict[str, Any]) -> Grid:
    sizes = {data['name']: data for data in result['data']}
    rows = []
    for cell in result['cells']:
        seeds, n = str(len(cell['members'])), f'{sizes[cell["data"]]["n"]:,}'
        rows.append([cell['system'], cell['data'], seeds, n, *(shown(cell[metric]) for metric in TITLES)])
    note = (
        f'Split {result["split"]}, accuracy at the threshold {result["threshold"]}. In brackets, 95 % intervals: of a '
        'single seed over images (AUC by DeLong on the logit scale, accuracy by Wilson, whole groups resampled where '
        "images share them); of several, mean ± standard deviation and Student's interval over seeds."
    )
    return Grid('Results', ['system', 'data', 'seeds', 'n', *TITLES.values()], rows, note)


def _matrix(result: dict[str, Any], metric: str) -> Grid:
    data = [one['name'] for one in result['data']]
    cells = {(cell['system'], cell['data']): shown(cell[metric]) for cell in result['cells']}
    rows = [[one['name'], *(cells.get((one['name'], name), '') for name in data)] for one in result['systems']]
    return Grid(f'{TITLES[metric]} of every system on every set', ['system', *data], rows)


def _differences(result: dict[str, Any], scope: str) -> Grid:
    rows = []
    for pair in result['pairs']:
        found = pair if scope == 'images' else pair.get('recipes')
        if found is None:
            continue
        row = [f'{pair["a"]} − {pair["b"]}', pair['data']]
        for metric in TITLES:
            row += [shown_difference(found[metric]), shown_p(found[metric]['p_holm'])]
        rows.append(row)
    note = (
        "Paired, on the same images; of several seeds, their mean. p is that of DeLong's test for AUC and of the exact "
        "McNemar test for accuracy (Student's for several seeds and for groups), adjusted by Holm for the tests in its "
        'column.'
    )
    if scope == 'recipes':
        note = (
            'What other seeds of the same recipes would show: the variance over images and that over seeds together. '
            'Two seeds say little about a recipe.'
        )
    title = 'Differences' if scope == 'images' else 'Differences between recipes'
    return Grid(title, ['systems', 'data', 'AUC', 'p (Holm)', 'accuracy', 'p (Holm)'], rows, note)


def _without_copies(result: dict[str, Any]) -> Grid:
    rows = []
    for cell in result['cells']:
        for member in cell['members']:
            without = member['without_copies']
            if member['copies']:
                left = [f'{without[name]:.4f}' if without.get(name) is not None else 'none' for name in TITLES]
                rows.append([member['name'], cell['data'], f'{member["copies"]:,}', f'{without["n"] or 0:,}', *left])
    note = 'Copies are byte for byte the same as images of training or validation. All other tables include them.'
    head = ['run', 'data', 'copies', 'n without them', *TITLES.values()]
    return Grid('Without images seen in training', head, rows, note)


def _markdown(grid: Grid) -> str:
    def line(cells: Sequence[str]) -> str:
        return f'| {" | ".join(map(markdown, cells))} |'

    lines = [f'## {grid.title}', '', line(grid.head), f'|{"---|" * len(grid.head)}', *map(line, grid.rows), '']
    return '\n'.join([*lines, *([grid.note, ''] if grid.note else [])])


def markdown(text: str) -> str:
    """Text on one line in which nothing is markup."""
    return re.sub(r'([\\`*_|#<>])', r'\\\1', ' '.join(text.split()))


def _latex(grid: Grid) -> str:
    def line(cells: Sequence[str]) -> str:
        return ' & '.join(map(latex, cells)) + r' \\'

    head, rows = line(grid.head), [line(row) for row in grid.rows]
    columns = 'l' * min(2, len(grid.head)) + 'r' * (len(grid.head) - 2)
    lines = [r'\begin{table}', r'\centering', rf'\caption{{{latex(f"{grid.title}. {grid.note}".strip())}}}']
    lines += [rf'\begin{{tabular}}{{{columns}}}', r'\toprule', head, r'\midrule', *rows, r'\bottomrule']
    return '\n'.join([*lines, r'\end{tabular}', r'\end{table}', ''])


def latex(text: str) -> str:
    """Text in which nothing is a command."""
    return ''.join(_LATEX.get(sign, sign) for sign in ' '.join(text.split()))


def _write_results(path: pathlib.Path, result: dict[str, Any]) -> None:
    rows = []
    for cell in result['cells']:
        row = {'system': cell['system'], 'data': cell['data'], 'seeds': len(cell['members'])}
        for metric in TITLES:
            figure = cell[metric]
            row |= {metric: figure['value'], **{f'{metric}_{name}': figure.get(name) for name in _FIGURE[1:]}}
            row |= {f'{metric}_{name}': figure.get(name, figure.get('why')) for name in ('deviation', 'method')}
        row |= {'n': cell['auc']['n'], 'copies': max(member['copies'] for member in cell['members'])}
        rows.append(row)
    _write_rows(path, rows)


def _write_differences(path: pathlib.Path, result: dict[str, Any]) -> None:
    names = (*_FIGURE, 'p', 'p_holm', 'n', 'groups', 'only_a', 'only_b', 'method')
    rows = []
    for pair in result['pairs']:
        for scope, found in (('images', pair), ('images and seeds', pair.get('recipes'))):
            for metric in TITLES if found else ():
                about = {'a': pair['a'], 'b': pair['b'], 'data': pair['data'], 'metric': metric, 'over': scope}
                figure = {'method': found[metric].get('why'), **found[metric]}
                rows.append(about | {name: figure.get(name) for name in names})
    _write_rows(path, rows)


def _write_rows(path: pathlib.Path, rows: Sequence[dict[str, Any]]) -> None:
    with files.replacing(path, **files.TEXT) as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ['a', 'b', 'data', 'metric', 'value'])
        writer.writeheader()
        writer.writerows(rows)


def _write_text(path: pathlib.Path, text: str) -> None:
    with files.replacing(path, encoding='utf-8', errors='replace') as file:
        file.write(text)

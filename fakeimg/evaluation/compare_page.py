"""The page of a comparison: forest plots of the differences, and the tables."""

import pathlib
from typing import Any

from fakeimg import pages
from fakeimg.evaluation.compare_tables import TITLES, Grid, grids, shown_difference, shown_p

_ROW, _REST = 0.42, 0.8  # inches: of a row of a plot, and of all else in it
_LONGEST = 34  # characters of a label beside a plot


def write(path: pathlib.Path, result: dict[str, Any]) -> None:
    """Writes one self-contained page with `figures/` beside it, from what `compare.json` holds."""
    names = [system['name'] for system in result['systems']]
    notes = [f'Note: {note}.' for note in result['notes']]
    sections = [pages.Section('Summary', [*_summary(result), *notes])]
    if result['pairs']:
        charts = [_forest(result, metric, path.parent / 'figures') for metric in TITLES]
        sections.append(pages.Section('Differences, with 95 % intervals', charts=[one for one in charts if one]))
    sections += [pages.Section(grid.title, tables=[_table(grid)]) for grid in grids(result)]
    digests = ', '.join(f'{one["name"]} {(one["content_digest"] or "unknown")[:12]}' for one in result['data'])
    about = f'fakeimg {result["fakeimg"]}, {result["date"]}; content of the data: {digests}.'
    commands = [result['command']] if result['command'] else []
    sections.append(pages.Section('How to reproduce it', [about], commands))
    title = ', '.join(names) if len(names) < 5 else f'{len(names)} systems'
    pages.write_page(path, f'Comparison: {title}', sections, data=result)


def _summary(result: dict[str, Any]) -> list[str]:
    """What the page says, in a sentence or two for each data set."""
    sentences = []
    for data in result['data']:
        about = f'{data["name"]}, split {result["split"]}: {data["n"]:,} images, {data["fake"]:,} of them fake.'
        cells = [cell for cell in result['cells'] if cell['data'] == data['name'] and cell['auc']['value'] is not None]
        if not cells:
            sentences.append(f'{about} AUC is undefined.')
            continue
        best = max(cells, key=lambda cell: cell['auc']['value'])
        verdicts = []
        for pair in result['pairs']:
            if pair['data'] == data['name'] and best['system'] in (pair['a'], pair['b']):
                other = pair['b'] if pair['a'] == best['system'] else pair['a']
                p = pair['auc']['p_holm']
                verdict = 'better than' if p is not None and p < 0.05 else 'not distinguishable from'
                verdicts.append(f'{verdict} {other} on these images (adjusted p {shown_p(p)}{_of_recipes(pair)})')
        said = f': {", ".join(verdicts)}' if verdicts else ''
        sentences.append(f'{about} {best["system"]} has the highest AUC, {best["auc"]["value"]:.4f}{said}.')
    return sentences


def _of_recipes(pair: dict[str, Any]) -> str:
    return f'; for other seeds of both recipes {shown_p(pair["recipes"]["auc"]["p_holm"])}' if 'recipes' in pair else ''


def _forest(result: dict[str, Any], metric: str, folder: pathlib.Path) -> pages.Chart | None:
    """The difference of every pair with its interval; grey where 0 is in it."""
    pairs = [pair for pair in result['pairs'] if pair[metric]['value'] is not None]
    if not pairs:
        return None
    sets = ', {data}' if len(result['data']) > 1 else ''
    names = [f'{{a}} − {{b}}{sets}'.format(**pair) for pair in pairs]
    with pages.drawing(height=_REST + _ROW * len(pairs), left=0.2) as (figure, axes):
        for row, (name, pair) in enumerate(zip(names, pairs, strict=True)):
            found = pair[metric]
            is_clear = not found['low'] <= 0 <= found['high']
            colour = pages.REAL_COLOUR if is_clear else pages.MUTED
            axes.plot([found['low'], found['high']], [row, row], color=colour, linewidth=2)
            axes.plot([found['value']], [row], 'o' if is_clear else 's', color=colour, markersize=6)
            short = name if len(name) <= _LONGEST else f'{name[: _LONGEST - 1]}…'
            axes.text(0, row - 0.28, short, transform=axes.get_yaxis_transform(), fontsize=9)
            axes.plot([0, 0], [row - 0.15, row + 0.3], color=pages.INK, linewidth=1)  # below the label
        axes.set(xlabel=f'difference of {TITLES[metric]}', ylim=(len(pairs) - 0.5, -0.8), yticks=[])
        axes.spines['left'].set_visible(False)
        axes.locator_params(axis='x', nbins=5)
        rows = [[name, shown_difference(pair[metric]), shown_p(pair[metric]['p_holm'])]
                for name, pair in zip(names, pairs, strict=True)]  # fmt: skip
        words = 'Dots are differences, lines their 95 % intervals; a grey square where the interval holds 0.'
        table = pages.Table(['systems', f'difference of {TITLES[metric]}', 'p (Holm)'], rows)
        title = f'{TITLES[metric][:1].upper()}{TITLES[metric][1:]}'
        return pages.chart(figure, title, words, table, name=f'difference_{metric}', folder=folder)


def _table(grid: Grid) -> pages.Table:
    return pages.Table(grid.head, grid.rows, note=grid.note, kinds='wwn')

"""The page of a comparison: a forest plot of the differences, and the tables."""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.figure

from fakeimg import pages
from fakeimg.evaluation.compare_tables import TITLES, Grid, grids, shown_difference

_ROW, _HEIGHT = 0.34, 1.1  # inches: of a row of the plot, and of all else in it


def write(path: pathlib.Path, result: dict[str, Any]) -> None:
    """Writes one self-contained page, from what `compare.json` holds."""
    names = [system['name'] for system in result['systems']]
    parts = [f'<p>{pages.escape(_summary(result))}</p>']
    parts += [f'<p class="warn">{pages.escape(note)}.</p>' for note in result['notes']]
    if result['pairs']:
        parts.append('<h2>Differences, with 95 % intervals</h2>')
        parts.append(_forest(result['pairs'], len(result['data']) > 1))
    parts += [_table(grid) for grid in grids(result)]
    parts.append(f'<h2>How to repeat it</h2><p><code>{pages.escape(result["command"])}</code></p>')
    digests = ', '.join(f'{one["name"]} {(one["content_digest"] or "unknown")[:12]}' for one in result['data'])
    parts.append(f'<p class="small">fakeimg {result["fakeimg"]}, {result["date"]}; data: {pages.escape(digests)}.</p>')
    pages.write_page(path, ' and '.join(names) if len(names) < 4 else f'{len(names)} systems', ''.join(parts))


def _summary(result: dict[str, Any]) -> str:
    """What the page says, in one sentence for each data set."""
    sentences = []
    for data in result['data']:
        cells = [cell for cell in result['cells'] if cell['data'] == data['name'] and cell['auc']['value'] is not None]
        about = f'{data["name"]}, split {result["split"]}: {data["n"]:,} images, {data["fake"]:,} of them fake'
        if not cells:
            sentences.append(f'{about}; AUC is undefined.')
            continue
        best = max(cells, key=lambda cell: cell['auc']['value'])
        verdicts = [
            f'{"ahead of" if _sign(pair, best["system"]) else "not distinguishable from"} '
            f'{pair["b"] if pair["a"] == best["system"] else pair["a"]}'
            for pair in result['pairs']
            if pair['data'] == data['name'] and best['system'] in (pair['a'], pair['b'])
        ]
        told = f', {" and ".join(verdicts)} (adjusted p below 0.05 or not)' if verdicts else ''
        sentences.append(f'{about}. {best["system"]} has the highest AUC, {best["auc"]["value"]:.4f}{told}.')
    return ' '.join(sentences)


def _sign(pair: dict[str, Any], best: str) -> bool:
    """Whether the test says that the best one is better."""
    figure = pair['auc']
    return figure['p_holm'] is not None and figure['p_holm'] < 0.05 and (figure['value'] > 0) == (pair['a'] == best)


def _forest(pairs: Sequence[dict[str, Any]], has_sets: bool) -> str:
    """Both differences of every pair with their intervals; grey where 0 is in it."""
    shown = [pair for pair in pairs if any(pair[metric]['value'] is not None for metric in TITLES)]
    names = [f'{pair["a"]} − {pair["b"]}' + (f', {pair["data"]}' if has_sets else '') for pair in shown]
    with matplotlib.rc_context(pages.PLOT_STYLE):
        figure = matplotlib.figure.Figure((8, _HEIGHT + _ROW * len(shown)), layout='constrained', dpi=110)
        for axes, metric in zip(figure.subplots(1, 2, sharey=True), TITLES, strict=True):
            for row, pair in enumerate(shown):
                found = pair[metric]
                if found['value'] is None:
                    continue
                is_clear = not found['low'] <= 0 <= found['high']
                colour = pages.REAL_COLOUR if is_clear else '#718096'
                axes.plot([found['low'], found['high']], [row, row], color=colour, linewidth=2)
                axes.plot(found['value'], row, 'o' if is_clear else 's', color=colour, markersize=6)
            axes.axvline(0, color='black', linewidth=1)
            axes.set(title=f'difference of {TITLES[metric]}', ylim=(len(shown) - 0.5, -0.5))
            axes.set_yticks(range(len(shown)), names)
            axes.locator_params(axis='x', nbins=4)
            axes.grid(axis='x', alpha=0.25)
        words = '; '.join(
            f'{name}: AUC {shown_difference(pair["auc"])}, accuracy {shown_difference(pair["accuracy"])}'
            for name, pair in zip(names, shown, strict=True)
        )
        return pages.plot(figure, f'Differences with intervals. {words}')


def _table(grid: Grid) -> str:
    head = ''.join(f'<th>{pages.escape(cell)}</th>' for cell in grid.head)
    rows = ''.join(
        '<tr>' + ''.join(f'<td{" class=number" if place > 1 else ""}>{pages.escape(cell)}</td>'
                         for place, cell in enumerate(row)) + '</tr>'
        for row in grid.rows
    )  # fmt: skip
    note = f'<p class="small">{pages.escape(grid.note)}</p>' if grid.note else ''
    return f'<h2>{pages.escape(grid.title)}</h2><table><tr>{head}</tr>{rows}</table>{note}'

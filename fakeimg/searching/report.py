"""The table of a search, best first: as text for the terminal, as CSV, and as a page with a plot."""

import csv
import dataclasses
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from fakeimg import files, pages
from fakeimg.console import format_seconds

METRICS = ('accuracy', 'auc', 'f1', 'loss')
STAGE_COLOURS = ('#2b6cb0', '#c05621', '#2f855a', '#6b46c1')  # distinct for colour-blind readers too


@dataclasses.dataclass(frozen=True)
class Row:
    """One candidate that is done.

    Attributes:
        name: its run folder in the search's.
        stage: 1, 2, ...
        fields: what it changes in the recipe, the best of earlier stages included.
        parameters: of the network.
        seconds: of training, compilation and validation; None if a killed process took its share with it.
        metrics: of validation, at the best checkpoint; None if training diverged.
        reason: why it did, or ''.
    """

    name: str
    stage: int
    fields: dict[str, Any]
    parameters: int
    seconds: float | None
    metrics: dict[str, float | None] | None
    reason: str = ''


def titles(fields: Iterable[str]) -> dict[str, str]:
    """Short titles of dotted fields, by field: the last part, or all of it where two fields share that."""
    fields = list(dict.fromkeys(fields))
    last = [field.rsplit('.', 1)[-1] for field in fields]
    return {field: short if last.count(short) == 1 else field for field, short in zip(fields, last, strict=True)}


def text(rows: Sequence[Row], limit: int | None = None) -> str:
    """The table, or its first `limit` rows, in columns."""
    header, *lines = _cells(rows)
    shown = [header, *lines[:limit]]
    widths = [max(len(cell) for cell in column) for column in zip(*shown, strict=True)]
    right = ['  '.join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in shown]
    hidden = len(lines) - len(shown) + 1
    return '\n'.join(right + ([f'... and {hidden} more'] if hidden else []))


def write(workdir: pathlib.Path, rows: Sequence[Row], total: int, num_validation: int) -> None:
    """Writes `search.csv` and `search.html`; `rows` are the ranked candidates so far, of `total`."""
    names = titles(field for row in rows for field in row.fields)
    with files.replacing(workdir / 'search.csv', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['name', 'stage', *names, 'parameters', *METRICS, 'seconds', 'diverged'])
        for row in rows:
            seconds = None if row.seconds is None else round(row.seconds, 1)
            values = [row.metrics and row.metrics[name] for name in METRICS]
            fields = [row.fields.get(field) for field in names]
            writer.writerow([row.name, row.stage, *fields, row.parameters, *values, seconds, row.reason])
    pages.write_page(workdir / 'search.html', f'Search in {workdir.name}', _body(rows, total, num_validation))


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    """Header and rows of text."""
    names = titles(field for row in rows for field in row.fields)
    cells = [['', *names.values(), 'parameters', 'accuracy', 'AUC', 'F1', 'loss', 'time']]
    for place, row in enumerate(rows, start=1):
        if row.metrics is None:
            metrics = ['diverged', '', '', '']
        else:
            values = [row.metrics[name] for name in METRICS]
            metrics = ['-' if value is None else f'{value:.4f}' for value in values]
        fields = [str(row.fields.get(field, '')) for field in names]
        cells.append([str(place), *fields, f'{row.parameters:,}', *metrics, format_seconds(row.seconds)])
    return cells


def _body(rows: Sequence[Row], total: int, num_validation: int) -> str:
    header, *lines = _cells(rows)
    table = ''.join(f'<th style="text-align: right">{pages.escape(cell)}</th>' for cell in header)
    for line in lines:
        table += '<tr>' + ''.join(f'<td class="number">{pages.escape(cell)}</td>' for cell in line) + '</tr>'
    best = rows[0]
    summary = f'<p>{len(rows)} of {total} candidates, ranked by AUC on {num_validation:,} validation images'
    if best.metrics is not None and best.metrics['accuracy'] is not None:
        error = _standard_error(best.metrics['accuracy'], num_validation)
        summary += (
            f'. Best: <b>{pages.escape(best.name)}</b>. This many images give an accuracy to &plusmn;{100 * error:.1f} '
            'points (one standard error, the bars below): close candidates are a tie, and the best of many looks '
            'better here than it is'
        )
    small = '<p class="small">The test split was not opened. Time includes compilation and validation.</p>'
    return f'{summary}.</p>{_plot(rows, num_validation)}<table>{table}</table>{small}'


def _plot(rows: Sequence[Row], num_validation: int) -> str:
    """Accuracy against size and AUC against time, as HTML; the best candidate is ringed."""
    finished = [row for row in rows if row.metrics is not None]
    if not finished:
        return ''
    with matplotlib.rc_context(pages.PLOT_STYLE):
        figure = matplotlib.figure.Figure(figsize=(12, 4.6), layout='constrained', dpi=110)
        left, right = figure.subplots(1, 2)
        sizes, label = _sizes(finished)
        _scatter(left, finished, sizes, 'accuracy', num_validation)
        left.set(xlabel=label, ylabel='validation accuracy', title=f'Accuracy against {label}')
        figure.legend(*left.get_legend_handles_labels(), frameon=False, loc='outside upper center', ncols=5)
        _scatter(right, finished, [row.seconds for row in finished], 'auc')
        right.set(xlabel='seconds', ylabel='validation AUC', title='AUC against training time')
        right.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f'{value:g}'))
        right.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        right.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        return pages.plot(figure, 'Validation accuracy against size, validation AUC against training time')


def _scatter(axes: Any, rows: Sequence[Row], x: Sequence[Any], metric: str, num_validation: int = 0) -> None:
    """Dots of `metric`, coloured by stage; with `num_validation`, bars of one standard error."""
    y = np.array([row.metrics and row.metrics[metric] for row in rows], float)
    errors = np.sqrt(y * (1 - y) / num_validation) if num_validation else np.full(len(rows), np.nan)
    places = np.array(x, float)
    stages = np.array([row.stage for row in rows])
    for stage in np.unique(stages):
        mask = stages == stage
        colour = STAGE_COLOURS[(stage - 1) % len(STAGE_COLOURS)]
        axes.errorbar(places[mask], y[mask], errors[mask], fmt='o', markersize=6, color=colour, ecolor=f'{colour}55',
                      label=f'stage {stage}')  # fmt: skip
    axes.plot(places[0], y[0], 'o', markersize=13, fillstyle='none', color='black', label='best by AUC')
    axes.set(xscale='log')
    axes.grid(alpha=0.25)


def _sizes(rows: Sequence[Row]) -> tuple[Sequence[Any], str]:
    """What the candidates differ in: parameters, or where these are the same the first number that is searched."""
    if len({row.parameters for row in rows}) == 1:
        for field, title in titles(rows[0].fields).items():
            values = [row.fields.get(field) for row in rows]
            if all(isinstance(value, int | float) and value > 0 for value in values):
                return values, title
    return [row.parameters for row in rows], 'parameters'


def _standard_error(accuracy: float, count: int) -> float:
    return math.sqrt(accuracy * (1 - accuracy) / max(count, 1))

"""The table of a search, best first: as text for the terminal, as CSV, and as a page with a plot."""

import csv
import dataclasses
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.ticker
import numpy as np

from fakeimg import files, pages
from fakeimg.console import format_seconds
from fakeimg.data.datasets import Split
from fakeimg.data.labels import LABELS
from fakeimg.pages import Section, Table

METRICS = ('accuracy', 'auc', 'f1', 'loss')
_PER_CLASS = 6  # images
STAGE_COLOURS = (pages.REAL_COLOUR, pages.FAKE_COLOUR, pages.THIRD_COLOUR, pages.FOURTH_COLOUR)


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


@dataclasses.dataclass(frozen=True)
class Shown:
    """What the page shows beside the candidates.

    Attributes:
        validation: number of the images that decide.
        sheets: some of them.
        commands: what to type next.
    """

    validation: int
    sheets: Sequence[pages.Sheet] = ()
    commands: Sequence[str] = ()

    @classmethod
    def of(cls, validation: Split) -> 'Shown':
        def image(row: int) -> pages.Thumbnail:
            return pages.Thumbnail(pages.thumbnail_of(lambda: validation[row]), [validation.names[row]])

        sheets = []
        for title, label in LABELS.items():
            rows = np.flatnonzero(validation.labels == label)
            chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(_PER_CLASS, len(rows))).astype(int))].tolist()
            sheets.append(pages.Sheet(title.capitalize(), list(map(image, chosen))))
        return cls(len(validation), sheets)


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


def write(workdir: pathlib.Path, rows: Sequence[Row], total: int, shown: Shown) -> None:
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
    lead, charts = _lead(rows, total, shown.validation), _charts(rows, shown.validation)
    header, *lines = _cells(rows)
    sections = [Section('Candidates', charts=charts, tables=[Table(header, lines, kinds='n')])]
    if shown.commands:
        sections.append(Section('What to do next', commands=shown.commands))
    sections.append(Section('Images that decide', ['Of validation, evenly over the split.'], sheets=shown.sheets))
    pages.write_page(
        workdir / 'search.html',
        f'Search in {workdir.name}',
        sections,
        lead=[lead],
        small='The test split was not opened. Time includes compilation and validation.',
    )


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


def _lead(rows: Sequence[Row], total: int, num_validation: int) -> str:
    best = rows[0]
    lead = f'{len(rows)} of {total} candidates, ranked by AUC on {num_validation:,} validation images'
    if best.metrics is not None and best.metrics['accuracy'] is not None:
        error = _standard_error(best.metrics['accuracy'], num_validation)
        lead += (
            f'. Best: {best.name}. This many images give an accuracy to ±{100 * error:.1f} points (one standard error, '
            'the bars below): close candidates are a tie, and the best of many looks better here than it is'
        )
    return f'{lead}.'


def _charts(rows: Sequence[Row], num_validation: int) -> list[pages.Chart]:
    """Accuracy against size and AUC against time; the best candidate is ringed."""
    finished = [row for row in rows if row.metrics is not None]
    if not finished:
        return []
    sizes, label = _sizes(finished)
    seconds = [row.seconds for row in finished]
    return [
        _chart(finished, sizes, 'accuracy', label, num_validation),
        _chart(finished, seconds, 'auc', 'training time, seconds'),
    ]


def _chart(rows: Sequence[Row], x: Sequence[Any], metric: str, label: str, num_validation: int = 0) -> pages.Chart:
    title = f'{"AUC" if metric == "auc" else metric.capitalize()} against {label.split(",")[0]}'
    cells = [
        [row.name, '-' if place is None else f'{place:,.4g}', _shown(row.metrics[metric] if row.metrics else None)]
        for row, place in zip(rows, x, strict=True)
    ]
    with pages.drawing(height=3.9) as (figure, axes):
        _scatter(axes, rows, x, metric, num_validation)
        axes.set(xlabel=label, ylabel=f'validation {"AUC" if metric == "auc" else metric}')
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: _short(value)))
        axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5), numticks=8))
        axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axes.legend(fontsize=10)
        words = 'One dot a candidate, coloured by stage' + (', with one standard error.' if num_validation else '.')
        return pages.chart(figure, title, words, Table(['candidate', label, metric], cells), name=f'search_{metric}')


def _short(value: float) -> str:
    """A number that stands beside others on an axis: `20`, `500k`, `1.5M`."""
    for unit, word in ((1e6, 'M'), (1e3, 'k')):
        if value >= unit:
            return f'{value / unit:g}{word}'
    return f'{value:g}'


def _shown(value: float | None) -> str:
    return '-' if value is None else f'{value:.4f}'


def _scatter(axes: Any, rows: Sequence[Row], x: Sequence[Any], metric: str, num_validation: int = 0) -> None:
    """Dots of `metric`, coloured by stage; with `num_validation`, bars of one standard error."""
    y = np.array([row.metrics and row.metrics[metric] for row in rows], float)
    errors = np.sqrt(y * (1 - y) / num_validation) if num_validation else np.full(len(rows), np.nan)
    places = np.array(x, float)
    stages = np.array([row.stage for row in rows])
    for stage in np.unique(stages):
        mask = stages == stage
        colour = STAGE_COLOURS[(stage - 1) % len(STAGE_COLOURS)]
        axes.errorbar(places[mask], y[mask], errors[mask], fmt='o', markersize=6, color=colour, alpha=0.85,
                      label=f'stage {stage}')  # fmt: skip
    axes.plot(places[0], y[0], 'o', markersize=13, fillstyle='none', color=pages.INK, label='best by AUC')
    axes.set(xscale='log')
    axes.grid(True)


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

"""The results of a probe: a table on the terminal, and a page."""

import pathlib
from typing import Any

import numpy as np
import rich.table

from fakeimg import pages
from fakeimg.console import Console
from fakeimg.pages import Chart, Section, Table

_COLOURS = (pages.MUTED, pages.REAL_COLOUR, pages.FAKE_COLOUR)  # cross-validation, then the splits that were scored


def columns(results: dict[str, Any]) -> list[str]:
    """The heads of the table."""
    scored = next(iter(results['classifiers'].values()))['splits']
    figures = [f'{part} {metric}' for part in ('cv', *scored) for metric in ('accuracy', 'AUC')]
    return ['classifier', 'C', *figures]


def rows(results: dict[str, Any]) -> list[list[str]]:
    """One row a classifier: C, mean and deviation over folds, and the figures of each split that was scored."""
    table = []
    for name, found in results['classifiers'].items():
        tried = list(found['c_by_mean_auc'])
        edge = ' (edge)' if f'{found["c"]:g}' in (tried[0], tried[-1]) else ''  # a C beyond may do better
        cells = [name, f'{found["c"]:g}{edge}']
        for metric in ('accuracy', 'auc'):
            over_folds = found['cross_validation'][metric]
            cells.append(f'{over_folds["mean"]:.4f}\u00a0±\u00a0{over_folds["deviation"]:.4f}')
        for scored in found['splits'].values():
            cells += ['undefined' if scored[key] is None else f'{scored[key]:.4f}' for key in ('accuracy', 'auc')]
        table.append(cells)
    return table


def print_table(results: dict[str, Any], console: Console) -> None:
    """Prints the table."""
    table = rich.table.Table()
    for name in columns(results):
        table.add_column(name.replace(' ', '\n'), no_wrap=name not in ('classifier', 'C'))  # no figure is cut
    for row in rows(results):
        table.add_row(*(cell.replace('\u00a0±', '\n±') for cell in row))
    console.table(table)


def write_report(path: pathlib.Path, results: dict[str, Any], images: Section) -> None:
    """Writes one self-contained HTML page, `images` last."""
    counts = ', '.join(f'{name} {count:,}' for name, count in results['n'].items())
    unreadable = sum(results['skipped'].values())
    summary = (
        f'{results["features"]:,} features of a frozen {results["model"]} at {results["image_size"]} px, '
        f'{results["weights"]}. Images: {counts}' + (f'; {unreadable:,} unreadable' if unreadable else '') + '.'
    )
    units = 'whole groups' if results['whole_groups'] else 'images'
    small = (
        f'cv: {results["folds"]} folds of {units} of {results["train_split"]}, stratified, seed {results["seed"]}; '
        'mean and sample deviation over the folds. Features are standardised within each fit. C is the one of '
        f'{_grid_size(results)} with the best mean AUC over the same folds, which flatters the cv columns a little '
        '("edge": it is the least or the most tried, and one beyond may do better). The others were scored once, after '
        'a fit on all of train. The RBF SVM was fitted on '
        f'{results["max_examples"]:,} images at most. fakeimg {results["fakeimg"]}, weights '
        f'{results["weights_sha256"][:12]}, data {results["data_digest"][:12]}.'
    )
    pages.write_page(
        path,
        f'Probe of {results["model"]} features',
        [
            Section(
                'Classifiers',
                [f'{note}.' for note in results['notes']],
                charts=[_chart(results, metric) for metric in ('accuracy', 'auc')],
                tables=[Table(columns(results), rows(results))],
            ),
            images,
        ],
        lead=[summary],
        small=small,
        data=results,
    )


def _grid_size(results: dict[str, Any]) -> int:
    return len(next(iter(results['classifiers'].values()))['c_by_mean_auc'])


def _chart(results: dict[str, Any], metric: str) -> Chart:
    """Bars of a metric, chance dotted: cross-validation with its deviation, then each split that was scored."""
    found = results['classifiers']
    parts = ['cv', *next(iter(found.values()))['splits']]
    title = {'auc': 'AUC'}.get(metric, metric.capitalize())
    cells: list[list[str]] = [[name] for name in found]
    with pages.drawing(height=3.9) as (figure, axes):
        width = 0.8 / len(parts)
        for number, (part, colour) in enumerate(zip(parts, _COLOURS, strict=False)):
            values, deviations = [], []
            for row, own in enumerate(found.values()):
                over_folds = own['cross_validation'][metric]
                value = over_folds['mean'] if part == 'cv' else own['splits'][part][metric]
                values.append(np.nan if value is None else value)
                deviations.append(over_folds['deviation'] if part == 'cv' else 0.0)
                cells[row].append('undefined' if value is None else f'{value:.4f}')
            places = np.arange(len(found)) + (number - (len(parts) - 1) / 2) * width
            errors = {'yerr': deviations, 'capsize': 3} if part == 'cv' else {}
            axes.bar(places, values, width * 0.92, color=colour, label=part, ecolor=pages.INK, **errors)
        axes.axhline(0.5, color=pages.MUTED, linewidth=1, linestyle=':')
        axes.set(ylim=(0, 1.18), ylabel=title)
        axes.set_xticks(range(len(found)), [name.replace(' ', '\n') for name in found], parse_math=False)
        axes.legend(loc='upper center', ncols=3, fontsize=10)
        return pages.chart(
            figure,
            title,
            f'{title} of each classifier, cross-validated (cv, with deviations over folds) and on scored splits.',
            Table(['classifier', *parts], cells),
            name=f'probe_{metric}',
        )

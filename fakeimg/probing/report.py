"""The results of a probe: a table on the terminal, and a page."""

import pathlib
from typing import Any

import matplotlib
import matplotlib.figure
import numpy as np
import rich.table

from fakeimg import pages
from fakeimg.console import Console

_COLOURS = ('#a0aec0', '#4a5568', '#1a202c')  # cross-validation, then the splits that were scored


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
        table.add_column(name.replace(' ', '\n'), no_wrap=name == 'classifier')
    for row in rows(results):
        table.add_row(*row)
    console.table(table)


def write_report(path: pathlib.Path, results: dict[str, Any]) -> None:
    """Writes one self-contained HTML page."""
    counts = ', '.join(f'{name} {count:,}' for name, count in results['n'].items())
    unreadable = sum(results['skipped'].values())
    summary = (
        f'{results["features"]:,} features of a frozen {results["model"]} at {results["image_size"]} px, '
        f'{results["weights"]}. Images: {counts}' + (f'; {unreadable:,} unreadable' if unreadable else '') + '.'
    )
    notes = ''.join(f'<p class="warn">{pages.escape(note)}.</p>' for note in results['notes'])
    head = ''.join(f'<th>{pages.escape(name)}</th>' for name in columns(results))
    body = ''.join(
        f'<tr><td>{pages.escape(row[0])}</td>'
        + ''.join(f'<td class="number">{cell}</td>' for cell in row[1:])
        + '</tr>'
        for row in rows(results)
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
    page = (
        f'<p>{pages.escape(summary)}</p>{notes}{_plot(results)}<table><tr>{head}</tr>{body}</table>'
        f'<p class="small">{pages.escape(small)}</p>'
    )
    pages.write_page(path, f'Probe of {results["model"]} features', page)


def _grid_size(results: dict[str, Any]) -> int:
    return len(next(iter(results['classifiers'].values()))['c_by_mean_auc'])


def _plot(results: dict[str, Any]) -> str:
    """Bars of accuracy and AUC, chance dotted: cross-validation with its deviation, then each split that was scored."""
    found = results['classifiers']
    parts = ['cv', *next(iter(found.values()))['splits']]
    with matplotlib.rc_context(pages.PLOT_STYLE):
        figure = matplotlib.figure.Figure(figsize=(12, 4), layout='constrained', dpi=110)
        for axes, metric, title in zip(figure.subplots(1, 2), ('accuracy', 'auc'), ('Accuracy', 'AUC'), strict=True):
            width = 0.8 / len(parts)
            for number, (part, colour) in enumerate(zip(parts, _COLOURS, strict=False)):
                values, deviations = [], []
                for own in found.values():
                    over_folds = own['cross_validation'][metric]
                    values.append(over_folds['mean'] if part == 'cv' else own['splits'][part][metric])
                    deviations.append(over_folds['deviation'] if part == 'cv' else 0.0)
                heights = [np.nan if value is None else value for value in values]
                places = np.arange(len(found)) + (number - (len(parts) - 1) / 2) * width
                errors = {'yerr': deviations, 'capsize': 4} if part == 'cv' else {}
                axes.bar(places, heights, width * 0.95, color=colour, label=part, ecolor='#c05621', **errors)
                for place, height, deviation in zip(places, heights, deviations, strict=True):
                    axes.text(place, height + deviation + 0.005, f'{height:.3f}', ha='center', fontsize=8)
            axes.axhline(0.5, color='grey', linewidth=1, linestyle=':')
            axes.set(title=title, ylim=(0, 1.06))
            axes.set_xticks(range(len(found)), list(found))
        figure.legend(*figure.axes[0].get_legend_handles_labels(), frameon=False, loc='outside upper center', ncols=3)
        return pages.plot(figure, 'accuracy and AUC of each classifier, cross-validated and on the scored splits')

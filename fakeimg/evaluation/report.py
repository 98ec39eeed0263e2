"""The page of an evaluation: its figures, three plots, and the images it got most wrong."""

import pathlib
from typing import Any

import matplotlib
import matplotlib.figure
import numpy as np
import sklearn.metrics

from fakeimg import pages
from fakeimg.data.datasets import Split
from fakeimg.meta import Meta
from fakeimg.scoring import Predictions

MISTAKES_SHOWN = 12


def write_report(
    path: pathlib.Path, metrics: dict[str, Any], predictions: Predictions, split: Split, meta: Meta
) -> None:
    """Writes one self-contained HTML page, with its plots in `figures.png` too; `split` must be the one scored."""
    model = meta.config['model']['name']
    confusion = metrics['confusion']
    summary = (
        f'{metrics["n"]:,} images scored'
        + (f', {metrics["skipped"]:,} unreadable' if metrics['skipped'] else '')
        + f'. Called fake when P(fake) is at least {metrics["threshold"]:g}: '
        f'true positive rate {_rate(confusion["tp"], confusion["fn"])} of fake images, '
        f'false positive rate {_rate(confusion["fp"], confusion["tn"])} of real images.'
    )
    names = ('accuracy', 'precision', 'recall', 'f1', 'auc', 'average_precision', 'loss')
    others = metrics.get('without_copies')
    if others:
        summary += f' {others["copies"]:,} of them were in train or validation too, byte for byte' + (
            f': without these, accuracy is {others["accuracy"]:.4f}.' if 'n' in others else ': all of them.'
        )
    rows = ''.join(
        f'<tr><th>{name.replace("_", " ")}</th><td class="number">'
        f'{"undefined" if metrics[name] is None else f"{metrics[name]:.4f}"}</td></tr>'
        for name in names
    )
    small = (
        f'fakeimg {meta.fakeimg}, checkpoint {metrics["step"]}, data {metrics["data_digest"][:12]}. '
        'Probabilities are uncalibrated.'
    )
    plots = _plot(metrics, predictions, path.with_name('figures.png'))
    body = (
        f'<p>{summary}</p><table>{rows}</table>{plots}<h2>Most confident mistakes</h2>'
        f'{_mistakes(predictions, split, metrics["threshold"])}<p class="small">{small}</p>'
    )
    pages.write_page(path, f'{model} on the {metrics["split"]} split', body)


def _rate(part: int, rest: int) -> str:
    """`94.2% (471 of 500)`."""
    whole = part + rest
    return f'{part / whole:.1%} ({part:,} of {whole:,})' if whole else 'undefined (0 of 0)'


def _plot(metrics: dict[str, Any], predictions: Predictions, file: pathlib.Path) -> str:
    """Draws the ROC curve, the scores by class and the confusion matrix, as HTML."""
    labels, scores = predictions.labels, predictions.probabilities
    with matplotlib.rc_context(pages.PLOT_STYLE):
        figure = matplotlib.figure.Figure(figsize=(12, 3.8), layout='constrained', dpi=110)
        roc, histogram, matrix = figure.subplots(1, 3)
        if metrics['auc'] is not None:
            false_positives, true_positives, _ = sklearn.metrics.roc_curve(labels, predictions.logits)
            roc.plot(false_positives, true_positives, color='black')
        roc.plot([0, 1], [0, 1], ':', color='grey', linewidth=1)
        auc = '' if metrics['auc'] is None else f' (area {metrics["auc"]:.3f})'
        roc.set(title=f'ROC curve{auc}', xlabel='false positive rate', ylabel='true positive rate', aspect='equal')
        bins = np.linspace(0, 1, 41).tolist()
        for label, (name, colour) in enumerate((('real', pages.REAL_COLOUR), ('fake', pages.FAKE_COLOUR))):
            histogram.hist(scores[labels == label], bins=bins, color=colour, alpha=0.6, label=name)
        histogram.axvline(metrics['threshold'], color='black', linewidth=1)
        histogram.set(title='Scores by true class', xlabel='P(fake)', ylabel='images', yscale='log')
        histogram.legend(frameon=False, loc='upper center')
        counts = metrics['confusion']
        table = np.array([[counts['tn'], counts['fp']], [counts['fn'], counts['tp']]])
        shares = table / np.maximum(table.sum(1, keepdims=True), 1)
        matrix.imshow(shares, cmap='Greys', vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(table):
            share = shares[row, column]
            matrix.text(column, row, f'{count:,}\n{share:.1%}', ha='center', va='center',
                        color='white' if share > 0.5 else 'black')  # fmt: skip
        matrix.set(title='Decisions', xticks=[0, 1], yticks=[0, 1], xlabel='called', ylabel='truly')
        matrix.set_xticklabels(['real', 'fake'])
        matrix.set_yticklabels(['real', 'fake'])
        return pages.plot(figure, 'ROC curve, scores by class, confusion matrix', file)


def _mistakes(predictions: Predictions, split: Split, threshold: float) -> str:
    scores = predictions.probabilities
    wrong = np.flatnonzero((scores >= threshold) != predictions.labels)
    if not wrong.size:
        return '<p>None.</p>'
    worst = wrong[np.argsort(-np.abs(predictions.logits[wrong]), kind='stable')][:MISTAKES_SHOWN]
    place = {name: index for index, name in enumerate(split.names)}
    figures = []
    for row in worst:
        name = predictions.names[row]
        truth = ('real', 'fake')[predictions.labels[row]]
        caption = pages.escape(f'{truth}, P(fake) {scores[row]:.3f}: {name}')
        figures.append(f'<figure>{pages.thumbnail(split[place[name]])}<figcaption>{caption}</figcaption></figure>')
    return ''.join(figures)

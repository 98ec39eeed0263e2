"""A page for people: the figures of an evaluation, three plots, and the pictures it got most wrong."""

import base64
import html
import io
import os
import pathlib
from typing import Any

import matplotlib
import matplotlib.figure
import numpy as np
import PIL.Image
import sklearn.metrics

from fakeimg.data import decode
from fakeimg.data.sources import Source
from fakeimg.evaluation.scoring import Predictions

MISTAKES_SHOWN = 12
THUMBNAIL_SIZE = 128  # pixels
REAL_COLOUR, FAKE_COLOUR = '#2b6cb0', '#c05621'  # told apart by colour-blind people too

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2em auto; padding: 0 1em; color: #1a202c }}
table {{ border-collapse: collapse; margin: 1em 0 }}
td, th {{ padding: .25em 1em .25em 0; text-align: left; border-bottom: 1px solid #e2e8f0 }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums }}
img.plot {{ width: 100% }}
figure {{ display: inline-block; width: 140px; margin: 0 10px 14px 0; vertical-align: top; font-size: 12px }}
figure img {{ width: 128px; height: 128px; object-fit: cover; display: block }}
figcaption {{ overflow-wrap: anywhere }}
.small {{ color: #4a5568; font-size: 14px }}
</style>
<h1>{title}</h1>
<p>{summary}</p>
<table>{rows}</table>
<img class="plot" alt="ROC curve, scores by class, confusion matrix" src="{plot}">
<h2>Most confident mistakes</h2>
{mistakes}
<p class="small">{small}</p>
</html>
"""


def write_report(
    path: pathlib.Path, metrics: dict[str, Any], predictions: Predictions, source: Source, meta: dict[str, Any]
) -> None:
    """Writes one self-contained HTML page; `source` must be the split that was scored."""
    model = meta['config']['model']['name']
    confusion = metrics['confusion']
    summary = (
        f'{metrics["n"]:,} pictures scored'
        + (f', {metrics["skipped"]:,} unreadable' if metrics['skipped'] else '')
        + f'. Called fake when P(fake) is at least {metrics["threshold"]:g}: '
        f'{confusion["tp"]:,} of {confusion["tp"] + confusion["fn"]:,} fakes found, '
        f'{confusion["fp"]:,} of {confusion["fp"] + confusion["tn"]:,} real pictures accused.'
    )
    names = ('accuracy', 'precision', 'recall', 'f1', 'auc', 'average_precision', 'loss')
    rows = ''.join(
        f'<tr><th>{name.replace("_", " ")}</th><td class="number">'
        f'{"undefined" if metrics[name] is None else f"{metrics[name]:.4f}"}</td></tr>'
        for name in names
    )
    small = (
        f'fakeimg {meta["fakeimg"]}, checkpoint {metrics["step"]}, data {metrics["data_digest"][:12]}. '
        'Probabilities are uncalibrated.'
    )
    page = _PAGE.format(
        title=html.escape(f'{model} on the {metrics["split"]} split'),
        summary=summary,
        rows=rows,
        plot=_plot(metrics, predictions),
        mistakes=_mistakes(predictions, source, metrics['threshold']),
        small=small,
    )
    partial = path.with_name(f'{path.name}.partial')
    partial.write_text(page, encoding='utf-8')
    os.replace(partial, path)


def _plot(metrics: dict[str, Any], predictions: Predictions) -> str:
    """Draws the ROC curve, the scores by class and the confusion matrix, as a data URI."""
    labels, scores = predictions.labels, predictions.probabilities
    with matplotlib.rc_context({'font.size': 10, 'axes.spines.top': False, 'axes.spines.right': False}):
        figure = matplotlib.figure.Figure(figsize=(12, 3.8), layout='constrained', dpi=110)
        roc, histogram, matrix = figure.subplots(1, 3)
        if metrics['auc'] is not None:
            false_positives, true_positives, _ = sklearn.metrics.roc_curve(labels, predictions.logits)
            roc.plot(false_positives, true_positives, color='black')
        roc.plot([0, 1], [0, 1], ':', color='grey', linewidth=1)
        auc = '' if metrics['auc'] is None else f' (area {metrics["auc"]:.3f})'
        roc.set(title=f'ROC curve{auc}', xlabel='real pictures accused', ylabel='fakes found', aspect='equal')
        bins = np.linspace(0, 1, 41).tolist()
        for label, (name, colour) in enumerate((('real', REAL_COLOUR), ('fake', FAKE_COLOUR))):
            histogram.hist(scores[labels == label], bins=bins, color=colour, alpha=0.6, label=name)
        histogram.axvline(metrics['threshold'], color='black', linewidth=1)
        histogram.set(title='Scores by true class', xlabel='P(fake)', ylabel='pictures', yscale='log')
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
        buffer = io.BytesIO()
        figure.savefig(buffer, format='png')
    return _data_uri(buffer.getvalue(), 'image/png')


def _mistakes(predictions: Predictions, source: Source, threshold: float) -> str:
    scores = predictions.probabilities
    wrong = np.flatnonzero((scores >= threshold) != predictions.labels)
    if not wrong.size:
        return '<p>None.</p>'
    worst = wrong[np.argsort(-np.abs(predictions.logits[wrong]), kind='stable')][:MISTAKES_SHOWN]
    place = {name: index for index, name in enumerate(source.names)}
    figures = []
    for row in worst:
        name = predictions.names[row]
        truth = ('real', 'fake')[predictions.labels[row]]
        caption = html.escape(f'{truth}, P(fake) {scores[row]:.3f}: {name}'.encode('utf-8', 'replace').decode())
        figures.append(
            f'<figure><img alt="" src="{_thumbnail(source[place[name]])}"><figcaption>{caption}</figcaption></figure>'
        )
    return ''.join(figures)


def _thumbnail(data: bytes) -> str:
    picture = PIL.Image.fromarray(decode.decode_rgb(data))
    picture.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    buffer = io.BytesIO()
    picture.save(buffer, 'PNG')
    return _data_uri(buffer.getvalue(), 'image/png')


def _data_uri(data: bytes, kind: str) -> str:
    return f'data:{kind};base64,{base64.b64encode(data).decode()}'

"""The charts of an evaluation, each with a text alternative and its numbers, drawn from `metrics.json` alone."""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib.ticker
import numpy as np
import scipy.special

from fakeimg import pages
from fakeimg.evaluation import thresholds, words
from fakeimg.pages import FAKE_COLOUR, INK, MUTED, REAL_COLOUR, Chart, Table

_ROWS_SHOWN = 40  # of a curve's table
_DET_TICKS, _DET_END = (0.001, 0.01, 0.05, 0.2, 0.4), 0.6
_SLICES_DRAWN = 10
Folder = pathlib.Path | None


def roc(metrics: dict[str, Any], folder: Folder) -> Chart:
    points = np.array(metrics['curves']['roc'], float)
    with pages.drawing() as (figure, axes):
        axes.plot([0, 1], [0, 1], ':', color=MUTED, linewidth=1)
        axes.plot(points[:, 0], points[:, 1], color=REAL_COLOUR, linewidth=1.8)
        for number, (x, y, name) in enumerate(_operating(metrics)):
            axes.plot(x, y, 'osD^v'[number % 5], color=FAKE_COLOUR, markersize=6, label=f'threshold {name}')
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc='lower right', fontsize=10)
        axes.set(xlabel='false positive rate', ylabel='true positive rate', xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.grid(True)
        auc = words.text(words.figures(metrics)['auc'], 'auc')
        return pages.chart(
            figure, 'ROC curve', f'True positive rate against false positive rate over all thresholds; area {auc}. '
            'The dotted line is chance.',
            _curve(['false positive rate', 'true positive rate'], points), folder=folder,
        )  # fmt: skip


def det(metrics: dict[str, Any], folder: Folder) -> Chart:
    points = np.array(metrics['curves'].get('det') or metrics['curves']['roc'], float)
    fpr, fnr = points[:, 0], 1 - points[:, 1]
    least = max(min(0.5 / max(metrics['n'], 1), 0.2), 1e-4)
    x, y = (scipy.special.ndtri(np.clip(rate, least, 1 - least)) for rate in (fpr, fnr))
    with pages.drawing() as (figure, axes):
        axes.plot(x, y, color=REAL_COLOUR, linewidth=1.8)
        ends = scipy.special.ndtri([least, _DET_END])
        axes.plot(ends, ends, ':', color=MUTED, linewidth=1)
        ticks = [tick for tick in _DET_TICKS if least <= tick < _DET_END]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(scipy.special.ndtri(ticks), [f'{100 * tick:g} %' for tick in ticks])
        axes.set(xlabel='false positive rate', ylabel='false negative rate', xlim=ends, ylim=ends)
        axes.grid(True)
        eer = words.text(words.figures(metrics).get('eer'), 'eer')
        return pages.chart(
            figure, 'DET curve', f'False negatives against false positives on normal-deviate scales; both are equal '
            f'on the dotted line, at {eer}.',
            _curve(['false positive rate', 'false negative rate'], np.stack([fpr, fnr], 1)), folder=folder,
        )  # fmt: skip


def precision_recall(metrics: dict[str, Any], folder: Folder) -> Chart:
    points = np.array(metrics['curves']['pr'], float)
    with pages.drawing() as (figure, axes):
        axes.plot(points[:, 0], points[:, 1], color=REAL_COLOUR, linewidth=1.8)
        axes.set(xlabel='recall', ylabel='precision', xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.grid(True)
        found = words.figures(metrics).get('average_precision')
        share = (found or {}).get('prevalence')
        if share is not None:
            axes.axhline(share, linestyle=':', color=MUTED, linewidth=1)
        return pages.chart(
            figure, 'Precision and recall', f'Average precision {words.text(found)}; it depends on the share of fake '
            'images in this set' + ('.' if share is None else f', {share:.0%}, the dotted line.'),
            _curve(['recall', 'precision'], points), folder=folder,
        )  # fmt: skip


def reliability(metrics: dict[str, Any], folder: Folder) -> Chart:
    bins = metrics['reliability']
    p, share, low, high = (np.array([row[key] for row in bins], float) for key in ('p', 'share_fake', 'low', 'high'))
    with pages.drawing() as (figure, axes):
        axes.plot([0, 1], [0, 1], ':', color=MUTED, linewidth=1)
        axes.vlines(p, low, high, color=REAL_COLOUR, linewidth=1.5)
        axes.plot(p, share, 'o', color=REAL_COLOUR, markersize=5)
        axes.set(xlabel='P(fake) of the detector', ylabel='share of fake images', xlim=(-0.02, 1.02),
                 ylim=(-0.02, 1.02))  # fmt: skip
        axes.grid(True)
        rows = [[_number(row[key]) for key in ('p', 'share_fake', 'low', 'high')] + [f'{row["n"]:,}'] for row in bins]
        return pages.chart(
            figure, 'Reliability', f'{len(bins)} groups of equally many images, with 95 % intervals. On the dotted '
            'line, of the images scored 0.8, 80 % are fake.',
            Table(['mean P(fake)', 'share fake', 'low', 'high', 'n'], rows, kinds='n'), folder=folder,
        )  # fmt: skip


def scores(metrics: dict[str, Any], folder: Folder) -> Chart:
    histogram = metrics['histogram']
    edges, real, fake = (np.array(histogram[key], float) for key in ('edges', 'real', 'fake'))
    with pages.drawing(left=0.95) as (figure, axes):
        axes.stairs(real, edges, fill=True, color=REAL_COLOUR, alpha=0.3, baseline=0)
        axes.stairs(real, edges, color=REAL_COLOUR, linewidth=1.6, label='real images', baseline=None)
        axes.stairs(fake, edges, color=FAKE_COLOUR, linewidth=1.6, linestyle='--', label='fake images', baseline=None)
        axes.axvline(metrics['threshold'], color=INK, linewidth=1)
        axes.set(xlabel='P(fake)', ylabel='images', xlim=(-0.01, 1.01))
        axes.set_yscale('symlog', linthresh=1)
        axes.set_ylim(0, 3 * max(real.max(initial=1), fake.max(initial=1)))
        axes.yaxis.set_major_formatter(
            matplotlib.ticker.FuncFormatter(lambda value, _: f'{value:,.0f}' if value else '')
        )
        axes.legend(loc='upper center', ncols=2, fontsize=10)
        rows = [
            [f'{edges[place]:.3f} to {edges[place + 1]:.3f}', f'{real[place]:,.0f}', f'{fake[place]:,.0f}']
            for place in range(len(real))
        ]
        return pages.chart(
            figure, 'Scores by class', 'Images by P(fake), on a logarithmic scale. The upright line is the threshold '
            f'{thresholds.text(metrics["threshold"])}, from which an image is called fake.',
            Table(['P(fake)', 'real', 'fake'], rows), folder=folder,
        )  # fmt: skip


def risk_coverage(metrics: dict[str, Any], folder: Folder) -> Chart:
    points = np.array(metrics['risk_coverage'], float)
    with pages.drawing() as (figure, axes):
        axes.plot(100 * points[:, 0], 100 * points[:, 1], color=REAL_COLOUR, linewidth=1.8)
        unsure = metrics.get('unsure')
        if unsure and all((unsure.get(key) or {}).get('value') is not None for key in ('coverage', 'error')):
            axes.plot(100 * unsure['coverage']['value'], 100 * unsure['error']['value'], 'o', color=FAKE_COLOUR,
                      label='the unsure band of validation')  # fmt: skip
            axes.legend(loc='upper left', fontsize=10)
        axes.set(xlabel='images decided, %, the surest first', ylabel='wrong among them, %', xlim=(-2, 102))
        axes.set_ylim(bottom=0)
        axes.grid(True)
        return pages.chart(
            figure, 'Risk and coverage', 'The share of wrong decisions when only the surest images are decided.',
            _curve(['coverage', 'risk'], points), folder=folder,
        )  # fmt: skip


def slices(name: str, rows: Sequence[dict[str, Any]], metrics: dict[str, Any], folder: Folder) -> Chart | None:
    """Accuracy of each slice with its interval, worst first; None where there are fewer than two to compare."""
    shown = [row for row in rows if (row.get('accuracy') or {}).get('value') is not None][:_SLICES_DRAWN]
    if len(shown) < 2:
        return None
    title = name.replace('_', ' ')
    with pages.drawing(height=0.9 + 0.24 * len(shown), left=1.75) as (figure, axes):
        found = [row['accuracy'] for row in shown]
        middle = 100 * np.array([figure_['value'] for figure_ in found])
        ends = np.array([[100 * (one[end] if one.get(end) is not None else one['value']) for end in ('low', 'high')]
                         for one in found])  # fmt: skip
        places = np.arange(len(shown))[::-1]
        axes.hlines(places, ends[:, 0], ends[:, 1], color=REAL_COLOUR, linewidth=2)
        seen = np.array([row.get('seen', True) is not False for row in shown])
        for mask, fill in ((seen, REAL_COLOUR), (~seen, 'none')):
            axes.scatter(middle[mask], places[mask], s=30, facecolors=fill, edgecolors=REAL_COLOUR, zorder=3)
        overall = (words.decision(metrics)['figures'].get('accuracy') or {}).get('value')
        if overall is not None:
            axes.axvline(100 * overall, color=MUTED, linestyle=':', linewidth=1)
        axes.set_yticks(places, [_short(str(row['value'])) for row in shown], parse_math=False)
        axes.set(xlabel='accuracy, %', ylim=(-0.7, len(shown) - 0.3))
        axes.grid(True, axis='x')
        table = Table([title, 'accuracy', '95 % interval', 'n'],
                      [[str(row['value']), words.value(row['accuracy'], 'accuracy'),
                        words.interval(row['accuracy'], 'accuracy'), f'{row["n"]:,}'] for row in shown])  # fmt: skip
        unseen = ' Hollow: not in training.' if not seen.all() else ''
        return pages.chart(
            figure, f'Accuracy by {title}', f'The worst {len(shown)} of {len(rows)}, with 95 % intervals; dotted: '
            f'all images.{unseen}', table, name=f'slices_{_slug(name)}', folder=folder,
        )  # fmt: skip


def severity(name: str, curve: dict[str, Any], folder: Folder) -> Chart | None:
    """AUC and accuracy over the severity of one degradation."""
    rows = curve['rows']
    title = name.replace('_', ' ').replace('jpeg', 'JPEG').replace('webp', 'WebP')
    names = [_drawn(str(row['severity'])) for row in rows]
    with pages.drawing(height=2.9) as (figure, axes):
        for key, colour, marker, style in (('auc', REAL_COLOUR, 'o', '-'), ('accuracy', FAKE_COLOUR, 's', '--')):
            values = np.array([(row.get(key) or {}).get('value') for row in rows], float)
            if np.isnan(values).all():
                continue
            low, high = (np.array([(row.get(key) or {}).get(end) for row in rows], float) for end in ('low', 'high'))
            places = np.arange(len(rows))
            axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(places, values, style, marker=marker, markersize=4, color=colour,
                      label='AUC' if key == 'auc' else key)  # fmt: skip
        if not axes.lines:
            return None
        axes.set_xticks(range(len(rows)), names, parse_math=False)
        axes.set_xlabel(_drawn(curve.get('unit') or ''), parse_math=False)
        axes.set_ylim(min(0.45, axes.get_ylim()[0]), 1.01)
        axes.grid(True)
        axes.legend(loc='lower left', ncols=2, fontsize=10)
        table = Table(
            [curve.get('unit') or 'severity', 'AUC', 'drop', 'accuracy', 'drop'],
            [[str(row['severity']), *(words.cell(row.get(key), key) if row.get(key) else '' for key in
                                     ('auc', 'auc_drop', 'accuracy', 'accuracy_drop'))] for row in rows],
        )  # fmt: skip
        return pages.chart(figure, title, f'AUC and accuracy by {curve.get("unit") or "severity"}, with 95 % '
                           'intervals.', table,
                           name=f'robustness_{_slug(name)}', folder=folder, is_silent=True)  # fmt: skip


def learning(rows: Sequence[dict[str, Any]], metric: str, folder: Folder) -> Chart | None:
    """A learning curve of the run, from the rows of its `metrics.jsonl`."""
    lines = {}
    for split in ('train', 'validation'):
        key = f'{split}/{metric}'
        lines[split] = [(row['step'], row[key]) for row in rows if row.get(key) is not None]
    if not any(lines.values()):
        return None
    title = {'auc': 'AUC'}.get(metric, metric)
    with pages.drawing() as (figure, axes):
        for (split, points), colour, style in zip(lines.items(), (REAL_COLOUR, FAKE_COLOUR), ('-', 'o--'), strict=True):
            thinned = points[:: max(len(points) // 80, 1)]
            if thinned:
                axes.plot(*zip(*thinned, strict=True), style, color=colour, markersize=4, linewidth=1.3, label=split)
        axes.set(xlabel='step', ylabel=title)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
        axes.grid(True)
        axes.legend(fontsize=10)
        wanted = lines['validation'] or lines['train']
        shown = wanted[:: max(len(wanted) // _ROWS_SHOWN, 1)]
        split = 'validation' if lines['validation'] else 'train'
        return pages.chart(
            figure, f'{title[0].upper()}{title[1:]} while training', 'Training and validation by step.',
            Table(['step', f'{split} {title}'], [[f'{step:,}', f'{value:.4f}'] for step, value in shown], kinds='n'),
            name=f'learning_{metric}', folder=folder,
        )  # fmt: skip


def _operating(metrics: dict[str, Any]) -> list[tuple[float, float, str]]:
    found = []
    for point in (metrics.get('operating_points') or [])[:4]:
        x, y = ((point['figures'].get(name) or {}).get('value') for name in ('fpr', 'recall'))
        if x is not None and y is not None:
            found.append((x, y, point['name']))
    return found


def _curve(head: list[str], points: np.ndarray) -> Table:
    """Two columns of a curve, thinned to what a person can read."""
    chosen = np.unique(np.linspace(0, len(points) - 1, min(_ROWS_SHOWN, len(points))).astype(int))
    note = '' if len(chosen) == len(points) else f'{len(chosen)} of {len(points)} points; metrics.json has all of them.'
    return Table(head, [[_number(value) for value in points[row]] for row in chosen], note=note, kinds='n')


def _number(value: float | None) -> str:
    return '' if value is None else f'{value:.4f}'


def _short(text: str) -> str:
    text = _drawn(text)
    return text if len(text) <= 20 else f'{text[:9]}…{text[-10:]}'


def _drawn(text: str) -> str:
    """Text that a font can draw: names of files may hold bytes that are no text."""
    return ''.join(character if character.isprintable() else '?' for character in text)


def _slug(name: str) -> str:
    return ''.join(character if character.isascii() and character.isalnum() else '_' for character in name)

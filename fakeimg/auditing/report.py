"""An audit in three forms: a table on the terminal, a page with plots and the images in question, and JSON."""

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.figure
import rich.markup
import rich.table

import fakeimg
from fakeimg import files, pages
from fakeimg.auditing.finding import Evidence, Finding
from fakeimg.auditing.shortcuts import AUC_LINES, SHOWN_STATISTICS
from fakeimg.console import Console
from fakeimg.data import decode
from fakeimg.data.datasets import DataSet, Split

_STYLES = {'ok': 'green', 'note': 'dim', 'warn': 'yellow', 'fail': 'bold red'}
_FEATURES_SHOWN = 12
_BROKEN_SHOWN = 200
_UNITS = {'sharpness': 'variance of the Laplacian', 'noise': 'grey levels', 'greyness': 'share of colourless pixels',
          'high_frequency': 'share of power', 'width': 'pixels', 'size': 'bytes'}  # fmt: skip


def verdict(findings: Sequence[Finding], allowed: Sequence[str]) -> str:
    """Returns fail, warn or ok: the worst level of the findings whose names are not in `allowed`."""
    levels = {finding.level for finding in findings if finding.name not in allowed}
    return next((level for level in ('fail', 'warn') if level in levels), 'ok')


def print_finding(finding: Finding, allowed: Sequence[str], console: Console) -> None:
    """Prints a finding, and beneath it what to do."""
    level = 'fail, allowed' if finding.name in allowed and finding.level == 'fail' else finding.level
    text = rich.markup.escape(_printable(finding.sentence))
    if finding.advice:
        text += f'\n[dim]-> {rich.markup.escape(finding.advice)}[/dim]'
    table = rich.table.Table.grid(padding=(0, 2))
    for width in (13, 28, None):
        table.add_column(width=width)
    table.add_row(f'[{_STYLES[finding.level]}]{level}[/]', finding.name, text)
    console.table(table)
    for command in finding.typed:  # whole in a line of its own, to be copied
        console.say(f'  {_printable(command)}')


def write_json(
    path: pathlib.Path, evidence: Evidence, data: DataSet, findings: Sequence[Finding], allowed: Sequence[str]
) -> None:
    """Writes `audit.json`: verdict, and all findings with their figures and the names of the pairs."""
    names = evidence.images.names
    report = {
        'fakeimg': fakeimg.__version__,
        'layout': data.layout,
        'digest': data.digest,
        'verdict': verdict(findings, allowed),
        'allowed': list(allowed),
        'findings': [
            {
                'name': finding.name,
                'level': finding.level,
                'sentence': finding.sentence,
                'advice': finding.advice,
                'commands': list(finding.typed),
                'details': finding.details,
                'pairs': [[names[row] for row in pair] for pair in finding.pairs],
            }
            for finding in findings
        ],
    }
    files.write_json(path, report)


def write_page(
    path: pathlib.Path,
    title: str,
    evidence: Evidence,
    data: DataSet,
    findings: Sequence[Finding],
    allowed: Sequence[str],
) -> None:
    """Writes `audit.html`, one self-contained page."""
    words = {'fail': 'crosses a line', 'warn': 'passes with warnings', 'ok': 'passes'}[verdict(findings, allowed)]
    rows = ''.join(
        f'<tr><td class="level {finding.level}">{finding.level}</td><td>{pages.escape(finding.name)}</td>'
        f'<td>{pages.escape(finding.sentence)}'
        + (f'<br><span class="small">{pages.escape(finding.advice)}</span>' if finding.advice else '')
        + ''.join(f'<br><code>{pages.escape(command)}</code>' for command in finding.typed)
        + '</td></tr>'
        for finding in findings
    )
    body = (
        f'<p>The set <b>{words}</b>. {len(evidence.images.names):,} images, layout: '
        f'{pages.escape(data.layout)}.</p><table>{rows}</table>'
        f'{_shortcut_plot(findings)}{_shift_plot(findings)}{_generators_table(findings)}'
    )
    body += _unreadable(findings)
    for finding in findings:
        if finding.pairs:
            body += f'<h2>{pages.escape(finding.name.capitalize())}</h2>{_pairs(evidence, data, finding)}'
    body += (
        f'<p class="small">fakeimg {fakeimg.__version__}, data {data.digest[:12]}. Exact copies have the same decoded '
        'pixels; near copies are found by a perceptual hash and compared as small images. AUC: area under the ROC '
        'curve of a small cross-validated model, 0.5 is chance.</p>'
    )
    pages.write_page(path, title, body)


def _find(findings: Sequence[Finding], name: str) -> dict[str, Any]:
    return next((finding.details for finding in findings if finding.name == name), {})


def _shortcut_plot(findings: Sequence[Finding]) -> str:
    columns = [(name, _find(findings, name)) for name in ('shortcuts', 'pixel statistics')]
    if not columns[0][1]:
        return ''
    with matplotlib.rc_context(pages.PLOT_STYLE):
        figure = matplotlib.figure.Figure(figsize=(12, 3.8), layout='constrained', dpi=110)
        for axes, (name, details) in zip(figure.subplots(1, 2), columns, strict=True):
            features = list(details['features'].items())[:_FEATURES_SHOWN][::-1]
            bars = [('all together', details['auc'])]
            labels = [feature.replace('_', ' ') for feature, _ in features] + [bars[0][0]]
            values = [auc for _, auc in features] + [bars[0][1]]
            axes.barh(labels, [value - 0.5 for value in values], left=0.5,
                      color=['#a0aec0'] * len(features) + ['#2d3748'])  # fmt: skip
            if name == 'shortcuts':
                for line, colour in zip(AUC_LINES, ('#b7791f', '#c53030'), strict=True):
                    axes.axvline(line, color=colour, linewidth=1)
            axes.set(xlim=(0.5, 1), title={'shortcuts': 'Header facts'}.get(name, name.capitalize()),
                     xlabel='AUC of real against fake')  # fmt: skip
    return '<h2>What tells the classes apart without looking at faces</h2>' + pages.plot(
        figure, 'AUC of header facts and pixel statistics'
    )


def _shift_plot(findings: Sequence[Finding]) -> str:
    statistics = next((finding.details['statistics'] for finding in findings if 'statistics' in finding.details), {})
    shown = [name for name in SHOWN_STATISTICS if statistics.get(name)]
    if not shown:
        return ''
    with matplotlib.rc_context(pages.PLOT_STYLE):
        figure = matplotlib.figure.Figure(figsize=(12, 5), layout='constrained', dpi=110)
        for axes, name in zip(figure.subplots(2, 4).flat, shown, strict=False):
            by_split = statistics[name]
            for offset, label, colour in ((-0.15, 'real', pages.REAL_COLOUR), (0.15, 'fake', pages.FAKE_COLOUR)):
                for place, split in enumerate(by_split):
                    if label in by_split[split]:
                        low, middle, high = by_split[split][label]
                        axes.plot([place + offset] * 2, [low, high], color=colour, linewidth=4, alpha=0.45)
                        axes.plot(place + offset, middle, 'o', color=colour, label=label if not place else None)
            axes.set(title=name.replace('_', ' '), ylabel=_UNITS.get(name, ''), xlim=(-0.6, len(by_split) - 0.4))
            axes.set_xticks(range(len(by_split)), [split.replace('_', '\n') for split in by_split])
            axes.margins(y=0.2)
        figure.axes[0].legend(frameon=False)
    return '<h2>Splits side by side</h2><p class="small">Median and middle half of each split and class.</p>' + (
        pages.plot(figure, 'medians and quartiles of pixel statistics by split and class')
    )


def _generators_table(findings: Sequence[Finding]) -> str:
    by_split = _find(findings, 'classes').get('sources', {})
    if all(len(rows) < 2 for rows in by_split.values()):
        return ''
    rows = ''.join(
        f'<tr><td>{pages.escape(split)}</td><td>{pages.escape(generator)}</td><td class="number">{row["real"]:,}</td>'
        f'<td class="number">{row["fake"]:,}</td></tr>'
        for split, by_generator in by_split.items()
        for generator, row in by_generator.items()
    )
    return (
        f'<h2>Generators</h2><table><tr><th>split</th><th>generator</th><th>real</th><th>fake</th></tr>{rows}</table>'
    )


def _unreadable(findings: Sequence[Finding]) -> str:
    reasons = _find(findings, 'broken').get('reasons', {})
    if not reasons:
        return ''
    shown = itertools.islice(reasons.items(), _BROKEN_SHOWN)
    rows = ''.join(f'<tr><td>{pages.escape(name)}</td><td>{pages.escape(reason)}</td></tr>' for name, reason in shown)
    more = f'<p class="small">and {len(reasons) - _BROKEN_SHOWN:,} more in audit.json</p>'
    return f'<h2>Unreadable images</h2><table><tr><th>image</th><th>reason</th></tr>{rows}</table>' + (
        more if len(reasons) > _BROKEN_SHOWN else ''
    )


def _pairs(evidence: Evidence, data: DataSet, finding: Finding) -> str:
    images = evidence.images
    starts: dict[str, int] = {}
    total = 0
    for split in images.splits:
        starts[split] = total
        total += len(data.splits[split])
    figures = []
    for pair in finding.pairs:
        thumbnails, captions = '', []
        for row in pair:
            split = images.splits[images.split[row]]
            thumbnails += _thumbnail(data.splits[split], row - starts[split])
            captions.append(f'{split}, {("real", "fake")[evidence.labels[row]]}: {images.names[row]}')
        caption = '<br>'.join(map(pages.escape, captions))
        figures.append(f'<figure class="pair">{thumbnails}<figcaption>{caption}</figcaption></figure>')
    return ''.join(figures)


def _thumbnail(split: Split, index: int) -> str:
    try:
        return pages.thumbnail(split[index])
    except (OSError, decode.BadImage):
        return '(unreadable)'


def _printable(text: str) -> str:
    return ''.join(character if character.isprintable() else '?' for character in text)

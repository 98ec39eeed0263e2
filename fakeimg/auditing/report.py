"""An audit in three forms: a table on the terminal, a page with plots and the images in question, and JSON."""

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import rich.markup
import rich.table

import fakeimg
from fakeimg import files, pages
from fakeimg.auditing import sheet
from fakeimg.auditing.finding import LEVELS, Evidence, Finding
from fakeimg.auditing.shortcuts import AUC_LINES, SHOWN_STATISTICS
from fakeimg.console import Console
from fakeimg.data.datasets import DataSet
from fakeimg.pages import Cell, Chart, Section, Sheet, Table

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
    """Writes `audit.html`, one self-contained page, the worst finding first."""
    words = {'fail': 'crosses a line', 'warn': 'passes with warnings', 'ok': 'passes'}[verdict(findings, allowed)]
    ordered = sorted(findings, key=lambda finding: LEVELS[::-1].index(finding.level))
    sections = [
        Section('Findings', tables=[_findings_table(ordered, allowed)]),
        _images_of_pairs(evidence, data, ordered),
        _shortcuts(findings),
        _shifts(findings),
        _generators(findings),
        _unreadable(findings),
        sheet.section(evidence, data),
    ]
    pages.write_page(
        path,
        title,
        [section for section in sections if section is not None],
        lead=[f'The set {words}. {len(evidence.images.names):,} images, layout: {data.layout}.'],
        small=f'fakeimg {fakeimg.__version__}, data {data.digest[:12]}. Exact copies have the same decoded pixels; '
        'near copies are found by a perceptual hash and compared as small images. AUC: area under the ROC curve of a '
        'small cross-validated model, 0.5 is chance.',
    )


def _findings_table(findings: Sequence[Finding], allowed: Sequence[str]) -> Table:
    rows = [
        [
            Cell(finding.level, finding.level, 'allowed' if finding.name in allowed else ''),
            finding.name,
            Cell(finding.sentence, '', finding.advice, finding.typed),
        ]
        for finding in findings
    ]
    return Table(['level', 'finding', ''], rows, kinds='w')


def _find(findings: Sequence[Finding], name: str) -> dict[str, Any]:
    return next((finding.details for finding in findings if finding.name == name), {})


def _shortcuts(findings: Sequence[Finding]) -> Section | None:
    found = {name: _find(findings, name) for name in ('shortcuts', 'pixel statistics')}
    drawings = [_shortcut_chart(name, details) for name, details in found.items() if details.get('features')]
    if not found['shortcuts'] or not drawings:
        return None
    return Section('What distinguishes the classes without looking at faces', charts=drawings)


def _shortcut_chart(name: str, details: dict[str, Any]) -> Chart:
    bars = [('all together', details['auc']), *list(details['features'].items())[:_FEATURES_SHOWN]][::-1]
    labels = [feature.replace('_', ' ') for feature, _ in bars]
    with pages.drawing(height=1.0 + 0.22 * len(bars), left=1.9) as (figure, axes):
        colours = [pages.MUTED] * (len(bars) - 1) + [pages.REAL_COLOUR]
        axes.barh(range(len(bars)), [auc - 0.5 for _, auc in bars], left=0.5, color=colours, height=0.7)
        axes.set_yticks(range(len(bars)), labels)
        if name == 'shortcuts':
            for line, style in zip(AUC_LINES, ('--', '-'), strict=True):
                axes.axvline(line, color=pages.FAKE_COLOUR, linewidth=1, linestyle=style)
        axes.set(xlim=(0.5, 1), xlabel='AUC of real against fake')
        title = {'shortcuts': 'Header facts'}.get(name, name.capitalize())
        lines = f' Lines: {AUC_LINES[0]:g} warns, {AUC_LINES[1]:g} fails.' if name == 'shortcuts' else ''
        return pages.chart(
            figure,
            title,
            f'How well each fact alone, and all together, distinguish real from fake; 0.5 is chance.{lines}',
            Table(['fact', 'AUC'], [[label, f'{auc:.3f}'] for label, (_, auc) in zip(labels, bars, strict=True)][::-1]),
        )


def _shifts(findings: Sequence[Finding]) -> Section | None:
    statistics = next((finding.details['statistics'] for finding in findings if 'statistics' in finding.details), {})
    drawings = [_shift_chart(name, statistics[name]) for name in SHOWN_STATISTICS if statistics.get(name)]
    said = ['Median and middle half of each split and class. Round: real, square: fake.']
    return Section('Splits side by side', said, charts=drawings) if drawings else None


def _shift_chart(name: str, by_split: dict[str, Any]) -> Chart:
    rows = []
    with pages.drawing(height=2.6, left=0.9) as (figure, axes):
        for offset, label, colour, marker in (
            (-0.15, 'real', pages.REAL_COLOUR, 'o'),
            (0.15, 'fake', pages.FAKE_COLOUR, 's'),
        ):
            for place, split in enumerate(by_split):
                if label in by_split[split]:
                    low, middle, high = by_split[split][label]
                    axes.plot([place + offset] * 2, [low, high], color=colour, linewidth=4, alpha=0.45)
                    axes.plot(place + offset, middle, marker, color=colour)
                    rows.append([split, label, *(f'{value:.4g}' for value in (low, middle, high))])
        axes.set(ylabel=_UNITS.get(name, ''), xlim=(-0.6, len(by_split) - 0.4))
        axes.set_xticks(range(len(by_split)), [_printable(split)[:14] for split in by_split], parse_math=False)
        axes.margins(y=0.2)
        title = name.replace('_', ' ')
        table = Table(['split', 'class', 'lower quartile', 'median', 'upper quartile'], rows, kinds='wwn')
        words = f'{title} by split and class'
        return pages.chart(figure, title, words, table, name=f'shift_{name}', is_silent=True)


def _generators(findings: Sequence[Finding]) -> Section | None:
    by_split = _find(findings, 'classes').get('sources', {})
    if all(len(rows) < 2 for rows in by_split.values()):
        return None
    rows = [
        [split, generator, f'{row["real"]:,}', f'{row["fake"]:,}']
        for split, by_generator in by_split.items()
        for generator, row in by_generator.items()
    ]
    return Section('Generators', tables=[Table(['split', 'generator', 'real', 'fake'], rows, kinds='wwn')])


def _unreadable(findings: Sequence[Finding]) -> Section | None:
    reasons = _find(findings, 'broken').get('reasons', {})
    if not reasons:
        return None
    rows = [[name, reason] for name, reason in itertools.islice(reasons.items(), _BROKEN_SHOWN)]
    more = f'and {len(reasons) - _BROKEN_SHOWN:,} more in audit.json' if len(reasons) > _BROKEN_SHOWN else ''
    return Section('Unreadable images', tables=[Table(['image', 'reason'], rows, note=more, kinds='w')])


def _images_of_pairs(evidence: Evidence, data: DataSet, findings: Sequence[Finding]) -> Section | None:
    sheets = [
        Sheet(finding.name.capitalize(), [sheet.of_rows(evidence, data, pair) for pair in finding.pairs])
        for finding in findings
        if finding.pairs
    ]
    return Section('Images in question', sheets=sheets) if sheets else None


def _printable(text: str) -> str:
    return ''.join(character if character.isprintable() else '?' for character in text)

"""Where the figures of a report come from: the training, the audit of the data, unreadable images, how to reproduce."""

import json
import pathlib
from typing import Any

from fakeimg.evaluation import charts
from fakeimg.meta import Meta
from fakeimg.pages import Cell, Section, Table

_UNREADABLE_SHOWN = 40
_LEVELS = ('fail', 'warn', 'note', 'ok')  # worst first


def learning(run: pathlib.Path | None, drawn: pathlib.Path) -> Section | None:
    rows = _rows(run / 'metrics.jsonl') if run is not None else []
    found = [chart for metric in ('loss', 'auc') if (chart := charts.learning(rows, metric, drawn))]
    return Section('Learning curves', charts=found) if found else None


def _rows(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a run; a process that was killed may have left half of the last."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [row for row in rows if isinstance(row, dict) and 'step' in row]


def audit(metrics: dict[str, Any], run: pathlib.Path | None) -> Section | None:
    """What an audit found on this data, if there is one beside the runs or in the working directory."""
    found = _find_audit(metrics, run)
    if found is None:
        return None
    page, report = found
    findings = sorted(report['findings'], key=lambda one: _LEVELS.index(one['level']))
    rows = []
    for one in findings:
        if one['level'] != 'ok':
            said = Cell(one['sentence'], '', one.get('advice') or '', one.get('commands') or ())
            rows.append([Cell(one['level'], one['level']), one['name'], said])
    fine = len(findings) - len(rows)
    said = [f'Verdict: {report["verdict"]}. {fine} of {len(findings)} checks found nothing. All of it is in {page}.']
    tables = [Table(['level', 'finding', ''], rows, kinds='w')] if rows else []
    return Section('The audit of this data', said, tables=tables)


def _find_audit(metrics: dict[str, Any], run: pathlib.Path | None) -> tuple[pathlib.Path, dict[str, Any]] | None:
    folders = [pathlib.Path('audits')]
    if run is not None:
        folders.append(run.absolute().parent.parent / 'audits')
    digest, content = metrics.get('data_digest'), str(metrics.get('content_digest') or '')[:8]
    for path in (path for folder in folders for path in sorted(folder.glob('*/audit.json'))):
        try:
            report = json.loads(path.read_text())
            is_same = report['digest'] == digest or (content and path.parent.name.endswith(f'-{content}'))
            if is_same and report['findings']:
                return path.with_name('audit.html'), report
        except (OSError, ValueError, KeyError, TypeError):  # not an audit
            continue
    return None


def unreadable(metrics: dict[str, Any]) -> Section | None:
    """The images that were not scored, and why."""
    listed = (metrics.get('data') or {}).get('unreadable') or []
    if not listed:
        return None
    rows = [[str(name), str(reason)] for name, reason in listed[:_UNREADABLE_SHOWN]]
    count = max(metrics.get('skipped') or 0, len(listed))
    more = f'{count - len(rows):,} more are in bad_pictures.csv.' if count > len(rows) else ''
    said = f'{count:,} of {count + metrics["n"]:,} images could not be read and are not in any figure.'
    return Section('Unreadable images', [said], tables=[Table(['image', 'reason'], rows, note=more, kinds='w')])


def reproduce(metrics: dict[str, Any], meta: Meta | None) -> Section:
    """The command, the versions, the digests and the configuration."""
    detector = metrics.get('detector') or {}
    environment = detector.get('environment') or {}
    versions = {**(environment.get('versions') or {}), 'Python': environment.get('python')}
    config = detector.get('config') or (meta.config if meta else None)
    tables = [Table(['what', 'value'], identifiers(metrics, meta), kinds='w')]
    installed = [[name, str(version)] for name, version in versions.items() if version]
    if installed:
        tables.append(Table(['package', 'version'], installed, 'Versions of this evaluation', kinds='w'))
    folded = [('The configuration', json.dumps(config, indent=2, default=str))] if config else []
    commands = [metrics['command']] if metrics.get('command') else []
    return Section('How to reproduce', _identity(metrics, meta), commands, tables=tables, folded=folded)


def identifiers(metrics: dict[str, Any], meta: Meta | None) -> list[list[str]]:
    """What identifies detector, data and machine, by name."""
    environment = (metrics.get('detector') or {}).get('environment') or {}
    known = {
        'fakeimg': metrics.get('fakeimg') or (meta.fakeimg if meta else None),
        'checkpoint': metrics.get('step'),
        'data': metrics.get('data_path'),
        'data digest': metrics.get('data_digest'),
        'content digest': metrics.get('content_digest'),
        'trained on, digest': meta.data_digest if meta else None,
        'git commit': environment.get('git_commit'),
        'platform': environment.get('platform'),
    }
    return [[name, str(value)] for name, value in known.items() if value not in (None, '')]


def _identity(metrics: dict[str, Any], meta: Meta | None) -> list[str]:
    """One line that identifies detector and data."""
    if meta is None:
        return []
    return [f'fakeimg {meta.fakeimg}, checkpoint {metrics.get("step")}, data {str(metrics.get("data_digest"))[:12]}.']

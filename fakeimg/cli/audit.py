"""Looks for what ruins results before anyone trains: python -m fakeimg.audit DIR

Copies across splits, wrong labels, header facts that give the class away, splits that look different, broken files.
DIR is a prepared set, a folder, an archive or a table. Exit code 1 when a line is crossed.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
from absl import flags

from fakeimg.auditing import checks, finding, measure, report
from fakeimg.cli import verb
from fakeimg.data import datasets, labels, layouts
from fakeimg.errors import UserError
from fakeimg.runtime import pool

_OUT = flags.DEFINE_string('out', None, 'Folder for audit.json and audit.html; default audits/NAME.')
_ALLOW = flags.DEFINE_multi_string('allow', [], 'A finding, by its name, that shall not change the exit code.')
_LABEL = flags.DEFINE_multi_string('label', [], 'real=NAME or fake=NAME: a folder name or label to know; repeatable.')
_WORKERS = flags.DEFINE_integer('workers', 0, 'Processes; 0: one a core.')


def main(argv: Sequence[str]) -> int:
    if len(argv) != 2:
        raise UserError('say what to audit, and nothing else: python -m fakeimg.audit DIR.')
    verb.require(_WORKERS.value >= 0, 'workers', _WORKERS.value, '0 (one a core) or more')
    name = layouts.set_name(argv[1])
    out = pathlib.Path(_OUT.value or f'audits/{name}').expanduser()
    path = pathlib.Path(argv[1]).expanduser().resolve()
    if path == out.resolve() or path in out.resolve().parents:
        raise UserError(f'--out {out} lies inside the data; choose a folder elsewhere.')
    data = datasets.open_path(argv[1], class_names=labels.class_names(_LABEL.value))
    verb.say(f'layout: {data.layout}, {sum(map(len, data.splits.values())):,} pictures, digest {data.digest[:12]}')
    for note in data.notes:
        verb.say(f'!! {note}.')
    parts = list(data.splits.values())
    audited = finding.Audited(
        measured=measure.measure(
            {split: source.files for split, source in data.splits.items()}, _WORKERS.value or pool.default_workers()
        ),
        labels=np.concatenate([source.labels for source in parts]),
        sources=[source_name for source in parts for source_name in source.sources],
        groups=[group for source in parts for group in source.groups],
        is_prepared=data.is_prepared,
    )
    findings = []
    for found in checks.run_checks(audited):
        report.print_finding(found, _ALLOW.value)
        findings.append(found)
    if unknown := set(_ALLOW.value) - {found.name for found in findings}:
        verb.say(f'!! --allow {min(unknown)!r} is the name of no finding.')
    try:
        out.mkdir(parents=True, exist_ok=True)
        report.write_json(out / 'audit.json', audited, data, findings, _ALLOW.value)
        report.write_page(out / 'audit.html', f'Audit of {name}', audited, data, findings, _ALLOW.value)
    except OSError as error:
        raise UserError(f'{out} cannot be written to ({error.strerror}); choose another --out.') from None
    result = report.verdict(findings, _ALLOW.value)
    verb.say(f'{result.upper() if result == "fail" else result}: {out / "audit.html"}')
    return int(result == 'fail')


if __name__ == '__main__':
    verb.run_verb(main)

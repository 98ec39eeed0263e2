"""The audit as a whole: a data set in; findings, a verdict and a page out."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from fakeimg.auditing import checks, report
from fakeimg.auditing.finding import Audited, Finding
from fakeimg.auditing.measure import measure
from fakeimg.console import SILENT, Console
from fakeimg.data.datasets import DataSet
from fakeimg.errors import UserError


@dataclasses.dataclass(frozen=True)
class Audit:
    """What was found in a data set.

    Attributes:
        data: the set.
        audited: facts of every image.
        findings: of all checks, in their order.
        allowed: names of findings that do not count in the verdict.
    """

    data: DataSet
    audited: Audited
    findings: list[Finding]
    allowed: Sequence[str]

    @property
    def verdict(self) -> str:
        """fail, warn or ok."""
        return report.verdict(self.findings, self.allowed)

    def write(self, folder: pathlib.Path, title: str) -> pathlib.Path:
        """Writes `audit.json` and `audit.html`, and returns the page. Raises UserError when that cannot be done."""
        page = folder / 'audit.html'
        try:
            folder.mkdir(parents=True, exist_ok=True)
            report.write_json(folder / 'audit.json', self.audited, self.data, self.findings, self.allowed)
            report.write_page(page, title, self.audited, self.data, self.findings, self.allowed)
        except OSError as error:
            raise UserError(f'{folder} cannot be written to ({error.strerror}); choose another folder.') from None
        return page


def audit(data: DataSet, *, allowed: Sequence[str] = (), workers: int = 1, console: Console = SILENT) -> Audit:
    """Measures every image of a data set, and checks what was measured.

    Args:
        data: the set.
        allowed: names of findings that shall not count in the verdict.
        workers: processes; 0 measures in this one.
        console: is told the findings as they are made.
    """
    audited = measure_data(data, workers, console)
    findings = []
    for finding in checks.run_checks(audited):
        report.print_finding(finding, allowed, console)
        findings.append(finding)
    if unknown := set(allowed) - {finding.name for finding in findings}:
        console.warn(f'{min(unknown)!r}, which was to be allowed, is the name of no finding')
    return Audit(data, audited, findings, allowed)


def measure_data(data: DataSet, workers: int = 1, console: Console = SILENT) -> Audited:
    """Measures every image of a data set; the arguments are those of `audit`."""
    parts = list(data.splits.values())
    return Audited(
        measured=measure({split: source.files for split, source in data.splits.items()}, workers, console),
        labels=np.concatenate([source.labels for source in parts]),
        generators=[name for source in parts for name in source.generators],
        groups=[group for source in parts for group in source.groups],
        is_prepared=data.is_prepared,
    )

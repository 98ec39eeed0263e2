"""The audit as a whole: a data set in; findings, a verdict and a page out."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from fakeimg.auditing import checks, report
from fakeimg.auditing.finding import Command, Evidence, Finding
from fakeimg.auditing.measure import measure_splits
from fakeimg.console import SILENT, Console
from fakeimg.data.datasets import DataSet
from fakeimg.errors import UserError


@dataclasses.dataclass(frozen=True)
class Audit:
    """The findings on a data set.

    Attributes:
        data: the set.
        evidence: what the checks saw.
        findings: of all checks, in their order.
        allowed: names of findings that do not count in the verdict.
    """

    data: DataSet
    evidence: Evidence
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
            report.write_json(folder / 'audit.json', self.evidence, self.data, self.findings, self.allowed)
            report.write_page(page, title, self.evidence, self.data, self.findings, self.allowed)
        except OSError as error:
            raise UserError(f'{folder} cannot be written to ({error.strerror}); choose another folder.') from None
        return page


def audit(
    data: DataSet,
    *,
    allowed: Sequence[str] = (),
    workers: int = 1,
    console: Console = SILENT,
    spell: Callable[[Command], str] = str,
) -> Audit:
    """Measures every image of a data set, and runs all checks.

    Args:
        data: the set.
        allowed: names of findings that do not count in the verdict.
        workers: processes; 0 measures in this one.
        console: shows the findings, one by one.
        spell: writes a command as the user types it.
    """
    evidence = measure_data(data, workers, console)
    findings = []
    for finding in checks.run_checks(evidence):
        finding = dataclasses.replace(finding, typed=[spell(command) for command in finding.commands])
        report.print_finding(finding, allowed, console)
        findings.append(finding)
    if unknown := set(allowed) - {finding.name for finding in findings}:
        console.warn(f'{min(unknown)!r}, which was to be allowed, is the name of no finding')
    return Audit(data, evidence, findings, allowed)


def measure_data(data: DataSet, workers: int = 1, console: Console = SILENT) -> Evidence:
    """Measures every image of a data set; the arguments are those of `audit`."""
    splits = data.splits.values()
    return Evidence(
        images=measure_splits({name: split.files for name, split in data.splits.items()}, workers, console),
        labels=np.concatenate([split.labels for split in splits]),
        generators=[name for split in splits for name in split.generators],
        groups=[group for split in splits for group in split.groups],
        is_prepared=data.is_prepared,
        left_out=data.left_out,
        made=data.made,
    )

"""Trains the candidates of a recipe's `get_search()` in separate run folders and ranks them by validation alone.

A search is a sequence of stages, a stage a list of candidates, a candidate the fields it changes. Every stage starts
from the best candidate of the stages before it. The folder of the search holds one run folder per candidate, each
with its `candidate.json`, and the table: `search.csv` and `search.html`.
"""

import dataclasses
import gc
import json
import pathlib
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

from fakeimg import config as config_lib
from fakeimg import files, initial
from fakeimg.checkpoint import BEST_BY, Checkpoints
from fakeimg.config import Config
from fakeimg.console import SILENT, Console, format_seconds
from fakeimg.errors import TrainingDiverged, UserError
from fakeimg.evaluation import metrics as metrics_lib
from fakeimg.fields import changed_fields, to_plain
from fakeimg.models import create_model, init_variables
from fakeimg.runtime import parallel
from fakeimg.searching import report
from fakeimg.searching.report import Row
from fakeimg.training import loop
from fakeimg.training.program import build

Fields = dict[str, Any]  # {'model.layers': 2}, dotted
SHOWN = 5  # rows of the table after each candidate; all of them at the end
LONGER = 2  # times a candidate's budget for the winner, as cifake.py's 6 epochs are to cifake_search.py's 3


@dataclasses.dataclass(frozen=True)
class Result:
    """How a call to `search` ended.

    Attributes:
        rows: the candidates that are done, best first.
        total: candidates of the whole search.
        interrupted_by: the signal that ended it, or None.
        split: on which to evaluate the winner: test where the data has one.
    """

    rows: list[Row]
    total: int
    interrupted_by: signal.Signals | None
    split: str


def search(
    config: Config,
    stages: Sequence[Sequence[Fields]],
    workdir: pathlib.Path,
    console: Console = SILENT,
    next_commands: Callable[[Row, str], Sequence[str]] = lambda *_: (),
) -> Result:
    """Trains every candidate that is not done yet, until the last or until SIGTERM or Ctrl-C asks to stop.

    Images of the validation split alone decide. A candidate that diverges has a row that says so.

    Args:
        config: what all candidates share.
        stages: lists of candidates, each the fields that it changes.
        workdir: gets a run folder for each candidate, and the table.
        console: gets warnings and progress.
        next_commands: of the best candidate and the split to evaluate it on, what to type next; for the page.

    Raises:
        UserError: fields or values that cannot work (before anything is trained), data without a validation split,
            or a stage of which every candidate diverged.
    """
    check_stages(config, stages)
    program = build(with_fields(config, stages[0][0]))
    if 'validation' not in program.splits:
        raise UserError(
            'a search chooses by validation, and the data has no such split; set config.data.validation_split, to '
            'a part of train for example.'
        )
    data = program.data
    shown, digest = report.Shown.of(data.splits['validation']), data.digest
    split = 'test' if 'test' in data.splits else 'validation'
    del program, data  # they may hold memory for images
    titles = report.titles(field for stage in stages for fields in stage for field in fields)
    total, number = sum(map(len, stages)), 0
    rows: dict[str, Row] = {}
    best: Fields = {}
    received = None
    for stage_number, stage in enumerate(stages, start=1):
        for changes in stage:
            number += 1
            fields = {**best, **changes}
            name = candidate_name(fields, titles)
            changed = initial.complete(with_fields(config, fields))
            candidate = _Candidate(name, stage_number, fields, changed, workdir / name, digest)
            row = candidate.read()
            if row is not None:
                console.say(f'candidate {number} of {total}: {name}, done before')
                rows[name] = row
                continue
            eta = _eta(rows.values(), total - number + 1)
            console.say(f'\ncandidate {number} of {total}: {name}{f", ETA of the search {eta}" if eta else ""}')
            row, received = candidate.train(console)
            if row is not None:
                rows[name] = row
                _write(workdir, rows, total, dataclasses.replace(shown, commands=next_commands(first(rows), split)))
                if number < total:
                    console.say(report.text(ranked(rows.values()), SHOWN))
            if received is not None:
                return Result(ranked(rows.values()), total, received, '')
        best_row = first(rows)
        if best_row.metrics is None:
            raise UserError(
                f'every candidate so far diverged ({len(rows)} of {total} tried, see {workdir / "search.csv"}); lower '
                'config.optimizer.base_learning_rate, or set config.precision=float32, in another folder.'
            )
        best = best_row.fields
    _write(workdir, rows, total, dataclasses.replace(shown, commands=next_commands(first(rows), split)))
    console.say(report.text(ranked(rows.values())))
    return Result(ranked(rows.values()), total, None, split)


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A run folder, and its `candidate.json`, which lasts from one command to the next."""

    name: str
    stage: int
    fields: Fields
    config: Config
    workdir: pathlib.Path
    data_digest: str

    def read(self) -> Row | None:
        """The row, if this candidate is done on these images."""
        saved = self._saved()
        if saved.get('data_digest') != self.data_digest or saved['status'] not in ('finished', 'diverged'):
            return None
        return None if changed_fields(config_lib.from_plain(saved['config']), self.config) else self._row(saved)

    def train(self, console: Console) -> tuple[Row | None, signal.Signals | None]:
        """Trains to the end, from the last checkpoint on; no row if a signal came before that."""
        # Unknown once a process died in the middle: it could not write how long it had trained.
        before = self._saved().get('seconds', 0.0)
        self._save({'status': 'training', 'seconds': None})
        start = time.monotonic()
        received, metrics, reason = None, None, ''
        try:
            result = loop.train(self.config, self.workdir, console)
            received = result.received
            status = 'finished' if result.is_finished else 'stopped'
            if result.is_finished:
                metrics = _validation_metrics(self.workdir)
        except TrainingDiverged as error:
            status, reason = 'diverged', str(error)
            console.warn(reason.rstrip('.'))
        except UserError as error:
            raise UserError(f'candidate {self.name}: {error}') from error
        finally:
            # Compiled steps keep their executables alive, of which a search has hundreds.
            jax.clear_caches()
            gc.collect()
        seconds = None if before is None else before + time.monotonic() - start
        saved = {'status': status, 'seconds': seconds, 'metrics': metrics, 'reason': reason}
        self._save(saved)
        if parallel.any_process(received is not None):  # all processes stop if a signal reached one
            received = received or signal.SIGTERM
        return None if status == 'stopped' else self._row(saved), received

    def _key(self) -> dict[str, Any]:
        return {'config': to_plain(self.config), 'data_digest': self.data_digest}

    def _row(self, saved: dict[str, Any]) -> Row:
        parameters = num_parameters(self.config)
        return Row(self.name, self.stage, self.fields, parameters, saved['seconds'], saved['metrics'], saved['reason'])

    def _saved(self) -> dict[str, Any]:
        try:
            return json.loads((self.workdir / 'candidate.json').read_text())
        except FileNotFoundError:
            return {}

    def _save(self, values: dict[str, Any]) -> None:
        if not parallel.is_first_process():
            return
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
            files.write_json(self.workdir / 'candidate.json', {**values, **self._key()})
        except OSError as error:
            raise UserError(
                f'{self.workdir} cannot be a run folder ({error.strerror}); choose another folder.'
            ) from error


def check_stages(config: Config, stages: Sequence[Sequence[Fields]]) -> None:
    """Raises UserError at the first candidate that cannot work, whatever the outcome of the stages before."""
    well_formed = all(stage and all(isinstance(fields, dict) for fields in stage) for stage in stages)
    if not (stages and well_formed):
        raise UserError(
            'get_search() must yield one list a stage, each of {field: value} as in configs/cifake_search.py.'
        )
    titles = report.titles(field for stage in stages for fields in stage for field in fields)
    base: Fields = {}
    for stage in stages:
        names = [candidate_name({**base, **fields}, titles) for fields in stage]
        for name, fields in zip(names, stage, strict=True):
            if names.count(name) > 1:
                raise UserError(f'get_search() has the candidate {name} twice in one stage; leave one out.')
            with_fields(config, {**base, **fields}).check()
        base |= stage[0]


def with_fields(config: Config, fields: Fields) -> Config:
    """A copy of `config` with some fields changed. Raises UserError naming a field that cannot be."""
    try:
        return config_lib.override(config, fields)
    except UserError as error:
        raise UserError(f'get_search(): {error}') from error


def candidate_name(fields: Fields, titles: dict[str, str]) -> str:
    """The folder of a candidate: `layers=2,filters=32`."""
    named = (f'{titles[field]}={re.sub(r"[^A-Za-z0-9_.+-]+", "_", str(value))}' for field, value in fields.items())
    return ','.join(named) or 'unchanged'


def num_parameters(config: Config) -> int:
    """Parameters of the network that `config` describes, without computing any."""
    model = create_model(config)
    shapes = jax.eval_shape(lambda: init_variables(model, config.data.image_size, 0))['params']
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def ranked(rows: Iterable[Row]) -> list[Row]:
    """Best first by the validation AUC of their best checkpoints; those that diverged come last."""

    def key(row: Row) -> tuple[bool, float]:
        value = None if row.metrics is None else row.metrics[BEST_BY]
        return row.metrics is not None, -1.0 if value is None else value

    return sorted(rows, key=key, reverse=True)


def first(rows: Mapping[str, Row]) -> Row:
    """The best of some rows."""
    return ranked(rows.values())[0]


def longer(config: Config) -> Fields:
    """The field that gives the winner a full training after a candidate's short one."""
    return {'steps': config.steps * LONGER} if config.steps else {'epochs': config.epochs * LONGER}


def _write(workdir: pathlib.Path, rows: dict[str, Row], total: int, shown: report.Shown) -> None:
    if parallel.is_first_process():
        report.write(workdir, ranked(rows.values()), total, shown)


def _eta(rows: Iterable[Row], left: int) -> str | None:
    seconds = [row.seconds for row in rows if row.seconds is not None]
    return format_seconds(left * sum(seconds) / len(seconds)) if seconds else None


def _validation_metrics(workdir: pathlib.Path) -> dict[str, float | None]:
    """The metrics that the checkpoint with the best of them was saved with, the one that evaluation takes."""
    checkpoints = Checkpoints(workdir / 'checkpoints', read_only=True)
    try:
        best = checkpoints.best_step()
    finally:
        checkpoints.close()
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    row = next(row for row in reversed(rows) if row['step'] == best and 'validation/loss' in row)
    return {name: row.get(f'validation/{name}') for name in metrics_lib.SCALARS}

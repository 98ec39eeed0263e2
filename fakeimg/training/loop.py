"""The training loop: validate, save, next batch, step, log. It continues by itself where a run folder left off."""

import dataclasses
import pathlib
import signal
import time
from typing import Any

import grain
import jax

from fakeimg import files, initial, run, scoring
from fakeimg.checkpoint import BEST_BY, RANKED_BY, Checkpoints
from fakeimg.config import Config
from fakeimg.console import SILENT, Console
from fakeimg.data.seen import SeenImages
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.errors import TrainingDiverged, UserError, system_error
from fakeimg.evaluation import metrics as metrics_lib
from fakeimg.fields import to_plain
from fakeimg.runtime import parallel
from fakeimg.training import early_stopping, progress, resume
from fakeimg.training.interrupts import Interrupts
from fakeimg.training.log import StepLog
from fakeimg.training.program import Program, build
from fakeimg.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Result:
    """How a call to `train` ended.

    Attributes:
        step: steps taken in all.
        total_steps: steps of the whole run.
        is_finished: whether nothing is left to do.
        received: the signal that came, if only after the last step, or None.
        splits: names of the data's splits.
    """

    step: int
    total_steps: int
    is_finished: bool
    received: signal.Signals | None
    splits: list[str]

    @property
    def interrupted_by(self) -> signal.Signals | None:
        """The signal that ended it early, or None."""
        return None if self.is_finished else self.received


def train(config: Config, workdir: pathlib.Path, console: Console = SILENT, *, with_changes: bool = False) -> Result:
    """Trains until the configured number of steps, until validation stops improving where `config.early_stopping` asks
    for that, or until SIGTERM, Ctrl-C or the like asks to stop.

    Where `workdir` holds a checkpoint, the run continues from it, bit for bit on a CPU.

    Args:
        config: of the run.
        workdir: the run folder.
        console: for what the run says.
        with_changes: continue also what another recipe, other images or another seed began, see `identity`.

    Raises:
        UserError: configuration, data, run folder or weights cannot work, or it belongs to another run; nothing has
            been written then.
        TrainingDiverged: loss or gradients are not finite.
    """
    with run.open_workdir(workdir):  # first: another process may be training here
        folder = workdir / 'checkpoints'
        program = build(resume.continued(config, folder), continues=resume.has_checkpoints(folder))
        start = resume.starting_point(program, folder, with_changes=with_changes)
        return _train(program, workdir, start, console)


def _train(program: Program, workdir: pathlib.Path, start: resume.Start, console: Console) -> Result:
    """Opens everything that writes to the run folder, runs the loop, and closes it again."""
    config = program.config
    for line in progress.preflight(program, workdir, start):
        console.say(line)
    for note in program.data.notes + start.notes:
        console.warn(note)
    unreadable = UnreadableImages('train', program.num_train, config.data.max_bad_fraction)
    try:
        program = program.with_device_images(unreadable, console)
    finally:
        unreadable.write(run.unreadable_file(workdir))
    checkpoints = Checkpoints(workdir / 'checkpoints')
    checkpoints.ranked_since = start.ranked_since
    if start.restored:
        checkpoints.set_aside_after(start.step)
    # A run that trains nothing leaves what is written there alone.
    is_over = start.step == program.schedule.total_steps or early_stopping.is_over(config, start.validations)
    if parallel.is_first_process() and not is_over:
        files.write_json(workdir / 'config.json', to_plain(config))
        files.write_json(workdir / 'environment.json', run.environment())
    writer = run.MetricsWriter(workdir, start.step)
    images = SeenImages(workdir, jax.process_index(), initial.run_of(config.init))
    batches = iter(program.device_batches(program.train_batches(unreadable), program.schedule.call_length))
    if start.restored:
        batches.set_state(start.restored.data['iterator'])
    with Interrupts() as interrupts:
        try:
            title, total = 'compiling', program.schedule.total_steps
            with console.progress(title, total, start.step, lines=False) as bar:
                log = StepLog(program, start.step, checkpoints, console, bar, writer)
                loop = _Loop(
                    program=program,
                    workdir=workdir,
                    checkpoints=checkpoints,
                    log=log,
                    unreadable=unreadable,
                    interrupts=interrupts,
                    images=images,
                    validations=list(start.validations),
                )
                return loop.run(start.state, batches)
        finally:
            checkpoints.close()  # first of what can fail: a save may be under way
            batches.close()
            writer.close()
            unreadable.write(run.unreadable_file(workdir))


@dataclasses.dataclass
class _Loop:
    """One call to `train`: everything but the state and the batches, which change."""

    program: Program
    workdir: pathlib.Path
    checkpoints: Checkpoints
    log: StepLog
    unreadable: UnreadableImages
    interrupts: Interrupts
    images: SeenImages
    validations: list[list[Any]]
    validation_cut_short: bool = dataclasses.field(init=False, default=False)

    def run(self, state: TrainState, batches: grain.DatasetIterator) -> Result:
        """Steps until the end, early or not, or a signal, and leaves a checkpoint of the last step behind."""
        step, total = self.log.start_step, self.program.schedule.total_steps
        stop = False
        # The order matters: a checkpoint of step k holds the state and the iterator before batch k is drawn, and
        # validation sees the state that is saved.
        while step < total and not stop:
            if not self.is_done_with(step):
                self.validate_and_save(step, state, batches)
            if self.is_over() or self.validation_cut_short:  # which the run that goes on makes up for
                break
            count = self.program.schedule.call_length(step)
            with self.log.meter.waiting():
                batch = next(batches)
            self.unreadable.check()
            self.checkpoints.check()
            dispatched = time.monotonic()
            state, outputs = self.program.advance(step, state, batch)
            step += count
            self.log.add(step, count, outputs, dispatched)
            stop = self.must_stop(step)
        self.log.read()
        if not self.is_over() and not self.is_done_with(step):
            self.validate_and_save(step, state, batches, last=True)
        self.checkpoints.wait()
        if self.log.writer.failure is not None:
            raise UserError(
                f'metrics cannot be written to {self.workdir} ({system_error(self.log.writer.failure)}); step {step} '
                'is saved; make that possible, and the same command continues.'
            )
        if self.is_over() and step < total:
            why = early_stopping.reason(self.validations, self.checkpoints.best_step())
            self.log.console.say(f'stopped early, after step {step:,} of {total:,}: {why}')
        finished = (step == total or self.is_over()) and not self.validation_cut_short
        return Result(step, total, finished, self.interrupts.received, list(self.program.splits))

    def is_over(self) -> bool:
        """Whether validation has ended the run."""
        return early_stopping.is_over(self.program.config, self.validations)

    def is_done_with(self, step: int) -> bool:
        """Whether nothing is due at `step` because the run starts there, or has validated and saved it before."""
        return step == 0 or (step == self.log.start_step and self.checkpoints.is_validated(step))

    def must_stop(self, step: int) -> bool:
        """Whether a signal came, or no more can be written; several processes agree on it once an interval."""
        received = self.interrupts.received is not None or self.log.writer.failure is not None
        if jax.process_count() == 1:
            return received
        return step % self.program.config.log_every_steps == 0 and parallel.any_process(received)

    def validate_and_save(
        self, step: int, state: TrainState, batches: grain.DatasetIterator, last: bool = False
    ) -> None:
        """Does what is due after `step` steps: a validation and a checkpoint, a checkpoint, or nothing."""
        checkpoint_every, validate_every = (
            self.program.config.checkpoint_every_steps,
            self.program.schedule.validate_every,
        )
        left = self.program.schedule.total_steps - step
        # Not when the last one is about to follow anyway, nor when a signal is what ends the loop.
        due = left == 0 or (not last and step % validate_every == 0 and left >= validate_every / 2)
        validate = due and 'validation' in self.program.splits
        if not (last or validate or (checkpoint_every and step % checkpoint_every == 0)):
            return
        self.log.read()  # never save a state whose loss has not been looked at
        with self.log.meter.apart():
            try:
                metrics = self.validate(step, state) if validate else None
            except TrainingDiverged:
                raise
            except UserError:  # unreadable validation images must not cost the training since the last checkpoint
                self.save(step, state, batches, None)
                raise
            self.save(step, state, batches, metrics)

    def save(
        self, step: int, state: TrainState, batches: grain.DatasetIterator, metrics: dict[str, Any] | None
    ) -> None:
        """Starts saving state and iterator."""
        iterator = {'iterator': batches.get_state()}
        state = self.program.devices.to_global(state)
        # A copy: it is written beside the loop.
        meta = dataclasses.replace(
            self.program.meta(), ranked_since=self.checkpoints.ranked_since, validations=list(self.validations)
        )
        # Behind the state: a disk that has no room for the images' digests may have had it for that.
        self.checkpoints.save(step, state, iterator, meta, metrics, lambda: self.images.write(self.program.splits))
        for note in self.checkpoints.saving.new_notes():
            self.log.console.warn(note)
        self.unreadable.write(run.unreadable_file(self.workdir))

    def validate(self, step: int, state: TrainState) -> dict[str, Any] | None:
        """Scores the validation split; None if a signal cut it short."""
        program = self.program
        try:
            predictions, unreadable = program.scorer.score(
                state.variables, program.splits['validation'], 'validation',
                console=self.log.console, stop=self.must_stop_validating,
            )  # fmt: skip
        except scoring.Stopped:
            self.validation_cut_short = True
            return None
        unreadable.write(run.unreadable_file(self.workdir))
        for note in self.images.new_notes(program.splits['validation']):
            self.log.console.warn(note)
        metrics = metrics_lib.compute_metrics(predictions)
        self.log.write_validation(step, metrics)
        self.validations.append([step, metrics[BEST_BY]])
        return {**metrics, RANKED_BY: early_stopping.smoothed(self.validations)[-1]}

    def must_stop_validating(self) -> bool:
        """Whether a signal came; several processes score the whole split all the same, for the collectives."""
        return self.interrupts.received is not None and jax.process_count() == 1

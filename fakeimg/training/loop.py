"""The training loop: validate, save, next batch, step, log. It continues by itself where a run folder left off."""

import dataclasses
import pathlib
import signal
import time
from typing import Any

import grain
import jax
import numpy as np

from fakeimg import config as config_lib
from fakeimg import files, run, scoring
from fakeimg.checkpoint import BEST_BY, Checkpoints, Restored
from fakeimg.config import Config
from fakeimg.console import SILENT, Console, Progress, format_seconds
from fakeimg.data import pipeline
from fakeimg.errors import TrainingDiverged, UserError
from fakeimg.evaluation import metrics as metrics_lib
from fakeimg.runtime import parallel
from fakeimg.training import progress, resume
from fakeimg.training.interrupts import Interrupts
from fakeimg.training.program import Setup, build
from fakeimg.training.state import TrainState

MAX_SKIPPED_IN_A_ROW = 50  # a float16 loss scale that was halved so often is below 1e-10 and will not recover


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


def train(config: Config, workdir: pathlib.Path, console: Console = SILENT) -> Result:
    """Trains until the configured number of steps, or until SIGTERM or Ctrl-C asks to stop.

    Where `workdir` holds a checkpoint, the run continues from it, bit for bit on a CPU.

    Raises:
        UserError: configuration, data, run folder or weights cannot work; nothing has been written then.
        TrainingDiverged: loss or gradients are not finite.
    """
    setup = build(config)
    state, restored, origin = resume.starting_point(setup, workdir / 'checkpoints')
    with run.open_workdir(workdir):
        return _train(setup, workdir, state, restored, origin, console)


def _train(
    setup: Setup,
    workdir: pathlib.Path,
    state: TrainState,
    restored: Restored | None,
    origin: str,
    console: Console,
) -> Result:
    """Opens everything that writes to the run folder, runs the loop, and closes it again."""
    config, start_step = setup.config, restored.step if restored else 0
    checkpoints = Checkpoints(workdir / 'checkpoints')
    if restored:
        checkpoints.set_aside_after(restored.step)
    if parallel.is_first_process():
        files.write_json(workdir / 'config.json', config_lib.to_plain(config))
        files.write_json(workdir / 'environment.json', run.environment())
    for line in progress.preflight(setup, workdir, state, origin, start_step):
        console.say(line)
    for note in setup.notes + resume.changes(setup, restored):
        console.warn(note)
    writer = run.MetricsWriter(workdir, start_step)
    bad = pipeline.UnreadableImages('train', setup.num_train, config.data.max_bad_fraction)
    batches = iter(setup.device_batches(setup.train_batches(bad)))
    if restored:
        batches.set_state(restored.data['iterator'])
    try:
        with (
            Interrupts() as interrupts,
            console.progress('compiling', setup.schedule.total_steps, start_step, lines=False) as bar,
        ):
            loop = _Loop(setup, workdir, checkpoints, console, bar, writer, bad, interrupts, start_step)
            return loop.run(state, batches)
    finally:
        checkpoints.close()  # first of what can fail: a save may be under way
        batches.close()
        writer.close()
        bad.write(run.unreadable_file(workdir))


@dataclasses.dataclass
class _Loop:
    """One call to `train`: what it writes to, and what it remembers between steps."""

    setup: Setup
    workdir: pathlib.Path
    checkpoints: Checkpoints
    console: Console
    bar: Progress
    writer: run.MetricsWriter
    bad: pipeline.UnreadableImages
    interrupts: Interrupts
    start_step: int

    def __post_init__(self):
        self.meter = self.new_meter()
        self.meta = self.setup.meta()
        self.pending: tuple[int, dict[str, Any]] | None = None  # outputs of the step before, still on the devices
        self.interval: list[dict[str, Any]] = []
        self.skipped_in_a_row = 0
        self.validation_cut_short = False

    def run(self, state: TrainState, batches: grain.DatasetIterator) -> Result:
        """Steps until the end or a signal, and leaves a checkpoint of the last step behind."""
        step, total = self.start_step, self.setup.schedule.total_steps
        stop = False
        # The order matters: a checkpoint of step k holds the state and the iterator before batch k is drawn, and
        # validation sees the state that is saved.
        while step < total and not stop:
            if not self.is_done_with(step):
                self.validate_and_save(step, state, batches)
            with self.meter.waiting():
                batch = next(batches)
            self.bad.check()
            before = time.monotonic()
            state, outputs = self.setup.advance(step, state, batch)
            step += 1
            if self.compiles(step):
                self.read_pending()
                jax.block_until_ready(outputs)
                first = (
                    'first step' if step == self.start_step + 1 else f'step {step:,}, the first of more than the head,'
                )
                self.console.say(f'  {first} {time.monotonic() - before:.1f} s, compilation included')
                self.bar.update(step, 'training')
                self.meter = self.new_meter()  # rates and ETA leave compilation, and so this step, out
            self.read_pending()  # of the step before: the devices are busy with this one meanwhile
            self.pending = (step, outputs)
            stop = self.must_stop(step)
        self.read_pending()
        if not self.is_done_with(step):
            self.validate_and_save(step, state, batches, last=True)
        self.checkpoints.wait()
        finished = step == total and not self.validation_cut_short
        return Result(step, total, finished, self.interrupts.received, list(self.setup.splits))

    def new_meter(self) -> progress.Meter:
        return progress.Meter(self.setup.config.batch_size / self.setup.devices.count)

    def compiles(self, step: int) -> bool:
        """Whether the step that led to `step` was the first of its kind in this process."""
        return step == self.start_step + 1 or step == self.setup.schedule.head_steps + 1

    def is_done_with(self, step: int) -> bool:
        """Whether nothing is due at `step` because the run starts there, or has validated and saved it before."""
        return step == 0 or (step == self.start_step and self.checkpoints.is_validated(step))

    def must_stop(self, step: int) -> bool:
        """Whether a signal came; several processes agree on it once an interval."""
        if jax.process_count() == 1:
            return self.interrupts.received is not None
        return step % self.setup.config.log_every_steps == 0 and parallel.any_process(
            self.interrupts.received is not None
        )

    def validate_and_save(
        self, step: int, state: TrainState, batches: grain.DatasetIterator, last: bool = False
    ) -> None:
        """Does what is due after `step` steps: a validation and a checkpoint, a checkpoint, or nothing."""
        config, every = self.setup.config, self.setup.schedule.validate_every
        left = self.setup.schedule.total_steps - step
        # Not when the last one is about to follow anyway, nor when a signal is what ends the loop.
        due = left == 0 or (not last and step % every == 0 and left >= every / 2)
        validate = due and 'validation' in self.setup.splits
        save = last or validate or (config.checkpoint_every_steps and step % config.checkpoint_every_steps == 0)
        if not save:
            return
        self.read_pending()  # never save a state whose loss has not been looked at
        with self.meter.apart():
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
        self.checkpoints.save(step, self.setup.devices.to_global(state), iterator, self.meta, metrics)
        self.bad.write(run.unreadable_file(self.workdir))

    def validate(self, step: int, state: TrainState) -> dict[str, Any] | None:
        """Scores the validation split; None if a signal cut it short."""
        try:
            predictions, bad = self.setup.scorer.score(
                state.variables, self.setup.splits['validation'], 'validation',
                console=self.console, stop=self.must_stop_validating,
            )  # fmt: skip
        except scoring.Stopped:
            self.validation_cut_short = True
            return None
        bad.write(run.unreadable_file(self.workdir))
        metrics = metrics_lib.compute_metrics(predictions)
        self.writer.write(step, {f'validation/{name}': metrics[name] for name in metrics_lib.SCALARS})
        epoch = step * self.setup.config.batch_size / self.setup.num_train
        self.console.say(f'validation at step {step:,} (epoch {epoch:.1f}): {metrics_lib.one_line(metrics)}')
        return metrics

    def must_stop_validating(self) -> bool:
        """Whether a signal came; several processes score the whole split all the same, for the collectives."""
        return self.interrupts.received is not None and jax.process_count() == 1

    def read_pending(self) -> None:
        """Fetches the outputs of the step before, checks them, and logs when an interval is full."""
        if self.pending is None:
            return
        (step, outputs), self.pending = self.pending, None
        outputs = jax.device_get(outputs)
        if not self.compiles(step):
            self.meter.count_step()
        self.check_finite(step, outputs)
        self.interval.append(outputs)
        self.bar.update(step)
        if step % self.setup.config.log_every_steps == 0 or step == self.setup.schedule.total_steps:
            self.log(step)

    def check_finite(self, step: int, outputs: dict[str, Any]) -> None:
        """Raises TrainingDiverged, naming the steps since the last good one and the last checkpoint."""
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if outputs['skipped'] else 0
        # The norm of the update too: finite gradients can still ruin the weights that are saved next.
        finite = np.isfinite([outputs['grad_norm'], outputs['update_norm'], outputs['loss_sum']]).all()
        if (finite or outputs['skipped']) and self.skipped_in_a_row < MAX_SKIPPED_IN_A_ROW:
            return
        first = step - max(self.skipped_in_a_row - 1, 0)
        steps = self.checkpoints.steps()
        raise TrainingDiverged(
            f'training diverged: loss, gradients or updates are not finite in '
            f'{f"step {step}" if first == step else f"steps {first} to {step}"}; '
            + (f'the last good checkpoint is {steps[-1]}' if steps else 'there is no checkpoint yet')
            + '; lower --config.optimizer.base_learning_rate, or use --config.precision=float32, in a new --workdir.'
        )

    def log(self, step: int) -> None:
        """Writes and shows the interval's means and rates."""
        loss_sum, correct, count = (
            sum(row[name] for row in self.interval) for name in ('loss_sum', 'correct', 'count')
        )
        weights, labels, logits = (
            np.concatenate([row[name] for row in self.interval]) for name in ('weights', 'labels', 'logits')
        )
        scored = (weights > 0) & np.isfinite(logits)
        auc = metrics_lib.roc_auc(labels[scored], logits[scored])
        rates = self.meter.read()
        last = self.interval[-1]
        scalars = {
            'train/loss': float(loss_sum) / float(count),
            'train/accuracy': float(correct) / float(count),
            f'train/{BEST_BY}': auc,
            'train/grad_norm': float(last['grad_norm']),
            'train/learning_rate': float(last['learning_rate']),
            'train/images_per_second_per_device': rates['images_per_second_per_device'],
            'train/input_wait_share': rates['input_wait_share'],
        }
        if self.setup.dtype.name == 'float16':
            scalars['train/loss_scale'] = float(last['loss_scale'])
            scalars['train/skipped_steps'] = float(sum(row['skipped'] for row in self.interval))
        self.writer.write(step, scalars)
        eta = format_seconds(self.meter.eta(self.setup.schedule.total_steps - step))
        shown = [f'ETA {eta}', f'loss {scalars["train/loss"]:.4f}']
        if auc is not None:
            shown.append(f'auc {auc:.4f}')
        rate, share = rates['images_per_second_per_device'], rates['input_wait_share']
        if rate is not None and share is not None:  # not in an interval of nothing but the compiling step
            shown += [f'{rate:,.0f} images/s/device', f'input wait {share:.0%}']
        if self.console.has_bars:
            self.bar.update(step, '  '.join(shown))
        else:
            self.console.say(f'step {step:,}/{self.setup.schedule.total_steps:,}  {"  ".join(shown)}')
        self.interval = []

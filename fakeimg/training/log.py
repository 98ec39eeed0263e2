"""What the steps of a run say: read one step late, checked, averaged over an interval, written and shown."""

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from fakeimg.checkpoint import BEST_BY, Checkpoints
from fakeimg.console import Console, Progress, format_seconds
from fakeimg.errors import TrainingDiverged
from fakeimg.evaluation import metrics as metrics_lib
from fakeimg.run import MetricsWriter
from fakeimg.training.program import Program
from fakeimg.training.progress import Meter

MAX_SKIPPED_IN_A_ROW = 50  # a float16 loss scale that was halved this often is below 1e-10 and will not recover


@dataclasses.dataclass
class StepLog:
    """Reads the outputs of a call once the next one is dispatched: the host never keeps the devices waiting.

    Attributes:
        program: the run.
        start_step: where this process began.
        checkpoints: of the run, to name the last good one when training diverges.
        console: for lines.
        bar: of the whole run.
        writer: for scalars.
        meter: rates since the last compilation.
    """

    program: Program
    start_step: int
    checkpoints: Checkpoints
    console: Console
    bar: Progress
    writer: MetricsWriter
    meter: Meter = dataclasses.field(init=False)
    _pending: tuple[int, int, dict[str, Any]] | None = dataclasses.field(
        init=False, default=None
    )  # still on the devices
    _compiled: set[tuple[bool, int]] = dataclasses.field(init=False, default_factory=set)  # phases and lengths of calls
    _interval: list[dict[str, Any]] = dataclasses.field(init=False, default_factory=list)
    _skipped_in_a_row: int = dataclasses.field(init=False, default=0)

    def __post_init__(self):
        self._restart_meter()

    def _restart_meter(self) -> None:
        self.meter = Meter(self.program.config.batch_size / self.program.devices.count)

    def add(self, step: int, count: int, outputs: dict[str, Any], dispatched: float) -> None:
        """Takes the outputs of the call that led to `step`, and reads those of the one before.

        Args:
            step: steps taken so far.
            count: those of the call.
            outputs: of `Program.advance`.
            dispatched: `time.monotonic()` before the call.
        """
        self.read()
        name = self._name_if_new(step, count)
        if name is not None:
            jax.block_until_ready(outputs)
            self.console.say(f'  {name} {time.monotonic() - dispatched:.1f} s, compilation included')
            self.bar.update(step, 'training')
            self._restart_meter()  # rates and ETA leave compilation, and so this call, out
        else:
            self.meter.count_steps(count)
        self._pending = (step, count, outputs)

    def _name_if_new(self, step: int, count: int) -> str | None:
        """What to call a call that had to be compiled, for none of its length came before; None for others."""
        kind, known = (step <= self.program.schedule.head_steps, count), set(self._compiled)
        self._compiled.add(kind)
        if kind in known:
            return None
        if not known:
            return 'first step' if count == 1 else f'first {count} steps'
        is_new_phase = all(alone != kind[0] for alone, _ in known)
        named = f'step {step:,}, the first' if count == 1 else f'steps {step - count + 1:,} to {step:,}, the first'
        return f'{named} of more than the head,' if is_new_phase else f'{named} in a call of {count},'

    def read(self) -> None:
        """Fetches the last outputs, checks them, and logs when an interval is full.

        Raises:
            TrainingDiverged: loss, gradients or updates are not finite.
        """
        if self._pending is None:
            return
        (step, count, outputs), self._pending = self._pending, None
        outputs = jax.device_get(outputs)
        for number in range(count):
            self._read_step(
                step - count + number + 1,
                outputs if count == 1 else {name: rows[number] for name, rows in outputs.items()},
            )

    def _read_step(self, step: int, outputs: dict[str, Any]) -> None:
        self._check_finite(step, outputs)
        self._interval.append(outputs)
        self.bar.update(step)
        if step % self.program.config.log_every_steps == 0 or step == self.program.schedule.total_steps:
            self._log(step)

    def write_validation(self, step: int, metrics: dict[str, Any]) -> None:
        """Writes and shows the metrics of a validation."""
        self.writer.write(step, {f'validation/{name}': metrics[name] for name in metrics_lib.SCALARS})
        epoch = step / self.program.schedule.steps_per_epoch
        self.console.say(f'validation at step {step:,} (epoch {epoch:.1f}): {metrics_lib.one_line(metrics)}')

    def _check_finite(self, step: int, outputs: dict[str, Any]) -> None:
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if outputs['skipped'] else 0
        # The norm of the update too: finite gradients can still ruin the weights that are saved next.
        finite = np.isfinite([outputs['grad_norm'], outputs['update_norm'], outputs['loss_sum']]).all()
        if (finite or outputs['skipped']) and self._skipped_in_a_row < MAX_SKIPPED_IN_A_ROW:
            return
        first = step - max(self._skipped_in_a_row - 1, 0)
        steps = self.checkpoints.steps()
        raise TrainingDiverged(
            f'training diverged: loss, gradients or updates are not finite in '
            f'{f"step {step}" if first == step else f"steps {first} to {step}"}; '
            + (f'the last good checkpoint is {steps[-1]}' if steps else 'there is no checkpoint yet')
            + '; lower config.optimizer.base_learning_rate, or set config.precision=float32, in another run folder.'
        )

    def _log(self, step: int) -> None:
        """Writes and shows the interval's means and rates."""
        rows, self._interval = self._interval, []
        loss_sum, correct, count = (float(sum(row[name] for row in rows)) for name in ('loss_sum', 'correct', 'count'))
        weights, labels, logits = (
            np.concatenate([row[name] for row in rows]) for name in ('weights', 'labels', 'logits')
        )
        scored = (weights > 0) & np.isfinite(logits)
        auc = metrics_lib.roc_auc(labels[scored], logits[scored])
        rates = self.meter.read()
        scalars = {
            'train/loss': loss_sum / count,
            'train/accuracy': correct / count,
            f'train/{BEST_BY}': auc,
            'train/grad_norm': float(rows[-1]['grad_norm']),
            'train/learning_rate': float(rows[-1]['learning_rate']),
            'train/images_per_second_per_device': rates['images_per_second_per_device'],
            'train/input_wait_share': rates['input_wait_share'],
        }
        if self.program.dtype.name == 'float16':
            scalars['train/loss_scale'] = float(rows[-1]['loss_scale'])
            scalars['train/skipped_steps'] = float(sum(row['skipped'] for row in rows))
        self.writer.write(step, scalars)
        total = self.program.schedule.total_steps
        shown = [f'ETA {format_seconds(self.meter.eta(total - step))}', f'loss {scalars["train/loss"]:.4f}']
        if auc is not None:
            shown.append(f'auc {auc:.4f}')
        rate, share = rates['images_per_second_per_device'], rates['input_wait_share']
        if rate is not None and share is not None:  # not in an interval of nothing but the compiling step
            shown += [f'{rate:,.0f} images/s/device', f'input wait {share:.0%}']
        if self.console.has_bars:
            self.bar.update(step, '  '.join(shown))
        else:
            self.console.say(f'step {step:,}/{total:,}  {"  ".join(shown)}')

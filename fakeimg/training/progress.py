"""What a run says of itself before it trains, and the rates at which it then does."""

import collections
import contextlib
import pathlib
import time
from collections.abc import Iterator

import clu.parameter_overview
import flax
import jax

import fakeimg
from fakeimg import files
from fakeimg.config import DEMO
from fakeimg.data.datasets import class_counts
from fakeimg.training.program import Program
from fakeimg.training.resume import Start

ETA_CALLS = 200  # the last ones, whose rate an ETA goes by


def preflight(program: Program, workdir: pathlib.Path, start: Start) -> list[str]:
    """Describes the run in a few lines, before anything compiles."""
    config, devices = program.config, program.devices
    kinds = ', '.join(sorted({device.device_kind for device in jax.devices()}))
    splits = []
    for name, source in program.splits.items():
        real, fake = class_counts(source)
        splits.append(f'{name} {len(source):,} ({real:,} real, {fake:,} fake)')
    where = 'demo faces' if config.data.path == DEMO else files.shown(config.data.path)
    parameters = clu.parameter_overview.count_parameters(start.state.params)
    left_out = devices.count < jax.device_count()
    count = f'{devices.count} of {jax.device_count()} (which divide the batch)' if left_out else devices.count
    lines = [
        f'fakeimg {fakeimg.__version__}, run folder {workdir}',
        f'  devices    {count} x {kinds}, {jax.process_count()} process(es); '
        f'jax {jax.__version__}, flax {flax.__version__}',
        f'  batch      {config.batch_size} images, {config.batch_size // devices.count} per device, '
        f'{program.dtype.name}, {config.parallel}',
        f'  data       {where}: {"; ".join(splits)}',
        f'  model      {config.model.name}, {parameters:,} parameters, {config.data.image_size} px, {start.origin}',
        f'  schedule   {program.schedule.total_steps:,} steps, {program.schedule.steps_per_epoch:,.1f} per epoch; '
        f'{config.optimizer.name}, peak learning rate {program.schedule.peak_learning_rate:.3g}',
    ]
    if options := _options(program):
        lines.append(f'  options    {", ".join(options)}')
    if start.step:
        lines.append(f'  continues  at step {start.step:,} of {program.schedule.total_steps:,}')
    return lines


def _options(program: Program) -> list[str]:
    """What is switched on of that which most runs do without, in words."""
    config, model = program.config, program.model
    said = {
        f'the head alone for the first {program.schedule.head_steps:,} steps': program.schedule.head_steps,
        f'the first {model.frozen_stages} of {len(model.stages)} stages frozen': model.frozen_stages,
        f'layer decay {config.finetune.layer_decay:g}': config.finetune.layer_decay != 1,
        f'weights averaged with decay {config.optimizer.ema_decay:g}': config.optimizer.ema_decay,
        f'early stopping after {config.early_stopping} validations without a better AUC': config.early_stopping,
        f'{config.microbatches} microbatches': config.microbatches > 1,
        f'{config.steps_per_call} steps in one call': config.steps_per_call > 1,
        'balanced sampling': config.data.balanced_sampling,
        f'the images of train on each device, {program.device_cached_bytes / 1e9:.2g} GB': program.device_cached_bytes,
        f'decoded images stay in memory, {program.cached_bytes / 1e9:.2g} GB in the end': program.cached_bytes,
    }
    return [words for words, on in said.items() if on]


class Meter:
    """Wall time of the training loop, split into running, waiting for input, and apart (compiling, validating)."""

    def __init__(self, images_per_step: float):
        self._images_per_step = images_per_step
        self._steps = self._waited = self._apart = self._apart_before = 0.0
        self._began = self._since = time.monotonic()
        # Steps so far and seconds until then, without those apart, call by call.
        self._calls = collections.deque([(0, 0.0)], maxlen=2 * ETA_CALLS)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._apart += time.monotonic() - start

    def count_steps(self, count: int) -> None:
        self._steps += count
        seconds = time.monotonic() - self._began - self._apart_before - self._apart
        self._calls.append((self._calls[-1][0] + count, seconds))

    def restart(self) -> None:
        """Begins another interval."""
        self._apart_before += self._apart
        self._steps = self._waited = self._apart = 0.0
        self._since = time.monotonic()

    def read(self) -> dict[str, float | None]:
        """Closes an interval: images per second, share of time spent waiting; None if no step was counted."""
        seconds = max(time.monotonic() - self._since - self._apart, 1e-9)
        rate = self._steps * self._images_per_step / seconds if self._steps else None
        share = min(self._waited / seconds, 1.0) if self._steps else None
        self.restart()
        return {'images_per_second_per_device': rate, 'input_wait_share': share}

    def eta(self, steps_left: int) -> float | None:
        """Seconds of training left, without compilation and validation; None before the third call.

        At the rate of the later half of the last calls, for the first ones wait for the first images.
        """
        if len(self._calls) < 4:
            return None
        (steps, seconds), (last_steps, last_seconds) = self._calls[len(self._calls) // 2], self._calls[-1]
        return steps_left * (last_seconds - seconds) / (last_steps - steps)

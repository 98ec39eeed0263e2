"""Rates on the devices: the compiled step alone, training end to end, evaluation, and what a checkpoint costs."""

import itertools
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from fakeimg.benchmarking import timing
from fakeimg.checkpoint import Checkpoints
from fakeimg.console import SILENT
from fakeimg.data import pipeline
from fakeimg.data.datasets import Split
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.runtime import parallel
from fakeimg.training.program import Program

BUFFERS = 3  # batches in turn: one hot buffer would flatter the step


class Steps:
    """The training step of a run that is built but not started, and its current state.

    With `config.steps_per_call`, what is called a step here is a call that takes all of these.
    """

    def __init__(self, program: Program):
        self.program = program
        self.state, _ = program.initial_state()
        self.images = program.config.batch_size * program.config.steps_per_call / program.devices.count
        self.batches = random_batches(program)
        start = time.perf_counter()
        self._outputs: Any = self._step(next(self.batches))
        jax.block_until_ready(self._outputs)
        self.first_step_seconds = time.perf_counter() - start

    def _step(self, batch: Any) -> Any:
        self.state, outputs = self.program.train_step(self.state, batch)
        return outputs

    def advance(self, batches: Iterator) -> Any:
        """Takes a step and reads the outputs of the one before, as the loop does; returns this one's."""
        previous, self._outputs = self._outputs, self._step(next(batches))
        jax.device_get(previous)
        return self._outputs

    def step_rate(self, seconds: float) -> dict[str, float]:
        """The compiled step on random images that are on the devices already."""
        return timing.measure(lambda: self.advance(self.batches), self.images, seconds)

    def train_rate(self, source: Split, seconds: float) -> dict[str, float]:
        """Training end to end; `input_wait_share` is the share of time in which the loop waits for a batch.

        `source` must be the run's own train split where `config.data.cache` puts that on the devices.
        """
        config = self.program.config
        bad = UnreadableImages('train', len(source), config.data.max_bad_fraction)
        program, arguments = self.program.with_device_images(bad, SILENT), (source, config, bad, 10**9)
        if program.device_images is None:
            host = pipeline.TrainBatches(*arguments, shard=parallel.shard())
        else:
            host = pipeline.NumberedBatches(*arguments, is_readable=program.device_images.is_readable)
        batches = iter(program.device_batches(host, lambda _: config.steps_per_call))
        waited = 0.0

        def advance() -> Any:
            nonlocal waited
            start = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - start
            return self.advance(iter((batch,)))

        advance()
        start, waited = time.perf_counter(), 0.0
        rate = timing.measure(advance, self.images, seconds)
        share = waited / (time.perf_counter() - start)
        batches.close()
        bad.check()
        return {**rate, 'input_wait_share': share}

    def save_stall(self, folder: pathlib.Path, rounds: int = 3) -> dict[str, float]:
        """Time that the loop loses per asynchronous checkpoint: how much longer steps take until the save is done.

        Returns:
            `call_ms`, of the call that copies the state; `stall_ms`, with what the steps during the writing lose;
            `stall_steps`, the latter in steps; medians.
        """
        checkpoints = Checkpoints(folder)
        calls, stalls, plain = [], [], []
        try:
            for number in range(rounds):
                plain.append(self._seconds_per_step())
                start = time.perf_counter()
                checkpoints.save(
                    number, self.program.devices.to_global(self.state), {'iterator': {}}, self.program.meta()
                )
                calls.append(time.perf_counter() - start)
                jax.block_until_ready(self.advance(self.batches))
                stalls.append(time.perf_counter() - start - plain[-1])
                checkpoints.wait()
        finally:
            checkpoints.close()
        stall, step = statistics.median(stalls), statistics.median(plain)
        return {'call_ms': 1000 * statistics.median(calls), 'stall_ms': 1000 * stall, 'stall_steps': stall / step}

    def _seconds_per_step(self, steps: int = 5) -> float:
        durations = []
        for _ in range(steps):
            start = time.perf_counter()
            jax.block_until_ready(self.advance(self.batches))
            durations.append(time.perf_counter() - start)
        return statistics.median(durations)


def eval_rate(program: Program, source: Split, state: Any, seconds: float) -> dict[str, float]:
    """Evaluation end to end, as `scoring.Scorer.score` does it: read, decode, score, bring back."""
    config = program.scorer.config
    bad = UnreadableImages('train', len(source), config.data.max_bad_fraction)
    host = pipeline.EvalBatches(source, config, bad, shard=parallel.shard())
    batches = itertools.chain.from_iterable(pipeline.read_batches(host, config.data.threads) for _ in itertools.count())
    pending: Any = None

    def advance() -> Any:
        nonlocal pending
        logits, _, weights = program.scorer.predict(state.variables, program.devices.split(next(batches)))
        previous, pending = pending, (logits, weights)
        jax.device_get(previous)
        return pending

    advance()
    return timing.measure(advance, config.batch_size / program.devices.count, seconds)


def random_batches(program: Program) -> Iterator[Any]:
    """Endless batches of random images on the devices, BUFFERS of them in turn; zeros would flatter the step.

    Each has the images of `config.steps_per_call` steps.
    """
    random = np.random.default_rng(0)
    config, data = program.config, program.config.data
    rows: tuple[int, ...] = (config.batch_size // jax.process_count(),)
    if config.steps_per_call > 1:
        rows += (config.steps_per_call,)
    side, left = data.resize_size, data.resize_size - data.image_size

    def batch() -> pipeline.Batch:
        return {
            'image': random.integers(0, 256, (*rows, side, side, 3), np.uint8),
            'label': random.integers(0, 2, rows, np.int32),
            'weight': np.ones(rows, np.float32),
            **({'offset': random.integers(0, left + 1, (*rows, 2), np.int32)} if left else {}),
            **({'flip': random.random(rows) < 0.5} if config.augment.alternating_flip else {}),
        }

    return itertools.cycle([program.devices.split(batch()) for _ in range(BUFFERS)])


def scaling(build: Callable[[int], Program], counts: list[int], seconds: float) -> dict[str, float]:
    """The step's images/s per device on some of the devices, over that on the first count: 1 is linear.

    Args:
        build: builds the run for a number of devices, with the same number of images on each.
        counts: of devices, ascending.
    """
    rates = {count: Steps(build(count)).step_rate(seconds)['images_per_second_per_device'] for count in counts}
    return {str(count): rate / rates[counts[0]] for count, rate in rates.items()}

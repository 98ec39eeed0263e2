"""Throughput of a run that is built but not started: input alone, step alone, both together."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from fakeimg import parallel
from fakeimg.data import pipeline
from fakeimg.training.setup import Setup

WINDOWS = 5


def measure(advance: Callable[[], Any], pictures: float, seconds: float) -> dict[str, float]:
    """Calls `advance` in WINDOWS windows of equal steps and returns the rate over the windows.

    Args:
        advance: does one step of `pictures` pictures and returns what to wait for at a window's end.
        pictures: per step and device.
        seconds: for all windows together; every window has at least one step.

    Returns:
        `images_per_second_per_device` (median), and its `minimum` and `maximum` over the windows.
    """
    start = time.perf_counter()
    jax.block_until_ready(advance())
    steps = max(1, round(seconds / WINDOWS / (time.perf_counter() - start)))
    rates = []
    for _ in range(WINDOWS):
        start = time.perf_counter()
        last = None
        for _ in range(steps):
            last = advance()
        jax.block_until_ready(last)
        rates.append(steps * pictures / (time.perf_counter() - start))
    return {
        'images_per_second_per_device': statistics.median(rates),
        'minimum': min(rates),
        'maximum': max(rates),
        'steps_per_window': steps,
    }


def measure_all(setup: Setup, seconds: float) -> dict[str, Any]:
    """Measures the three stages for `seconds` each; writes nothing.

    Returns:
        `input` (batches decoded on the host), `step` (the compiled step on random batches already on the
        devices), `train` (both, and the loop's reading of each step's outputs), each as `measure` returns it;
        `first_step_seconds` (compilation included) and `train_over_step`.
    """
    config, devices = setup.config, setup.devices
    pictures = config.batch_size / devices.count
    bad = pipeline.BadPictures('train', setup.num_train, config.data.max_bad_fraction)
    batches = pipeline.TrainBatches(setup.sources['train'], config, bad, 10**9, shard=parallel.shard())
    for index in range(-(-setup.num_train // config.batch_size) if not config.data.path else 0):
        batches[index]  # demo faces are drawn once and kept; drawing them is not what is measured

    host = iter(pipeline.read_batches(batches, config.data.threads))
    next(host)
    input_rate = measure(lambda: next(host), pictures, seconds)
    host.close()

    # Random pictures, several of them in turn: zeros or one hot buffer would flatter the step.
    random = np.random.default_rng(0)
    rows = config.batch_size // jax.process_count()
    size = config.data.image_size
    buffers = itertools.cycle(
        devices.split(
            {
                'image': random.integers(0, 256, (rows, size, size, 3), np.uint8),
                'label': random.integers(0, 2, rows, np.int32),
                'weight': np.ones(rows, np.float32),
            }
        )
        for _ in range(3)
    )
    state, _ = setup.initial_state()
    start = time.perf_counter()
    state, outputs = setup.train_step(state, next(buffers))
    jax.block_until_ready(outputs)
    first_step_seconds = time.perf_counter() - start

    def step_on(source: Iterator) -> Callable[[], Any]:
        def advance() -> Any:
            nonlocal state, outputs
            previous = outputs
            state, outputs = setup.train_step(state, next(source))
            jax.device_get(previous)  # one step behind, as in the loop
            return outputs

        return advance

    step_rate = measure(step_on(buffers), pictures, seconds)
    device_batches = iter(setup.device_batches(batches))
    train_rate = measure(step_on(device_batches), pictures, seconds)
    device_batches.close()
    bad.check()
    return {
        'input': input_rate,
        'step': step_rate,
        'train': train_rate,
        'first_step_seconds': first_step_seconds,
        'train_over_step': train_rate['images_per_second_per_device'] / step_rate['images_per_second_per_device'],
    }

"""Rates of what is done over and over: medians of windows, with a spread that shows how noisy the machine is."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

WINDOWS = 5


def measure(advance: Callable[[], Any], images: float, seconds: float) -> dict[str, float]:
    """Calls `advance` in WINDOWS windows of equal steps.

    Args:
        advance: does one step of `images` images and returns what to wait for at a window's end.
        images: per step and device.
        seconds: for all windows together; every window has at least one step.

    Returns:
        `images_per_second_per_device` (median), its `minimum` and `maximum` over the windows; `steps_per_window`;
        `step_ms_p50` and `step_ms_p95`, the time between the ends of two calls, milliseconds.
    """
    start = time.perf_counter()
    jax.block_until_ready(advance())
    steps = max(1, round(seconds / WINDOWS / (time.perf_counter() - start)))
    rates, durations = [], []
    for _ in range(WINDOWS):
        start = before = time.perf_counter()
        last = None
        for step in range(steps):
            last = advance()
            if step == steps - 1:
                jax.block_until_ready(last)
            now = time.perf_counter()
            durations.append(1000 * (now - before))
            before = now
        rates.append(steps * images / (before - start))
    return {
        'images_per_second_per_device': statistics.median(rates),
        'minimum': min(rates),
        'maximum': max(rates),
        'steps_per_window': steps,
        'step_ms_p50': statistics.median(durations),
        'step_ms_p95': percentile(durations, 0.95),
    }


def in_turn(first: Callable[[], float], second: Callable[[], float], rounds: int = WINDOWS) -> dict[str, float]:
    """Measures two rates in turn, so that a machine that slows down slows both.

    Args:
        first, second: do a fixed piece of work and return its rate.
        rounds: how often.

    Returns:
        `first` and `second`, medians; `ratio`, the median of first ÷ second round by round, with its `ratio_minimum`
        and `ratio_maximum`.
    """
    pairs = [(first(), second()) for _ in range(rounds)]
    ratios = [one / other for one, other in pairs]
    return {
        'first': statistics.median(one for one, _ in pairs),
        'second': statistics.median(other for _, other in pairs),
        'ratio': statistics.median(ratios),
        'ratio_minimum': min(ratios),
        'ratio_maximum': max(ratios),
    }


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]

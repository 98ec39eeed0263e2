"""The serial roofline: what a step would take if its memory traffic and its arithmetic ran at this machine's best."""

import time
from typing import Any

import jax
import jax.numpy as jnp

COPY_BYTES = {'cpu': 1 << 28, 'gpu': 1 << 31}  # far more than any cache
MATRIX_SIDE = {'cpu': 2048, 'gpu': 8192}


def ceilings(dtype: jnp.dtype) -> dict[str, float]:
    """Measures `copy_bytes_per_second` (read and written) and `matmul_flop_per_second` in `dtype` on one device."""
    platform = jax.local_devices()[0].platform
    kind = platform if platform in COPY_BYTES else 'gpu'
    count, side = COPY_BYTES[kind] // 4, MATRIX_SIDE[kind]
    array = jax.random.normal(jax.random.key(0), (count,))
    copy = _best_seconds(jax.jit(lambda x: x + 1), array)
    matrix = jax.random.normal(jax.random.key(1), (side, side)).astype(dtype)
    product = _best_seconds(jax.jit(lambda x: x @ x), matrix)
    return {'copy_bytes_per_second': 2 * 4 * count / copy, 'matmul_flop_per_second': 2 * side**3 / product}


def _best_seconds(function: Any, argument: jax.Array, rounds: int = 10) -> float:
    jax.block_until_ready(function(argument))
    durations = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(function(argument))
        durations.append(time.perf_counter() - start)
    return min(durations)


def fraction(step: Any, arguments: tuple, images: float, rate: float, dtype: jnp.dtype) -> dict[str, float]:
    """Compares a rate with 1 / (bytes / bandwidth + FLOPs / peak) of XLA's own cost analysis.

    Args:
        step: a mapped step, see `parallel.Devices.map`.
        arguments: that it can be compiled for.
        images: per step and device.
        rate: measured, images per second and device.
        dtype: of activations.

    Returns:
        The ceilings; `flop_per_image` and `bytes_per_image` as XLA counts them after fusion; `bound` in images per
        second and device, and `fraction` = rate / bound.
    """
    costs: Any = step.lower(*arguments).compile().cost_analysis()
    costs = costs[0] if isinstance(costs, list) else costs
    flop, traffic = costs['flops'], costs['bytes accessed']
    limits = ceilings(dtype)
    seconds = traffic / limits['copy_bytes_per_second'] + flop / limits['matmul_flop_per_second']
    bound = images / seconds
    return {
        **limits,
        'flop_per_image': flop / images,
        'bytes_per_image': traffic / images,
        'bound': bound,
        'fraction': rate / bound,
    }

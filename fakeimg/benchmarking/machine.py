"""Measurements of the machine itself: memory, clocks, power; and how long a start takes."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import jax

from fakeimg.errors import UserError

STARTED = 'first step done'  # the line with which a measured start ends
_GPU_FIELDS = 'name,clocks.sm,clocks.mem,power.draw,temperature.gpu'


def peak_memory() -> dict[str, float | None]:
    """Peak bytes so far: `host` of this process, `device` of its first device (None where that is unknown)."""
    unit = 1 if sys.platform == 'darwin' else 1024
    stats = jax.local_devices()[0].memory_stats() or {}
    return {
        'host': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        'device': stats.get('peak_bytes_in_use'),
    }


def gpu_state() -> list[dict[str, str]]:
    """Clocks, power and temperature of each NVIDIA GPU at this moment; empty where there is none."""
    if shutil.which('nvidia-smi') is None:
        return []
    command = ['nvidia-smi', f'--query-gpu={_GPU_FIELDS}', '--format=csv,noheader']
    output = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    rows = [line.split(', ') for line in output.splitlines()]
    return [dict(zip(_GPU_FIELDS.split(','), row, strict=False)) for row in rows]


def start_seconds(arguments: Sequence[str]) -> dict[str, float]:
    """Seconds from the start of a process to the end of its first step, twice, from an empty compilation cache.

    Args:
        arguments: of the benchmark verb, which takes one step and prints STARTED for the stage `first`.

    Returns:
        `cold`, `warm` (which finds what cold compiled), `ratio` = warm / cold.

    Raises:
        UserError: the process failed.
    """
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            start = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, '-m', 'fakeimg.benchmark', *arguments, '--stage=first'],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, 'JAX_COMPILATION_CACHE_DIR': folder},
            )
            with process:
                assert process.stdout is not None
                if not any(line.startswith(STARTED) for line in process.stdout):
                    raise UserError('the process whose start is measured failed; its message is above.')
                seconds.append(time.perf_counter() - start)
    cold, warm = seconds
    return {'cold': cold, 'warm': warm, 'ratio': warm / cold}

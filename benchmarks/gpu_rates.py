"""ResNet50's training and evaluation step beside PyTorch's: all sides are warm, and windows are taken in turn."""

import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import gpu_table
import jax

from fakeimg.benchmarking import machine, roofline, timing
from fakeimg.benchmarking.steps import Steps
from fakeimg.config import Config
from fakeimg.training.program import build

# Of ResNet50 at 224 px: what an image needs in a training step without convolution and BatchNorm in one kernel.
REFERENCE_FLOP, REFERENCE_BYTES = 24.3e9, 344e6
KINDS, MODES = ('train', 'eval'), ('eager', 'compiled')
START_SECONDS = 10  # of the time limit, for the start of a process with a GPU


class Ours:
    """fakeimg's steps at one batch size and precision."""

    def __init__(self, config: Config):
        self._program = build(config)
        self._batch = config.batch_size
        self._stepper = Steps(self._program)
        self._pending: Any = None
        start = time.perf_counter()
        jax.block_until_ready(self._evaluate())
        self.first_seconds = {'train': self._stepper.first_step_seconds, 'eval': time.perf_counter() - start}

    def _evaluate(self) -> Any:
        variables, batch = self._stepper.state.variables, next(self._stepper.batches)
        logits, _, weights = self._program.scorer.predict(variables, batch)
        previous, self._pending = self._pending, (logits, weights)
        jax.device_get(previous)
        return self._pending

    def rate(self, kind: str, seconds: float) -> float:
        """Images/s of one window."""
        step = self._evaluate if kind == 'eval' else lambda: self._stepper.advance(self._stepper.batches)
        jax.block_until_ready(step())
        start, count, last = time.perf_counter(), 0, None
        while count == 0 or time.perf_counter() - start < seconds:
            last, count = step(), count + 1
        jax.block_until_ready(last)
        return count * self._batch / (time.perf_counter() - start)


class Theirs:
    """PyTorch's steps, in a process of its own that answers line by line."""

    def __init__(self, config: Config):
        options = {name: value for name, value in config.model.options().items() if 'batch_norm' not in name}
        task = {'model': {'name': config.model.name, **options}, 'size': config.data.image_size,
                'batch': config.batch_size, 'precision': config.precision}  # fmt: skip
        command = [sys.executable, str(pathlib.Path(__file__).with_name('gpu_torch.py')), json.dumps(task)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self) -> dict[str, Any]:
        """The next answer, {'error': ...} where there is none."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else {'error': "PyTorch's process ended; its message is in the log."}

    def ask(self, *words: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(' '.join(map(str, words)) + '\n')
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        return self.read()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def measure(
    recipe: Callable[..., Config],
    seconds: float,
    limit: float,
    record: Callable[[dict[str, Any]], None],
    dry: bool,
) -> None:
    """Measures the rows of gpu_table.STEPS one after the other, as many as there is time for.

    Args:
        recipe: makes the configuration from its fields.
        seconds: to measure each rate for.
        limit: seconds for everything.
        record: is called with the figures so far.
        dry: one small row only.
    """
    end, plain, compiling = (
        time.monotonic() + limit - START_SECONDS,
        0.0,
        0.0,
    )  # what a row took, without and for compiled
    has_torch = importlib.util.find_spec('torch') is not None
    figures: dict[str, Any] = {'rows': [], 'left_out': [], 'ceilings': {}}
    rows = [('bfloat16', 2)] if dry else list(gpu_table.STEPS)
    for place, (precision, batch) in enumerate(rows):
        left = end - time.monotonic() - plain
        if left < 0:
            figures['left_out'] = [list(row) for row in rows[place:]]
            record(figures)
            break
        modes = MODES if dry or (batch == gpu_table.COMPILED_BATCH and left > compiling) else MODES[:1]
        config = recipe(precision=precision, batch_size=batch)
        if config.model.name == 'resnet50' and precision not in figures['ceilings']:
            figures['ceilings'][precision] = roofline.ceilings(jax.numpy.dtype(precision))
        row: dict[str, Any] = {'precision': precision, 'batch_size': batch, 'model': config.model.name}
        figures['rows'].append(row)
        start = time.monotonic()
        theirs = Theirs(config) if has_torch else None
        try:
            take_row(row, config, theirs, seconds, modes, lambda: record(figures))
        except jax.errors.JaxRuntimeError as error:  # does not fit
            row['error'] = ' '.join(str(error).split())[:300]
        finally:
            if theirs:
                theirs.close()
        if config.model.name == 'resnet50' and 'train' in row:
            row['serial_fraction'] = serial_fraction(figures['ceilings'][precision], row['train']['fakeimg'])
        extra = row.get('torch_compiled', {}).get('seconds', 0.0)
        plain, compiling = max(plain, time.monotonic() - start - extra), max(compiling, extra)
        record(figures)


def take_row(
    row: dict[str, Any],
    config: Config,
    theirs: Theirs | None,
    seconds: float,
    modes: Sequence[str],
    record: Callable[[], None],
) -> None:
    """Fills `row` in: first ours alone, then ours and PyTorch's in turn."""
    ours = Ours(config)
    row['first_seconds'] = ours.first_seconds
    sides: dict[str, Callable[[str, float], float]] = {'fakeimg': ours.rate}
    take_turns(row, sides, seconds / 2)
    row['peak_bytes'] = machine.peak_memory()['device']  # of this and earlier rows
    record()
    if theirs is None:
        return
    row['torch'] = theirs.read()
    for mode in modes:
        row[f'torch_{mode}'] = theirs.ask('warm', mode)
        if 'error' not in row[f'torch_{mode}']:
            sides[mode] = lambda kind, seconds, mode=mode: theirs.ask(kind, mode, seconds).get('rate', float('nan'))
    if len(sides) > 1:
        take_turns(row, sides, seconds)
    record()


def take_turns(row: dict[str, Any], sides: dict[str, Callable[[str, float], float]], seconds: float) -> None:
    """Rates of each kind and side, medians of windows, and ours over PyTorch's, medians of ratios."""
    for kind in KINDS:
        rates = {name: [] for name in sides}
        for _ in range(timing.WINDOWS):
            for name, rate in sides.items():
                rates[name].append(rate(kind, seconds / timing.WINDOWS))
        row[kind] = {name: statistics.median(values) for name, values in rates.items()}
        for name in sides.keys() - {'fakeimg'}:
            ratios = [one / other for one, other in zip(rates['fakeimg'], rates[name], strict=True)]
            row[kind][f'over_{name}'] = statistics.median(ratios)
            row[kind][f'over_{name}_range'] = [min(ratios), max(ratios)]


def serial_fraction(ceilings: dict[str, float], rate: float) -> float:
    """The rate over 1 / (bytes / copy bandwidth + FLOP / matrix product) with the reference count of an image."""
    seconds = REFERENCE_BYTES / ceilings['copy_bytes_per_second'] + REFERENCE_FLOP / ceilings['matmul_flop_per_second']
    return rate * seconds

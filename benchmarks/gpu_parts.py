"""The parts of gpu.py, which starts this with what to do as JSON; each writes its figures as it gets them."""

import csv
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import gpu_parity
import gpu_rates
import gpu_table
import jax.numpy as jnp
import numpy as np

from fakeimg import run
from fakeimg.benchmarking import inputs, machine, roofline, steps
from fakeimg.config import Config, default_config, override
from fakeimg.data import datasets, demo, pipeline
from fakeimg.fields import get_field
from fakeimg.preparing import build as build_lib
from fakeimg.preparing.items import Encoding, ImageItems
from fakeimg.preparing.plan import Plan
from fakeimg.runtime import pool
from fakeimg.runtime.start import start
from fakeimg.training.program import build

SAMPLED = ('utilization.gpu', 'memory.used', 'power.draw', 'clocks.sm', 'clocks.mem', 'temperature.gpu')
# Of the small CNN: batch size, steps in one call, where decoded images are; most important first.
SMALL = (
    *((128, 1, 'host'), (128, 32, 'device'), (1024, 1, 'host'), (1024, 8, 'device')),
    *((128, 8, 'host'), (128, 32, 'host'), (128, 1, 'device')),
)
SMALL_DRY = ((16, 1, 'host'), (16, 2, 'device'))
BUSY = 50  # percent of utilization: readings below it say nothing about a GPU at work


@dataclasses.dataclass(frozen=True)
class Task:
    """What gpu.py wants: a part, the folder of its figures, seconds a rate, its time limit, and whether in small."""

    part: str
    out: str
    seconds: float
    limit: float
    dry: bool

    def record(self, figures: dict[str, Any]) -> None:
        """Writes what is known so far; gpu.py replaces the error once the part has ended."""
        head = {'part': self.part, 'error': 'it was cut off before it had finished.'}
        gpu_table.write(pathlib.Path(self.out, f'{self.part}.json'), {**head, **figures})


def main() -> None:
    task = Task(**json.loads(sys.argv[1]))
    threading.Thread(target=end_with_parent, daemon=True).start()
    sample(pathlib.Path(task.out, f'{task.part}.csv'))
    start()
    PARTS[task.part](task)


def end_with_parent() -> None:
    """Kills this part and all that it started when gpu.py is gone."""
    os.read(0, 1)  # ends with that process; sys.stdin would be locked when this part exits
    os.killpg(0, signal.SIGKILL)


def sample(path: pathlib.Path) -> None:
    """Lets nvidia-smi, where there is one, write a row a second until this part ends."""
    if shutil.which('nvidia-smi'):
        command = ['nvidia-smi', f'--query-gpu={",".join(SAMPLED)}', '--format=csv,noheader,nounits', '--loop=1']
        with open(path, 'w') as file:
            subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)


def recipe(task: Task, name: str = 'resnet50', **fields: Any) -> Config:
    """ResNet50 or the small CNN from random weights; in small, a ResNet18 of width 8 at 32 px."""
    config = default_config()
    config.model.name = name
    if task.dry and name == 'resnet50':
        config.model.name, config.model.width, config.model.small_stem = 'resnet18', 8, True
    if task.dry or name == 'cnn':
        config.data.image_size = config.data.resize_size = 32
    else:
        config.data.resize_size = 256
    config.data.path, config.data.demo_examples = 'demo', 64  # opened, but never drawn
    return override(config, fields)


def measure_device(task: Task) -> None:
    """What machine this is, and what a copy and a matrix product reach on it."""
    figures: dict[str, Any] = {'environment': run.environment(), 'gpus': machine.gpu_state(), 'ceilings': {}}
    for name in ('float32',) if task.dry else ('float32', 'bfloat16', 'float16'):
        figures['ceilings'][name] = roofline.ceilings(jnp.dtype(name))
        task.record(figures)


def compare_results(task: Task) -> None:
    gpu_parity.compare({name: recipe(task, name) for name in ('cnn', 'resnet50')}, task.record, task.dry)


def measure_steps(task: Task) -> None:
    gpu_rates.measure(lambda **fields: recipe(task, **fields), task.seconds, task.limit, task.record, task.dry)


def measure_training(task: Task) -> None:
    """ResNet50 end to end: from a prepared set, from memory; then checkpoints, and two starts."""
    figures: dict[str, Any] = {}
    batch = 8 if task.dry else 256
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, 'faces')
        figures['data'] = draw_set(path, *((32, 32, 2) if task.dry else (256, 512, 32)))
        config = recipe(task, **{'batch_size': batch, 'data.path': str(path), 'data.cache': 'none'})
        program = build(config)
        stepper = steps.Steps(program)
        figures |= {'model': config.model.name, 'batch_size': batch}
        figures['first_step_seconds'] = stepper.first_step_seconds
        figures['step'] = stepper.step_rate(task.seconds)
        task.record(figures)
        train = program.splits['train']
        for name, source in (('prepared', train), ('memory', decoded(train, program.config))):
            figures[name] = train_rate(stepper, source, task.seconds, figures['step'])
            task.record(figures)
        figures['save'] = stepper.save_stall(pathlib.Path(folder, 'checkpoints'))
        figures['peak_memory'] = machine.peak_memory()
        task.record(figures)
    fields = {'batch_size': batch, 'data.path': 'demo', 'init.weights': 'none'}
    names = ('model.name', 'model.width', 'model.small_stem', 'data.image_size', 'data.resize_size') if task.dry else ()
    fields |= {'data.demo_examples': batch} | {name: get_field(config, name) for name in names}
    flags = [f'--config.{name}={value}' for name, value in fields.items()]
    figures['start'] = machine.start_seconds(['--config=resnet50', *flags])
    task.record(figures)


def draw_set(path: pathlib.Path, side: int, images: int, copies: int) -> dict[str, Any]:
    """Prepares a set of drawn faces in `path`, each several times: a face of 256 px takes 60 ms to draw."""
    began = time.perf_counter()
    faces = datasets.demo_split(demo.DemoFaces('train', size=side, num_examples=images))
    items = ImageItems('train', faces.take(np.repeat(np.arange(images), copies)), Encoding())
    workers = pool.default_workers()
    shard = -(-len(items) // workers)
    plan = Plan('drawn faces', {'train': items}, shard, f'{side} {images} {copies}', [], {}, [])
    build_lib.build(plan, path, workers)
    return {'images': images, 'copies': copies, 'side': side, 'prepare_seconds': time.perf_counter() - began}


def decoded(split: datasets.Split, config: Config) -> datasets.Split:
    """The same images, all of them decoded and in memory already."""
    source = inputs.decoded_in_memory(split, config.data.resize_size)
    inputs.PipelineRate(source, config, pipeline.num_threads(0, config.data.resize_size))  # decodes them
    return source


def train_rate(
    stepper: steps.Steps, source: datasets.Split, seconds: float, step: dict[str, float]
) -> dict[str, float]:
    rate = stepper.train_rate(source, seconds)
    over_step = rate['images_per_second_per_device'] / step['images_per_second_per_device']
    return {**rate, 'over_step': over_step}


def measure_small(task: Task) -> None:
    """The small CNN on a set of CIFAKE's size, 32 px: the step alone, and end to end from memory, as time allows."""
    end, longest = time.monotonic() + task.limit - gpu_rates.START_SECONDS, 0.0
    figures: dict[str, Any] = {'rows': [], 'left_out': []}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, 'faces')
        figures['data'] = draw_set(path, 32, *((64, 2) if task.dry else (5000, 20)))
        on_host = None
        for batch, count, cache in SMALL_DRY if task.dry else SMALL:
            began = time.monotonic()
            fields = {'batch_size': batch, 'steps_per_call': count, 'data.cache': cache}
            if began + longest > end:
                figures['left_out'].append(fields)
                continue
            program = build(recipe(task, 'cnn', **fields, **{'data.path': str(path)}))
            stepper = steps.Steps(program)
            step = stepper.step_rate(task.seconds)
            source = program.splits['train']
            if cache == 'host':
                source = on_host = on_host or decoded(source, program.config)
            row = {**fields, 'precision': program.dtype.name, 'step': step}
            figures['rows'].append({**row, 'train': train_rate(stepper, source, task.seconds, step)})
            task.record(figures)
            longest = max(longest, time.monotonic() - began)
        task.record(figures)


def read_state(task: Task) -> None:
    """What nvidia-smi said while the parts ran: most memory, and power and clocks while the GPU was busy."""
    figures: dict[str, Any] = {'now': machine.gpu_state(), 'peak_memory': machine.peak_memory(), 'parts': {}}
    for path in sorted(pathlib.Path(task.out).glob('*.csv')):
        rows = [row for row in csv.reader(path.read_text().splitlines()) if len(row) == len(SAMPLED)]
        readings = [dict(zip(SAMPLED, map(number, row), strict=True)) for row in rows]
        busy = [reading for reading in readings if reading['utilization.gpu'] >= BUSY]
        if readings:
            memory = max(reading['memory.used'] for reading in readings)
            medians = {name: statistics.median(reading[name] for reading in busy) for name in SAMPLED[2:] if busy}
            figures['parts'][path.stem] = {
                'readings': len(readings),
                'busy': len(busy),
                'memory.used': memory,
                **medians,
            }
    task.record(figures)


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0  # [N/A]


PARTS = {
    'device': measure_device,
    'parity': compare_results,
    'steps': measure_steps,
    'train': measure_training,
    'small': measure_small,
    'state': read_state,
}

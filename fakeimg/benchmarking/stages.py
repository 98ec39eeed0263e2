"""What the benchmark measures, stage by stage."""

import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import jax

from fakeimg.benchmarking import inputs, machine, roofline, steps, timing
from fakeimg.config import Config, override
from fakeimg.console import Console
from fakeimg.data import pipeline
from fakeimg.data.datasets import Split
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.training.program import Program, build

STAGES = ('decode', 'input', 'step', 'train', 'eval', 'save', 'start')
DATA, DEVICE = ('decode', 'input'), ('step', 'train', 'eval', 'save')


def measure(
    config: Config, stages: Sequence[str], seconds: float, arguments: Sequence[str], console: Console
) -> dict[str, Any]:
    """Measures the stages one after the other.

    Args:
        config: the whole configuration.
        stages: some of STAGES.
        seconds: to measure each rate for.
        arguments: the recipe and its overrides as flags, for the start of another process.
        console: for what is being measured.

    Returns:
        One part per stage, and `roofline`, `scaling`, `first_step_seconds`, `peak_memory` of those on devices.

    Raises:
        UserError: anything in the configuration or the data that cannot work.
    """
    figures: dict[str, Any] = {}
    if 'start' in stages:  # first of all: once this process has a GPU, another one would find no memory on it
        console.say('two starts from an empty compilation cache ...')
        figures['start'] = machine.start_seconds(arguments)
    program = build(config)
    for note in program.data.notes:
        console.warn(note)
    console.say(
        f'{config.model.name}, {config.data.image_size} px, {config.batch_size} images on {program.devices.count} '
        f'device(s), {program.dtype.name}, {config.parallel}; {seconds:g} s a rate'
    )
    train = program.splits['train']
    if set(stages) & set(DATA):
        figures |= _measure_data(config, train, stages)
    if set(stages) & set(DEVICE):
        figures |= _measure_devices(program, stages, seconds)
    return figures


def _measure_data(config: Config, train: Split, stages: Sequence[str]) -> dict[str, Any]:
    """The pipeline and its limit, in turn."""
    threads = pipeline.num_threads(config.data.threads, config.data.resize_size)
    sample, encoded = inputs.sample(train, config.seed)
    limit = inputs.DecodeRate(encoded, config.data.resize_size, threads)
    if 'input' not in stages:
        return {'decode': {'images_per_second': timing.in_turn(limit, limit)['first'], 'threads': threads}}
    kinds = {'input': inputs.encoded_in_memory(sample, encoded), 'input_first_epoch': sample}
    if train.cache is not None:
        kinds['input_decoded'] = inputs.decoded_in_memory(sample, config.data.resize_size)
    figures: dict[str, Any] = {}
    for kind, source in kinds.items():
        rates = timing.in_turn(inputs.PipelineRate(source, config, threads), limit)
        figures.setdefault('decode', {'images_per_second': rates['second'], 'threads': threads})
        figures[kind] = {'images_per_second': rates['first'], 'over_decode': rates['ratio'], 'sample': len(sample)}
    return figures


def _measure_devices(program: Program, stages: Sequence[str], seconds: float) -> dict[str, Any]:
    """The step, and training, evaluation and saving."""
    config = program.config
    stepper = steps.Steps(program)
    figures: dict[str, Any] = {'first_step_seconds': stepper.first_step_seconds}
    if set(stages) & {'step', 'train'}:
        rate = stepper.step_rate(seconds)
        figures['step'] = {**rate, 'gpus': machine.gpu_state()}
        per_device = rate['images_per_second_per_device']
        arguments = (stepper.state, next(stepper.batches))
        images = stepper.images
        figures['roofline'] = roofline.fraction(program.train_step, arguments, images, per_device, program.dtype)
    if 'train' in stages:
        rate = stepper.train_rate(program.splits['train'], seconds)
        ratio = rate['images_per_second_per_device'] / figures['step']['images_per_second_per_device']
        figures['train'] = {**rate, 'over_step': ratio}
    if 'eval' in stages:
        figures['eval'] = steps.eval_rate(program, program.splits['train'], stepper.state, seconds)
    if 'save' in stages:
        with tempfile.TemporaryDirectory() as folder:
            figures['save'] = stepper.save_stall(pathlib.Path(folder) / 'checkpoints')
    if 'step' in stages and program.devices.count > 1 and jax.process_count() == 1:
        each = config.batch_size // program.devices.count
        counts = [2**power for power in range(program.devices.count.bit_length()) if 2**power <= program.devices.count]
        figures['scaling'] = steps.scaling(lambda count: _on_some(config, count, each), counts, seconds)
    figures['peak_memory'] = machine.peak_memory()
    return figures


def _on_some(config: Config, count: int, each: int) -> Program:
    return build(override(config, {'batch_size': each * count}), jax.devices()[:count])


def sweep(config: Config, sizes: Sequence[int], seconds: float, console: Console) -> dict[str, float]:
    """The step's images/s per device by batch size; one that does not fit into memory has 0."""
    rates = {}
    for size in sizes:
        try:
            program = build(override(config, {'batch_size': size}))
            rate = steps.Steps(program).step_rate(seconds)['images_per_second_per_device']
        except jax.errors.JaxRuntimeError as error:
            if 'RESOURCE_EXHAUSTED' not in str(error):
                raise
            rate = 0.0
        rates[str(size)] = rate
        console.say(f'batch size {size}: {f"{rate:,.1f} images/s per device" if rate else "does not fit into memory"}')
    best = max(rates, key=lambda size: rates[size])
    console.say(f'best: config.batch_size={best}')
    return rates


def take_one_step(config: Config) -> None:
    """What a training does until its first step has ended."""
    program = build(config)
    state, _ = program.initial_state()
    bad = UnreadableImages('train', program.num_train, config.data.max_bad_fraction)
    batches = iter(program.device_batches(program.train_batches(bad)))
    jax.block_until_ready(program.advance(0, state, next(batches)))
    print(machine.STARTED, flush=True)
    batches.close()

"""What a recipe's steps need on a GPU and reach there at best, from compiling them for it; no GPU is needed."""

import collections
import importlib.util
import math
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import rich.table
from jax.experimental import topologies

from fakeimg import initial
from fakeimg.benchmarking.gpus import Gpu
from fakeimg.benchmarking.kernels import KINDS, Kernel, read_kernels
from fakeimg.config import Config, override
from fakeimg.console import Console
from fakeimg.errors import UserError
from fakeimg.models import create_model, init_variables, layers
from fakeimg.runtime import parallel, precision
from fakeimg.scoring import Scorer
from fakeimg.training.program import device_steps
from fakeimg.training.schedule import Schedule
from fakeimg.training.state import create_state

# jax takes this share of a GPU's memory unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
MEMORY_SHARE = 0.75
AHEAD = 2  # batches on the devices beside the one that a step reads, see Program.device_batches
DEAREST = 10  # kernels that are listed
MOST_IMAGES = 1 << 16  # that a step is compiled for
_COLUMNS = ('kernels', 'MB an image', 'GFLOP an image')
NUM_TRAIN = 100_000  # images; they set the length of the schedule, which no kernel depends on
# Autotuning would run kernels, and the pass that fuses matrix products asks for a card.
_FLAGS = '--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false'


def plan(config: Config, gpu: Gpu, count: int, console: Console) -> dict[str, Any]:
    """Compiles the training and the evaluation step for `count` GPUs and counts what they need.

    Args:
        config: of the recipe; its data are not opened, nor its weights but for what they expect.
        gpu: which.
        count: how many.
        console: for what is being compiled.

    Returns:
        `memory`, in bytes a device; `train` and `eval`, see `_figures`; `fits`, see `_fits`.

    Raises:
        UserError: no compiler for GPUs, one that refuses this GPU, a batch size that the devices do not divide, or a
            network that does not fit with one image.
    """
    config.check()
    devices = parallel.Devices.create('shard_map', config.batch_size, _devices(gpu, count))
    config = for_gpu(config, gpu)  # after them: the checkpoint that a run starts from is read with jax
    images = config.batch_size // count
    if images % config.microbatches:
        raise UserError(
            f'config.microbatches={config.microbatches} does not divide the {images} images of a device; change it.'
        )
    console.say(f'compiling the training step for {count} x {gpu.title}, about a minute ...')
    compiled = _compile(train_lowered, config, devices)
    memory = _memory(compiled, config, images)
    console.say('compiling it for about as many images as fit, to see how memory grows ...')
    other = _other_batch(memory, images, images // config.microbatches, gpu)
    changed = override(config, {'batch_size': other * count, 'microbatches': 1})
    other_memory = _memory(_compile(train_lowered, changed, devices), changed, other)
    figures = {
        'gpu': gpu.title,
        'gpus': count,
        'batch_size': config.batch_size,
        'precision': config.precision,
        'memory': memory,
        'fits': _fits(memory, other_memory, images, other, config, gpu),
        'train': _figures(compiled, images, gpu, config.precision),
    }
    console.say('compiling the evaluation step ...')
    compiled = _compile(predict_lowered, config, devices)
    return {**figures, 'eval': _figures(compiled, images, gpu, config.precision)}


def for_gpu(config: Config, gpu: Gpu) -> Config:
    """The configuration as it would be on a GPU: `precision=auto` follows from that, not from this machine."""
    config = initial.complete(config)
    return override(config, {'precision': gpu.precision}) if config.precision == 'auto' else config


def _devices(gpu: Gpu, count: int) -> Any:
    """Devices to compile for; to be called before jax touches a device of its own."""
    plugins = importlib.util.find_spec('jax_plugins')
    places = plugins.submodule_search_locations if plugins else None
    if not any(entry.startswith(('xla_cuda', 'cuda')) for place in places or () for entry in os.listdir(place)):
        raise UserError(
            'the plan needs the compiler for GPUs, which this jax lacks; install it with pip install "jax[cuda13]", '
            'or "jax[cuda12]". No GPU is needed.'
        )
    os.environ['JAX_SKIP_CUDA_CONSTRAINTS_CHECK'] = '1'
    os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'  # XLA warns of what does not fit, which is said below
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {_FLAGS}'.strip()
    try:
        topology = topologies.get_topology_desc('', platform='cuda', topology=f'1x1x{count}', target_config=gpu.target)
    except Exception as error:
        raise UserError(f'XLA cannot describe {gpu.title} ({_first_line(error)}); check the file.') from error
    return topology.devices


def _compile(lower: Callable[..., Any], config: Config, devices: parallel.Devices) -> Any:
    try:
        with layers.traced_for('cuda'):
            return lower(config, devices).compile()
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f'XLA cannot compile this for the GPU ({_first_line(error)}); install the plugin of the CUDA version that '
            'the GPU needs.'
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [''])[0][:160].rstrip('.')


def train_lowered(config: Config, devices: parallel.Devices) -> Any:
    """The training step, traced for `devices`, which need not exist."""
    dtype = precision.resolve(config.precision)
    model = create_model(config, dtype, parallel.AXIS)
    tx, step, _ = device_steps(config, model, Schedule.create(config, NUM_TRAIN), (2, 1))
    state = jax.eval_shape(
        lambda: create_state(
            init_variables(model, config.data.image_size, 0), tx, dtype, averaged=config.optimizer.ema_decay > 0
        )
    )
    mapped: Any = devices.map(step, donate_state=True)
    return mapped.lower(devices.abstract(state), _batch(config, devices))


def predict_lowered(config: Config, devices: parallel.Devices) -> Any:
    """The evaluation step, traced for `devices`, which need not exist."""
    model = create_model(config, precision.resolve(config.precision))
    variables = jax.eval_shape(lambda: init_variables(model, config.data.image_size, 0))
    scorer = Scorer.create(model, config, devices)
    predict: Any = scorer.predict
    return predict.lower(devices.abstract(variables), _batch(config, devices))


def _batch(config: Config, devices: parallel.Devices) -> dict[str, jax.ShapeDtypeStruct]:
    side, rows = config.data.resize_size, config.batch_size
    batch = {
        'image': jax.ShapeDtypeStruct((rows, side, side, 3), jnp.uint8),
        'label': jax.ShapeDtypeStruct((rows,), jnp.int32),
        'weight': jax.ShapeDtypeStruct((rows,), jnp.float32),
    }
    if side != config.data.image_size:
        batch['offset'] = jax.ShapeDtypeStruct((rows, 2), jnp.int32)
    if config.augment.alternating_flip:
        batch['flip'] = jax.ShapeDtypeStruct((rows,), jnp.bool_)
    return devices.abstract(batch, split=True)


def _memory(compiled: Any, config: Config, images: int) -> dict[str, float]:
    """Bytes on one device while training: the state, batches that wait, and what a step takes besides."""
    sizes = compiled.memory_analysis()
    batch = images * config.data.resize_size**2 * 3
    state = sizes.alias_size_in_bytes
    parts = {
        'state': state,
        'batches': sizes.argument_size_in_bytes - state + AHEAD * batch,
        'temporaries': sizes.temp_size_in_bytes + sizes.output_size_in_bytes - state,
    }
    return {**parts, 'total': sum(parts.values())}


def _usable(gpu: Gpu) -> float:
    return gpu.memory * float(os.environ.get('XLA_PYTHON_CLIENT_MEM_FRACTION', MEMORY_SHARE))


def _other_batch(memory: dict[str, float], images: int, rows: int, gpu: Gpu) -> int:
    """About as many images as fit at once, if all but the state grew with them: near there the line must be right."""
    each = memory['temporaries'] / rows + memory['batches'] / images
    other = min(max(1, int((_usable(gpu) - memory['state']) / each)), MOST_IMAGES)
    return other if other != rows else 2 * rows


def _fits(
    memory: dict[str, float], other_memory: dict[str, float], images: int, other: int, config: Config, gpu: Gpu
) -> dict[str, Any]:
    """The largest batch of one device, and the least number of microbatches for the configured one.

    Memory grows along a line through two compilations: `memory`, of as many images at once as a microbatch has, and
    `other_memory`, of `other`.

    Raises:
        UserError: one image does not fit.
    """
    usable, rows = _usable(gpu), images // config.microbatches
    waiting = memory['batches'] / images
    each = max((memory['temporaries'] - other_memory['temporaries']) / (rows - other), 1.0)
    fixed = memory['state'] + memory['temporaries'] - rows * each
    if fixed + each + waiting > usable:
        raise UserError(
            f'{config.model.name} at {config.data.image_size} px needs {(fixed + each) / 1e9:,.1f} GB with one image, '
            f'and jax takes {usable / 1e9:,.1f} GB of {gpu.title}; choose a smaller network or images.'
        )
    largest = math.floor((usable - fixed) / (each + waiting))
    room = usable - fixed - images * waiting
    needed = next(
        (parts for parts in range(1, images + 1) if not images % parts and images / parts * each <= room), None
    )
    return {
        'usable_bytes': usable,
        'fixed_bytes': fixed,
        'bytes_per_image': each + waiting,
        'largest_batch_per_device': largest - largest % 8 if largest > 8 else largest,
        'microbatches': needed,
    }


def _figures(compiled: Any, images: int, gpu: Gpu, dtype: str) -> dict[str, Any]:
    """What a step's kernels read, write and compute, an image, and the rate if each ran at the card's best."""
    kernels = read_kernels(compiled.as_text())
    peak = gpu.peak(dtype)
    seconds = sum(kernel.seconds(gpu.bandwidth, peak) for kernel in kernels)
    by_kind: dict[str, Any] = {kind: collections.Counter() for kind in KINDS}
    for kernel in kernels:
        by_kind[kernel.kind].update(
            {
                'kernels': kernel.runs,
                'bytes_per_image': kernel.traffic / images,
                'flop_per_image': kernel.flops / images,
            }
        )
    dearest = sorted(kernels, key=lambda kernel: -kernel.seconds(gpu.bandwidth, peak))[:DEAREST]
    return {
        'kernels': sum(kernel.runs for kernel in kernels),
        'bytes_per_image': sum(kernel.traffic for kernel in kernels) / images,
        'flop_per_image': sum(kernel.flops for kernel in kernels) / images,
        'all_reduce_bytes': sum(kernel.traffic / 2 for kernel in kernels if kernel.kind == 'all-reduce'),
        'seconds_at_best': seconds,
        'images_per_second_at_best': images / seconds,
        'kinds': {kind: dict(sums) for kind, sums in by_kind.items() if sums},
        'dearest': [_described(kernel, images, kernel.seconds(gpu.bandwidth, peak) / seconds) for kernel in dearest],
    }


def _described(kernel: Kernel, images: int, share: float) -> dict[str, Any]:
    return {
        'name': kernel.name,
        'kind': kernel.kind,
        'shape': kernel.shape,
        'bytes_per_image': kernel.traffic / images,
        'share': share,
        'source': kernel.source,
    }


def _in_words(size: float) -> str:
    return f'{size / 1e9:.2f} GB' if size >= 1e8 else f'{size / 1e6:.1f} MB'


def say(figures: dict[str, Any], console: Console) -> None:
    """Writes a plan in words."""
    memory, fits = figures['memory'], figures['fits']
    size = {name: _in_words(number) for name, number in {**memory, 'usable': fits['usable_bytes']}.items()}
    console.say(
        f'\n{figures["gpus"]} x {figures["gpu"]}, batch {figures["batch_size"]}, {figures["precision"]}; computed, '
        'not measured\n'
        f'memory a GPU: {size["total"]} of the {size["usable"]} that jax takes: state {size["state"]}, batches '
        f'{size["batches"]}, temporaries {size["temporaries"]}; a checkpoint takes one more state while it is written, '
        'where there is room'
    )
    largest = fits['largest_batch_per_device']
    if memory['total'] <= fits['usable_bytes']:
        number = f'{largest * figures["gpus"]:,}'
        console.say(
            f'it fits; at once about {number} images would, without those that config.data.cache keeps on a GPU'
        )
    else:
        parts = fits['microbatches']
        way = f', or config.microbatches={parts}' if parts else ''
        console.say(f'it does not fit; config.batch_size={largest * figures["gpus"]} would{way}')
    for name, title in (('train', 'training step'), ('eval', 'evaluation step')):
        part = figures[name]
        console.say(
            f'\n{title}: {part["kernels"]:,} kernels, {part["bytes_per_image"] / 1e6:,.1f} MB and '
            f'{part["flop_per_image"] / 1e9:,.2f} GFLOP an image, at best {part["images_per_second_at_best"]:,.0f} '
            'images/s a GPU'
        )
        table = rich.table.Table('kind', *(rich.table.Column(name, justify='right') for name in _COLUMNS))
        for kind, sums in sorted(part['kinds'].items(), key=lambda item: -item[1]['bytes_per_image']):
            megabytes, operations = sums['bytes_per_image'] / 1e6, sums['flop_per_image'] / 1e9
            table.add_row(kind, f'{sums["kernels"]:,.0f}', f'{megabytes:,.2f}', f'{operations:,.2f}')
        console.table(table)
        if part['all_reduce_bytes']:
            console.say(f'  all-reduce of {part["all_reduce_bytes"] / 1e6:,.1f} MB a step')
    console.say('\ndearest kernels of the training step (share of its time, MB an image, where from):')
    for kernel in figures['train']['dearest']:
        console.say(
            f'  {kernel["share"]:6.1%} {kernel["bytes_per_image"] / 1e6:7.2f}  {kernel["kind"]}, {kernel["source"]}'
        )

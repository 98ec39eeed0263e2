"""Every field a recipe in `configs/` may set, with its default, and what follows from them.

Recipes change fields of `default_config()` and nothing else. Whatever depends on several fields (steps from
epochs, learning rate from batch size) is computed here after the command line had its say.
"""

import math
from typing import Any

import ml_collections

from fakeimg.errors import UserError

Config = Any  # an ml_collections.ConfigDict, whose fields type checkers cannot know

PRECISIONS = ('auto', 'float32', 'bfloat16', 'float16')
PARALLEL_MODES = ('pmap', 'shard_map')
CACHES = ('auto', 'none', 'host')
CLASS_WEIGHTS = ('none', 'balanced')
# Kinds of degradation and the widest range of each that makes sense. New ones go to the end: their place is their seed.
DEGRADATIONS = {
    'brightness': (0, 10),
    'contrast': (0, 10),
    'saturation': (-10, 10),
    'blur': (0, 100),
    'rescale': (0.01, 1),
    'pixelate': (0.01, 1),
    'noise': (0, 255),
    'occlusion': (0, 1),
    'jpeg': (1, 100),
}
HEADS = ('sigmoid', 'softmax')
VGG_MIN_SIZE = 32  # pixels; five poolings leave nothing of less


def default_config() -> Config:
    """Returns the configuration that every recipe starts from."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.batch_size = 128  # images per step over all devices of all processes
    config.epochs = 10.0
    config.steps = 0  # 0: follows from epochs
    config.microbatches = 1  # parts that a device takes its images of a step in, one after the other, to save memory
    config.precision = 'auto'  # float16 on a GPU without bfloat16 (T4), bfloat16 with it, float32 on CPU
    config.parallel = 'pmap'

    config.data = ml_collections.ConfigDict()
    config.data.path = ''  # prepared set, folder, zip, tar or table; empty: the built-in demo faces
    config.data.train_split = 'train'  # or a part of it, as TFDS slices: train[:10%]
    config.data.validation_split = 'validation'
    config.data.demo_examples = 4000  # training faces of the demo; validation and test have a quarter each
    config.data.image_size = 224  # side of the square that the model sees, pixels
    config.data.resize_size = 256  # length the short side is brought to before cropping, pixels
    config.data.validation_fraction = 0.1  # carved out of train where a folder has no validation split
    config.data.balanced_sampling = False  # True: every batch is half real, half fake, whatever train holds of each
    config.data.max_bad_fraction = 0.01  # of a split: more unreadable images than this stop the run
    config.data.threads = 0  # threads that decode; 0: one per core, at most one per 32 px of a side
    config.data.cache = 'auto'  # host: decoded images stay in memory after their first use; none; auto: if they fit
    config.data.mean = (0.485, 0.456, 0.406)  # of RGB in [0, 1]; ImageNet's
    config.data.std = (0.229, 0.224, 0.225)

    config.model = ml_collections.ConfigDict()
    config.model.name = 'resnet50'  # cnn | resnet18 | resnet34 | resnet50 | resnet101 | vgg19 | vgg19_bn
    config.model.head = 'sigmoid'  # one logit; softmax: two, whose difference is the score
    config.model.sync_batch_norm = False  # True: batch statistics over all devices, slower
    config.model.freeze_batch_norm = False  # True: the statistics that the weights came with, in training too
    config.model.width = 64  # filters of a ResNet's first stage; others than 64 have no ImageNet weights
    config.model.small_stem = False  # of a ResNet; True: 3x3 without pooling, for images below 64 px
    config.model.dropout = 0.5  # of VGG's dense layers
    config.model.filters = 32  # of every convolution of the cnn
    config.model.layers = 2  # convolutions of the cnn, each followed by pooling
    config.model.dense = 64  # units of every dense layer of the cnn
    config.model.dense_layers = 1

    config.init = ml_collections.ConfigDict()
    config.init.weights = 'none'  # imagenet | none | auto | PATH of a converted file | OWNER/NAME on the hub

    config.finetune = ml_collections.ConfigDict()
    config.finetune.head_epochs = 0.0  # at first the head learns alone; what follows starts with a warm-up of its own
    config.finetune.last_stages = -1  # then the head and so many stages before it; 0: the head alone; -1: everything
    config.finetune.layer_decay = 1.0  # each stage's learning rate, of that of the next one towards the head

    config.augment = ml_collections.ConfigDict()
    config.augment.random_crop = True  # False: the centre, as in evaluation
    config.augment.flip = True  # left-right, half of the images
    config.augment.mixup = 0.0  # alpha of Beta(alpha, alpha), an image's own share when blended with another; 0: off
    config.augment.cutmix = 0.0  # likewise, when a rectangle of it shows another; with mixup, one of them by a coin
    # The chance of each kind of degradation below, independently of the others; 0: none. At 0.1 six in ten images
    # meet one or more. Kinds have ranges, from which each image draws evenly; () leaves a kind out.
    config.augment.degradation_probability = 0.0
    config.augment.brightness = (0.6, 1.4)  # factor
    config.augment.contrast = (0.6, 1.4)  # factor, about the image's mean grey
    config.augment.saturation = (-0.5, 1.5)  # factor; 0 and below: grey, a quarter of these draws
    config.augment.blur = (0.3, 3.0)  # standard deviation, pixels of a 224 px image; scales with the image
    config.augment.rescale = (0.25, 0.9)  # side after shrinking, of the side before; enlarged again smoothly
    config.augment.pixelate = (0.15, 0.6)  # likewise, enlarged again to squares
    config.augment.noise = (2.0, 25.0)  # standard deviation, of values in 0..255
    config.augment.occlusion = (0.1, 0.5)  # side of a square of the rectangle's area, of the image's side
    config.augment.jpeg = (30, 95)  # quality

    config.loss = ml_collections.ConfigDict()
    config.loss.label_smoothing = 0.0  # labels become s / 2 and 1 - s / 2
    config.loss.class_weights = 'none'  # balanced: both classes of train weigh the same, however many images each has

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = 'adamw'  # adamw | sgd (Nesterov)
    config.optimizer.base_learning_rate = 1e-3  # for 256 images a step; scaled linearly with batch_size
    config.optimizer.warmup_epochs = 0.5
    config.optimizer.weight_decay = 1e-4  # never on BatchNorm and biases
    config.optimizer.momentum = 0.9  # of sgd
    config.optimizer.clip_norm = 1.0  # of the whole gradient; 0: no clipping
    config.optimizer.ema_decay = 0.0  # of the running average of the weights that is then validated; 0: none

    config.log_every_steps = 50
    config.validate_every_epochs = 1.0  # a checkpoint follows every validation
    config.checkpoint_every_steps = 500  # further checkpoints in between; 0: none
    return config


def check_config(config: Config) -> None:
    """Raises UserError at the first field whose value cannot work on any machine or data."""
    _require(config.precision in PRECISIONS, 'precision', config.precision, f'one of {", ".join(PRECISIONS)}')
    _require(config.parallel in PARALLEL_MODES, 'parallel', config.parallel, ' or '.join(PARALLEL_MODES))
    _require(config.batch_size >= 1, 'batch_size', config.batch_size, 'at least 1')
    _require(config.microbatches >= 1, 'microbatches', config.microbatches, 'at least 1')
    _require(config.steps >= 0, 'steps', config.steps, '0 (use epochs) or more')
    _require(config.steps > 0 or 0 < config.epochs < math.inf, 'epochs', config.epochs, 'more than 0')
    _require(config.log_every_steps >= 1, 'log_every_steps', config.log_every_steps, 'at least 1')
    _require(
        config.checkpoint_every_steps >= 0,
        'checkpoint_every_steps',
        config.checkpoint_every_steps,
        '0 or more',
    )
    _require(config.validate_every_epochs > 0, 'validate_every_epochs', config.validate_every_epochs, 'more than 0')
    data = config.data
    _require(data.image_size >= 8, 'data.image_size', data.image_size, 'at least 8')
    _require(
        data.resize_size >= data.image_size,
        'data.resize_size',
        data.resize_size,
        f'at least config.data.image_size ({data.image_size})',
    )
    _require(
        0 < data.validation_fraction < 0.5,
        'data.validation_fraction',
        data.validation_fraction,
        'between 0 and 0.5',
    )
    _require(0 <= data.max_bad_fraction <= 1, 'data.max_bad_fraction', data.max_bad_fraction, 'between 0 and 1')
    _require(data.threads >= 0, 'data.threads', data.threads, '0 (one per core) or more')
    _require(data.cache in CACHES, 'data.cache', data.cache, f'one of {", ".join(CACHES)}')
    for name in ('mean', 'std'):
        values = data[name]
        ok = len(values) == 3 and all(math.isfinite(value) and (name == 'mean' or value > 0) for value in values)
        _require(ok, f'data.{name}', values, 'three numbers, one per colour' + (' above 0' if name == 'std' else ''))
    _require(config.seed >= 0, 'seed', config.seed, '0 or more')
    _check_model(config)
    optimizer = config.optimizer
    rate = optimizer.base_learning_rate
    _require(math.isfinite(rate) and rate > 0, 'optimizer.base_learning_rate', rate, 'more than 0')
    for name in ('warmup_epochs', 'weight_decay', 'momentum', 'clip_norm'):
        _require(0 <= optimizer[name] < math.inf, f'optimizer.{name}', optimizer[name], '0 (none) or more')
    _require(0 <= optimizer.ema_decay < 1, 'optimizer.ema_decay', optimizer.ema_decay, '0 (none) to below 1')
    _check_finetune(config)
    _check_augment(config.augment)
    loss = config.loss
    _require(0 <= loss.label_smoothing < 1, 'loss.label_smoothing', loss.label_smoothing, '0 (none) to below 1')
    _require(loss.class_weights in CLASS_WEIGHTS, 'loss.class_weights', loss.class_weights, ' or '.join(CLASS_WEIGHTS))
    if data.balanced_sampling and loss.class_weights == 'balanced':
        raise UserError(
            'config.data.balanced_sampling and config.loss.class_weights=balanced would each make up for the sizes of '
            'the classes; use one of them.'
        )
    _require(data.demo_examples >= 8, 'data.demo_examples', data.demo_examples, 'at least 8')


def _check_augment(augment: Config) -> None:
    probability = augment.degradation_probability
    _require(0 <= probability <= 1, 'augment.degradation_probability', probability, 'between 0 and 1')
    for name in ('mixup', 'cutmix'):
        _require(0 <= augment[name] < math.inf, f'augment.{name}', augment[name], '0 (off) or more')
    for name, (lowest, highest) in DEGRADATIONS.items():
        ends = augment[name]
        ok = len(ends) == 0 or (len(ends) == 2 and lowest <= ends[0] <= ends[1] <= highest)
        _require(ok, f'augment.{name}', ends, f'two numbers (low, high) between {lowest} and {highest}, or ()')


def _check_finetune(config: Config) -> None:
    finetune = config.finetune
    head_epochs, last_stages, layer_decay = finetune.head_epochs, finetune.last_stages, finetune.layer_decay
    _require(0 <= head_epochs < math.inf, 'finetune.head_epochs', head_epochs, '0 (none) or more')
    _require(last_stages >= -1, 'finetune.last_stages', last_stages, '-1 (everything learns) or more')
    _require(0 < layer_decay <= 1, 'finetune.layer_decay', layer_decay, 'above 0, up to 1 (none)')
    if head_epochs and last_stages == 0:
        raise UserError(
            'config.finetune.last_stages=0 lets the head learn alone in the whole run, so there is nothing that '
            'config.finetune.head_epochs could come before; leave it 0.'
        )
    if (head_epochs or last_stages >= 0) and config.init.weights == 'none':
        raise UserError(
            'config.finetune.head_epochs and config.finetune.last_stages freeze weights, which must come from '
            'somewhere; set --config.init.weights, or leave them 0 and -1.'
        )


def _check_model(config: Config) -> None:
    model, size = config.model, config.data.image_size
    _require(model.head in HEADS, 'model.head', model.head, ' or '.join(HEADS))
    _require(0 <= model.dropout < 1, 'model.dropout', model.dropout, '0 (none) or more and less than 1')
    most = math.floor(math.log2(size))
    wanted = f'1 to {most}, for every layer halves the images of {size} px'
    _require(1 <= model.layers <= most, 'model.layers', model.layers, wanted)
    for name, least in (('width', 1), ('filters', 1), ('dense', 1), ('dense_layers', 0)):
        _require(model[name] >= least, f'model.{name}', model[name], f'at least {least}')
    if model.name.startswith('vgg'):
        _require(size >= VGG_MIN_SIZE, 'data.image_size', size, f'at least {VGG_MIN_SIZE} for {model.name}')
    if model.freeze_batch_norm and config.init.weights == 'none':
        raise UserError(
            'config.model.freeze_batch_norm needs weights whose statistics it can keep; set --config.init.weights, '
            'or leave it False.'
        )


def _require(ok: bool, field: str, value: Any, wanted: str) -> None:
    if not ok:
        raise UserError(f'config.{field} is {value!r}; it must be {wanted}.')


def total_steps(config: Config, num_train: int) -> int:
    """Steps of the whole run: `config.steps`, or `config.epochs` over `num_train` images, rounded up."""
    return config.steps or math.ceil(config.epochs * num_train / config.batch_size)


def epochs_to_steps(config: Config, epochs: float, num_train: int) -> int:
    """The nearest whole number of steps to `epochs` passes over `num_train` images, at least 1."""
    return max(1, round(epochs * num_train / config.batch_size))


def head_steps(config: Config, num_train: int) -> int:
    """Steps at the start of a run in which the head learns alone; raises UserError if they are the whole run."""
    epochs = config.finetune.head_epochs
    if not epochs:
        return 0
    steps, total = epochs_to_steps(config, epochs, num_train), total_steps(config, num_train)
    if steps >= total:
        raise UserError(
            f'config.finetune.head_epochs={epochs:g} are {steps} steps, and the run has {total}, which leaves none to '
            'the other stages; lower it, train longer, or freeze them with --config.finetune.last_stages=0.'
        )
    return steps


def learning_rate(config: Config) -> float:
    """Peak learning rate: linear in the batch size (Goyal et al. 2017, section 2.1)."""
    return config.optimizer.base_learning_rate * config.batch_size / 256


def changed_fields(old: dict[str, Any], new: dict[str, Any], prefix: str = '') -> list[str]:
    """Lists `field: old -> new` for every leaf that differs between two configurations as plain dicts."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += changed_fields(before, after, f'{prefix}{key}.')
        elif before != after:
            lines.append(f'{prefix}{key}: {before!r} -> {after!r}')
    return lines


def to_plain(config: Config) -> dict[str, Any]:
    """A configuration as JSON has it: nested dicts, tuples as lists."""
    return {
        name: to_plain(value)
        if isinstance(value, ml_collections.ConfigDict)
        else (list(value) if isinstance(value, tuple) else value)
        for name, value in config.items()
    }


def from_plain(values: dict[str, Any]) -> Config:
    """Inverse of `to_plain`. Fields that are newer than `values` get their defaults, unknown ones are ignored."""
    config = default_config()
    _update(config, values)
    return config


def _update(config: Config, values: dict[str, Any]) -> None:
    for name, default in config.items():
        if isinstance(default, ml_collections.ConfigDict):
            _update(default, values.get(name, {}))
        elif name in values:
            config[name] = tuple(values[name]) if isinstance(default, tuple) else values[name]

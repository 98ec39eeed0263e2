"""Every field of a recipe, with its default, its meaning and its check.

Recipes in `configs/` change fields of `default_config()` and nothing else; the command line may then override them.
`complete` checks the result and fills in what follows from other fields. Values that also depend on the data (steps
from epochs) are in `training/schedule.py`.
"""

import copy
import dataclasses
import difflib
import math
import typing
from typing import Any

from fakeimg.errors import UserError

PRECISIONS = ('auto', 'float32', 'bfloat16', 'float16')
PARALLEL_MODES = ('pmap', 'shard_map')
CACHES = ('auto', 'none', 'host')
CLASS_WEIGHTS = ('none', 'balanced')
HEADS = ('sigmoid', 'softmax')
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
_BATCH_NORM = {'sync_batch_norm': False, 'freeze_batch_norm': False}
_RESNET = {'width': 64, 'small_stem': False, **_BATCH_NORM}
# The networks and the options of each with their defaults: fields of `Model`, arguments of the network's module.
NETWORKS: dict[str, dict[str, Any]] = {
    'cnn': {'filters': 32, 'layers': 2, 'dense': 64, 'dense_layers': 1},
    'resnet18': _RESNET,
    'resnet34': _RESNET,
    'resnet50': _RESNET,
    'resnet101': _RESNET,
    'vgg19': {'dropout': 0.5},
    'vgg19_bn': {'dropout': 0.5, **_BATCH_NORM},
}
VGG_MIN_SIZE = 32  # pixels; five poolings leave nothing of less
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in [0, 1]


class UnknownField(UserError, AttributeError):
    """A field that does not exist."""


class _Section:
    """Fields that keep their types; others raise UserError on reading and on assignment."""

    if not typing.TYPE_CHECKING:  # which would otherwise accept every name

        def __getattr__(self, name):
            raise _unknown(type(self), name)

        def __setattr__(self, name, value):
            kind = _kind(type(self), name)
            if isinstance(value, list):
                value = tuple(value)
            elif type(value) is int and isinstance(0.0, typing.get_origin(kind) or kind):
                value = float(value)
            if not isinstance(value, tuple if typing.get_origin(kind) is tuple else kind):
                expected = getattr(kind, '__name__', str(kind)).removesuffix(' | None')
                raise UserError(f'config.{_prefix(type(self))}{name} is {value!r}; it must be of type {expected}.')
            object.__setattr__(self, name, value)

    def _require(self, name: str, ok: bool, wanted: str) -> None:
        if not ok:
            value = getattr(self, name)
            raise UserError(f'config.{_prefix(type(self))}{name} is {value!r}; it must be {wanted}.')


def _kind(section: type, name: str) -> Any:
    if name not in section.__annotations__:
        raise _unknown(section, name)
    return section.__annotations__[name]


def _prefix(section: type) -> str:
    return '' if section is Config else f'{section.__name__.lower()}.'


def _unknown(section: type, name: str) -> UnknownField:
    similar = difflib.get_close_matches(name, section.__annotations__, 1)
    advice = f'Did you mean {similar[0]}?' if similar else 'All fields are in fakeimg/config.py.'
    return UnknownField(f'unknown config field config.{_prefix(section)}{name}. {advice}')


@dataclasses.dataclass
class Data(_Section):
    path: str = ''  # prepared set, folder, zip, tar or table; empty: the built-in demo faces
    train_split: str = 'train'  # or a part of it, as TFDS slices: train[:10%]
    validation_split: str = 'validation'
    demo_examples: int = 4000  # training faces of the demo; validation and test have a quarter each
    image_size: int = 224  # side of the square that the model sees, pixels
    resize_size: int = 256  # pixels of the short side before cropping
    validation_fraction: float = 0.1  # split off train where a folder has no validation split
    balanced_sampling: bool = False  # True: every batch is half real, half fake, whatever train holds of each
    max_bad_fraction: float = 0.01  # of a split: more unreadable images than this stop the run
    threads: int = 0  # threads that decode; 0: one per core, at most one per 32 px of a side
    cache: str = 'auto'  # host: decoded images stay in memory after their first use; none; auto: if they fit
    mean: tuple[float, ...] = IMAGENET_MEAN  # of RGB in [0, 1]
    std: tuple[float, ...] = IMAGENET_STD  # likewise

    def check(self) -> None:
        self._require('demo_examples', self.demo_examples >= 8, 'at least 8')
        self._require('image_size', self.image_size >= 8, 'at least 8')
        wanted = f'at least config.data.image_size ({self.image_size})'
        self._require('resize_size', self.resize_size == 0 or self.resize_size >= self.image_size, wanted)
        self._require('validation_fraction', 0 < self.validation_fraction < 0.5, 'between 0 and 0.5')
        self._require('max_bad_fraction', 0 <= self.max_bad_fraction <= 1, 'between 0 and 1')
        self._require('threads', self.threads >= 0, '0 (one per core) or more')
        self._require('cache', self.cache in CACHES, f'one of {", ".join(CACHES)}')
        numbers = 'three numbers, one per colour'
        self._require('mean', len(self.mean) in (0, 3) and all(map(math.isfinite, self.mean)), numbers)
        ok = len(self.std) in (0, 3) and all(0 < value < math.inf for value in self.std)
        self._require('std', ok, f'{numbers} above 0')


@dataclasses.dataclass
class Model(_Section):
    name: str = 'resnet50'  # cnn | resnet18 | resnet34 | resnet50 | resnet101 | vgg19 | vgg19_bn
    head: str = 'sigmoid'  # one logit; softmax: two, whose difference is the score
    # Options of one network or another, with its default; those of other networks must stay None.
    width: int | None = None  # resnet*: filters of the first stage; others than 64 have no ImageNet weights; 64
    small_stem: bool | None = None  # resnet*: 3x3 without pooling, for images below 64 px; False
    sync_batch_norm: bool | None = None  # resnet*, vgg19_bn: batch statistics over all devices, slower; False
    freeze_batch_norm: bool | None = None  # resnet*, vgg19_bn: keep the statistics of the initial weights; False
    dropout: float | None = None  # vgg19*: of the dense layers; 0.5
    filters: int | None = None  # cnn: of every convolution; 32
    layers: int | None = None  # cnn: convolutions, each followed by pooling; 2
    dense: int | None = None  # cnn: units of every dense layer; 64
    dense_layers: int | None = None  # cnn: 0 puts the head on the feature maps; 1

    def options(self) -> dict[str, Any]:
        """The network's options, with its defaults for those that are not set.

        Raises:
            UserError: no such network, or an option of another one is set.
        """
        self._require('name', self.name in NETWORKS, f'one of {", ".join(NETWORKS)}')
        own = NETWORKS[self.name]
        for option in _OPTIONS:
            if option not in own and getattr(self, option) is not None:
                owners = ', '.join(name for name, options in NETWORKS.items() if option in options)
                raise UserError(
                    f'config.model.{option} belongs to {owners}, not to {self.name}, whose options are '
                    f'{", ".join(own)}; leave it out.'
                )
        return {name: default if getattr(self, name) is None else getattr(self, name) for name, default in own.items()}

    def check(self, image_size: int) -> None:
        options = self.options()
        self._require('head', self.head in HEADS, ' or '.join(HEADS))
        if self.name.startswith('vgg') and image_size < VGG_MIN_SIZE:
            raise UserError(
                f'config.data.image_size is {image_size}; it must be at least {VGG_MIN_SIZE} for {self.name}.'
            )
        most = math.floor(math.log2(image_size))
        wanted = f'1 to {most}, for every layer halves the images of {image_size} px'
        self._require('layers', 1 <= options.get('layers', 1) <= most, wanted)
        self._require('dropout', 0 <= options.get('dropout', 0) < 1, '0 (none) or more and less than 1')
        for name, least in (('width', 1), ('filters', 1), ('dense', 1), ('dense_layers', 0)):
            self._require(name, options.get(name, least) >= least, f'at least {least}')


_OPTIONS = tuple(field.name for field in dataclasses.fields(Model) if field.default is None)


@dataclasses.dataclass
class Init(_Section):
    weights: str = 'none'  # imagenet | none | auto | PATH of a converted file | OWNER/NAME on the hub


@dataclasses.dataclass
class Finetune(_Section):
    head_epochs: float = 0.0  # at first the head learns alone; the rest then starts with a second warm-up
    last_stages: int = -1  # the head and this number of stages before it learn; 0: the head alone; -1: everything
    layer_decay: float = 1.0  # each stage's learning rate, of that of the next one towards the head

    def check(self) -> None:
        self._require('head_epochs', 0 <= self.head_epochs < math.inf, '0 (none) or more')
        self._require('last_stages', self.last_stages >= -1, '-1 (everything learns) or more')
        self._require('layer_decay', 0 < self.layer_decay <= 1, 'above 0, up to 1 (none)')
        if self.head_epochs and self.last_stages == 0:
            raise UserError(
                'config.finetune.last_stages=0 lets the head learn alone in the whole run, so there is nothing that '
                'config.finetune.head_epochs could come before; leave it 0.'
            )


@dataclasses.dataclass
class Augment(_Section):
    random_crop: bool = True  # False: the centre, as in evaluation
    flip: bool = True  # left-right, half of the images
    mixup: float = 0.0  # alpha of Beta(alpha, alpha), an image's share when it is blended with another; 0: off
    cutmix: float = 0.0  # likewise, when a rectangle of it shows another; with mixup, one of them by a coin
    degradation_probability: float = 0.0  # of each kind below, independently; at 0.1 six in ten images meet one or more
    brightness: tuple[float, ...] = (0.6, 1.4)  # factor, drawn evenly from this range for each image; (): never
    contrast: tuple[float, ...] = (0.6, 1.4)  # factor, about the image's mean grey
    saturation: tuple[float, ...] = (-0.5, 1.5)  # factor; 0 and below: grey, a quarter of these draws
    blur: tuple[float, ...] = (0.3, 3.0)  # standard deviation, pixels of a 224 px image; scales with the image
    rescale: tuple[float, ...] = (0.25, 0.9)  # side after shrinking, of the side before; enlarged again smoothly
    pixelate: tuple[float, ...] = (0.15, 0.6)  # likewise, enlarged again to squares
    noise: tuple[float, ...] = (2.0, 25.0)  # standard deviation, of values in 0..255
    occlusion: tuple[float, ...] = (0.1, 0.5)  # side of a square of the rectangle's area, of the image's side
    jpeg: tuple[float, ...] = (30, 95)  # quality

    def check(self) -> None:
        for name in ('mixup', 'cutmix'):
            self._require(name, 0 <= getattr(self, name) < math.inf, '0 (off) or more')
        self._require('degradation_probability', 0 <= self.degradation_probability <= 1, 'between 0 and 1')
        for name, (lowest, highest) in DEGRADATIONS.items():
            ends = getattr(self, name)
            ok = len(ends) == 0 or (len(ends) == 2 and lowest <= ends[0] <= ends[1] <= highest)
            self._require(name, ok, f'two numbers (low, high) between {lowest} and {highest}, or ()')


@dataclasses.dataclass
class Loss(_Section):
    label_smoothing: float = 0.0  # labels become s / 2 and 1 - s / 2
    class_weights: str = 'none'  # balanced: both classes of train weigh the same, however many images each has

    def check(self) -> None:
        self._require('label_smoothing', 0 <= self.label_smoothing < 1, '0 (none) to below 1')
        self._require('class_weights', self.class_weights in CLASS_WEIGHTS, ' or '.join(CLASS_WEIGHTS))


@dataclasses.dataclass
class Optimizer(_Section):
    name: str = 'adamw'  # adamw | sgd (Nesterov)
    base_learning_rate: float = 1e-3  # for 256 images a step; scaled linearly with batch_size
    warmup_epochs: float = 0.5
    weight_decay: float = 1e-4  # never on BatchNorm and biases
    momentum: float = 0.9  # of sgd
    clip_norm: float = 1.0  # of the whole gradient; 0: no clipping
    ema_decay: float = 0.0  # of the running average of the weights that is then validated; 0: none

    def check(self) -> None:
        self._require('name', self.name in ('adamw', 'sgd'), 'adamw or sgd')
        self._require('base_learning_rate', 0 < self.base_learning_rate < math.inf, 'more than 0')
        for name in ('warmup_epochs', 'weight_decay', 'momentum', 'clip_norm'):
            self._require(name, 0 <= getattr(self, name) < math.inf, '0 (none) or more')
        self._require('ema_decay', 0 <= self.ema_decay < 1, '0 (none) to below 1')


@dataclasses.dataclass
class Config(_Section):
    seed: int = 0
    batch_size: int = 128  # images per step over all devices of all processes
    epochs: float = 10.0
    steps: int = 0  # 0: follows from epochs
    microbatches: int = 1  # parts that a device takes its images of a step in, one after the other, to save memory
    precision: str = 'auto'  # float16 on a GPU without bfloat16 (T4), bfloat16 with it, float32 on CPU
    parallel: str = 'pmap'  # pmap | shard_map
    log_every_steps: int = 50
    validate_every_epochs: float = 1.0  # a checkpoint follows every validation
    checkpoint_every_steps: int = 500  # further checkpoints in between; 0: none
    data: Data = dataclasses.field(default_factory=Data)
    model: Model = dataclasses.field(default_factory=Model)
    init: Init = dataclasses.field(default_factory=Init)
    finetune: Finetune = dataclasses.field(default_factory=Finetune)
    augment: Augment = dataclasses.field(default_factory=Augment)
    loss: Loss = dataclasses.field(default_factory=Loss)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)

    def check(self) -> None:
        """Raises UserError at the first field whose value cannot work on any machine or data."""
        self._require('precision', self.precision in PRECISIONS, f'one of {", ".join(PRECISIONS)}')
        self._require('parallel', self.parallel in PARALLEL_MODES, ' or '.join(PARALLEL_MODES))
        self._require('seed', self.seed >= 0, '0 or more')
        self._require('steps', self.steps >= 0, '0 (use epochs) or more')
        self._require('epochs', self.steps > 0 or 0 < self.epochs < math.inf, 'more than 0')
        for name in ('batch_size', 'microbatches', 'log_every_steps'):
            self._require(name, getattr(self, name) >= 1, 'at least 1')
        self._require('validate_every_epochs', self.validate_every_epochs > 0, 'more than 0')
        self._require('checkpoint_every_steps', self.checkpoint_every_steps >= 0, '0 or more')
        for section in (self.data, self.optimizer, self.finetune, self.augment, self.loss):
            section.check()
        self.model.check(self.data.image_size)
        self._check_together()

    def _check_together(self) -> None:
        finetune = self.finetune
        if self.init.weights == 'none' and (finetune.head_epochs or finetune.last_stages >= 0):
            raise UserError(
                'config.finetune.head_epochs and config.finetune.last_stages freeze weights, which must come from '
                'somewhere; set config.init.weights, or leave them 0 and -1.'
            )
        if self.init.weights == 'none' and self.model.freeze_batch_norm:
            raise UserError(
                'config.model.freeze_batch_norm needs weights whose statistics it can keep; set config.init.weights, '
                'or leave it False.'
            )
        if self.data.balanced_sampling and self.loss.class_weights == 'balanced':
            raise UserError(
                'config.data.balanced_sampling and config.loss.class_weights=balanced would each make up for the sizes '
                'of the classes; use one of them.'
            )


def default_config() -> Config:
    """Returns the configuration that every recipe starts from."""
    return Config()


def get_field(config: Config, field: str) -> Any:
    """Returns the value of a field by its path, such as `optimizer.momentum`. Raises UserError if there is none."""
    value: Any = config
    for name in field.split('.'):
        if not isinstance(value, _Section):
            raise UnknownField(f'unknown config field config.{field}. All fields are in fakeimg/config.py.')
        _kind(type(value), name)
        value = getattr(value, name)
    return value


def set_field(config: Config, field: str, value: Any) -> None:
    """Sets a field by its path. Raises UserError if there is none, or if the value is not of its type."""
    get_field(config, field)
    section, _, name = field.rpartition('.')
    setattr(get_field(config, section) if section else config, name, value)


def override(config: Config, fields: dict[str, Any]) -> Config:
    """A copy with some fields changed. `data.resize_size` follows `data.image_size` unless it is among them."""
    changed = copy.deepcopy(config)
    for field, value in fields.items():
        set_field(changed, field, value)
    return changed


def check_config(config: Config) -> None:
    """Raises UserError at the first field whose value cannot work on any machine or data."""
    config.check()


def changed_fields(old: dict[str, Any], new: Config) -> list[str]:
    """Lists `field: old -> new` for every field that differs from an earlier configuration, as `to_plain` gave it."""

    def changes(before: Any, after: Any, path: str) -> list[str]:
        if isinstance(before, dict) and isinstance(after, dict):
            names = sorted(before.keys() | after.keys())
            return [line for name in names for line in changes(before.get(name), after.get(name), f'{path}.{name}')]
        return [] if before == after else [f'{path[1:]}: {before!r} -> {after!r}']

    return changes(to_plain(from_plain(old)), to_plain(new), '')


def to_plain(section: _Section) -> dict[str, Any]:
    """A configuration or a section of it as JSON has it: nested dicts, tuples as lists, without what is not set."""
    plain = {}
    for name, value in vars(section).items():
        if value is not None:
            plain[name] = to_plain(value) if isinstance(value, _Section) else value
            if isinstance(value, tuple):
                plain[name] = list(value)
    return plain


def from_plain(values: dict[str, Any]) -> Config:
    """Inverse of `to_plain`. Fields that are newer than `values` get their defaults, unknown ones are ignored.

    So are options of other networks, which configurations held before version 0.2.
    """
    config = default_config()
    _update(config, values)
    if config.model.name in NETWORKS:
        for option in _OPTIONS:
            if option not in NETWORKS[config.model.name]:
                setattr(config.model, option, None)
    return config


def _update(section: _Section, values: dict[str, Any]) -> None:
    for name, value in vars(section).items():
        if isinstance(value, _Section):
            _update(value, values.get(name, {}))
        elif name in values:
            setattr(section, name, values[name])

"""Every field of a recipe, with its default, its meaning and its check.

Recipes in `configs/` change fields of `default_config()` alone, the command line overrides them, `complete` checks.
"""

import copy
import dataclasses
import math
from typing import Any

from fakeimg.fields import Section, set_field, update
from fakeimg.networks import NETWORKS, Model

# Kinds of degradation and the widest range of each that makes sense. New ones go to the end: their place is their seed.
DEGRADATIONS = {
    'brightness': (0, 10), 'contrast': (0, 10), 'saturation': (-10, 10), 'blur': (0, 100), 'rescale': (0.01, 1),
    'pixelate': (0.01, 1), 'noise': (0, 255), 'occlusion': (0, 1), 'jpeg': (1, 100),
}  # fmt: skip
DEMO = 'demo'  # data.path of faces drawn by code
VGG_MIN_SIZE = 32  # pixels; five poolings leave nothing of less
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in [0, 1]


@dataclasses.dataclass
class Data(Section):
    path: str = ''  # prepared set, folder, zip, tar or table; demo: faces drawn by code, which stand for nothing real
    labels: tuple[str, ...] = ()  # meaning of folder names and labels: NAME=real or NAME=fake
    columns: tuple[str, ...] = ()  # of a table, what they hold: path=NAME, label=NAME
    train_split: str = 'train'  # the images to learn from; a part of a split is written as in TFDS: train[:10%]
    validation_split: str = 'validation'  # the images that choose the best checkpoint
    demo_examples: int = 4000  # training faces of the demo; validation and test have a quarter each
    image_size: int = 224  # side of the square that the model sees, pixels
    resize_size: int = 0  # pixels of the short side before cropping; 0: 8 / 7 of image_size, which is 256 for 224
    resize_version: int = 2  # 1: as in runs before it had a number, which scaled some JPEGs otherwise; see docs/data.md
    validation_fraction: float = 0.1  # split off train where a folder has no validation split
    split_version: int = 2  # 1: as in runs before it had a number, where copies of an image might be on both sides
    balanced_sampling: bool = False  # True: every batch is half real, half fake, whatever train holds of each
    max_bad_fraction: float = 0.01  # of a split: more unreadable images than this stop the run
    threads: int = 0  # threads that decode; 0: one per core, at most one per 32 px of a side
    cache: str = 'auto'  # of decoded images: none | host: memory | device: those of train on each GPU | auto: what fits
    mean: tuple[float, ...] = ()  # of RGB in [0, 1]; (): what the initial weights expect, ImageNet's without weights
    std: tuple[float, ...] = ()  # likewise

    def check(self) -> None:
        for name in ('demo_examples', 'image_size'):
            self.require(name, getattr(self, name) >= 8, 'at least 8')
        ok = self.resize_size == 0 or self.resize_size >= self.image_size
        self.require('resize_size', ok, f'0 or at least config.data.image_size ({self.image_size})')
        self.require('validation_fraction', 0 < self.validation_fraction < 0.5, 'between 0 and 0.5')
        self.require('max_bad_fraction', 0 <= self.max_bad_fraction <= 1, 'between 0 and 1')
        for name in ('resize_version', 'split_version'):
            self.require(name, getattr(self, name) in (1, 2), '1 or 2')
        self.require('threads', self.threads >= 0, '0 (one per core) or more')
        self.require_one_of('cache', 'auto', 'none', 'host', 'device')
        ok, numbers = len(self.mean) in (0, 3) and all(map(math.isfinite, self.mean)), 'three numbers, one per colour'
        self.require('mean', ok, numbers)
        ok = len(self.std) in (0, 3) and all(0 < value < math.inf for value in self.std)
        self.require('std', ok, f'{numbers} above 0')

    def keep_ratio(self, image_size: int) -> None:
        """Gives `resize_size`, if it is set, the ratio to `image_size` that it had when that was `image_size`."""
        self.resize_size = round(self.resize_size * self.image_size / image_size)


@dataclasses.dataclass
class Init(Section):
    weights: str = 'none'  # imagenet | none | auto | run or other detector | converted file | OWNER/NAME on the hub
    digest: str = ''  # of a detector's weights; a run that starts from them notes it, and then refuses others


@dataclasses.dataclass
class Finetune(Section):
    head_epochs: float = 0.0  # at first the head learns alone; the rest then starts with a second warm-up
    last_stages: int = -1  # the head and this number of stages before it learn; 0: the head alone; -1: everything
    layer_decay: float = 1.0  # each stage's learning rate, of that of the next one towards the head

    def check(self) -> None:
        self.require('head_epochs', 0 <= self.head_epochs < math.inf, '0 (none) or more')
        self.require('last_stages', self.last_stages >= -1, '-1 (everything learns) or more')
        self.require('layer_decay', 0 < self.layer_decay <= 1, 'above 0, up to 1 (none)')
        ok = not self.head_epochs or self.last_stages != 0
        self.require('head_epochs', ok, '0 where config.finetune.last_stages=0 lets the head learn alone in every step')


@dataclasses.dataclass
class Augment(Section):
    random_crop: bool = True  # False: the centre, as in evaluation
    flip: bool = True  # left-right, half of the images
    alternating_flip: bool = False  # every other time that an image comes, instead of by a coin each time
    translate: int = 0  # most pixels that an image is shifted by, each way, its edge mirrored; 0: off
    cutout: float = 0.0  # side of a square of each image that is covered with data.mean, of the image's side; 0: off
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

    def check(self, image_size: int) -> None:
        for name in ('mixup', 'cutmix'):
            self.require(name, 0 <= getattr(self, name) < math.inf, '0 (off) or more')
        self.require('alternating_flip', self.flip or not self.alternating_flip, 'False without config.augment.flip')
        self.require('translate', 0 <= self.translate < image_size, f'0 (off) to {image_size - 1} for this image size')
        self.require('cutout', 0 <= self.cutout < 1, '0 (off) to below 1')
        self.require('degradation_probability', 0 <= self.degradation_probability <= 1, 'between 0 and 1')
        for name, (lowest, highest) in DEGRADATIONS.items():
            ends = getattr(self, name)
            ok = len(ends) == 0 or (len(ends) == 2 and lowest <= ends[0] <= ends[1] <= highest)
            self.require(name, ok, f'two numbers (low, high) between {lowest} and {highest}, or ()')


@dataclasses.dataclass
class Loss(Section):
    label_smoothing: float = 0.0  # labels become s / 2 and 1 - s / 2
    class_weights: str = 'none'  # balanced: both classes of train weigh the same, however many images each has

    def check(self) -> None:
        self.require('label_smoothing', 0 <= self.label_smoothing < 1, '0 (none) to below 1')
        self.require_one_of('class_weights', 'none', 'balanced')


@dataclasses.dataclass
class Optimizer(Section):
    name: str = 'adamw'  # adamw | sgd (Nesterov) | muon, with AdamW for the head, biases and BatchNorm
    base_learning_rate: float = 1e-3  # for 256 images a step; scaled linearly with batch_size
    adamw_learning_rate: float = 1e-3  # likewise, of what muon leaves to AdamW
    warmup_epochs: float = 0.5  # in which the learning rate rises from 0
    schedule: str = 'cosine'  # cosine | linear: how it falls from there, to 0 at the last step
    weight_decay: float = 1e-4  # never on BatchNorm and biases
    momentum: float = 0.9  # of sgd and muon
    clip_norm: float = 1.0  # of the whole gradient; 0: no clipping
    ema_decay: float = 0.0  # of the running average of the weights that is then validated; 0: none

    def check(self) -> None:
        self.require_one_of('name', 'adamw', 'sgd', 'muon')
        self.require_one_of('schedule', 'cosine', 'linear')
        for name in ('base_learning_rate', 'adamw_learning_rate'):
            self.require(name, 0 < getattr(self, name) < math.inf, 'more than 0')
        for name in ('warmup_epochs', 'weight_decay', 'momentum', 'clip_norm'):
            self.require(name, 0 <= getattr(self, name) < math.inf, '0 (none) or more')
        self.require('ema_decay', 0 <= self.ema_decay < 1, '0 (none) to below 1')


@dataclasses.dataclass
class Config(Section):
    seed: int = 0  # of initial weights, order and augmentation
    batch_size: int = 128  # images per step over all devices of all processes
    epochs: float = 10.0  # passes over the training images
    steps: int = 0  # 0: follows from epochs
    early_stopping: int = 0  # validations without a better AUC, as the mean of three, that end the run; 0: none do
    microbatches: int = 1  # parts that a device takes its images of a step in, one after the other, to save memory
    steps_per_call: int = 1  # that one call of the compiled program takes; more keep a GPU busy where steps are short
    precision: str = 'auto'  # float16 on a GPU without bfloat16 (T4), bfloat16 with it, float32 on CPU
    parallel: str = 'pmap'  # pmap | shard_map
    log_every_steps: int = 50  # from one row of metrics to the next
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
        self.require_one_of('precision', 'auto', 'float32', 'bfloat16', 'float16')
        self.require_one_of('parallel', 'pmap', 'shard_map')
        self.require('steps', self.steps >= 0, '0 (use epochs) or more')
        self.require('epochs', self.steps > 0 or 0 < self.epochs < math.inf, 'more than 0')
        for name in ('batch_size', 'microbatches', 'steps_per_call', 'log_every_steps'):
            self.require(name, getattr(self, name) >= 1, 'at least 1')
        self.require('validate_every_epochs', self.validate_every_epochs > 0, 'more than 0')
        for name in ('seed', 'early_stopping', 'checkpoint_every_steps'):
            self.require(name, getattr(self, name) >= 0, '0 or more')
        for section in (self.data, self.optimizer, self.finetune, self.loss):
            section.check()
        self.augment.check(self.data.image_size)
        self.model.check(self.data.image_size)
        self._check_together()

    def _check_together(self) -> None:
        ok = self.data.image_size >= VGG_MIN_SIZE or not self.model.name.startswith('vgg')
        self.data.require('image_size', ok, f'at least {VGG_MIN_SIZE} for {self.model.name}')
        frozen = ((self.finetune, 'head_epochs', 0), (self.finetune, 'last_stages', -1))
        for section, name, off in (*frozen, (self.model, 'freeze_batch_norm', False)):
            ok = self.init.weights != 'none' or getattr(section, name) in (off, None)
            section.require(name, ok, f'{off} unless config.init.weights is set, for what is frozen must have learned')
        ok = not self.data.balanced_sampling or self.loss.class_weights == 'none'
        self.loss.require('class_weights', ok, 'none with config.data.balanced_sampling, which balances them already')


def default_config() -> Config:
    """Returns the configuration that every recipe starts from."""
    return Config()


def complete(config: Config, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> Config:
    """A checked copy in which every field has its value. Raises UserError at a value that cannot work anywhere.

    `mean` and `std` are what the initial weights expect; `initial.complete` finds them.
    """
    config = copy.deepcopy(config)
    config.check()
    _fill(config, mean, std)
    return config


def _fill(config: Config, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> None:
    data = config.data
    data.resize_size = data.resize_size or round(data.image_size * 8 / 7)
    data.mean, data.std = data.mean or mean, data.std or std
    for option, value in config.model.options().items():
        setattr(config.model, option, value)


def override(config: Config, fields: dict[str, Any]) -> Config:
    """A copy with some fields changed, by their paths. An image size keeps its ratio to the size before the crop."""
    changed = copy.deepcopy(config)
    for field, value in fields.items():
        set_field(changed, field, value)
    if 'data.image_size' in fields and 'data.resize_size' not in fields:
        changed.data.keep_ratio(config.data.image_size)
    return changed


def from_plain(values: dict[str, Any]) -> Config:
    """Inverse of `to_plain`: newer fields get their defaults, versions 1; other networks' options are ignored."""
    config = Config(data=Data(resize_version=1, split_version=1))
    update(config, values)
    config.model.forget_others()
    if config.model.name in NETWORKS:
        _fill(config)
    return config

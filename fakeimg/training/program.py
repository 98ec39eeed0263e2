"""Builds a run from its configuration: data, devices, model, optimizer, compiled steps. Nothing is written here."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import optax

from fakeimg import detector, initial, scoring
from fakeimg.config import Config
from fakeimg.console import Console
from fakeimg.data import datasets as datasets_lib
from fakeimg.data import memory, partition, pipeline, seen
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.errors import UserError
from fakeimg.meta import Meta
from fakeimg.models import create_model, init_variables
from fakeimg.runtime import parallel, precision
from fakeimg.training import device_cache, early_stopping, optimizer
from fakeimg.training.schedule import Schedule
from fakeimg.training.state import TrainState, create_state, initial_scale
from fakeimg.training.step import Step, balanced_weights, take_steps, train_step


@dataclasses.dataclass(frozen=True)
class Program:
    """What a run executes.

    Attributes:
        config: the configuration after overrides.
        data: its splits, with train among them, as the configuration slices and caches them.
        devices: all devices of the run.
        model: the network.
        tx: the optimizer.
        schedule: length and learning rates.
        head_step: the step while the head learns alone, like `train_step`; None if it never does.
        train_step: `(state, batch) -> (state, outputs)` over all devices, see `take_steps`; donates the state.
        scorer: scores a split with the variables of a state.
        content_digest: of the data, see `seen.content_digest`.
        caches_on_devices: whether the images of train are to be on the devices; `with_device_images` puts them there.
        device_images: the images of train once they are.
    """

    config: Config
    data: datasets_lib.DataSet
    devices: parallel.Devices
    model: nn.Module
    tx: optax.GradientTransformation
    schedule: Schedule
    head_step: Step | None
    train_step: Step
    scorer: scoring.Scorer
    content_digest: str
    caches_on_devices: bool = False
    device_images: device_cache.DeviceImages | None = None

    @property
    def splits(self) -> dict[str, datasets_lib.Split]:
        return self.data.splits

    @property
    def num_train(self) -> int:
        return len(self.splits['train'])

    @property
    def cached_bytes(self) -> int:
        """Host memory that decoded images will keep, 0 without a cache."""
        on_host = [split for name, split in self.splits.items() if name != 'train' or not self.caches_on_devices]
        return sum(split.cache.size_in_bytes for split in on_host if split.cache)

    @property
    def device_cached_bytes(self) -> int:
        """Memory of each device that the images of train take, 0 if they are not there."""
        return self.num_train * self.config.data.resize_size**2 * 3 if self.caches_on_devices else 0

    @property
    def dtype(self) -> jnp.dtype:
        """Of activations."""
        return jnp.dtype(self.model.dtype)

    def abstract_state(self) -> TrainState:
        """The state's shapes and dtypes, placed on the devices of this run, without computing anything."""
        shapes = jax.eval_shape(lambda: self._fresh_state(init_variables(self.model, self._image_size, 0)))
        return self.devices.abstract(shapes)

    def initial_state(self) -> tuple[TrainState, str]:
        """The state of step 0 on the devices, and where it comes from, in words."""
        variables, origin = initial.create(self.config, self.model)
        return self.devices.replicate(self._fresh_state(variables)), f'from {origin or "scratch"}'

    def _fresh_state(self, variables: dict[str, Any]) -> TrainState:
        return create_state(variables, self.tx, self.dtype, averaged=self.config.optimizer.ema_decay > 0)

    def with_loss_scale(self, state: TrainState) -> TrainState:
        """A restored state with the loss scale that this precision needs: a new one after bfloat16 or float32."""
        scale = initial_scale(self.dtype) if state.dynamic_scale is None else None
        return state if scale is None else state.replace(dynamic_scale=self.devices.replicate(scale))

    def advance(self, step: int, state: TrainState, batch: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        """Takes the steps of `batch`, the first of them `step` (from 0), with or without the head alone.

        It donates the state.
        """
        if self.head_step is not None and step < self.schedule.head_steps:
            return self.head_step(state, batch)
        if self.head_step is not None and step == self.schedule.head_steps:
            # A new state: Adam's bias correction counts its steps, and would enlarge the first updates of weights that
            # join late about threefold. The old state was saved if this step is resumed from, so it is dropped here.
            opt_state = jax.jit(self.tx.init)(jax.device_get(state.params))
            state = state.replace(opt_state=self.devices.replicate(opt_state))
        return self.train_step(state, batch)

    @property
    def _image_size(self) -> int:
        return self.config.data.image_size

    def with_device_images(self, bad: UnreadableImages, console: Console) -> 'Program':
        """The same run with the images of train on the devices, if they are to be there; see `device_cache.load`."""
        if not self.caches_on_devices:
            return self
        train = self.splits['train']
        images = device_cache.load(train, self.config, self.devices, bad, console)
        if images is None:
            return dataclasses.replace(self, caches_on_devices=False)
        splits = {**self.splits, 'train': dataclasses.replace(train, cache=None)}
        return dataclasses.replace(self, data=dataclasses.replace(self.data, splits=splits), device_images=images)

    def train_batches(self, bad: UnreadableImages) -> pipeline.TrainBatches:
        """The batches of this run on the host, by step."""
        arguments = self.splits['train'], self.config, bad, self.schedule.total_steps
        if self.device_images is not None:
            return pipeline.NumberedBatches(*arguments, is_readable=self.device_images.is_readable)
        return pipeline.TrainBatches(*arguments, shard=parallel.shard())

    def device_batches(
        self, batches: pipeline.Batches, call_length: Callable[[int], int] = lambda step: 1
    ) -> grain.IterDataset:
        """Batches in order, already on the devices, two calls ahead of their consumer.

        `call_length` says how many steps the call from a step on takes; their batches come as one.
        """
        dataset = pipeline.Stacked(pipeline.read_batches(batches, self.config.data.threads), call_length)
        dataset = dataset.map(self._to_devices)
        return grain.experimental.ThreadPrefetchIterDataset(dataset, prefetch_buffer_size=2)

    def _to_devices(self, batch: pipeline.Batch) -> dict[str, Any]:
        placed = self.devices.split(batch)
        return {**placed, 'images': self.device_images.images} if self.device_images and 'index' in batch else placed

    def meta(self) -> Meta:
        """What the checkpoints of this run say about themselves."""
        meta = detector.describe(self.config, self.data.digest)
        return dataclasses.replace(meta, content_digest=self.content_digest)


def build(config: Config, devices: Sequence[Any] | None = None, *, continues: bool = False) -> Program:
    """Checks a configuration against data and devices (None: every device there is) and builds the run.

    One that `continues` leaves devices out where its batch size cannot be split over all of them.

    Raises:
        UserError: anything in the configuration or the data that cannot work.
    """
    config = datasets_lib.located(initial.complete(config))
    mapped = parallel.Devices.create(config.parallel, config.batch_size, devices, continues=continues)
    images = config.batch_size // mapped.count
    if images % config.microbatches:
        raise UserError(
            f'config.batch_size={config.batch_size} leaves {images} images to each device, which '
            f'config.microbatches={config.microbatches} does not divide; change one of them.'
        )
    dtype = precision.resolve(config.precision)
    model = create_model(config, dtype, parallel.AXIS)
    data = datasets_lib.open_data(config)
    splits = partition.training_splits(data, config)
    notes = [*data.notes, *partition.split_notes(splits), *partition.near_copies_notes(data, config)]
    real, fake = datasets_lib.class_counts(splits['train'])
    if not (real and fake):
        missing = 'real' if fake else 'fake'
        raise UserError(
            f'the split {config.data.train_split} of {config.data.path} has no {missing} images '
            f'({real} real, {fake} fake); a detector needs both classes.'
        )
    early_stopping.check(config, splits)
    schedule = Schedule.create(config, len(splits['train']))
    splits |= {name: seen.watched(splits[name]) for name in ('train', 'validation') if name in splits}
    splits = memory.cache_decoded(splits, config, schedule.total_steps, jax.process_count())
    tx, step, head_step = device_steps(config, model, schedule, (real, fake))

    def compiled(step: Step) -> Step:
        return mapped.map(functools.partial(take_steps, step=step), donate_state=True)

    return Program(
        config=config,
        data=dataclasses.replace(data, splits=splits, notes=notes),
        devices=mapped,
        model=model,
        tx=tx,
        schedule=schedule,
        head_step=head_step and compiled(head_step),
        train_step=compiled(step),
        scorer=scoring.Scorer.create(model, config, mapped),
        content_digest=seen.content_digest(data),
        caches_on_devices=device_cache.is_used(config, mapped, splits['train']),
    )


def device_steps(
    config: Config, model: nn.Module, schedule: Schedule, counts: tuple[int, int]
) -> tuple[optax.GradientTransformation, Step, Step | None]:
    """The optimizer, and the steps of one device: of the whole network, and of the head alone if it begins alone.

    Args:
        config: the whole configuration.
        model: the network.
        schedule: of the run.
        counts: training images by class, real and fake.
    """
    *head_rate, last_rate = schedule.phases()
    class_weights = balanced_weights(*counts) if config.loss.class_weights == 'balanced' else (1.0, 1.0)
    step = functools.partial(
        train_step, learning_rate=schedule.learning_rate(), config=config, class_weights=class_weights
    )
    head_step = None
    if head_rate:
        head_model = model.clone(frozen_stages=len(model.stages) - 1)
        head_tx = optimizer.create_optimizer(config, head_rate[0], model)
        head_step = functools.partial(step, model=head_model, tx=head_tx)
    tx = optimizer.create_optimizer(config, last_rate, model)
    return tx, functools.partial(step, model=model, tx=tx), head_step

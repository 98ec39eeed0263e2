"""The images of train on every device, decoded before the first step: a batch then is their numbers alone.

Each device holds all of them. Shares of them would let larger sets fit, but every step would then exchange images
between devices, as many bytes as the host would send otherwise.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fakeimg.config import Config
from fakeimg.console import Console
from fakeimg.data import memory, pipeline
from fakeimg.data.datasets import Split
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.errors import UserError
from fakeimg.runtime import parallel

AUTO_SHARE = 0.1  # of a device's free memory that `config.data.cache=auto` gives to images: a step should still fit


@dataclasses.dataclass(frozen=True)
class DeviceImages:
    """All images of a split.

    Attributes:
        images: uint8[n, s, s, 3] on each device, see `parallel.Devices.on_each`; black where unreadable.
        is_readable: bool[n], on the host.
    """

    images: jax.Array
    is_readable: np.ndarray


def is_used(config: Config, devices: parallel.Devices, split: Split) -> bool:
    """Whether `config.data.cache` puts the images of `split` on the devices.

    Raises:
        UserError: `config.data.cache=device` cannot work here.
    """
    needed = len(split) * config.data.resize_size**2 * 3
    available = free_memory(devices.local)
    if config.data.cache == 'auto':
        is_possible = split.cache is not None and jax.process_count() == 1 and devices.local[0].platform != 'cpu'
        return is_possible and needed <= AUTO_SHARE * available
    if config.data.cache != 'device':
        return False
    if jax.process_count() > 1:
        raise UserError(
            f'config.data.cache=device is for runs of one process, and this one has {jax.process_count()}; '
            'set config.data.cache=host.'
        )
    if needed > available:
        raise UserError(
            f'config.data.cache=device needs {needed / 1e9:,.3g} GB for the decoded images of train, and a device has '
            f'{available / 1e9:,.3g} GB left; set config.data.cache=host, or lower config.data.resize_size.'
        )
    return True


def free_memory(devices: Sequence[Any]) -> int:
    """Bytes that are left on each device; those that do not tell are CPUs, which share the host's memory."""
    stats = [device.memory_stats() for device in devices]
    free = [each['bytes_limit'] - each['bytes_in_use'] for each in stats if each]
    return min(free, default=memory.available_memory() // len(devices))


def load(
    split: Split, config: Config, devices: parallel.Devices, unreadable: UnreadableImages, console: Console
) -> DeviceImages | None:
    """Decodes every image of a split that has a cache, and copies them to the devices.

    Returns:
        The images; None if some are not squares of `config.data.resize_size` pixels, which are resized for each crop,
        from all their pixels, and `config.data.cache` is auto.

    Raises:
        UserError: more than `config.data.max_bad_fraction` of the split is unreadable, or there are such images and
            `config.data.cache` is device.
    """
    assert split.cache is not None
    batches = pipeline.EvalBatches(split, config, unreadable)
    decoded = pipeline.read_batches(batches, config.data.threads)
    is_readable = np.ones(len(split), bool)
    for number, batch in enumerate(console.track(decoded, 'decoding train', len(batches), config.batch_size)):
        unreadable.check()
        rows = np.arange(len(split))[number * config.batch_size :][: config.batch_size]
        is_readable[rows] = batch['weight'][: len(rows)] > 0
        others = rows[is_readable[rows] & ~split.cache.holds(rows)]
        if len(others):
            side = config.data.resize_size
            reason = (
                f'devices keep images of {side}x{side} px (config.data.resize_size) alone, and '
                f'{split.names[others[0]]} is not one'
            )
            if config.data.cache == 'device':
                raise UserError(
                    f'config.data.cache=device cannot work: {reason}; set config.data.cache=host, or crop and resize '
                    'the images to that size first.'
                )
            console.say(f'  decoded images stay in host memory: {reason}')
            return None
    images = split.cache.images
    images[~is_readable] = 0  # as in batches from the host
    return DeviceImages(devices.on_each(images), is_readable)

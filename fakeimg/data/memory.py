"""What stays in memory during a run: decoded images of train and validation, and encoded images of prepared sets."""

import dataclasses
import os
import pathlib

from fakeimg.config import Config
from fakeimg.data.datasets import Split
from fakeimg.data.images import CachedImages
from fakeimg.data.records import RecordFiles
from fakeimg.errors import UserError

DECODED_SHARE = 0.5  # of the memory available when a run starts, which `config.data.cache=auto` may fill
ENCODED_SHARE = 0.2  # of it, which the encoded images of one split may take as well
_CACHED = ('train', 'validation')  # splits that are read more than once
CGROUP = pathlib.Path('/sys/fs/cgroup')


def cache_decoded(splits: dict[str, Split], config: Config, num_steps: int, processes: int = 1) -> dict[str, Split]:
    """Returns all splits, train and validation with memory for their decoded images if `config.data.cache` says so.

    Args:
        splits: by name; train is among them.
        config: `data.cache`, `data.resize_size` and `batch_size` are read.
        num_steps: length of the training.
        processes: of this run; they may share the machine, and each caches every image in the end.

    Raises:
        UserError: `config.data.cache=host`, or device, for which images are decoded here, needs more than is available.
    """
    side, names = config.data.resize_size, [name for name in _CACHED if name in splits]
    needed = sum(len(splits[name]) * side * side * 3 for name in names)
    available = available_memory() // processes
    if config.data.cache in ('host', 'device') and needed > available:
        raise UserError(
            f'config.data.cache={config.data.cache} needs {needed / 1e9:,.1f} GB for decoded images, and '
            f'{available / 1e9:,.1f} GB are available to this process; leave it auto.'
        )
    fits, is_read_again = needed <= DECODED_SHARE * available, num_steps * config.batch_size > len(splits['train'])
    if config.data.cache == 'none' or (config.data.cache == 'auto' and not (fits and is_read_again)):
        return splits
    cached = {name: dataclasses.replace(splits[name], cache=CachedImages(splits[name].files, side)) for name in names}
    return {**splits, **cached}


def cache_encoded(split: Split, config: Config, processes: int = 1) -> None:
    """Starts to load the records of a prepared set, unless `config.data.cache` is none or they do not fit."""
    files = split.files
    if config.data.cache != 'none' and isinstance(files, RecordFiles):
        if files.size_in_bytes() <= ENCODED_SHARE / processes * available_memory():
            files.load()


def available_memory() -> int:
    """Bytes that this machine, or the container this runs in, has left."""
    try:
        rows = (line.split() for line in pathlib.Path('/proc/meminfo').read_text().splitlines())
        free = next(int(row[1]) * 1024 for row in rows if row[0] == 'MemAvailable:')
    except (OSError, StopIteration):
        try:
            free = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2
        except (OSError, ValueError):
            return 0
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ('memory.max', 'memory.current'))
        return free if limit == 'max' else max(0, min(free, int(limit) - int(used)))
    except (OSError, ValueError):
        return free

"""What stays in memory during a run: decoded images of train and validation, and encoded images of prepared sets."""

import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from fakeimg.config import Config
from fakeimg.data.datasets import Split
from fakeimg.data.decode import BadImage
from fakeimg.data.images import CachedImages, Images
from fakeimg.data.records import RecordFiles
from fakeimg.errors import UserError

DECODED_SHARE = 0.5  # of the memory available when a run starts, which `config.data.cache=auto` may fill
ENCODED_SHARE = 0.2  # of it, which the encoded images of one split may take as well
_CACHED = ('train', 'validation')  # splits that are read more than once
LOOKED_AT = 8  # images of a split that are decoded to see whether the others will stay in memory
CGROUP = pathlib.Path('/sys/fs/cgroup')
OWN_CGROUP = pathlib.Path('/proc/self/cgroup')


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
    share, version = _share_that_holds(splits, names, side), config.data.resize_version
    if config.data.cache == 'auto' and share == 0:
        return splits
    caches = {name: CachedImages(splits[name].files, side, version, share) for name in names}
    cached = {name: dataclasses.replace(splits[name], cache=cache) for name, cache in caches.items()}
    return {**splits, **cached}


def cache_encoded(split: Split, config: Config, processes: int = 1) -> None:
    """Starts to load the records of a prepared set, unless `config.data.cache` is none or they do not fit."""
    files = split.files
    if config.data.cache != 'none' and isinstance(files, RecordFiles):
        if files.size_in_bytes() <= ENCODED_SHARE / processes * available_memory():
            files.load()


def _share_that_holds(splits: dict[str, Split], names: list[str], side: int) -> float:
    """The share of images that are squares of `side` pixels once decoded, and so stay in memory, from a few of them."""
    place, held, read = np.empty((side, side, 3), np.uint8), 0, 0
    for name in names:
        images, count = Images(splits[name].files, side), len(splits[name])
        for index in np.unique(np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(int)):
            with contextlib.suppress(OSError, BadImage):  # an unreadable one says nothing
                held += images.read(int(index), place) is place
                read += 1
    return held / read if read else 1.0


def available_memory() -> int:
    """Bytes that this machine has left, or the narrowest of the containers (cgroups) that this process is in."""
    return max(0, int(min(_free_on_this_machine(), *_left_in_containers())))


def _free_on_this_machine() -> int:
    try:
        rows = (line.split() for line in pathlib.Path('/proc/meminfo').read_text().splitlines())
        return next(int(row[1]) * 1024 for row in rows if row[0] == 'MemAvailable:')
    except (OSError, StopIteration):
        try:
            return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2
        except (OSError, ValueError):
            return 0


def _left_in_containers() -> Iterator[float]:
    """Bytes left at each level of this process's cgroup; version 2 and, for machines that still have it, version 1."""
    yield math.inf
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:
        lines = ['0::/', '0:memory:/']
    for line in lines:
        _, _, rest = line.partition(':')
        controllers, _, path = rest.partition(':')
        if controllers and 'memory' not in controllers.split(','):
            continue
        roots = (CGROUP / 'memory',) if controllers else (CGROUP, CGROUP / 'unified')
        parts = [part for part in path.split('/') if part not in ('', '.', '..')]
        for root, depth in itertools.product(roots, range(len(parts), -1, -1)):
            yield _left_in_cgroup(root.joinpath(*parts[:depth]), is_version_2=not controllers)


def _left_in_cgroup(folder: pathlib.Path, *, is_version_2: bool) -> float:
    """The limit less what cannot be reclaimed: the kernel drops pages of files before it kills a process."""
    limits, used, prefix = (
        (('memory.max', 'memory.high'), 'memory.current', '')
        if is_version_2
        else (('memory.limit_in_bytes',), 'memory.usage_in_bytes', 'total_')
    )
    limit = min(_number(folder / name) for name in limits)
    statistics: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError):
        rows = (line.split() for line in (folder / 'memory.stat').read_text().splitlines())
        statistics = {row[0]: float(row[1]) for row in rows if len(row) == 2}
    limit = min(limit, statistics.get('hierarchical_memory_limit', math.inf))  # of levels above that are out of sight
    if limit == math.inf:
        return math.inf
    taken = _number(folder / used)
    files = sum(statistics.get(f'{prefix}{kind}_file', 0) for kind in ('active', 'inactive'))
    return limit - max(0, taken - files) if taken < math.inf else limit


def _number(path: pathlib.Path) -> float:
    try:
        return float(path.read_text())  # `max` is no number
    except (OSError, ValueError):
        return math.inf

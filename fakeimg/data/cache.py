"""Decoded images kept in memory, so that from the second epoch on nothing is read or decoded."""

import os
import pathlib
import threading

import numpy as np

SHARE = 0.5  # of the memory that is available when a run starts, which `auto` may fill
ENCODED_SHARE = 0.2  # of it, which the encoded images of one split may take beside
_CGROUP = pathlib.Path('/sys/fs/cgroup')


class DecodedImages:
    """The images of one split as `decode.decode_rgb` returned them; shared by several threads.

    Only squares of `side` pixels are kept. Others have yet to be resized, from as much as they hold of the crop.
    """

    def __init__(self, count: int, side: int):
        self._images = np.empty((count, side, side, 3), np.uint8)  # memory is taken when an image is written
        self._is_kept = np.zeros(count, bool)
        self._is_claimed = np.zeros(count, bool)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many are kept."""
        return int(self._is_kept.sum())

    def get(self, index: int) -> np.ndarray | None:
        """Image `index`, uint8[side, side, 3], or None if it is not kept."""
        return self._images[index] if self._is_kept[index] else None

    def gather(self, indices: np.ndarray, out: np.ndarray) -> bool:
        """Writes images `indices`, int[b], to `out`, uint8[b, side, side, 3]; False if they are not all kept."""
        if not self._is_kept[indices].all():
            return False
        np.take(self._images, indices, axis=0, out=out, mode='clip')  # the default mode would buffer `out`
        return True

    def claim(self, index: int) -> np.ndarray | None:
        """The place of image `index`, uint8[side, side, 3], to decode it into and `keep` it; None if it is taken."""
        with self._lock:
            if self._is_claimed[index]:
                return None
            self._is_claimed[index] = True
        return self._images[index]

    def release(self, index: int) -> None:
        """Gives a claimed place back, for an image that could not be read."""
        self._is_claimed[index] = False

    def keep(self, index: int, image: np.ndarray) -> None:
        """Keeps an image that was claimed, if it has the size; it is copied unless it is in its place already."""
        if image.shape == self._images.shape[1:]:
            if image.base is not self._images:
                self._images[index] = image
            self._is_kept[index] = True  # only now, for other threads


def size_in_bytes(count: int, side: int) -> int:
    """Memory that a split takes once all of it is kept."""
    return count * side * side * 3


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
        limit, used = ((_CGROUP / name).read_text().strip() for name in ('memory.max', 'memory.current'))
        return free if limit == 'max' else max(0, min(free, int(limit) - int(used)))
    except (OSError, ValueError):
        return free

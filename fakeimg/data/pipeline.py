"""Batches by number: a Grain source whose item k is the whole batch of step k, so that any step can be asked for.

One item per batch keeps Python out of the per-image path (several times faster than an image per item), and
makes the order a pure function of (seed, step): threads, prefetching and restarts cannot change it.
"""

import csv
import functools
import os
import pathlib
import sys
import threading
from collections.abc import Callable

import grain
import numpy as np

from fakeimg.config import Config
from fakeimg.data import cache, decode
from fakeimg.data.datasets import Split
from fakeimg.errors import UserError
from fakeimg.files import TEXT

Batch = dict[str, np.ndarray]


class UnreadableImages:
    """The unreadable images met so far in one split; safe to share between threads."""

    def __init__(self, split: str, num_examples: int, max_fraction: float):
        self._split = split
        self._num_examples = num_examples
        self._max_fraction = max_fraction
        self._reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, name: str, reason: str) -> None:
        with self._lock:
            self._reasons[name] = reason

    def check(self) -> None:
        """Raises UserError when more than the tolerated share of the split is unreadable."""
        if len(self) > self._max_fraction * self._num_examples:
            name, reason = next(iter(self._reasons.items()))
            raise UserError(
                f'{len(self)} of {self._num_examples} images of split {self._split} cannot be read '
                f'(first: {name}: {reason}), more than config.data.max_bad_fraction={self._max_fraction} allows; '
                'mend or remove them, or raise that limit.'
            )

    def write(self, path: pathlib.Path) -> None:
        """Adds the images that are not yet listed to the CSV file (split, name, reason) at `path`."""
        with self._lock:
            rows = [(self._split, name, reason) for name, reason in sorted(self._reasons.items())]
        listed = set()
        if path.exists():
            with open(path, **TEXT) as file:
                listed = {tuple(row[:2]) for row in csv.reader(file)}
        new = [row for row in rows if row[:2] not in listed]
        if new:
            with open(path, 'a', **TEXT) as file:
                csv.writer(file).writerows(([] if listed else [('split', 'name', 'reason')]) + new)


class _Buffers:
    """Arrays for images, used again once nobody else holds them; the kernel would zero fresh memory every time.

    Whoever has a batch, a view of it, or a device array on top of it (which jax makes on a CPU) holds its buffer.
    """

    _HELD_BY_US = 3  # references to a free buffer in `take`: the list's, the loop's, and getrefcount's own

    def __init__(self):
        self._arrays: list[np.ndarray] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns uint8 of `shape`, the same in every call, with anything in it."""
        with self._lock:
            for array in self._arrays:
                if sys.getrefcount(array) == self._HELD_BY_US:
                    return array
            array = np.empty(shape, np.uint8)
            self._arrays.append(array)
            return array


class Batches(grain.sources.RandomAccessDataSource):
    """Item k is the batch of step k: `{'image': uint8[b, R, R, 3], 'label': int32[b], 'weight': float32[b]}`.

    b is this process's share of the batch size, R `config.data.resize_size`. Where `image_size` is less, `offset`,
    int32[b, 2], says where the image begins in its image, row and column: cropping is left to the device
    (`models.crop`), for copying what was just decoded costs the host a tenth of decoding it. A weight of 0 marks
    padding and unreadable images, whose image is black.
    """

    def __init__(
        self,
        source: Split,
        config: Config,
        bad: UnreadableImages,
        *,
        shard: tuple[int, int] = (0, 1),
    ):
        self._source = source
        self._cache = source.cache
        self._buffers = _Buffers()
        self._bad = bad
        self._may_keep = config.data.cache != 'none'
        process, self._processes = shard
        self._batch_size = config.batch_size
        rows = config.batch_size // self._processes
        self._rows = slice(process * rows, (process + 1) * rows)
        self._image_size = config.data.image_size
        self.side = config.data.resize_size

    def read_ahead(self) -> None:
        """Starts to read encoded images into memory, if that is allowed and they fit."""
        if self._may_keep:
            self._source.read_ahead(cache.ENCODED_SHARE / self._processes)

    def _load(self, indices: np.ndarray, positions: np.ndarray) -> Batch:
        """Decodes this process's share of the global batch `indices` (-1 is padding)."""
        indices, positions = indices[self._rows], positions[self._rows]
        side, size = self.side, self._image_size
        images = self._buffers.take((len(indices), side, side, 3))
        # Maps [0, 1) onto the whole offsets 0 to side - size, each as likely as the next.
        offsets = (positions * (side - size + 1)).astype(np.int32)
        labels = np.where(indices >= 0, self._source.labels[indices], 0).astype(np.int32)
        if self._cache is not None and self._cache.gather(indices, images):
            weights = (indices >= 0).astype(np.float32)
            images[indices < 0] = 0
        else:
            weights = np.zeros(len(indices), np.float32)
            for row, index in enumerate(indices.tolist()):
                image = images[row]
                decoded = self._decode(index, image) if index >= 0 else None
                if decoded is None:
                    image[...] = 0
                    continue
                weights[row] = 1
                if decoded is image:
                    continue
                if decoded.shape == image.shape:
                    image[...] = decoded
                else:
                    image[...], offsets[row] = 0, 0
                    decode.crop_square(decoded, side, size, positions[row], image[:size, :size])
        batch = {'image': images, 'label': labels, 'weight': weights}
        return batch if side == size else {**batch, 'offset': offsets}

    def _decode(self, index: int, image: np.ndarray) -> np.ndarray | None:
        """Image `index`, decoded; `image` itself where it fits there; None, once noted, if it cannot be read."""
        if self._cache is not None and (decoded := self._cache.get(index)) is not None:
            return decoded
        place = None if self._cache is None else self._cache.claim(index)
        try:
            data = self._source[index]
            decoded = decode.decode_rgb(data, self.side, image if place is None else place)
        except (decode.BadImage, OSError) as error:
            self._bad.add(self._source.names[index], str(error))
            if self._cache is not None and place is not None:
                self._cache.release(index)
            return None
        if self._cache is not None and place is not None:
            self._cache.keep(index, decoded)
        return decoded


class TrainBatches(Batches):
    """Endless shuffled epochs, cut into batches without regard to where an epoch ends: no image is left out.

    With `config.data.balanced_sampling` the two classes alternate, each in shuffled epochs of its own.
    """

    def __init__(self, source: Split, config: Config, bad: UnreadableImages, num_steps: int, **kwargs):
        super().__init__(source, config, bad, **kwargs)
        self._seed = config.seed
        self._num_steps = num_steps
        self._random_crop = config.augment.random_crop
        # Two: a batch that straddles epochs, and threads on both sides of the border.
        self._epoch_order = functools.lru_cache(maxsize=4)(self._shuffled)
        self._class_order = functools.lru_cache(maxsize=8)(self._shuffled_class)
        self._of_class = [np.flatnonzero(source.labels == label) for label in (0, 1)]
        self._balanced = config.data.balanced_sampling

    def __len__(self) -> int:
        return self._num_steps

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, 0, epoch)).permutation(len(self._source))

    def _shuffled_class(self, label: int, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, 2, label, epoch)).permutation(self._of_class[label])

    def _indices(self, step: int) -> np.ndarray:
        numbers = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        if not self._balanced:
            return _look_up(numbers, len(self._source), self._epoch_order)
        indices = np.empty_like(numbers)
        for label, members in enumerate(self._of_class):
            rows = numbers % 2 == label
            order = functools.partial(self._class_order, label)
            indices[rows] = _look_up(numbers[rows] // 2, len(members), order)
        # Neighbours must not always be of two classes: Mixup pairs them.
        return np.random.default_rng((self._seed, 3, step)).permutation(indices)

    def __getitem__(self, step: int) -> Batch:
        indices = self._indices(step)
        if self._random_crop:
            positions = np.random.default_rng((self._seed, 1, step)).random((self._batch_size, 2))
        else:
            positions = np.full((self._batch_size, 2), 0.5)
        return self._load(indices, positions)


def _look_up(numbers: np.ndarray, size: int, epoch_order: Callable[[int], np.ndarray]) -> np.ndarray:
    """Images by running number, ascending, over epochs of `size` whose order `epoch_order` gives."""
    epochs, places = np.divmod(numbers, size)
    indices = np.empty_like(numbers)
    for epoch in np.unique(epochs):
        indices[epochs == epoch] = epoch_order(int(epoch))[places[epochs == epoch]]
    return indices


class EvalBatches(Batches):
    """Every example once, in the source's order, centre crops; the last batch is padded."""

    def __len__(self) -> int:
        return -(-len(self._source) // self._batch_size)

    def __getitem__(self, step: int) -> Batch:
        indices = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        indices[indices >= len(self._source)] = -1
        return self._load(indices, np.full((self._batch_size, 2), 0.5))


def num_threads(threads: int, side: int) -> int:
    """`config.data.threads`, of which 0 means one per core, but no more than one per 32 of the images' `side` pixels.

    Threads that decode small images take turns with the interpreter: at 32 px two are slower than one.
    """
    return threads or max(1, min(len(os.sched_getaffinity(0)), side // 32))


def read_batches(batches: Batches, threads: int = 0) -> grain.IterDataset:
    """Returns the batches in order, decoded ahead by threads, see `num_threads`."""
    threads = num_threads(threads, batches.side)
    batches.read_ahead()
    # simplejpeg releases the GIL; one finished batch beyond those in the making keeps every thread busy.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    return grain.MapDataset.source(batches).to_iter_dataset(options)

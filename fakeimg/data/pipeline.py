"""Batches by number: a Grain source whose item k is the whole batch of step k, so that any step can be read.

One item per batch keeps Python out of the per-image path (several times faster than an image per item), and
makes the order a pure function of (seed, step): threads, prefetching and restarts cannot change it.
"""

import functools
import os
from collections.abc import Callable, Collection
from typing import Any

import grain
import numpy as np
from jaxtyping import Bool, Float, Int

from fakeimg.config import Config
from fakeimg.data import decode, memory
from fakeimg.data.buffers import Buffers
from fakeimg.data.datasets import Split
from fakeimg.data.images import Images
from fakeimg.data.unreadable import UnreadableImages

Batch = dict[str, np.ndarray]


class Batches(grain.sources.RandomAccessDataSource):
    """Item k is the batch of step k: `{'image': uint8[b, R, R, 3], 'label': int32[b], 'weight': float32[b]}`.

    b is this process's share of the batch size, R `config.data.resize_size`. Where `image_size` is less, `offset`,
    int32[b, 2], says where the image begins in its image, row and column: cropping is left to the device
    (`models.crop`), for copying what was just decoded costs the host a tenth of decoding it. A weight of 0 marks
    padding and unreadable images, whose image is black.
    """

    def __init__(
        self,
        split: Split,
        config: Config,
        unreadable: UnreadableImages,
        *,
        shard: tuple[int, int] = (0, 1),
    ):
        self.side = config.data.resize_size
        self._config = config
        process, self._processes = shard
        self._split = split
        self._images = split.cache or Images(split.files, self.side, config.data.resize_version)
        self._unreadable = unreadable
        self._batch_size = config.batch_size
        rows = config.batch_size // self._processes
        self._rows = slice(process * rows, (process + 1) * rows)
        self._image_size = config.data.image_size
        self._buffers = Buffers((rows, self.side, self.side, 3))

    def cache_encoded(self) -> None:
        """Starts to load encoded images into memory, if the configuration allows it and they fit."""
        memory.cache_encoded(self._split, self._config, self._processes)

    def _load(self, indices: Int[np.ndarray, ' n'], positions: Float[np.ndarray, 'n 2']) -> Batch:
        """Decodes this process's share of the global batch `indices` (-1 is padding)."""
        indices, positions = indices[self._rows], positions[self._rows]
        side, size = self.side, self._image_size
        images = self._buffers.take()
        labels = np.where(indices >= 0, self._split.labels[indices], 0).astype(np.int32)
        weights = (indices >= 0).astype(np.float32)
        offsets = self._offsets(positions)
        if not self._images.gather(indices, images):
            for row, index in enumerate(indices.tolist()):
                out = images[row]
                image = self._read(index, out) if index >= 0 else None
                if image is None:
                    weights[row] = 0
                elif image is not out:
                    out[...], offsets[row] = 0, 0
                    decode.crop_square(image, side, size, positions[row], out[:size, :size])
        images[weights == 0] = 0
        batch = {'image': images, 'label': labels, 'weight': weights}
        return batch if side == size else {**batch, 'offset': offsets}

    def _offsets(self, positions: Float[np.ndarray, 'n 2']) -> Int[np.ndarray, 'n 2']:
        """Maps [0, 1) onto the whole offsets 0 to side - size, each as likely as the next."""
        return (positions * (self.side - self._image_size + 1)).astype(np.int32)

    def _read(self, index: int, out: np.ndarray) -> np.ndarray | decode.Decoded | None:
        try:
            return self._images.read(index, out)
        except (decode.BadImage, OSError) as error:
            self._unreadable.add(self._split.names[index], str(error))


class TrainBatches(Batches):
    """Endless shuffled epochs, cut into batches without regard to where an epoch ends: no image is left out.

    With `config.data.balanced_sampling` the two classes alternate, and each is shuffled by epochs. With
    `config.augment.alternating_flip` a batch has `flip`, bool[b], too: an image is flipped every other time that it
    comes, which is every other epoch (of its class where sampling is balanced), and a draw by its number says whether
    it is the first time (Jordan 2024, '94% on CIFAR-10 in 3.29 Seconds on a Single GPU', section 3.6).
    """

    def __init__(self, split: Split, config: Config, unreadable: UnreadableImages, num_steps: int, **kwargs):
        super().__init__(split, config, unreadable, **kwargs)
        self._seed = config.seed
        self._num_steps = num_steps
        self._random_crop = config.augment.random_crop
        # A batch may cross two epochs, and threads may work on both sides of the border.
        self._epoch_order = functools.lru_cache(maxsize=4)(self._shuffled)
        self._class_order = functools.lru_cache(maxsize=8)(self._shuffled_class)
        self._of_class = [np.flatnonzero(split.labels == label) for label in (0, 1)]
        self._balanced = config.data.balanced_sampling
        self._starts_flipped = None
        if config.augment.alternating_flip:
            self._starts_flipped = np.random.default_rng((self._seed, 4)).random(len(split)) < 0.5

    def __len__(self) -> int:
        return self._num_steps

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, 0, epoch)).permutation(len(self._split))

    def _shuffled_class(self, label: int, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, 2, label, epoch)).permutation(self._of_class[label])

    def indices(self, step: int) -> Int[np.ndarray, ' n']:
        """The images of the global batch of `step`, in its order."""
        return self._drawn(step)[0]

    def _drawn(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The images of the global batch of `step`, in its order, and how often each has come before."""
        numbers = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        if not self._balanced:
            return _look_up(numbers, len(self._split), self._epoch_order)
        indices, epochs = np.empty_like(numbers), np.empty_like(numbers)
        for label, members in enumerate(self._of_class):
            rows = numbers % 2 == label
            order = functools.partial(self._class_order, label)
            indices[rows], epochs[rows] = _look_up(numbers[rows] // 2, len(members), order)
        # Neighbours must not always be of two classes: Mixup pairs them.
        order = np.random.default_rng((self._seed, 3, step)).permutation(len(numbers))
        return indices[order], epochs[order]

    def __getitem__(self, step: int) -> Batch:
        indices, epochs = self._drawn(step)
        if self._random_crop:
            positions = np.random.default_rng((self._seed, 1, step)).random((self._batch_size, 2))
        else:
            positions = np.full((self._batch_size, 2), 0.5)
        batch = self._load(indices, positions)
        if self._starts_flipped is None:
            return batch
        flip = (epochs % 2 == 1) != self._starts_flipped[indices]
        return {**batch, 'flip': flip[self._rows]}


class NumberedBatches(TrainBatches):
    """Those of `TrainBatches` with `index`, int32[b], in place of `image`: where the device finds it among all images.

    Args:
        is_readable: bool[n], whether an image could be decoded; its weight is 0 otherwise.
    """

    def __init__(self, *args, is_readable: Bool[np.ndarray, ' n'], **kwargs):
        super().__init__(*args, **kwargs)
        self._is_readable = is_readable

    def cache_encoded(self) -> None:
        """Does nothing: no image is read."""

    def _load(self, indices: Int[np.ndarray, ' n'], positions: Float[np.ndarray, 'n 2']) -> Batch:
        indices, positions = indices[self._rows], positions[self._rows]
        batch = {
            'index': indices.astype(np.int32),
            'label': self._split.labels[indices].astype(np.int32),
            'weight': self._is_readable[indices].astype(np.float32),
        }
        return batch if self.side == self._image_size else {**batch, 'offset': self._offsets(positions)}


def _look_up(numbers: np.ndarray, size: int, epoch_order: Callable[[int], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Images by running number, ascending, over epochs of `size` whose order `epoch_order` gives, and their epochs."""
    epochs, places = np.divmod(numbers, size)
    indices = np.empty_like(numbers)
    for epoch in np.unique(epochs):
        indices[epochs == epoch] = epoch_order(int(epoch))[places[epochs == epoch]]
    return indices, epochs


class EvalBatches(Batches):
    """Every example once, in the split's order, centre crops; the last batch is padded.

    Attributes:
        numbers: of the batches, but for those that are left out: item i is batch `numbers[i]`.
    """

    def __init__(self, *args, left_out: Collection[int] = (), **kwargs):
        super().__init__(*args, **kwargs)
        count = num_batches(self._split, self._batch_size)
        self.numbers = [number for number in range(count) if number not in left_out]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, item: int) -> Batch:
        start = self.numbers[item] * self._batch_size
        indices = np.arange(start, start + self._batch_size)
        indices[indices >= len(self._split)] = -1
        return self._load(indices, np.full((self._batch_size, 2), 0.5))


def num_batches(split: Split, batch_size: int) -> int:
    """How many batches the examples of a split fill, the last one perhaps in part."""
    return -(-len(split) // batch_size)


def num_threads(threads: int, side: int) -> int:
    """`config.data.threads`, of which 0 means one per core, but no more than one per 32 of the images' `side` pixels.

    Threads that decode small images take turns with the interpreter: at 32 px two are slower than one.
    """
    return threads or max(1, min(len(os.sched_getaffinity(0)), side // 32))


def read_batches(batches: Batches, threads: int = 0) -> grain.IterDataset:
    """Returns the batches in order, decoded ahead by threads, see `num_threads`."""
    threads = num_threads(threads, batches.side)
    batches.cache_encoded()
    # simplejpeg releases the GIL; one finished batch beyond those in the making keeps every thread busy.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    return grain.MapDataset.source(batches).to_iter_dataset(options)


class Stacked(grain.IterDataset):
    """Batches of several steps as one, in which each row has those of every step: [b, k, ...].

    Rows stay the first axis, along which devices share a batch. The state of the iterator is that of the batches,
    whatever their number in one item.

    Args:
        parent: the batches, by step.
        length: of the item that begins at a step, in steps; that of one step stays as it is.
    """

    def __init__(self, parent: grain.IterDataset, length: Callable[[int], int]):
        super().__init__(parent)
        self._length = length

    def __iter__(self) -> grain.DatasetIterator:
        return _StackedIterator(iter(self._parent), self._length)


class _StackedIterator(grain.DatasetIterator):
    def __init__(self, parent: grain.DatasetIterator, length: Callable[[int], int]):
        super().__init__(parent)
        self._length = length

    def __next__(self) -> Batch:
        first, *others = [next(self._parent) for _ in range(self._length(self.get_state()['next_index']))]
        if not others:
            return first
        return {name: np.stack([first[name], *(batch[name] for batch in others)], axis=1) for name in first}

    def get_state(self) -> dict[str, Any]:
        return self._parent.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        self._parent.set_state(state)

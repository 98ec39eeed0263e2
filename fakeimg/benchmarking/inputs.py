"""The input pipeline against its limit: the same bytes decoded by the same decoder, and nothing else."""

import concurrent.futures
import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import simplejpeg

from fakeimg.config import Config
from fakeimg.data import decode, pipeline
from fakeimg.data.datasets import Split
from fakeimg.data.images import CachedImages
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.errors import UserError

SAMPLE_BYTES = 256_000_000  # of encoded images at most, so that they stay in memory
SAMPLE = 65_536  # images at most
RUN = 512  # neighbouring images of the sample: a prepared set is read in runs too
LEAST = 2048  # images that a rate is measured on, at least


def sample(source: Split, seed: int) -> tuple[Split, list[bytes]]:
    """Draws some images that can be decoded, and their bytes.

    Raises:
        UserError: none can be.
    """
    chosen, encoded, total = [], [], 0
    starts = np.random.default_rng(seed).permutation(np.arange(0, len(source), RUN))[: SAMPLE // RUN]
    for index in (index for start in starts for index in range(start, min(start + RUN, len(source)))):
        try:
            data = source[int(index)]
            image = decode.decode_rgb(data)
        except (OSError, decode.BadImage):
            continue
        if not chosen and not image.any():
            raise UserError(f'{source.names[int(index)]} is black; rates of empty images would mean nothing.')
        chosen.append(index)
        encoded.append(data)
        total += len(data)
        if total > SAMPLE_BYTES:
            break
    if not chosen:
        raise UserError('no image of the training split can be decoded; audit the data set.')
    return dataclasses.replace(source.take(np.array(chosen)), cache=None), encoded


class DecodeRate:
    """Images per second when threads only decode, each into its own buffer: the limit of any pipeline."""

    def __init__(self, encoded: list[bytes], min_side: int, threads: int):
        self._encoded = encoded
        self._least_side = min_side * decode.LEAST_RATIO  # as the pipeline scales in the DCT domain
        self._threads = threads
        self._pixels = max(width * height for _, width, height in map(decode.identify, encoded))

    def __call__(self) -> float:
        """Decodes the whole sample as often as it takes for LEAST images."""
        times = -(-LEAST // len(self._encoded))
        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            start = time.perf_counter()
            list(pool.map(self._decode, range(self._threads), [times] * self._threads))
            return times * len(self._encoded) / (time.perf_counter() - start)

    def _decode(self, thread: int, times: int) -> None:
        side, buffer = self._least_side, np.empty(max(self._pixels * 3, decode.LEAST_SCRATCH), np.uint8)
        for data in self._encoded[thread :: self._threads] * times:
            try:
                simplejpeg.decode_jpeg(data, 'RGB', min_height=side, min_width=side, min_factor=2, buffer=buffer)
            except ValueError:
                decode.decode_rgb(data)  # no JPEG


class PipelineRate:
    """Images per second of the input pipeline: batches as training gets them, on the host.

    Of a source whose images are in memory, as they are from the second epoch on (`encoded_in_memory`,
    `decoded_in_memory`), the rate is that of a long training: the clock runs from batch to batch, with others before
    and after, so that neither memory that the pipeline takes once nor a batch begun earlier counts. Of any other it is
    that of first epochs from beginning to end, reading and all.
    """

    def __init__(self, source: Split, config: Config, threads: int):
        self._source = source
        self._config = config
        self._threads = threads
        self._in_memory = source.cache is not None or isinstance(source.files, _EncodedImages)
        if source.cache is not None:
            self()  # fills it

    def __call__(self) -> float:
        """Reads the split as often as it takes for LEAST images."""
        epoch = max(1, len(self._source) // self._config.batch_size)
        least = -(-LEAST // self._config.batch_size)
        if self._in_memory:
            batches, margin = max(epoch, least), self._threads + 1
            return batches * self._config.batch_size / self._seconds(self._source, margin, batches, margin)
        epochs = -(-least // epoch)
        fresh = [self._source.take(np.arange(len(self._source))) for _ in range(epochs)]
        return epochs * epoch * self._config.batch_size / sum(self._seconds(source, 0, epoch, 0) for source in fresh)

    def _seconds(self, source: Split, before: int, batches: int, after: int) -> float:
        """Seconds for `batches` batches, between `before` and `after` others."""
        bad = UnreadableImages('train', len(source), 1.0)
        train = pipeline.TrainBatches(source, self._config, bad, before + batches + after)
        start = time.perf_counter()
        iterator = iter(pipeline.read_batches(train, self._threads))
        for number in range(1, before + batches + 1):
            next(iterator)
            if number == before:
                start = time.perf_counter()
        seconds = time.perf_counter() - start
        iterator.close()
        return seconds


class _EncodedImages:
    """Files that are in memory."""

    def __init__(self, names: list[str], encoded: list[bytes]):
        self.names = names
        self._encoded = encoded

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        return self._encoded[index]

    def take(self, indices: Sequence[int] | np.ndarray) -> '_EncodedImages':
        return _EncodedImages([self.names[i] for i in indices], [self._encoded[i] for i in indices])


def encoded_in_memory(source: Split, encoded: list[bytes]) -> Split:
    """The same images, nothing of which is read again; `encoded` are their bytes."""
    return dataclasses.replace(source, files=_EncodedImages(source.names, encoded))


def decoded_in_memory(source: Split, side: int) -> Split:
    """The same images, decoded only once if they are squares of `side` pixels."""
    return dataclasses.replace(source, cache=CachedImages(source.files, side))

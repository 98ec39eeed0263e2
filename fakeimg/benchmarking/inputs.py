"""The input pipeline against its limit: the same bytes decoded by the same decoder, and nothing else."""

import concurrent.futures
import dataclasses
import time

import numpy as np
import simplejpeg

from fakeimg.config import Config
from fakeimg.data import decode, pipeline
from fakeimg.data.cache import DecodedPictures
from fakeimg.data.sources import Source
from fakeimg.errors import UserError

SAMPLE_BYTES = 256_000_000  # of encoded pictures at the most, so that the limit reads nothing from a disk
SAMPLE = 8192  # pictures at the most
RUN = 512  # pictures of the sample that are neighbours, as in the shards of a prepared set, which are read in runs
LEAST = 2048  # pictures that a rate is measured on


def sample(source: Source, seed: int) -> tuple[Source, list[bytes]]:
    """Draws some pictures that can be decoded, and their bytes.

    Raises:
        UserError: none can be.
    """
    chosen, encoded, total = [], [], 0
    starts = np.random.default_rng(seed).permutation(np.arange(0, len(source), RUN))[: SAMPLE // RUN]
    for index in (index for start in starts for index in range(start, min(start + RUN, len(source)))):
        try:
            data = source[int(index)]
            picture = decode.decode_rgb(data)
        except (OSError, decode.BadPicture):
            continue
        if not chosen and not picture.any():
            raise UserError(f'{source.names[int(index)]} is black; rates of empty pictures would mean nothing.')
        chosen.append(index)
        encoded.append(data)
        total += len(data)
        if total > SAMPLE_BYTES:
            break
    if not chosen:
        raise UserError('no picture of the training split can be decoded; run "python -m fakeimg.audit" on the data.')
    return dataclasses.replace(source.take(np.array(chosen)), cache=None), encoded


class DecodeRate:
    """Pictures per second when threads do nothing but decode, each into one buffer of its own: the limit."""

    def __init__(self, encoded: list[bytes], min_side: int, threads: int):
        self._encoded = encoded
        self._min_side = min_side
        self._threads = threads
        self._pixels = max(width * height for _, width, height in map(decode.read_header, encoded))

    def __call__(self) -> float:
        """Decodes the whole sample."""
        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            start = time.perf_counter()
            list(pool.map(self._decode, range(self._threads)))
            return len(self._encoded) / (time.perf_counter() - start)

    def _decode(self, thread: int) -> None:
        side, buffer = self._min_side, np.empty(max(self._pixels * 3, decode.LEAST_SCRATCH), np.uint8)
        for data in self._encoded[thread :: self._threads]:
            try:
                simplejpeg.decode_jpeg(data, 'RGB', min_height=side, min_width=side, min_factor=2, buffer=buffer)
            except ValueError:
                decode.decode_rgb(data, side)  # no JPEG


class PipelineRate:
    """Pictures per second of the input pipeline over a sample: batches as training gets them, on the host.

    Without `in_memory` every epoch is a first one, whose pictures are read and decoded.
    """

    def __init__(self, source: Source, config: Config, threads: int, *, in_memory: bool = False):
        self._source = source
        if in_memory:
            self._source = dataclasses.replace(source, cache=DecodedPictures(len(source), config.data.resize_size))
        self._in_memory = in_memory
        self._config = config
        self._threads = threads
        if in_memory:
            self()  # fills the memory

    def __call__(self) -> float:
        """Reads whole epochs of the sample, LEAST pictures or more, so that starting and ending count for little."""
        source, batch_size = self._source, self._config.batch_size
        epochs, steps = -(-LEAST // len(source)), max(1, len(source) // batch_size)
        start = time.perf_counter()
        for _ in range(epochs):
            fresh = source if self._in_memory else source.take(np.arange(len(source)))
            bad = pipeline.BadPictures('train', len(source), 1.0)
            for _ in pipeline.read_batches(pipeline.TrainBatches(fresh, self._config, bad, steps), self._threads):
                pass
        return epochs * steps * batch_size / (time.perf_counter() - start)

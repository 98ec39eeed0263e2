"""Of each image what finds its copies, and nothing else: less work than an audit, in memory that hardly grows."""

import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from fakeimg.auditing.copies import near_clusters
from fakeimg.auditing.duplicates import exact_clusters
from fakeimg.auditing.facts import FACTS, pixels_hash
from fakeimg.auditing.pixels import THUMBNAIL_SIDE, perceptual_hash, thumbnail
from fakeimg.console import SILENT, Console
from fakeimg.data.decode import decode_rgb
from fakeimg.data.files import Files, prefetched
from fakeimg.runtime import pool

FIELDS = ('pixels_hash', 'phash', 'thumbnail')
_DTYPE = np.dtype([(name, FACTS[name]) for name in FIELDS])
_PER_TASK = 256  # images; to start processes takes longer than to read so many
_TICK_EVERY = 64


class Copies(NamedTuple):
    """int64[n] each: images with the same number are copies, by all pixels, or nearly."""

    exact: NDArray[np.int64]
    near: NDArray[np.int64]


def find_copies(files: Files, workers: int, console: Console = SILENT) -> Copies:
    """Reads and decodes all images, and finds those that are copies of each other as an audit does.

    24 bytes an image are held in memory; the thumbnails are in a file, since they take ten times as much.

    Args:
        files: the images.
        workers: processes; a small set is read in this one.
        console: shows the progress.

    Raises:
        UserError: a worker was killed.
    """
    parts: Iterator[NDArray] = map(_measure_part, _parts(files))
    if workers and len(files) > _PER_TASK:
        parts = pool.run_tasks(
            _measure_part, _parts(files), workers=workers, total=len(files), title='looking for copies', console=console
        )
    pixels, hashes = [np.zeros(0, _DTYPE['pixels_hash'])], [np.zeros(0, _DTYPE['phash'])]
    with tempfile.TemporaryFile() as file:
        for part in parts:
            pixels.append(part['pixels_hash'])
            hashes.append(part['phash'])
            file.write(part['thumbnail'].tobytes())
        file.flush()
        shape = (len(files), THUMBNAIL_SIDE, THUMBNAIL_SIDE)
        thumbnails = np.memmap(file, np.uint8, 'r', shape=shape) if len(files) else np.zeros(shape, np.uint8)
        exact = exact_clusters(np.concatenate(pixels))
        return Copies(exact, near_clusters(np.concatenate(hashes), thumbnails, exact))


def _parts(files: Files) -> Iterator[Files]:
    for start in range(0, len(files), _PER_TASK):
        yield files.take(range(start, min(start + _PER_TASK, len(files))))


def _measure_part(files: Files) -> NDArray:
    rows = np.zeros(len(files), _DTYPE)
    for index in prefetched(files):
        try:
            image = np.ascontiguousarray(decode_rgb(files.read(index)))
        except Exception:  # unreadable, or a plugin's mistake: a copy of nothing
            pass
        else:
            rows['pixels_hash'][index] = pixels_hash(image)
            rows['thumbnail'][index] = thumbnail(PIL.Image.fromarray(image).convert('L'))
            rows['phash'][index] = perceptual_hash(rows['thumbnail'][index])
        if index % _TICK_EVERY == _TICK_EVERY - 1:
            pool.tick(_TICK_EVERY)
    pool.tick(len(files) % _TICK_EVERY)
    return rows

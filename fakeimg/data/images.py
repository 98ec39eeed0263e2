"""The images of a split as squares, decoded when they are read; `CachedImages` keeps them in memory from then on."""

import threading

import numpy as np
from jaxtyping import Bool, Int, UInt8

from fakeimg.data import decode
from fakeimg.data.files import Files


class Images:
    """Decodes images of a split; shared by several threads.

    Args:
        files: the images.
        side: of a square, pixels.
        version: of the resize, see `decode.RESIZE_VERSION`.
    """

    def __init__(self, files: Files, side: int, version: int = decode.RESIZE_VERSION):
        self.side = side
        self._files = files
        self._version = version

    def read(self, index: int, out: UInt8[np.ndarray, 's s 3']) -> UInt8[np.ndarray, 's s 3'] | decode.Decoded:
        """Writes image `index` to `out` if it is a square of `side` pixels.

        Returns:
            `out`; or an image of another size, to be resized.

        Raises:
            OSError, decode.BadImage: the image cannot be read.
        """
        image = decode.decode(self._files.read(index), self.side, out, self._version)
        if not isinstance(image, decode.Decoded):
            return image
        if image.shape != out.shape[:2]:
            return image
        out[...] = image.upright()
        return out

    def gather(self, indices: Int[np.ndarray, ' b'], out: UInt8[np.ndarray, 'b s s 3']) -> bool:
        """Writes images `indices` to `out` if all are in memory already; False if not."""
        return False


class CachedImages(Images):
    """Keeps images in memory once they are decoded, so that from the second epoch on nothing is read.

    Only squares of `side` pixels stay. Others are resized for each crop, from all their pixels.

    Args:
        files: the images.
        side: of a square, pixels.
        version: of the resize, see `decode.RESIZE_VERSION`.
        expected_share: of the images that are such squares, as far as is known.
    """

    def __init__(self, files: Files, side: int, version: int = decode.RESIZE_VERSION, expected_share: float = 1.0):
        super().__init__(files, side, version)
        self._expected_share = expected_share
        self._memory = np.empty((len(files), side, side, 3), np.uint8)  # taken when an image is written
        self._is_complete = np.zeros(len(files), bool)
        self._is_claimed = np.zeros(len(files), bool)
        self._lock = threading.Lock()

    @property
    def size_in_bytes(self) -> int:
        """Memory that is taken once all images are cached that can be."""
        return round(self._memory.nbytes * self._expected_share)

    @property
    def images(self) -> UInt8[np.ndarray, 'n s s 3']:
        """The memory itself; arbitrary where an image is not complete."""
        return self._memory

    def holds(self, indices: Int[np.ndarray, ' b']) -> Bool[np.ndarray, ' b']:
        """Which of some images are in memory."""
        return self._is_complete[indices]

    @property
    def num_cached(self) -> int:
        return int(self._is_complete.sum())

    def read(self, index: int, out: UInt8[np.ndarray, 's s 3']) -> UInt8[np.ndarray, 's s 3'] | decode.Decoded:
        place = self._memory[index]
        if not self._is_complete[index]:
            # Another thread may meet the same image, and must not write where this one does.
            with self._lock:
                is_claimed, self._is_claimed[index] = self._is_claimed[index], True
            if is_claimed:
                return super().read(index, out)
            try:
                image = super().read(index, place)
            except BaseException:
                self._is_claimed[index] = False
                raise
            if image is not place:
                return image
            self._is_complete[index] = True  # only now, for other threads
        out[...] = place
        return out

    def gather(self, indices: Int[np.ndarray, ' b'], out: UInt8[np.ndarray, 'b s s 3']) -> bool:
        if not self._is_complete[indices].all():
            return False
        np.take(self._memory, indices, axis=0, out=out, mode='clip')  # the default mode would buffer `out`
        return True

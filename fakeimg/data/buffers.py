"""A pool of arrays for batches of images, because the kernel would zero fresh memory for every batch."""

import collections
import weakref

import numpy as np
from jaxtyping import UInt8


class Buffers:
    """Arrays of one shape that return to the pool once nothing refers to them; shared by several threads.

    A batch, a view of it and a device array that shares its memory (as jax's may, on a CPU) all refer to it.
    """

    def __init__(self, shape: tuple[int, int, int, int]):
        self._shape = shape
        # No lock: the garbage collector may return an array in the midst of `take`, in the same thread.
        self._free: collections.deque[memoryview] = collections.deque()

    def take(self) -> UInt8[np.ndarray, 'b h w 3']:
        """Returns an array with arbitrary contents."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = memoryview(np.empty(self._shape, np.uint8))  # pyright: ignore[reportArgumentType]  # before 3.12
        # Its base is no array, so numpy lets each view refer to it, not to the memory below.
        array = np.frombuffer(memory, np.uint8)
        weakref.finalize(array, self._free.append, memory).atexit = False
        return array.reshape(self._shape)

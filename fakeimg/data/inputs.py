"""Images from the caller of a function, as paths, bytes or pixels: turned into the files of a split."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from fakeimg.data import decode
from fakeimg.errors import UserError

Content = str | bytes | Callable[[], bytes] | decode.BadImage


class Input(NamedTuple):
    """An image: its path, its encoded bytes, a function that reads these, or why it cannot be read."""

    name: str
    content: Content


class InputFiles:
    """Inputs as files, named by their places, because the same path may occur twice."""

    def __init__(self, images: Sequence[Input]):
        self.names = [str(place) for place in range(len(images))]
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> bytes:
        return read_content(self._images[index].content)

    def take(self, indices: Sequence[int] | np.ndarray) -> 'InputFiles':
        return InputFiles([self._images[index] for index in indices])


def read_content(content: Content) -> bytes:
    """The encoded bytes of an image. Raises OSError or BadImage where it cannot be read."""
    if isinstance(content, decode.BadImage):
        raise content
    if isinstance(content, bytes):
        return content
    try:
        if callable(content):
            return content()
        with open(content, 'rb', buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        raise OSError('there is no such file') from None
    except (OSError, ValueError) as error:
        raise OSError(getattr(error, 'strerror', None) or str(error)) from None


def read_input(image: Any, place: int) -> Input:
    """Names an image, and copies its pixels if it is an array or a PIL image: the caller may reuse their memory.

    Args:
        image: a path, encoded bytes, a PIL image, or an array uint8[H, W, 3] of RGB.
        place: of the image in the input, for its name.

    Raises:
        UserError: an array of another shape or dtype, or an object of another type.
    """
    if isinstance(image, str | os.PathLike):
        path = os.fsdecode(image)
        return Input(path, path)
    name = f'image {place}'
    if isinstance(image, bytes | bytearray | memoryview):
        return Input(name, bytes(image))
    if isinstance(image, PIL.Image.Image):
        try:
            pixels = decode.to_rgb(image)
        except decode.BadImage as error:
            return Input(name, error)
    elif hasattr(image, '__array__'):
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            shape = ', '.join(map(str, pixels.shape))
            raise UserError(f'{name} is an array {pixels.dtype}[{shape}]; it must be uint8[H, W, 3], RGB.')
    else:
        raise UserError(
            f'{name} is of type {type(image).__name__}; an image is a path, encoded bytes, a PIL image, or an array '
            'uint8[H, W, 3] of RGB.'
        )
    # An uncompressed file: pixels then go through the same code as files.
    return Input(name, b'P6 %d %d 255\n' % pixels.shape[1::-1] + pixels.tobytes())

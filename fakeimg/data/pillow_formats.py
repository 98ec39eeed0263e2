"""Every format but common JPEGs, decoded by Pillow: pixels first, and no metadata that could cost them."""

import contextlib
import io
import re
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import UInt8

from fakeimg.data import formats, metadata
from fakeimg.data.strangers import describe_stranger

_PILLOW_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, KeyError, IndexError, TypeError,
                  AttributeError, RuntimeError, PIL.Image.DecompressionBombError, MemoryError)  # fmt: skip
# The greatest value of files with 8, 10 and 12 bits that are stored in 16, and of 16.
_WHITES = (255, 1023, 4095, 65535)
_opening = threading.Lock()  # `warnings.catch_warnings` is not for several threads at once


class BadImage(Exception):
    """Bytes that are not a whole image. The message says why."""


def check_pixels(number: int, most: int) -> None:
    """Raises BadImage when an image has more than `most` pixels."""
    if number > most:
        raise BadImage(f'too large: an image of {number:,} pixels exceeds limit of {most:,} pixels')


def decode(data: bytes, max_pixels: int) -> UInt8[np.ndarray, 'h w 3']:
    """Decodes the first frame of an image, upright, to RGB. Raises BadImage, also for one of more than `max_pixels`."""
    with opened(data, max_pixels) as image:
        low_bytes = _low_bytes(image)
        return to_rgb(image if low_bytes is None else _of_16_bits(image, low_bytes, data))


def to_rgb(image: PIL.Image.Image) -> UInt8[np.ndarray, 'h w 3']:
    """Converts an image that Pillow has opened to upright RGB. Raises BadImage if it cannot be decoded."""
    with _errors_as_bad_images():
        _forgive_metadata(image)
        image.load()
        rgb = np.asarray(_plain_rgb(image))
        return metadata.upright(rgb, _orientation(image))


@contextlib.contextmanager
def opened(data: bytes, max_pixels: int) -> Iterator[PIL.Image.Image]:
    """Opens an image of any format without its pixels.

    Raises:
        BadImage: not an image, of more than `max_pixels`, or Pillow fails in the block.
    """
    data = metadata.plain_png(data)
    kind = formats.image_format(data[: formats.START])
    if kind == 'heif' and not formats.can_read_heif():
        raise BadImage(formats.NEEDS_HEIF)
    with _errors_as_bad_images(data, max_pixels):
        # Pillow warns from half of its bound on, and doubts metadata; neither matters.
        with _opening, warnings.catch_warnings():
            warnings.simplefilter('ignore')
            image = PIL.Image.open(io.BytesIO(data))
        with image:
            check_pixels(image.width * image.height, max_pixels)
            yield image


@contextlib.contextmanager
def _errors_as_bad_images(data: bytes = b'', max_pixels: int = 0) -> Iterator[None]:
    """Turns what Pillow raises, when it opens an image or while the image is used, into BadImage."""
    try:
        yield
    except PIL.UnidentifiedImageError:
        what = describe_stranger(data[: formats.START])
        raise BadImage('not an image of a known format' + (what and f': {what}')) from None
    except PIL.Image.DecompressionBombError as error:  # of more than twice MAX_IMAGE_PIXELS, which is `max_pixels` too
        pixels = re.search(r'\d+', str(error))
        check_pixels(int(pixels[0]) if pixels else 0, max_pixels)
        raise BadImage(str(error)) from None
    except _PILLOW_ERRORS as error:
        raise BadImage(f'{type(error).__name__}: {error}') from None


def _forgive_metadata(image: PIL.Image.Image) -> None:
    """Keeps Pillow from failing on the metadata that it reads when a TIFF's pixels are decoded already."""
    turn = getattr(image, 'load_end', None)
    if image.format != 'TIFF' or turn is None:
        return

    def load_end() -> None:
        try:
            turn()
        except _PILLOW_ERRORS:
            with contextlib.suppress(*_PILLOW_ERRORS):
                PIL.ImageOps.exif_transpose(image, in_place=True)

    image.load_end = load_end  # pyright: ignore[reportAttributeAccessIssue]


def _orientation(image: PIL.Image.Image) -> int:
    if image.format == 'TIFF':  # turned already, by Pillow
        return 1
    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter('ignore')
            value = image.getexif().get(metadata.ORIENTATION_TAG, 1)
        return value if value in range(1, 9) else 1
    except Exception:  # whatever stands there
        return metadata.orientation(image.info.get('exif'))


def _low_bytes(image: PIL.Image.Image) -> tuple | None:
    """How Pillow would have to read an image of 16 bits a channel to get the lower 8; None of any other image.

    It has no such colour images, and keeps the upper 8 bits.
    """
    tiles = getattr(image, 'tile', None)
    if image.format not in ('PNG', 'TIFF') or not tiles:
        return None
    arguments = tiles[0].args
    name, *others = (arguments,) if isinstance(arguments, str) else arguments
    mode, _, order = name.partition(';16')
    if mode not in ('RGB', 'RGBA') or order not in ('B', 'L', 'N'):
        return None
    upper_first = order == 'B' or (order == 'N' and sys.byteorder == 'big')
    return f'{mode};16{"L" if upper_first else "B"}', *others


def _of_16_bits(image: PIL.Image.Image, low_bytes: tuple, data: bytes) -> PIL.Image.Image:
    """Returns the image itself, or where its upper 8 bits hold next to nothing, one scaled by the values it has."""
    _forgive_metadata(image)
    image.load()
    extrema: Any = image.getextrema()
    if max(highest for _, highest in extrema[:3]) >= 1 + _WHITES[-2] >> 8:
        return image
    with opened(data, image.width * image.height) as second:
        arguments = low_bytes if isinstance(second.tile[0].args, tuple) else low_bytes[0]  # pyright: ignore
        second.tile = [tile._replace(args=arguments) for tile in second.tile]  # pyright: ignore
        _forgive_metadata(second)
        second.load()
        values = np.asarray(image).astype(np.float32) * 256 + np.asarray(second)
    bands = [_to_8_bits(part, False) for part in (values[..., :3], values[..., 3:])]
    scaled = PIL.Image.fromarray(np.concatenate(bands, axis=-1))
    scaled.info = {name: value for name, value in image.info.items() if name == 'exif' and image.format == 'PNG'}
    return scaled


def _plain_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode.startswith('I') or image.mode == 'F':
        values = np.nan_to_num(np.asarray(image).astype(np.float32))
        return PIL.Image.fromarray(_to_8_bits(values, image.mode == 'F')).convert('RGB')
    if image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in image.info:
        layer = image.convert('RGBA')
        return PIL.Image.alpha_composite(PIL.Image.new('RGBA', layer.size, 'white'), layer).convert('RGB')
    return image.convert('RGB')


def _to_8_bits(values: np.ndarray, is_float: bool) -> np.ndarray:
    """Scales values to 0..255 by the range that they use.

    Cameras and tools write 8, 10 or 12 bits into files of 16, and floats of 0..1: the white of the file's type would
    turn such images black. A file of 16 bits that was made from 8 holds multiples of 257, or of 256, however dark.
    """
    highest = values.max(initial=0)
    if is_float and highest <= 2:  # a little above 1 is the overshoot of some filter
        white = 1.0
    elif not is_float and highest > 255 and not ((values % 257).any() and (values % 256).any()):
        white = 65535
    else:
        white = next((white for white in _WHITES if highest <= white), highest)
    return np.clip(values * (255 / white) + 0.5, 0, 255).astype(np.uint8)

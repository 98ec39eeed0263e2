"""Encoded bytes to a square RGB crop: JPEG through simplejpeg into reused memory, everything else through Pillow."""

import contextlib
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import simplejpeg
from jaxtyping import Float, UInt8

MAX_PIXELS = 178_956_970  # Pillow's bound against decompression bombs, here for both decoders
_PILLOW_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, KeyError, IndexError,
                  TypeError, PIL.Image.DecompressionBombError, MemoryError)  # fmt: skip
_ORIENTATION_TAG = 0x0112
_thread = threading.local()
# Bytes. From this size on numpy asks for huge pages, with which decoding 256 px takes 0.95 of the time.
LEAST_SCRATCH = 4 << 20


class BadImage(Exception):
    """Bytes that are not a whole image. The message says why."""


def decode_rgb(
    data: bytes, min_side: int = 0, out: UInt8[np.ndarray, 's s 3'] | None = None
) -> UInt8[np.ndarray, 'h w 3']:
    """Decodes an image of any common format to plain RGB.

    EXIF orientation is applied; grey, palette, CMYK and 16-bit images are converted; transparent parts become
    white. A large JPEG is decoded at a fraction of its size by scaling in the DCT domain, as long as no side
    gets smaller than `min_side`.

    Args:
        data: the file's bytes.
        min_side: least height and width to decode to, pixels; 0 decodes at full size.
        out: a JPEG of just this size is decoded into it.

    Returns:
        `out` itself, or memory that the next call in the same thread may overwrite.

    Raises:
        BadImage: empty, truncated, not an image, or of more than MAX_PIXELS.
    """
    if not data:
        raise BadImage('empty file')
    if data[:2] == b'\xff\xd8' and (size := _frame_size(data)) is not None:
        try:
            return _decode_jpeg(data, size, min_side, out)
        except ValueError:
            pass  # simplejpeg is strict about harmless oddities; Pillow has the last word
    return _decode_pillow(data)


def _frame_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG; None of one for Pillow: with Exif, whose orientation counts, of CMYK, or odd.

    simplejpeg's header reader is slower and does not know Exif.
    """
    place, end = 2, len(data) - 10
    # Segments: marker (2 bytes), length (2 bytes, itself included), content. Exif is an APP1, before the frame, whose
    # content is precision (1 byte), height, width (2 bytes each), components (1 byte).
    while place < end and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xC3:
            height, width = data[place + 5] << 8 | data[place + 6], data[place + 7] << 8 | data[place + 8]
            is_plain = data[place + 9] in (1, 3) and 0 < height * width <= MAX_PIXELS
            return (height, width) if is_plain else None
        if marker == 0xE1 and data[place + 4 : place + 10] == b'Exif\0\0':
            return None
        place += 2 + (data[place + 2] << 8 | data[place + 3])
    return None


def identify(data: bytes) -> tuple[str, int, int]:
    """Reads what the first bytes of an image say, without decoding it.

    Returns:
        Its format in lower case (jpeg, png, webp, ...), width and height in pixels as stored, before any EXIF rotation.

    Raises:
        BadImage: empty, not an image, or of more than MAX_PIXELS.
    """
    if not data:
        raise BadImage('empty file')
    kind, width, height = '', 0, 0
    if data[:2] == b'\xff\xd8':
        try:
            header: Any = simplejpeg.decode_jpeg_header(data)
            kind, height, width = 'jpeg', *header[:2]
        except ValueError:
            pass
    if not kind:
        with _pillow(data) as image:
            kind, (width, height) = (image.format or '').lower(), image.size
    if height * width > MAX_PIXELS:
        raise BadImage(f'{width} x {height} pixels, more than {MAX_PIXELS}')
    return 'jpeg' if kind == 'mpo' else kind, width, height


def _decode_jpeg(data: bytes, size: tuple[int, int], min_side: int, out: np.ndarray | None) -> np.ndarray:
    if out is not None and out.shape[:2] == size:
        image = simplejpeg.decode_jpeg(data, 'RGB', buffer=out)
        return out if image.shape == out.shape else image
    # Page faults of fresh arrays would cost as much as decoding.
    needed = size[0] * size[1] * 3
    scratch = getattr(_thread, 'scratch', None)
    if scratch is None or scratch.size < needed:
        scratch = _thread.scratch = np.empty(max(needed, LEAST_SCRATCH), np.uint8)
    # Scaling by less than two costs more than it saves (libjpeg-turbo's odd-sized inverse DCTs).
    return simplejpeg.decode_jpeg(
        data, 'RGB', min_height=min_side, min_width=min_side, min_factor=2 if min_side else 1, buffer=scratch
    )


def _decode_pillow(data: bytes) -> np.ndarray:
    with _pillow(data) as opened:
        return to_rgb(opened)


def to_rgb(image: PIL.Image.Image) -> UInt8[np.ndarray, 'h w 3']:
    """Converts an image that Pillow has opened as `decode_rgb` does. Raises BadImage if it is none."""
    with _errors_as_bad_images():
        image.load()
        if image.getexif().get(_ORIENTATION_TAG, 1) != 1:
            image = PIL.ImageOps.exif_transpose(image)
        return np.asarray(_plain_rgb(image))


@contextlib.contextmanager
def _pillow(data: bytes) -> Iterator[PIL.Image.Image]:
    with _errors_as_bad_images(), PIL.Image.open(io.BytesIO(data)) as opened:
        yield opened


@contextlib.contextmanager
def _errors_as_bad_images() -> Iterator[None]:
    """Turns what Pillow raises, when it opens an image or while the image is used, into BadImage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', PIL.Image.DecompressionBombWarning)
            yield
    except PIL.UnidentifiedImageError:
        raise BadImage('not an image of a known format') from None
    except PIL.Image.DecompressionBombWarning as error:
        raise BadImage(str(error)) from None
    except _PILLOW_ERRORS as error:
        raise BadImage(f'{type(error).__name__}: {error}') from None


def _plain_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode.startswith('I') or image.mode == 'F':
        values = np.asarray(image).astype(np.float32)
        # 16-bit files say so by their mode or by a value no 8-bit file has.
        scale = 257.0 if image.mode != 'F' and (image.mode != 'I' or values.max() > 255) else 1.0
        return PIL.Image.fromarray(np.clip(values / scale + 0.5, 0, 255).astype(np.uint8)).convert('RGB')
    if image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in image.info:
        layer = image.convert('RGBA')
        return PIL.Image.alpha_composite(PIL.Image.new('RGBA', layer.size, 'white'), layer).convert('RGB')
    return image.convert('RGB')


def crop_square(
    image: UInt8[np.ndarray, 'h w 3'],
    resize_size: int,
    image_size: int,
    position: tuple[float, float] | Float[np.ndarray, '2'],
    out: UInt8[np.ndarray, 's s 3'],
) -> None:
    """Writes the square that results from resizing the short side to `resize_size` and cropping `image_size`.

    Resizing (bilinear, antialiased) touches only the cropped part, so a very long image costs no more.

    Args:
        image: of any size.
        resize_size: length of the short side after resizing, pixels.
        image_size: side of the crop, pixels, at most resize_size.
        position: (vertical, horizontal) place of the crop, each in [0, 1); (0.5, 0.5) is the centre.
        out: the crop is written to it.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    if short == resize_size:
        # As `pipeline.Batches` places crops of squares.
        top = int(position[0] * (height - image_size + 1))
        left = int(position[1] * (width - image_size + 1))
        out[...] = image[top : top + image_size, left : left + image_size]
        return
    side = image_size * short / resize_size
    top, left = position[0] * (height - side), position[1] * (width - side)
    box = (left, top, min(left + side, width), min(top + side, height))
    resized = PIL.Image.fromarray(image).resize((image_size, image_size), PIL.Image.Resampling.BILINEAR, box=box)
    out[...] = np.asarray(resized)

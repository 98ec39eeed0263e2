"""Encoded bytes to a square RGB crop: JPEG through simplejpeg into reused memory, everything else through Pillow.

What comes out depends on the decoded pixels alone, whatever held them: one resize for all formats.
"""

import re
import threading
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import simplejpeg
from jaxtyping import Float, UInt8

from fakeimg.data import metadata, pillow_formats
from fakeimg.data.pillow_formats import BadImage, check_pixels, to_rgb

__all__ = ['BadImage', 'Decoded', 'crop_square', 'decode', 'decode_rgb', 'identify', 'to_rgb']

MAX_PIXELS = 178_956_970  # Pillow's bound against decompression bombs, here for every decoder
# A JPEG is scaled in the DCT domain only down to this many times the size that is wanted. The resize that follows then
# gives what it gives from all pixels, within a grey level: measured on noise, edges and patches of saturated colour.
LEAST_RATIO = 16
# Version 1, which older runs keep, scaled every JPEG without an Exif segment in the DCT domain, down to the size that
# was wanted: sharper than what any other file gave.
RESIZE_VERSION = 2
_thread = threading.local()
# Bytes. From this size on numpy asks for huge pages, with which decoding 256 px takes 0.95 of the time.
LEAST_SCRATCH = 4 << 20
_PADDING = 16  # bytes before the end of a JPEG that may be anything


class Decoded(NamedTuple):
    """An image as its decoder left it, in memory that the next decoding in the same thread may overwrite.

    Attributes:
        pixels: uint8[h, w, 3], RGB, as stored.
        orientation: how they are to be turned, 1 to 8 as in Exif; turning is cheaper after resizing.
    """

    pixels: np.ndarray
    orientation: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, upright."""
        height, width = self.pixels.shape[:2]
        return (height, width) if self.orientation < 5 else (width, height)

    def upright(self) -> UInt8[np.ndarray, 'h2 w2 3']:
        """The pixels, turned."""
        return metadata.upright(self.pixels, self.orientation)


def decode_rgb(
    data: bytes, min_side: int = 0, out: UInt8[np.ndarray, 's s 3'] | None = None
) -> UInt8[np.ndarray, 'h w 3']:
    """Decodes an image of any common format to plain RGB, upright.

    Grey, palette, CMYK, 16-bit and float images are converted; transparent parts become white; of several frames it
    is the first one.

    Args:
        data: the file's bytes.
        min_side: length that the short side will be resized to, see `decode`; 0 keeps all pixels.
        out: a JPEG of just this size, without Exif, is decoded into it.

    Returns:
        `out` itself, or memory that the next call in the same thread may overwrite.

    Raises:
        BadImage: empty, truncated, not an image, or of more than MAX_PIXELS.
    """
    image = decode(data, min_side, out)
    return image.upright() if isinstance(image, Decoded) else image


def decode(
    data: bytes, target: int = 0, out: UInt8[np.ndarray, 's s 3'] | None = None, version: int = RESIZE_VERSION
) -> UInt8[np.ndarray, 's s 3'] | Decoded:
    """Decodes an image as `decode_rgb` does, and leaves turning it to the caller.

    Args:
        data: the file's bytes.
        target: length that the short side will be resized to, pixels; 0 keeps all pixels. A JPEG of far more is decoded
            at a fraction of its size (1/2, 1/4 or 1/8, by scaling in the DCT domain), see LEAST_RATIO.
        out: a JPEG of just this size, without Exif, is decoded into it.
        version: of the resize, see RESIZE_VERSION.

    Returns:
        `out` itself, or the image.

    Raises:
        BadImage: see `decode_rgb`.
    """
    if not data:
        raise BadImage('empty file')
    if data[:2] == b'\xff\xd8' and (header := metadata.read_jpeg_header(data)) is not None:
        height, width, components, exif = header
        if height * width > MAX_PIXELS:
            check_pixels(height * width, MAX_PIXELS)
        try:
            # First the case that has to be fast.
            if out is not None and exif is None and components < 4 and out.shape[:2] == (height, width):
                image = simplejpeg.decode_jpeg(data, 'RGB', buffer=out)
                return out if image.shape == out.shape else Decoded(image)
            least_side = target * LEAST_RATIO if version > 1 else 0 if exif is not None else target
            return _decode_jpeg(data, header, least_side)
        except ValueError as error:  # simplejpeg is strict about harmless oddities; Pillow has the last word
            _check_whole(data, str(error))
    return Decoded(pillow_formats.decode(data, MAX_PIXELS))


def _decode_jpeg(data: bytes, header: metadata.JpegHeader, least_side: int) -> Decoded:
    height, width, components, exif = header
    orientation = metadata.orientation(exif)
    if components == 4:
        # As Adobe's programs write them, which is how everyone reads them: inverted.
        inks = PIL.Image.fromarray(255 - simplejpeg.decode_jpeg(data, 'CMYK'), 'CMYK')
        return Decoded(np.asarray(inks.convert('RGB')), orientation)
    # Page faults of fresh arrays would cost as much as decoding.
    needed = height * width * 3
    scratch = getattr(_thread, 'scratch', None)
    if scratch is None or scratch.size < needed:
        scratch = _thread.scratch = np.empty(max(needed, LEAST_SCRATCH), np.uint8)
    # Scaling by less than two costs more than it saves (libjpeg-turbo's odd-sized inverse DCTs).
    image = simplejpeg.decode_jpeg(
        data, 'RGB', min_height=least_side, min_width=least_side, min_factor=2 if least_side else 1, buffer=scratch
    )
    return Decoded(image, orientation)


def _check_whole(data: bytes, warning: str) -> None:
    """Raises BadImage where libjpeg's warning says that pixels are missing, which Pillow would leave grey."""
    if re.search(r'premature end|Huffman|instead of RST', warning, re.IGNORECASE):
        raise BadImage(f'truncated or damaged JPEG ({warning})')
    extraneous = re.search(r'(\d+) extraneous bytes before marker 0xd9', warning)
    if extraneous and (count := int(extraneous[1])) > _PADDING:
        # Some cameras fill up with one byte. A hole in the pixels looks alike, but libjpeg then took its beginning for
        # pixels.
        before = data[: data.rfind(b'\xff\xd9')]
        filled = len(before) - len(before.rstrip(before[-1:]))
        if not count <= filled <= count + _PADDING:
            raise BadImage(f'damaged JPEG ({warning})')


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
        with pillow_formats.opened(data, MAX_PIXELS) as image:
            kind, (width, height) = (image.format or '').lower(), image.size
    check_pixels(width * height, MAX_PIXELS)
    return 'jpeg' if kind == 'mpo' else kind, width, height


def crop_square(
    image: Decoded | UInt8[np.ndarray, 'h w 3'],
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
    image = image if isinstance(image, Decoded) else Decoded(image)
    height, width = image.shape
    short = min(height, width)
    if short == resize_size:
        # As `pipeline.Batches` places crops of squares.
        top = int(position[0] * (height - image_size + 1))
        left = int(position[1] * (width - image_size + 1))
        out[...] = image.upright()[top : top + image_size, left : left + image_size]
        return
    side = image_size * short / resize_size
    top, left = position[0] * (height - side), position[1] * (width - side)
    box = (left, top, min(left + side, width), min(top + side, height))
    box = metadata.stored_box(box, image.shape, image.orientation)
    stored = PIL.Image.fromarray(image.pixels)
    resized = stored.resize((image_size, image_size), PIL.Image.Resampling.BILINEAR, box=box)
    out[...] = metadata.upright(np.asarray(resized), image.orientation)

"""Images as they reach a detector from others: recompressed, resized, blurred, noisy, recoloured, cropped.

Each degradation takes the decoded original at its full size and leaves encoded bytes, by the codecs that sites and
programs use; the detector then treats them as any file. No function takes labels, so both classes get the same.
`augment.degradations` are the counterparts for training: on the device, on crops, drawn anew for each step.
"""

import functools
import hashlib
import io
import os
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image
import scipy.ndimage
from jaxtyping import Int
from PIL.Image import Resampling

from fakeimg.data import decode
from fakeimg.data.files import Files

Image = PIL.Image.Image


class Cell(NamedTuple):
    """One degradation of one severity: a kind of `KINDS`; or of `TIERS`, whose severity says nothing."""

    kind: str
    severity: float = 0.0

    def __str__(self) -> str:
        return f'{self.kind} {self.severity:g}' if self.kind in KINDS else self.kind


class Tier(NamedTuple):
    """What a site does to a large image: at most `side` pixels, JPEG of this quality."""

    side: int
    quality: int


class Kind(NamedTuple):
    """A kind of degradation.

    Attributes:
        unit: of the severity, in words.
        severities: of its curve, the mildest first on each side of the unchanged image.
        apply: (image, severity, key) to an image, or to what the codec wrote.
    """

    unit: str
    severities: tuple[float, ...]
    apply: Callable[[Image, float, bytes], Image | bytes]


def degrade(image: Image, cell: Cell, name: str = '', seed: int = 0) -> bytes:
    """Degrades an RGB image.

    Args:
        image: of any size, upright.
        cell: what to do.
        name: of the image; noise depends on it and on the seed, and on nothing else.
        seed: of noise.

    Returns:
        What the codec wrote; where there is none, the pixels without loss.

    Raises:
        BadImage: the codec has no images of this size.
    """
    try:
        if cell.kind in TIERS:
            return as_posted(image, TIERS[cell.kind])
        key = hashlib.sha256(os.fsencode(f'{seed}/{name}')).digest()
        result = KINDS[cell.kind].apply(image, cell.severity, key)
    except (OSError, ValueError) as error:
        raise decode.BadImage(f'cannot be stored under {cell} ({error})') from None
    return result if isinstance(result, bytes) else b'P6 %d %d 255\n' % result.size + result.tobytes()


def as_posted(image: Image, tier: Tier) -> bytes:
    """Brings the longer side down to the tier's by Lanczos, as Pillow's `thumbnail`; never up. Then JPEG."""
    longer = max(image.size)
    if longer > tier.side:
        image = image.resize(_scaled(image, tier.side / longer), Resampling.LANCZOS)
    return _jpeg(image, tier.quality)


def _scaled(image: Image, share: float) -> tuple[int, int]:
    return max(1, round(image.width * share)), max(1, round(image.height * share))


def _jpeg(image: Image, quality: float, key: bytes = b'') -> bytes:
    # Pillow's defaults, as most programs write JPEG: chroma at half resolution and libjpeg's accurate DCT, which
    # simplejpeg's encoder does not use.
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=int(quality))
    return buffer.getvalue()


def _webp(image: Image, quality: float, key: bytes) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, 'WEBP', quality=int(quality))
    return buffer.getvalue()


def _resize(resampling: Resampling) -> Callable[[Image, float, bytes], Image]:
    def resize(image: Image, share: float, key: bytes) -> Image:
        return image.resize(_scaled(image, share), resampling)

    return resize


def _thumbnail(image: Image, share: float, key: bytes) -> Image:
    return image.resize(_scaled(image, share), Resampling.LANCZOS).resize(image.size, Resampling.BICUBIC)


def _blur(image: Image, deviation: float, key: bytes) -> Image:
    # Not Pillow's, which approximates the Gaussian and rounds six times.
    pixels = np.asarray(image, np.float32)
    return _from_values(scipy.ndimage.gaussian_filter(pixels, (deviation, deviation, 0)))


def _noise(image: Image, deviation: float, key: bytes) -> Image:
    pixels = np.asarray(image, np.float32)
    generator = np.random.default_rng(np.frombuffer(key, np.uint64))
    return _from_values(pixels + np.float32(deviation) * generator.standard_normal(pixels.shape, np.float32))


def _from_values(values: np.ndarray) -> Image:
    return PIL.Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _gamma(image: Image, exponent: float, key: bytes) -> Image:
    return image.point(_tones(exponent, (1.0, 1.0, 1.0)))


@functools.cache
def _tones(exponent: float, factors: tuple[float, float, float]) -> list[int]:
    """The new value of each of 0 to 255, for red, then green, then blue."""
    values = 255 * np.multiply.outer(factors, (np.arange(256) / 255) ** exponent)
    return np.rint(np.clip(values, 0, 255)).astype(int).ravel().tolist()


def _grey(image: Image, share: float, key: bytes) -> Image:
    return PIL.Image.blend(image, image.convert('L').convert('RGB'), share)


def _crop(image: Image, share: float, key: bytes) -> Image:
    width, height = _scaled(image, share)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _screenshot(image: Image, times: float, key: bytes) -> Image | bytes:
    """Shown smaller and in the colours of another screen, taken from there without loss, sent on as JPEG; again."""
    sent: Image | bytes = image
    for _ in range(int(times)):
        shown = PIL.Image.open(io.BytesIO(sent)) if isinstance(sent, bytes) else sent
        shown = shown.resize(_scaled(shown, SCREEN_SHARE), Resampling.BILINEAR)
        shown = shown.point(_tones(SCREEN_GAMMA, SCREEN_COLOURS))
        sent = _jpeg(shown, SCREEN_QUALITY)
    return sent


SCREEN_SHARE, SCREEN_GAMMA, SCREEN_COLOURS, SCREEN_QUALITY = 0.9, 1.1, (1.0, 0.98, 0.94), 80
TIERS = {'web': Tier(768, 60), 'hard': Tier(512, 40)}
_SHARES = (0.75, 0.5, 0.25)
KINDS = {
    'jpeg': Kind('quality', (95, 85, 75, 50, 30), _jpeg),
    'webp': Kind('quality', (90, 75, 50, 30), _webp),
    'resize_nearest': Kind('share of the size', _SHARES, _resize(Resampling.NEAREST)),
    'resize_bilinear': Kind('share of the size', _SHARES, _resize(Resampling.BILINEAR)),
    'resize_bicubic': Kind('share of the size', _SHARES, _resize(Resampling.BICUBIC)),
    'resize_lanczos': Kind('share of the size', _SHARES, _resize(Resampling.LANCZOS)),
    'thumbnail': Kind('share of the size, and back', _SHARES, _thumbnail),
    'blur': Kind('standard deviation, pixels of the original', (0.5, 1, 2, 3), _blur),
    'noise': Kind('standard deviation, grey levels of 255', (2, 5, 10, 20), _noise),
    'gamma': Kind('exponent', (0.5, 0.75, 1.5, 2), _gamma),
    'grey': Kind('share of colour that is lost', (0.5, 1), _grey),
    'crop': Kind('share of each side, at the centre', (0.9, 0.75, 0.5), _crop),
    'screenshot': Kind('times', (1, 2, 3), _screenshot),
}


class DegradedFiles:
    """Images under degradations, as the files of a split.

    Args:
        files: the originals.
        cells: degradations.
        seed: of noise.
        pairs: int[n, 2], of each image the places of its original and of its cell. None is all cells of the first
            original, then of the second, and so on: each is decoded once.
    """

    def __init__(self, files: Files, cells: Sequence[Cell], seed: int = 0, pairs: Int[np.ndarray, 'n 2'] | None = None):
        if pairs is None:
            pairs = np.indices((len(files), len(cells))).reshape(2, -1).T
        originals = files.names
        self.names = [f'{originals[row]} ({cells[place]})' for row, place in pairs.tolist()]
        self._files, self._cells, self._pairs, self._seed = files, cells, pairs, seed
        self._decoded = threading.local()

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, index: int) -> bytes:
        """Returns an image's bytes; raises OSError or BadImage where it cannot be read, or not be stored so."""
        row, place = self._pairs[index].tolist()
        return degrade(self._original(row), self._cells[place], self._files.names[row], self._seed)

    def take(self, indices: Sequence[int] | np.ndarray) -> 'DegradedFiles':
        return DegradedFiles(self._files, self._cells, self._seed, self._pairs[np.asarray(indices, int)])

    def _original(self, row: int) -> Image:
        """Decodes an original; each thread keeps its last one, for its next cell."""
        if getattr(self._decoded, 'row', None) != row:
            pixels = decode.decode_rgb(self._files.read(row))
            self._decoded.row, self._decoded.image = row, PIL.Image.fromarray(pixels)  # a copy, as always for RGB
        return self._decoded.image

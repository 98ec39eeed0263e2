"""What an image's pixels say: colour, sharpness, spectrum, and the thumbnail and hash that find near copies."""

from functools import cache, lru_cache
from typing import Any

import numpy as np
import PIL.Image
import scipy.fft
from numpy.typing import NDArray

from fakeimg.auditing.headers import zigzag

BINS = 10  # of the radial spectrum, each 0.05 cycles/pixel wide, up to 0.5
THUMBNAIL_SIDE = 16  # pixels
_CROP = 128  # pixels: what is measured on native pixels is measured on the centre
_GRID = 512  # pixels a side: colour is measured on every k-th pixel of larger images
_COLOURLESS = 12  # of 255, saturation: JPEG at quality 50 leaves less in grey images
_LEAST_POWER = 1e-3  # grey levels squared; rounding to whole levels leaves 1/12

Grey = NDArray[np.float32]


def measure_pixels(image: NDArray[np.uint8]) -> dict[str, Any]:
    """Measures uint8[H, W, 3] of any size; a statistic that a small image does not have is NaN.

    Returns:
        mean, std: float[3], of R, G, B, 0..255; saturation: mean S of HSV, 0..1; greyness: share of colourless
        pixels, 0..1; on the native pixels of the centre, luma: sharpness (variance of the Laplacian), noise (grey
        levels), blockiness (ratio), high_frequency (share), spectrum (float32[BINS], log10 of power);
        thumbnail: uint8[16, 16], luma; phash: uint64.
    """
    step = max(1, max(image.shape[:2]) // _GRID)
    coarse = PIL.Image.fromarray(np.ascontiguousarray(image[::step, ::step]) if step > 1 else image)
    levels = np.arange(256)
    counts = np.array(coarse.histogram(), np.float64).reshape(3, 256) / (coarse.width * coarse.height)
    mean = counts @ levels
    saturation = np.array(coarse.convert('HSV').histogram()[256:512]) / (coarse.width * coarse.height)
    luma = (coarse if step == 1 else PIL.Image.fromarray(image)).convert('L')
    small = thumbnail(luma)
    centre = _centre(np.asarray(luma))
    return {
        'mean': mean,
        'std': np.sqrt(np.maximum(counts @ levels**2 - mean**2, 0)),
        'saturation': saturation @ levels / 255,
        'greyness': saturation[: _COLOURLESS + 1].sum(),
        'sharpness': _laplacian_variance(centre),
        'noise': _noise(centre),
        'blockiness': _blockiness(centre),
        **_spectrum(centre),
        'thumbnail': small,
        'phash': perceptual_hash(small),
    }


def thumbnail(luma: PIL.Image.Image) -> NDArray[np.uint8]:
    """uint8[16, 16] of an image of mode L."""
    return np.asarray(luma.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), PIL.Image.Resampling.BOX))


def perceptual_hash(thumbnail: NDArray[np.uint8]) -> np.uint64:
    """Signs of the 64 lowest AC coefficients of the DCT of uint8[16, 16] (Zauner 2010, section 3.2.1, with more bits).

    Neighbouring frequencies go to different quarters of the 64 bits, so that the four bands of the
    search in duplicates.py are alike. Brightness and contrast do not matter to signs.
    """
    basis, rows, columns = _dct()
    coefficients = basis @ thumbnail.astype(np.float32) @ basis.T
    return np.packbits(coefficients[rows, columns] > 0).view(np.uint64)[0]


@cache
def _dct() -> tuple[Grey, NDArray[np.int64], NDArray[np.int64]]:
    basis = np.asarray(scipy.fft.dct(np.eye(THUMBNAIL_SIDE), axis=0, norm='ortho'), np.float32)
    rows, columns = (index[1:65].reshape(16, 4).T.ravel() for index in zigzag(THUMBNAIL_SIDE))
    return basis, rows, columns


def _centre(luma: NDArray[np.uint8]) -> Grey:
    """The middle, at most 128 pixels a side, its corner on the 8-pixel grid of JPEG."""
    top, left = (max(0, side - _CROP) // 2 // 8 * 8 for side in luma.shape)
    return luma[top : top + _CROP, left : left + _CROP].astype(np.float32)


def _laplacian_variance(luma: Grey) -> float:
    if min(luma.shape) < 3:
        return np.nan
    inner = luma[1:-1, 1:-1]
    return float((luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner).var())


def _noise(luma: Grey) -> float:
    """Standard deviation of noise by the difference of two Laplacians (Immerkaer 1996)."""
    if min(luma.shape) < 3:
        return np.nan
    across = luma[:, :-2] - 2 * luma[:, 1:-1] + luma[:, 2:]
    both = across[:-2] - 2 * across[1:-1] + across[2:]
    return float(np.abs(both).mean() * np.sqrt(np.pi / 2) / 6)


def _blockiness(luma: Grey) -> float:
    """Mean step across the borders of 8-pixel blocks over the mean step elsewhere (after Wang et al. 2000)."""
    if min(luma.shape) < 16:
        return np.nan
    across, down = np.abs(np.diff(luma, axis=1)).mean(0), np.abs(np.diff(luma, axis=0)).mean(1)
    borders = across[7::8].mean() + down[7::8].mean()
    # All steps of the whole periods; 1/8 of them are borders.
    every = across[: len(across) // 8 * 8].mean() + down[: len(down) // 8 * 8].mean()
    return float((borders + 1e-3) / ((8 * every - borders) / 7 + 1e-3))


def _spectrum(luma: Grey) -> dict[str, Any]:
    window, ring, weight, sizes, high = _frequencies(*luma.shape)
    transform: Any = scipy.fft.rfft2((luma - luma.mean()) * window)
    power = (transform.real**2 + transform.imag**2).ravel() * weight
    sums = np.bincount(ring, power, BINS + 1)[:BINS]
    with np.errstate(invalid='ignore'):
        spectrum = np.log10(np.maximum(sums / sizes, _LEAST_POWER))
    total = power.sum()
    return {'spectrum': spectrum, 'high_frequency': power[high].sum() / total if total > _LEAST_POWER else np.nan}


@lru_cache(64)
def _frequencies(
    height: int, width: int
) -> tuple[Grey, NDArray[np.int64], Grey, NDArray[np.float64], NDArray[np.bool]]:
    """Window; per coefficient of rfft2: ring, weight; per ring: coefficients; and what counts as high."""
    hann = [0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(side) + 0.5) / side) for side in (height, width)]
    window = (hann[0][:, None] * hann[1]).astype(np.float32)
    columns = np.fft.rfftfreq(width)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], columns).ravel()
    # A column stands for its mirror too, unless it is its own mirror.
    twice = np.broadcast_to(np.where((columns > 0) & (columns < 0.5), 2.0, 1.0), (height, len(columns))).ravel()
    twice = np.where(radius == 0, 0, twice)
    ring = np.minimum((radius * (2 * BINS)).astype(np.int64), BINS)
    sizes = np.bincount(ring, twice, BINS + 1)[:BINS].astype(np.float64)
    sizes[sizes == 0] = np.nan
    weight = (twice / (window**2).sum()).astype(np.float32)
    return window, ring, weight, sizes, radius > 0.25

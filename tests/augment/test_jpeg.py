"""The codec on the device against the real one."""

import io

import jax
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from fakeimg.augment import jpeg
from fakeimg.data import demo, jpeg_tables

QUALITIES = (30, 50, 75, 90, 95)
compress = jax.jit(jpeg.compress, static_argnames='subsample')


@pytest.fixture(scope='module')
def faces() -> np.ndarray:
    source = demo.DemoFaces('train', size=64, num_examples=4)
    return np.stack([simplejpeg.decode_jpeg(source[index]) for index in range(4)])


def ours(images: np.ndarray, quality: int | np.ndarray, subsample: bool = True) -> np.ndarray:
    qualities = np.broadcast_to(np.float32(quality), len(images))
    return np.asarray(compress(np.moveaxis(images, -1, 1), qualities, subsample=subsample)).transpose(0, 2, 3, 1)


def written_by_pillow(image: np.ndarray, quality: int, subsample: bool = True) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'JPEG', quality=quality, subsampling=2 if subsample else 0)
    return file.getvalue()


def read(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.mean((a.astype(np.float64) - b) ** 2), 1e-9))


@pytest.mark.parametrize('subsample', [True, False], ids=['420', '444'])
@pytest.mark.parametrize('size', [(64, 64), (57, 43), (58, 44)], ids=str)
def test_same_as_libjpeg(faces: np.ndarray, size: tuple[int, int], subsample: bool) -> None:
    """Sides of 64 fill their blocks; of 58 and 44 they leave some, of 57 and 43 there is half a chroma sample too."""
    images = np.ascontiguousarray(faces[:, 3 : 3 + size[0], 5 : 5 + size[1]] if size[0] < 64 else faces)
    for quality in QUALITIES:
        for image, mine in zip(images, ours(images, quality, subsample), strict=True):
            real = read(written_by_pillow(image, quality, subsample))
            assert psnr(mine, real) > 45, quality  # the loss itself leaves 28 to 38
            # simplejpeg has another, faster DCT below 96, which is as far from Pillow's.
            encoded = simplejpeg.encode_jpeg(image, quality, colorsubsampling='420' if subsample else '444')
            assert psnr(mine, simplejpeg.decode_jpeg(encoded)) > 38, quality


@pytest.mark.parametrize('subsample', [True, False], ids=['420', '444'])
@pytest.mark.parametrize('size', [(50, 42), (49, 33)], ids=str)
def test_edges_are_padded_as_libjpeg_does(faces: np.ndarray, size: tuple[int, int], subsample: bool) -> None:
    """What shares blocks with the padding is 54 dB or more from libjpeg's, with its rule of padding.

    Zeros or mirrored edges, even in luma or chroma alone, leave 24 to 45 dB in one of these strips.
    """
    images = np.ascontiguousarray(faces[:, : size[0], : size[1]])
    block = 16 if subsample else 8
    rows, columns = (slice(side // block * block, side) for side in size)
    for quality in (50, 90):
        mine = ours(images, quality, subsample)
        real = np.stack([read(written_by_pillow(image, quality, subsample)) for image in images])
        assert psnr(mine[:, rows], real[:, rows]) > 50, quality
        assert psnr(mine[:, :, columns], real[:, :, columns]) > 50, quality


def test_flat_images_are_exactly_libjpegs() -> None:
    """Their coefficients lie on halves of a quantisation step, where the rule of rounding decides."""
    greys = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 16, 16, 3))
    for quality in QUALITIES:
        real = np.stack([read(written_by_pillow(image, quality)) for image in greys])
        np.testing.assert_array_equal(ours(greys, quality), real)


def test_tables_are_libjpegs(faces: np.ndarray) -> None:
    for quality in range(1, 101):
        real = Image.open(io.BytesIO(written_by_pillow(faces[0, :8, :8], quality)))
        for number, table in enumerate((jpeg_tables.LUMA, jpeg_tables.CHROMA)):
            in_file = real.quantization[number]  # pyright: ignore[reportAttributeAccessIssue]
            assert table[quality - 1].ravel().tolist() == list(in_file), quality


def test_each_image_has_its_own_quality(faces: np.ndarray) -> None:
    together = ours(faces, np.array([30, 60, 90, 95]))
    for row, quality in enumerate((30, 60, 90, 95)):
        np.testing.assert_array_equal(together[row], ours(faces, quality)[row])
    losses = [psnr(a, b) for a, b in zip(together, faces, strict=True)]
    assert losses[0] < losses[2] < losses[3]

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest

from fakeimg.data import decode
from fakeimg.data.decode import BadImage, crop_square, decode_rgb


def ramp(height: int = 40, width: int = 60) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1).astype(np.uint8)


def encode(image: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


RGB = PIL.Image.fromarray(ramp())


def test_jpeg_equals_pillow() -> None:
    data = encode(RGB, 'JPEG', quality=92)
    expected = np.asarray(PIL.Image.open(io.BytesIO(data)).convert('RGB')).astype(int)
    assert np.abs(decode_rgb(data) - expected).max() <= 2  # two builds of libjpeg


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'BMP', 'TIFF'])
def test_lossless_formats_are_exact(kind: str) -> None:
    options = {'lossless': True} if kind == 'WEBP' else {}
    np.testing.assert_array_equal(decode_rgb(encode(RGB, kind, **options)), ramp())


def test_grey_palette_alpha_cmyk_and_16_bit_become_rgb() -> None:
    grey = RGB.convert('L')
    expected_grey = np.repeat(np.asarray(grey)[..., None], 3, -1)
    np.testing.assert_array_equal(decode_rgb(encode(grey, 'PNG')), expected_grey)
    assert np.abs(decode_rgb(encode(grey, 'JPEG', quality=100)).astype(int) - expected_grey).max() <= 2
    palette = RGB.convert('P', palette=PIL.Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(decode_rgb(encode(palette, 'PNG')), np.asarray(palette.convert('RGB')))
    alpha = RGB.convert('RGBA')
    alpha.putalpha(PIL.Image.new('L', RGB.size, 0))
    assert (decode_rgb(encode(alpha, 'PNG')) == 255).all()  # nothing but the white behind it
    cmyk = encode(RGB.convert('CMYK'), 'JPEG', quality=95)
    assert np.abs(decode_rgb(cmyk).astype(int) - ramp()).mean() < 6
    wide = PIL.Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert np.abs(decode_rgb(encode(wide, 'PNG')).astype(int) - expected_grey).max() <= 1


@pytest.mark.parametrize('before', [b'', b'\xff\xfe\x00\x04hi', b'\xff\xe1\x00\x06http', b'\xff\xed\x00\x02'])
def test_exif_is_found_behind_other_segments(before: bytes) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    turned = encode(RGB, 'JPEG', exif=exif, quality=95)
    data = turned[:2] + before + turned[2:]
    np.testing.assert_array_equal(decode.decode_rgb(data), decode.decode_rgb(turned))
    assert not np.array_equal(decode.decode_rgb(turned), decode.decode_rgb(encode(RGB, 'JPEG', quality=95)))


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_honoured(kind: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = encode(RGB, kind, exif=exif, **({'quality': 95} if kind == 'JPEG' else {}))
    upright = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: np.rot90(a),
    }  # fmt: skip
    expected = upright[orientation](ramp()).astype(int)
    decoded = decode_rgb(data)
    assert decoded.shape == expected.shape
    assert np.abs(decoded - expected).mean() < 6


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
def test_broken_files_are_bad_images(kind: str) -> None:
    random = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(PIL.Image.fromarray(random), kind)
    decode_rgb(data)
    with pytest.raises(BadImage):
        decode_rgb(data[: len(data) // 2])
    with pytest.raises(BadImage):
        decode_rgb(data[:12])


def test_what_is_no_image_is_a_bad_image() -> None:
    with pytest.raises(BadImage, match='empty file'):
        decode_rgb(b'')
    with pytest.raises(BadImage, match='not an image of a known format'):
        decode_rgb(b'<!doctype html><title>404</title>')


def test_decompression_bomb_is_a_bad_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, 'MAX_PIXELS', 1000)
    monkeypatch.setattr(PIL.Image, 'MAX_IMAGE_PIXELS', 1000)
    for kind in ('PNG', 'JPEG'):
        with pytest.raises(BadImage, match='exceeds limit'):
            decode_rgb(encode(RGB, kind))


def test_harmless_oddities_of_a_jpeg_are_forgiven() -> None:
    data = encode(RGB, 'JPEG')
    end = data.rindex(b'\xff\xd9')
    assert decode_rgb(data[:end] + b'\x00\x00' + data[end:]).shape == (40, 60, 3)


def test_large_jpeg_is_decoded_smaller_but_not_too_small() -> None:
    data = encode(PIL.Image.fromarray(ramp(400, 600)), 'JPEG')
    assert decode_rgb(data, min_side=100).shape[:2] == (400, 600)
    assert decode_rgb(data, min_side=12).shape[:2] == (200, 300)
    assert decode_rgb(data).shape[:2] == (400, 600)
    assert decode.decode(data, 100, version=1).shape == (100, 150)
    assert min(decode.decode(data, 64, version=1).shape) >= 64


def test_crop_without_resizing_is_a_slice() -> None:
    image = ramp(40, 60)
    out = np.empty((32, 32, 3), np.uint8)
    crop_square(image, 40, 32, (0.5, 0.5), out)
    np.testing.assert_array_equal(out, image[4:36, 14:46])
    crop_square(image, 40, 32, (0.0, 0.0), out)
    np.testing.assert_array_equal(out, image[:32, :32])
    crop_square(image, 40, 32, (0.9999, 0.9999), out)
    np.testing.assert_array_equal(out, image[-32:, -32:])


def test_resized_crop_equals_resize_then_crop() -> None:
    image = ramp(120, 180)
    out = np.empty((32, 32, 3), np.uint8)
    crop_square(image, 40, 32, (0.5, 0.5), out)
    whole = PIL.Image.fromarray(image).resize((60, 40), PIL.Image.Resampling.BILINEAR)
    expected = np.asarray(whole).astype(int)[4:36, 14:46]
    assert np.abs(out - expected).max() <= 1


def test_very_long_image_costs_no_memory() -> None:
    out = np.empty((32, 32, 3), np.uint8)
    crop_square(np.zeros((1, 100_000, 3), np.uint8), 40, 32, (0.5, 0.5), out)
    assert not out.any()


def triangle_weights(size: int, start: float, length: float, count: int) -> np.ndarray:
    """Bilinear, antialiased resizing of a stretch of a side to `count` pixels: float[count, size], rows sum to 1."""
    ratio = length / count
    centres = start + (np.arange(count)[:, None] + 0.5) * ratio
    weights = np.maximum(1 - np.abs(np.arange(size) + 0.5 - centres) / max(ratio, 1), 0)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize('resize_size', [40, 90], ids=['smaller', 'larger'])
def test_resizing_is_bilinear_and_antialiased(resize_size: int) -> None:
    """Noise, which every other filter leaves otherwise by dozens of grey levels."""
    image = np.random.default_rng(0).integers(0, 256, (67, 101, 3), np.uint8)
    out = np.empty((32, 32, 3), np.uint8)
    crop_square(image, resize_size, 32, (0.2, 0.9), out)
    side = 32 * 67 / resize_size
    rows = triangle_weights(67, 0.2 * (67 - side), side, 32)
    columns = triangle_weights(101, 0.9 * (101 - side), side, 32)
    expected = np.einsum('ih,jw,hwc->ijc', rows, columns, image)
    assert np.abs(out - expected).max() < 2

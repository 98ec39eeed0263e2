"""What a network gets depends on the decoded pixels alone: not on container, decoder, orientation or metadata."""

import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import PIL.Image
import pytest
from sklearn.metrics import roc_auc_score

from fakeimg.config import complete, default_config
from fakeimg.data import decode, metadata, pipeline
from fakeimg.data.datasets import Split
from fakeimg.data.decode import BadImage, decode_rgb
from fakeimg.data.unreadable import UnreadableImages


class InMemory:
    def __init__(self, encoded: list[bytes]):
        self.names = [str(number) for number in range(len(encoded))]
        self._encoded = encoded

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        return self._encoded[index]

    def take(self, indices):
        raise NotImplementedError


def network_input(encoded: list[bytes], size: int, resize_size: int, version: int = 2) -> np.ndarray:
    """What evaluation sends to the device, cropped as the device does: uint8[n, size, size, 3]."""
    config = default_config()
    config.batch_size = len(encoded)
    config.data.image_size, config.data.resize_size, config.data.resize_version = size, resize_size, version
    count = len(encoded)
    split = Split(InMemory(encoded), np.zeros(count, np.int32), [''] * count, [''] * count)
    unreadable = UnreadableImages('test', count, 1.0)
    batch = pipeline.EvalBatches(split, complete(config), unreadable)[0]
    assert not len(unreadable), unreadable.reasons
    offsets = batch.get('offset', np.zeros((count, 2), np.int32))
    return np.stack([im[y : y + size, x : x + size] for im, (y, x) in zip(batch['image'], offsets, strict=True)])


def scene(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth noise, fine noise and coloured edges."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(128, 40, (height // 16, width // 16, 3)).clip(0, 255).astype(np.uint8)
    smooth = PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC)
    pixels = np.asarray(smooth) + rng.normal(0, 10, (height, width, 1))
    for _ in range(6):
        y, x = rng.integers(0, height), rng.integers(0, width)
        pixels[y : y + height // 5, x : x + width // 5] = rng.integers(0, 256, 3)
    return pixels.clip(0, 255).astype(np.uint8)


def encode(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image = PIL.Image.fromarray(pixels)
    (image.convert('CMYK') if options.pop('cmyk', False) else image).save(file, kind, **options)
    return file.getvalue()


def exif(**tags: Any) -> bytes:
    data = PIL.Image.Exif()
    data[0x0131] = 'camera'
    if 'orientation' in tags:
        data[0x0112] = tags['orientation']
    return data.tobytes()


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    return jpeg[:2] + struct.pack('>BBH', 0xFF, marker, len(content) + 2) + content + jpeg[2:]


SHAPES = [((256, 256), 128, 128), ((256, 256), 224, 256), ((512, 400), 224, 256), ((512, 700), 72, 82),
          ((1024, 1024), 72, 72), ((1024, 1280), 224, 256), ((96, 130), 128, 128)]  # fmt: skip


@pytest.mark.parametrize(('shape', 'size', 'resize_size'), SHAPES)
def test_the_same_pixels_give_the_same_input(shape: tuple[int, int], size: int, resize_size: int) -> None:
    jpeg = encode(scene(1, *shape), 'JPEG', quality=90)
    pixels = decode_rgb(jpeg).copy()
    forms = {
        'jpeg with Exif': with_segment(jpeg, 0xE1, b'Exif\0\0' + exif()),
        'jpeg with a broken Exif': with_segment(jpeg, 0xE1, b'Exif\0\0II*\0\xff\xff\xff\xff'),
        'jpeg with a broken profile': with_segment(jpeg, 0xE2, b'ICC_PROFILE\0\x01\x09broken'),
        'jpeg with a comment': with_segment(jpeg, 0xFE, b'made by hand'),
        'jpeg with pictures behind it': jpeg + jpeg,
        'png': encode(pixels, 'PNG', compress_level=1),
        'webp': encode(pixels, 'WEBP', lossless=True, quality=0, method=0),
        'bmp': encode(pixels, 'BMP'),
        'tiff': encode(pixels, 'TIFF'),
    }
    expected = network_input([jpeg], size, resize_size)[0].astype(int)
    for name, found in zip(forms, network_input(list(forms.values()), size, resize_size), strict=True):
        assert np.abs(found - expected).max() <= 1, name


def test_orientations_and_cmyk_give_the_same_input() -> None:
    jpeg = encode(scene(2, 304, 400), 'JPEG', quality=92, subsampling=0)
    for orientation in range(1, 9):
        turned = with_segment(jpeg, 0xE1, b'Exif\0\0' + exif(orientation=orientation))
        upright = encode(decode_rgb(turned), 'PNG', compress_level=1)
        for size, resize_size in ((128, 128), (200, 304), (64, 350)):
            found, expected = network_input([turned, upright], size, resize_size).astype(int)
            assert np.abs(found - expected).max() <= 1, (orientation, resize_size)
    cmyk = encode(scene(2, 304, 400), 'JPEG', quality=92, cmyk=True)
    pixels = np.asarray(PIL.Image.open(io.BytesIO(cmyk)).convert('RGB'))
    np.testing.assert_array_equal(decode_rgb(cmyk), pixels)
    found, expected = network_input([cmyk, encode(pixels, 'PNG')], 128, 128).astype(int)
    assert np.abs(found - expected).max() <= 1


def test_no_statistic_tells_a_container_from_another() -> None:
    """Where images of one distribution carried Exif or not, the mean absolute Laplacian said which: AUC 1.0."""
    jpegs = [encode(scene(seed, 256, 256), 'JPEG', quality=90) for seed in range(40)]
    plain = network_input(jpegs, 128, 128)
    marked = network_input([with_segment(jpeg, 0xE1, b'Exif\0\0' + exif()) for jpeg in jpegs], 128, 128)
    pngs = network_input([encode(decode_rgb(jpeg), 'PNG', compress_level=1) for jpeg in jpegs], 128, 128)

    def laplacian(images: np.ndarray) -> np.ndarray:
        grey = images.mean(-1)
        inner = 4 * grey[:, 1:-1, 1:-1] - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1]
        return np.abs(inner - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]).mean((1, 2))

    labels = np.repeat([0, 1], 40)
    for others in (marked, pngs):
        auc = roc_auc_score(labels, np.concatenate([laplacian(plain), laplacian(others)]))
        assert 0.45 <= auc <= 0.55
    old = network_input(jpegs, 128, 128, version=1)
    assert roc_auc_score(labels, np.concatenate([laplacian(old), laplacian(marked)])) < 0.1


@pytest.mark.parametrize('subsampling', [0, 2])
def test_scaling_in_the_dct_domain_leaves_the_input_as_it_is(subsampling: int) -> None:
    jpeg = encode(scene(3, 1056, 1200), 'JPEG', quality=90, subsampling=subsampling)
    assert decode.decode(jpeg, 32).shape == (528, 600)
    assert decode.decode(jpeg, 34).shape == (1056, 1200)
    png = encode(decode_rgb(jpeg), 'PNG', compress_level=1)
    found, expected = network_input([jpeg, png], 32, 32).astype(int)
    assert np.abs(found - expected).max() <= 1


def test_old_runs_keep_their_resize() -> None:
    jpeg = encode(scene(4, 256, 320), 'JPEG', quality=90)
    marked = with_segment(jpeg, 0xE1, b'Exif\0\0' + exif())
    old, old_marked = network_input([jpeg, marked], 128, 128, version=1)
    scaled = decode.decode(jpeg, 128, version=1)
    assert isinstance(scaled, decode.Decoded)
    np.testing.assert_array_equal(old, scaled.pixels[:, 16:144])
    np.testing.assert_array_equal(old_marked, network_input([jpeg], 128, 128)[0])


def test_exif_costs_next_to_nothing() -> None:
    jpeg = encode(scene(5, 768, 768), 'JPEG', quality=85)
    forms = [[jpeg], [with_segment(jpeg, 0xE1, b'Exif\0\0' + exif(orientation=6))]]
    least = [np.inf, np.inf]
    for _ in range(100):  # a busy machine shows the true cost only now and then
        for place, form in enumerate(forms):
            start = time.thread_time()
            network_input(form, 96, 96)
            least[place] = min(least[place], time.thread_time() - start)
    assert least[1] <= 1.2 * least[0]


def chunk(name: bytes, content: bytes, checksum: int | None = None) -> bytes:
    crc = zlib.crc32(name + content) if checksum is None else checksum
    return struct.pack('>I', len(content)) + name + content + struct.pack('>I', crc)


def test_nothing_beside_the_pixels_costs_a_png() -> None:
    pixels = scene(6, 48, 64)
    png = encode(pixels, 'PNG')
    workflow = zlib.compress(b'{"prompt": 1}' * 200_000)
    start = 33  # behind IHDR
    for extra in (
        chunk(b'eXIf', b'not a TIFF'),
        chunk(b'eXIf', exif()[6:], checksum=7),
        chunk(b'zTXt', b'workflow\0\0' + workflow),
        chunk(b'iTXt', b'workflow\0\1\0\0\0' + workflow),
        chunk(b'tEXt', b'prompt', checksum=1),
        chunk(b'tEXt', b'\xff\xfe without a separator'),
        chunk(b'iCCP', b'profile\0\0broken'),
        chunk(b'tIME', b'short'),
        chunk(b'gAMA', b'', checksum=3),
        chunk(b'pHYs', b'\0' * 9, checksum=5),
        chunk(b'acTL', b'\xff' * 8),
        chunk(b'prVt', bytes(3), checksum=9),
    ):
        for place in (start, len(png) - 12):
            data = png[:place] + extra + png[place:]
            np.testing.assert_array_equal(decode_rgb(data), pixels, err_msg=repr(extra[:20]))
            assert decode.identify(data) == ('png', 64, 48)
    turned = png[:start] + chunk(b'eXIf', exif(orientation=6)[6:]) + png[start:]
    np.testing.assert_array_equal(decode_rgb(turned), np.rot90(pixels, -1))


def test_nothing_beside_the_pixels_costs_other_files() -> None:
    pixels = scene(7, 48, 64)
    for kind, options in (('WEBP', {'lossless': True}), ('JPEG', {}), ('AVIF', {}), ('TIFF', {})):
        plain = decode_rgb(encode(pixels, kind, **options)).copy()
        if kind in ('WEBP', 'JPEG'):
            broken = encode(pixels, kind, exif=b'Exif\0\0MM\0*\0\0\xff', icc_profile=b'broken', **options)
            np.testing.assert_array_equal(decode_rgb(broken), plain, err_msg=kind)
        turned = PIL.Image.Exif()
        turned[0x0112] = 8
        data = encode(pixels, kind, exif=turned, **options)
        assert decode_rgb(data).shape == (64, 48, 3), kind


@pytest.mark.parametrize('value', [3, 0, 9, 'three', 6])
def test_an_orientation_is_read_in_both_byte_orders(value: Any) -> None:
    for order, mark in (('<', b'II*\0'), ('>', b'MM\0*')):
        entry = struct.pack(f'{order}HHIHH', 0x0112, 3, 1, value if isinstance(value, int) else 77, 0)
        data = mark + struct.pack(f'{order}IH', 8, 1) + entry
        assert metadata.orientation(data) == (value if value in (3, 6) else 1)
        assert metadata.orientation(data[:-3]) in (1, value)
        assert metadata.orientation(b'Exif\0\0' + data) == metadata.orientation(data)


def test_pixels_that_are_missing_cost_the_image() -> None:
    pixels = scene(8, 96, 96)
    end = b'\xff\xd9'
    for options in ({}, {'progressive': True}, {'cmyk': True}):
        jpeg = encode(pixels, 'JPEG', quality=85, **options)
        half = len(jpeg) // 2
        for broken in (jpeg[:half], jpeg[:half] + end, jpeg[:half] + bytes(half) + end, jpeg[:-40], jpeg[:-2]):
            with pytest.raises(BadImage):
                decode_rgb(broken)
    padded = encode(pixels, 'JPEG', quality=85)
    decode_rgb(padded[:-2] + bytes(300) + end)
    for kind in ('PNG', 'WEBP', 'TIFF', 'BMP', 'AVIF', 'JPEG2000'):
        data = encode(pixels, kind)
        with pytest.raises(BadImage):
            decode_rgb(data[: len(data) // 2])


def test_one_size_limit_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns from half of its limit on: an image between the two was refused with Exif and accepted without."""
    pixels = scene(9, 64, 64)
    monkeypatch.setattr(PIL.Image, 'MAX_IMAGE_PIXELS', 3000)
    jpeg = encode(pixels, 'JPEG')
    forms = [jpeg, with_segment(jpeg, 0xE1, b'Exif\0\0' + exif()), *(encode(pixels, kind) for kind in ('PNG', 'WEBP'))]
    for data in forms:
        assert decode_rgb(data).shape == (64, 64, 3)
    monkeypatch.setattr(decode, 'MAX_PIXELS', 4000)
    for data in forms:
        for read in (decode_rgb, decode.identify):
            with pytest.raises(BadImage, match=r'^too large: an image of 4,096 pixels exceeds limit of 4,000 pixels$'):
                read(data)


def png_of_16_bits(values: np.ndarray) -> bytes:
    """A PNG of uint16[h, w, 3] or uint16[h, w, 4], which Pillow cannot write."""
    height, width, channels = values.shape
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
    header = struct.pack('>IIBBBBB', width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    parts = chunk(b'IHDR', header), chunk(b'IDAT', zlib.compress(rows)), chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


@pytest.mark.parametrize('bits', [8, 10, 12, 16])
def test_values_that_use_a_part_of_16_bits_are_as_bright_as_all(bits: int) -> None:
    pixels = scene(10, 48, 64)
    wide = np.round(pixels / 255 * (2**bits - 1)).astype(np.uint16)
    wide[0, 0], pixels[0, 0] = 2**bits - 1, 255
    assert np.abs(decode_rgb(png_of_16_bits(wide)).astype(int) - pixels).max() <= 1
    clear = np.concatenate([wide, np.full((48, 64, 1), 2**bits - 1, np.uint16)], axis=-1)
    assert np.abs(decode_rgb(png_of_16_bits(clear)).astype(int) - pixels).max() <= 1
    for kind in ('PNG', 'TIFF'):
        grey = decode_rgb(encode(wide[..., 0], kind)).astype(int)
        assert np.abs(grey - pixels[..., :1]).max() <= 1, kind


def tiff_of_16_bits(values: np.ndarray, order: str) -> bytes:
    """An uncompressed TIFF of uint16[h, w, 3 or 4], the kind of colour image that Pillow cannot write."""
    height, width, channels = values.shape
    pixels = values.astype(f'{order}u2').tobytes()
    tags = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, 8 + len(pixels)), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 8), (277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, len(pixels)), (284, 3, 1, 1),
        *([(338, 3, 1, 2)] if channels == 4 else []),
    ]  # fmt: skip
    bits = struct.pack(f'{order}{channels}H', *[16] * channels)
    start = {'<': b'II*\0', '>': b'MM\0*'}[order] + struct.pack(f'{order}I', 8 + len(pixels) + len(bits))
    directory = struct.pack(f'{order}H', len(tags))
    for tag, kind, count, value in tags:
        content = f'{order}H2x' if kind == 3 and count == 1 else f'{order}I'
        directory += struct.pack(f'{order}HHI', tag, kind, count) + struct.pack(content, value)
    return start + pixels + bits + directory + bytes(4)


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('bits', [8, 12, 16])
def test_colour_tiffs_of_16_bits_are_as_bright_as_all(bits: int, order: str) -> None:
    pixels = scene(13, 48, 64)
    wide = np.round(pixels / 255 * (2**bits - 1)).astype(np.uint16)
    wide[0, 0], pixels[0, 0] = 2**bits - 1, 255
    assert np.abs(decode_rgb(tiff_of_16_bits(wide, order)).astype(int) - pixels).max() <= 1
    clear = np.concatenate([wide, np.full((48, 64, 1), 2**bits - 1, np.uint16)], axis=-1)
    assert np.abs(decode_rgb(tiff_of_16_bits(clear, order)).astype(int) - pixels).max() <= 1


def test_a_dark_image_of_16_bits_stays_dark() -> None:
    pixels = (scene(11, 48, 64) // 40).astype(np.uint16)
    for factor in (257, 256):
        assert np.abs(decode_rgb(png_of_16_bits(pixels * factor)).astype(int) - pixels).max() <= 1
        grey = decode_rgb(encode(pixels[..., 0] * np.uint16(factor), 'PNG')).astype(int)
        assert np.abs(grey - pixels[..., :1]).max() <= 1


@pytest.mark.parametrize('white', [1, 255, 65535])
def test_floats_of_any_usual_range_are_as_bright_as_bytes(white: int) -> None:
    grey = scene(12, 48, 64)[..., 0]
    grey[0, 0] = 255
    found = decode_rgb(encode((grey / np.float32(255) * white).astype(np.float32), 'TIFF'))
    assert np.abs(found.astype(int) - grey[..., None]).max() <= 1

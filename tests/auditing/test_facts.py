import io
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest

from fakeimg.auditing.facts import FACTS, PIXEL_STATISTICS, measure_image, name_pattern
from fakeimg.auditing.pixels import perceptual_hash
from fakeimg.data import decode
from fakeimg.data.demo import DemoFaces


def smooth(seed: int, height: int = 48, width: int = 64) -> PIL.Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC)


def encode(image: PIL.Image.Image, kind: str = 'PNG', **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def from_array(array: np.ndarray) -> bytes:
    return encode(PIL.Image.fromarray(np.clip(array, 0, 255).astype(np.uint8)))


IMAGE = smooth(0)
PNG, JPEG = encode(IMAGE), encode(IMAGE, 'JPEG', quality=90)


def test_a_row_is_small_and_rows_stack() -> None:
    assert FACTS.itemsize <= 600
    stacked = np.stack([measure_image('a.png', PNG), measure_image('b.jpg', JPEG)])
    assert stacked.dtype == FACTS and stacked.shape == (2,)
    assert stacked['format'].tolist() == [b'png', b'jpeg']


def test_whole_image_has_no_problem_and_every_statistic() -> None:
    row = measure_image('demo', DemoFaces('train', size=64, num_examples=1)[0])
    assert row['problem'] == b'' and row['pixels_hash'] != b''
    assert all(np.isfinite(row[field]).all() for field in PIXEL_STATISTICS)


def test_what_is_no_image_is_named() -> None:
    assert measure_image('a.jpg', b'')['problem'] == b'empty'
    assert measure_image('a.jpg', b'<!doctype html><title>404</title>')['problem'] == b'not_an_image'
    assert not measure_image('a.jpg', b'<!doctype html>')['misnamed']


@pytest.mark.parametrize('progressive', [False, True])
def test_jpeg_cut_anywhere_is_truncated(progressive: bool) -> None:
    data = encode(IMAGE, 'JPEG', progressive=progressive)
    assert {measure_image('a.jpg', data[:end])['problem'].item() for end in range(2, len(data), 7)} == {b'truncated'}
    assert measure_image('a.jpg', data[:-1])['problem'] == b'truncated'


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'BMP', 'TIFF', 'GIF'])
def test_other_formats_cut_are_truncated(kind: str) -> None:
    data = encode(IMAGE, kind)
    for end in (24, len(data) // 2, len(data) - 100):
        assert measure_image('a', data[:end])['problem'] == b'truncated'


def test_damage_inside_is_undecodable() -> None:
    damaged = bytearray(PNG)
    damaged[60:80] = bytes(20)
    assert measure_image('a.png', bytes(damaged))['problem'] == b'undecodable'
    webp = encode(IMAGE, 'WEBP')
    assert measure_image('a.webp', webp[:20] + bytes(20) + webp[40:])['problem'] == b'undecodable'
    start = JPEG.index(b'\xff\xc4')  # Huffman tables
    assert measure_image('a.jpg', JPEG[: start + 4] + b'\xff' * 20 + JPEG[start + 24 :])['problem'] == b'undecodable'


def test_decompression_bomb_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, 'MAX_PIXELS', 1000)
    monkeypatch.setattr(PIL.Image, 'MAX_IMAGE_PIXELS', 1000)
    assert measure_image('a.png', PNG)['problem'] == b'too_large'
    assert measure_image('a.jpg', JPEG)['problem'] == b'too_large'


def test_no_bytes_raise() -> None:
    rng = np.random.default_rng(0)
    files = [PNG, JPEG, *(encode(IMAGE, kind) for kind in ('WEBP', 'BMP', 'TIFF', 'GIF'))]
    for _ in range(25):
        for data in files:
            damaged = bytearray(data)
            for place in rng.integers(0, min(len(data), 400), 4):
                damaged[place] = rng.integers(256)
            measure_image('a', bytes(damaged))
            measure_image('a', data[:8] + rng.bytes(60))


def test_broken_image_keeps_its_header_and_has_no_statistics() -> None:
    row = measure_image('a.jpg', JPEG[:-40])
    assert (row['width'], row['height'], row['jpeg_quality']) == (64, 48, 90)
    assert row['pixels_hash'] == b'' and row['bytes_hash'] != b'' and not row['thumbnail'].any()
    assert all(np.isnan(row[field]).all() for field in PIXEL_STATISTICS)


def test_quality_is_the_one_it_was_saved_with() -> None:
    qualities = range(1, 101)
    assert [measure_image('', encode(IMAGE, 'JPEG', quality=q))['jpeg_quality'] for q in qualities] == list(qualities)
    assert measure_image('', PNG)['jpeg_quality'] == 0


def test_quality_of_an_unknown_table_is_the_nearest() -> None:
    tables = encode(IMAGE, 'JPEG', quality=80)
    at = tables.index(b'\xff\xdb') + 5
    odd = tables[: at + 9] + bytes([tables[at + 9] + 1]) + tables[at + 10 :]
    assert measure_image('', odd)['jpeg_quality'] == 80
    assert measure_image('', odd)['jpeg_tables'] != measure_image('', tables)['jpeg_tables']


def test_jpeg_header_is_read() -> None:
    for code, subsampling in ((11, '4:4:4'), (21, '4:2:2'), (22, '4:2:0')):
        assert measure_image('', encode(IMAGE, 'JPEG', subsampling=subsampling))['subsampling'] == code
    grey = measure_image('', encode(IMAGE.convert('L'), 'JPEG'))
    assert (grey['subsampling'], grey['mode']) == (0, b'grey')
    assert (
        measure_image('', encode(IMAGE, 'JPEG', progressive=True))['progressive']
        and not measure_image('', JPEG)['progressive']
    )
    assert measure_image('', encode(IMAGE.convert('CMYK'), 'JPEG'))['mode'] == b'cmyk'


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
def test_metadata_is_seen(kind: str) -> None:
    exif = PIL.Image.Exif()
    exif[0x010F] = 'maker'
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB')).tobytes()
    bare, full = encode(IMAGE, kind), encode(IMAGE, kind, exif=exif, icc_profile=profile)
    assert not measure_image('', bare)['exif'] and not measure_image('', bare)['icc']
    assert measure_image('', full)['exif'] and measure_image('', full)['icc']
    assert measure_image('', bare)['jfif'] == (kind == 'JPEG')


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF'])
def test_format_and_size_come_from_the_bytes(kind: str) -> None:
    data = encode(IMAGE, kind)
    row = measure_image(f'x.{kind.lower()}', data)
    assert row['format'] == kind.lower().encode()
    assert (row['width'], row['height'], row['size']) == (64, 48, len(data))
    assert row['bytes_per_pixel'] == np.float32(len(data) / (64 * 48))
    assert not row['misnamed'] and not measure_image('without_extension', data)['misnamed']
    assert measure_image('x.png' if kind != 'PNG' else 'x.jpg', data)['misnamed']


def test_size_is_as_stored_under_an_exif_orientation() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    row = measure_image('', encode(IMAGE, 'JPEG', exif=exif))
    assert (row['width'], row['height']) == (64, 48)


def test_modes() -> None:
    for mode, name in (('L', 'grey'), ('RGB', 'rgb'), ('RGBA', 'rgba'), ('P', 'palette'), ('1', 'bilevel')):
        assert measure_image('', encode(IMAGE.convert(mode)))['mode'] == name.encode()


@pytest.mark.parametrize(
    ('name', 'pattern'),
    [
        ('train/FAKE/0012 (3).jpg', '# (#)'),
        ('real_00012.jpg', '@_#'),
        ('fake_7.png', '@_#'),
        ('0_real.png', '@'),
        ('img-1_fake-12.png', 'img-@-#'),
        ('AI12.webp', '@#'),
        ('train_airplane_3.jpg', 'train_airplane_#'),
        ('realistic.jpg', 'realistic'),
        ('d41d8cd98f00b204e9800998ecf8427e.jpg', 'x'),
        ('123e4567-e89b-12d3-a456-426614174000.png', 'x'),
        ('ILSVRC2012_val_00000001.JPEG', 'ilsvrc#_val_#'),
        ('a/b.c/d.e.png', 'd.e'),
    ],
)
def test_name_pattern(name: str, pattern: str) -> None:
    assert name_pattern(name) == pattern


def test_class_word_alone_changes_neither_pattern_nor_length() -> None:
    real, fake, other = (
        measure_image(name, PNG) for name in ('real/real_01.png', 'fake/generated_22.png', 'fake/img_01.png')
    )
    assert (real['name_pattern'], real['name_length']) == (fake['name_pattern'], fake['name_length'])
    assert real['name_pattern'] != other['name_pattern']
    png, bmp, other = (measure_image('', data) for data in (PNG, encode(IMAGE, 'BMP'), encode(smooth(1))))


def test_pixels_are_the_same_whatever_the_file() -> None:
    png, bmp, other = (
        measure_image('', PNG),
        measure_image('', encode(IMAGE, 'BMP')),
        measure_image('', encode(smooth(1))),
    )
    assert png['pixels_hash'] == bmp['pixels_hash'] != other['pixels_hash']
    assert png['bytes_hash'] != bmp['bytes_hash']
    wide, tall = (from_array(np.full((*shape, 3), 7)) for shape in ((2, 8), (8, 2)))
    assert measure_image('', wide)['pixels_hash'] != measure_image('', tall)['pixels_hash']


def test_hash_is_of_the_image_not_of_its_size_or_brightness() -> None:
    pixels = np.asarray(IMAGE).astype(float) * 0.6 + 40
    reference, other = measure_image('', from_array(pixels))['phash'], measure_image('', encode(smooth(1)))['phash']
    copies = [
        encode(IMAGE.resize((128, 96), PIL.Image.Resampling.BICUBIC), 'JPEG', quality=70),
        from_array(pixels * 1.1),
        from_array(pixels + 20),
    ]
    assert all(np.bitwise_count(measure_image('', copy)['phash'] ^ reference) <= 7 for copy in copies)
    assert np.bitwise_count(other ^ reference) > 16


def test_every_bit_of_the_hash_varies() -> None:
    thumbnails = np.random.default_rng(0).integers(0, 256, (300, 16, 16), np.uint8)
    hashes = np.array([perceptual_hash(thumbnail) for thumbnail in thumbnails])
    share = np.unpackbits(hashes.view(np.uint8).reshape(300, 8), axis=1).mean(0)
    assert share.shape == (64,) and (abs(share - 0.5) < 0.15).all()


def test_colour_statistics() -> None:
    pixels = np.zeros((20, 30, 3))
    pixels[:, :15] = 200, 100, 100
    pixels[:, 15:] = 100, 98, 97  # as good as grey
    row = measure_image('', from_array(pixels))
    np.testing.assert_allclose(row['mean'], [150, 99, 98.5], rtol=1e-6)
    np.testing.assert_allclose(row['std'], [50, 1, 1.5], rtol=1e-3)
    assert row['greyness'] == 0.5 and row['saturation'] == pytest.approx(0.265, abs=0.003)


def test_noise_is_measured_in_grey_levels() -> None:
    rng = np.random.default_rng(0)
    for sigma in (3, 10):
        grey = 128 + sigma * rng.standard_normal((200, 200, 1))
        row = measure_image('', from_array(np.repeat(grey, 3, 2)))
        assert row['noise'] == pytest.approx(sigma, rel=0.05)
        assert row['sharpness'] == pytest.approx(20 * sigma**2, rel=0.1)  # 4 * 1 + 16 of the Laplacian's weights
        assert row['spectrum'] == pytest.approx(np.full(10, np.log10(sigma**2)), abs=0.3)


@pytest.mark.parametrize(('frequency', 'ring'), [(0.07, 1), (0.22, 4), (0.28, 5), (0.46, 9)])
def test_a_wave_is_in_its_ring_of_the_spectrum(frequency: float, ring: int) -> None:
    wave = 128 + 60 * np.sin(2 * np.pi * frequency * np.arange(90))
    across = np.repeat(np.repeat(wave[None, :, None], 70, 0), 3, 2)
    for pixels in (across, across.transpose(1, 0, 2)):
        row = measure_image('', from_array(pixels))
        assert row['spectrum'].argmax() == ring
        assert row['high_frequency'] == pytest.approx(float(frequency > 0.25), abs=0.02)


def test_blocks_of_strong_compression_are_seen() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (20, 20, 1)).repeat(8, 0).repeat(8, 1).repeat(3, 2)
    assert measure_image('', from_array(levels))['blockiness'] > 1000
    noise = PIL.Image.fromarray(np.random.default_rng(0).integers(90, 160, (150, 150, 3), np.uint8))
    assert measure_image('', encode(noise))['blockiness'] == pytest.approx(1, abs=0.1)
    assert measure_image('', encode(noise, 'JPEG', quality=10))['blockiness'] > 1.5


@pytest.mark.parametrize('shape', [(1, 1), (1, 50), (2, 2), (3, 9), (700, 2)])
def test_smallest_images_have_what_they_can_have(shape: tuple[int, int]) -> None:
    row = measure_image('', from_array(np.full((*shape, 3), 90)))
    assert row['problem'] == b'' and (row['mean'] == 90).all() and np.isnan(row['high_frequency'])


def test_large_image_is_measured_on_a_grid() -> None:
    large = measure_image('', encode(IMAGE.resize((1600, 1200), PIL.Image.Resampling.BICUBIC), 'BMP'))
    np.testing.assert_allclose(large['mean'], measure_image('', PNG)['mean'], atol=2)

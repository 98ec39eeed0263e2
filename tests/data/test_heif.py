"""HEIC photos, where the extra heif is installed: the same path to the network as any other format."""

import io
import pathlib

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest

from fakeimg.data import datasets, decode, formats

pillow_heif = pytest.importorskip('pillow_heif')


def photo() -> PIL.Image.Image:
    """Soft gradients, whose top left corner is red, 96 x 64."""
    rows, columns = np.mgrid[0:64, 0:96]
    pixels = np.stack([200 - rows - columns, rows * 2 + 60, columns + 80], axis=-1)
    pixels[:16, :16] = (230, 20, 20)
    return PIL.Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encode(image: PIL.Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    if kind == 'HEIF':
        pillow_heif.register_heif_opener()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
@pytest.mark.parametrize('has_profile', [False, True])
def test_heic_gives_the_pixels_of_a_png_of_them(orientation: int, has_profile: bool) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB')).tobytes() if has_profile else None
    data = encode(photo(), 'HEIF', quality=95, exif=exif.tobytes(), icc_profile=profile)
    assert formats.image_format(data[: formats.START]) == 'heif'
    with PIL.Image.open(io.BytesIO(data)) as opened:  # upright already: the file itself says how it lies
        png = encode(opened.convert('RGB'), 'PNG')
    image = decode.decode_rgb(data).astype(int)
    assert image.shape[:2] == ((64, 96) if orientation in (1, 3) else (96, 64))
    assert np.abs(image - decode.decode_rgb(png)).max() <= 1
    corner = {1: (4, 4), 3: (-5, -5), 6: (4, -5), 8: (-5, 4)}[orientation]
    red, green, blue = image[corner]
    assert red > 200 and green < 60 and blue < 60
    squares = [np.empty((24, 24, 3), np.uint8) for _ in range(2)]
    for source, out in zip((data, png), squares, strict=True):
        decode.crop_square(decode.decode(source, 32), 32, 24, (0.5, 0.5), out)
    assert np.abs(squares[0].astype(int) - squares[1]).max() <= 1
    assert decode.identify(data)[0] == 'heif'


def test_heic_files_are_images_of_a_set(tmp_path: pathlib.Path) -> None:
    for name in ('real/IMG_1.HEIC', 'real/IMG_2', 'fake/1.heif', 'fake/2.heic'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode(photo(), 'HEIF'))
    data = datasets.open_path(str(tmp_path))
    assert len(data.splits['train']) == 4
    assert not data.left_out
    assert not [note for note in data.notes if 'left out' in note]

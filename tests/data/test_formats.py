"""Which files count as images, and what is said of the others."""

import io
import pathlib
import sys

import numpy as np
import PIL.Image
import pytest

from fakeimg.data import datasets, decode, formats
from fakeimg.data.decode import BadImage
from fakeimg.errors import UserError
from tests.support.files import write_zip

NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
HEIC = b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(40)


def encode(kind: str, **options) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(NOISE).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(autouse=True)
def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)


@pytest.fixture
def tree() -> dict[str, bytes]:
    avif = encode('AVIF')
    return {
        'real/1.png': encode('PNG'),
        'real/2': encode('JPEG'),
        'real/3.avif': avif,
        'real/photo.jpg_large': encode('JPEG'),
        'real/LICENSE': b'MIT',
        'real/1.txt': b'a caption',
        'real/IMG_1.HEIC': HEIC,
        'real/IMG_2': HEIC,
        'fake/1.gif': encode('GIF'),
        'fake/2.jp2': encode('JPEG2000'),
        'fake/2.txt': b'another',
        'fake/Thumbs.db': b'',
        'fake/3.0001': avif,
    }


@pytest.mark.parametrize('form', ['folder', 'zip'])
def test_images_are_found_by_content_and_the_rest_is_counted(
    tmp_path: pathlib.Path, tree: dict[str, bytes], form: str
) -> None:
    path = tmp_path / 'set'
    if form == 'zip':
        write_zip(path, tree)
    else:
        for name, data in tree.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    data = datasets.open_path(str(path))
    split = data.splits['train']
    assert sorted(split.names) == sorted(
        ['real/1.png', 'real/2', 'real/3.avif', 'real/photo.jpg_large', 'fake/1.gif', 'fake/2.jp2', 'fake/3.0001']
    )
    for index in range(len(split)):
        assert decode.decode_rgb(split[index]).shape == NOISE.shape
    (note,) = (note for note in data.notes if 'left out' in note)
    assert '2 HEIC' in note and "pip install 'fakeimg[heif]'" in note
    assert '2 .txt' in note and '1 without a suffix' in note and '.db' not in note


def test_a_set_of_nothing_but_heic_says_what_to_install(tmp_path: pathlib.Path) -> None:
    path = write_zip(tmp_path / 'a.zip', {'real/1.heic': HEIC, 'fake/1.HEIF': HEIC})
    with pytest.raises(UserError, match=r"holds no images .*2 HEIC .*pip install 'fakeimg\[heif\]'"):
        datasets.open_path(path)


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (HEIC, 'HEIC, which needs the extra heif'),
        (b'\n<!DOCTYPE html><title>Quota exceeded</title>', 'a web page'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0', 'run git lfs pull'),
        (b'%PDF-1.7', 'a PDF'),
    ],
)
def test_an_unreadable_image_says_what_it_is(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode.decode_rgb(data)


def test_the_first_frame_of_an_animation_is_the_image() -> None:
    frames = [PIL.Image.new('RGB', (8, 8), colour) for colour in ('red', 'blue')]
    for kind, options in (('GIF', {}), ('WEBP', {'lossless': True}), ('PNG', {}), ('AVIF', {'quality': 100})):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:], **options)
        red, green, blue = decode.decode_rgb(file.getvalue())[4, 4].tolist()
        assert red > 240 and green < 15 and blue < 15, kind


def test_every_format_is_told_by_its_first_bytes() -> None:
    kinds = {
        'JPEG': 'jpeg', 'PNG': 'png', 'WEBP': 'webp', 'BMP': 'bmp', 'TIFF': 'tiff', 'GIF': 'gif', 'AVIF': 'avif',
        'JPEG2000': 'jp2',
    }  # fmt: skip
    for kind, name in kinds.items():
        assert formats.image_format(encode(kind)[: formats.START]) == name
    assert formats.image_format(HEIC) == 'heif'
    assert formats.image_format(b'\0\0\0\x18ftypmp42' + bytes(50)) == 'other'

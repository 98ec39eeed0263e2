"""Which files are images: by the suffix of a name, and by the first bytes where a suffix says nothing."""

import collections
import os
from collections.abc import Mapping, Sequence

import numpy as np

from fakeimg.data.files import Files, read_start

# What Pillow and simplejpeg decode, and faces come in.
SUFFIXES = (
    '.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif', '.avif',
    '.jp2', '.j2k', '.jpf', '.jpx',
)  # fmt: skip
HEIF_SUFFIXES = ('.heic', '.heif', '.hif')
NEEDS_HEIF = "HEIC, which needs the extra heif: pip install 'fakeimg[heif]'"
FORMATS = ('jpeg', 'png', 'webp', 'bmp', 'tiff', 'gif', 'avif', 'jp2', 'heif')  # anything else is 'other'
START = 64  # bytes that `image_format` looks at
_TABLES = ('.csv', '.tsv', '.jsonl')
_SAMPLE = 16  # files of a suffix that are opened to see whether it hides images
_MAGIC = {
    b'\xff\xd8': 'jpeg',
    b'\x89PNG\r\n\x1a\n': 'png',
    b'BM': 'bmp',
    b'GIF8': 'gif',
    b'II*\0': 'tiff',
    b'MM\0*': 'tiff',
    b'II+\0': 'tiff',
    b'MM\0+': 'tiff',
    b'\0\0\0\x0cjP  \r\n\x87\n': 'jp2',
    b'\xff\x4f\xff\x51': 'jp2',
}
_BRANDS = {
    'avif': (b'avif', b'avis'),
    'heif': (b'heic', b'heix', b'hevc', b'hevx', b'heim', b'heis', b'mif1', b'msf1'),
}


def image_format(start: bytes) -> str:
    """One of FORMATS by the first START bytes, else other."""
    if start[:4] == b'RIFF' and start[8:12] == b'WEBP':
        return 'webp'
    if start[4:8] == b'ftyp':
        # The major brand, a version of 4 bytes, and brands that the file is compatible with; mif1 is any of them.
        size = min(int.from_bytes(start[:4], 'big'), len(start))
        brands = [start[8:12], *(start[place : place + 4] for place in range(16, size, 4))]
        return next((kind for kind, names in _BRANDS.items() if any(brand in names for brand in brands)), 'other')
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), 'other')


def can_read_heif() -> bool:
    """Whether the extra `heif` is installed, which then takes part in decoding."""
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]  # the extra heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def find_images(files: Files) -> tuple[np.ndarray, dict[str, int]]:
    """Finds the images among files: by suffix, and by content where the suffix is none or one that says nothing.

    Returns:
        int64[m], the places of the images, ascending; and how many other files there are of each kind, in words.
    """
    is_image = np.array([name.lower().endswith(SUFFIXES) for name in files.names], bool)
    by_suffix: dict[str, list[int]] = collections.defaultdict(list)
    for index in np.flatnonzero(~is_image).tolist():
        by_suffix[_suffix(files.names[index])].append(index)
    left_out: collections.Counter[str] = collections.Counter()
    for suffix in _TABLES:  # of labels, which a layout reads or speaks of itself
        by_suffix.pop(suffix, None)
    for suffix, indices in by_suffix.items():
        for index, kind in zip(indices, _kinds(files, suffix, indices), strict=True):
            if kind == 'other' or (kind == 'heif' and not can_read_heif()):
                left_out[_words(suffix, kind)] += 1
            else:
                is_image[index] = True
    return np.flatnonzero(is_image), dict(left_out.most_common())


def describe_left_out(left_out: Mapping[str, int]) -> list[str]:
    """Says in words what `find_images` left out: one note, or none."""
    listed = ', '.join(f'{count:,} {what}' for what, count in left_out.items())
    return [f'left out, as no images that can be read: {listed}'] if listed else []


def _suffix(name: str) -> str:
    return os.path.splitext(os.path.basename(name).lower())[1]


def _kinds(files: Files, suffix: str, indices: Sequence[int]) -> list[str]:
    if suffix in HEIF_SUFFIXES:
        return ['heif'] * len(indices)
    # A suffix of annotations need not be looked into file by file.
    sample = indices[:: max(1, len(indices) // _SAMPLE)] if suffix else []
    if suffix and all(_format_of(files, index) == 'other' for index in sample):
        return ['other'] * len(indices)
    return [_format_of(files, index) for index in indices]


def _format_of(files: Files, index: int) -> str:
    try:
        return image_format(read_start(files, index, START))
    except OSError:  # as an image it would be unreadable; as anything else it does not matter
        return 'other'


def _words(suffix: str, kind: str) -> str:
    if kind == 'heif':
        return f'{NEEDS_HEIF.partition(",")[0]} ({NEEDS_HEIF.partition("which ")[2]})'
    return suffix or 'without a suffix'

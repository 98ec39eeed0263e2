"""Everything an audit measures on one image, from its name and bytes, as one row of a structured array.

Rows of many images stack into one array of FACTS; duplicates.py and separability.py read its columns.
"""

import hashlib
import posixpath
import re
import warnings
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fakeimg.auditing.headers import image_format, read_header
from fakeimg.auditing.pixels import BINS, THUMBNAIL_SIDE, measure_pixels
from fakeimg.data.decode import BadImage, decode_rgb
from fakeimg.data.labels import CLASS_NAMES

PROBLEMS = ('empty', 'truncated', 'not_an_image', 'too_large', 'undecodable')

# Of a broken image, fields that cannot be known are zero, empty, or NaN.
FACTS = np.dtype(
    [
        ('problem', 'S13'),  # b'' or one of PROBLEMS
        ('format', 'S5'),
        ('mode', 'S8'),  # grey, rgb, rgba, palette, ...
        ('size', 'i8'),  # bytes
        ('width', 'i4'),  # pixels, as stored: an EXIF orientation is not applied
        ('height', 'i4'),
        ('bytes_per_pixel', 'f4'),
        ('jpeg_quality', 'u1'),  # 1..100 on the scale of the Independent JPEG Group; 0: no JPEG
        ('subsampling', 'u1'),  # 11, 21, 22 for 4:4:4, 4:2:2, 4:2:0; 0: no JPEG, or grey
        ('jpeg_tables', 'u4'),  # CRC-32 of the quantisation tables
        ('progressive', '?'),
        ('exif', '?'),
        ('icc', '?'),
        ('jfif', '?'),
        ('misnamed', '?'),  # the extension promises another format
        ('name_pattern', 'u4'),  # CRC-32 of name_pattern(name)
        ('name_length', 'u2'),  # characters without extension, a class word counting as one
        ('bytes_hash', 'S16'),  # of SHA-256 of the file
        ('pixels_hash', 'S16'),  # BLAKE2b of the decoded shape and pixels; b'': broken
        ('phash', 'u8'),
        ('thumbnail', 'u1', (THUMBNAIL_SIDE, THUMBNAIL_SIDE)),  # luma
        ('mean', 'f4', (3,)),  # of R, G, B, 0..255
        ('std', 'f4', (3,)),
        ('saturation', 'f4'),
        ('greyness', 'f4'),
        ('sharpness', 'f4'),
        ('noise', 'f4'),
        ('blockiness', 'f4'),
        ('high_frequency', 'f4'),
        ('spectrum', 'f4', (BINS,)),
    ]
)

_EXTENSIONS = {
    **dict.fromkeys(('.jpg', '.jpeg', '.jpe', '.jfif'), 'jpeg'),
    **dict.fromkeys(('.tif', '.tiff'), 'tiff'),
    **dict.fromkeys(('.bmp', '.dib'), 'bmp'),
    **dict.fromkeys(('.jp2', '.j2k', '.jpf', '.jpx'), 'jp2'),
    **dict.fromkeys(('.heic', '.heif', '.hif'), 'heif'),
    **{f'.{kind}': kind for kind in ('png', 'webp', 'gif', 'avif')},
}
# Longest first, so that '0_real' is not taken for a number and 'real'.
_WORDS = '|'.join(
    (r'(?<!\d)' if word[0].isdigit() else '') + word for word in sorted(CLASS_NAMES, key=len, reverse=True)
)
_CLASS_WORD = re.compile(f'(?<![a-z])(?:{_WORDS})(?![a-z])')
_HEX_RUN = re.compile(
    r'(?<![a-z0-9])(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,})(?![a-z0-9])'
)
_DIGITS = re.compile(r'\d+')


def measure_image(name: str, data: bytes) -> NDArray[Any]:
    """Measures one image; any bytes will do, nothing is raised.

    Args:
        name: the file's name or path, '/' between folders.
        data: the file's bytes.

    Returns:
        One row, of dtype FACTS and shape (). A process that measures many should return np.stack(rows):
        pickling one array costs less than pickling its rows.
    """
    row = np.zeros((), FACTS)
    for field in ('bytes_per_pixel', *PIXEL_STATISTICS):
        row[field] = np.nan
    stem, extension = _split_name(name)
    pattern = _without_class(stem)
    row['name_length'] = min(len(pattern), 65535)
    row['name_pattern'] = zlib.crc32(_without_numbers(pattern).encode('utf-8', 'surrogateescape'))
    row['bytes_hash'] = hashlib.sha256(data).digest()[:16]
    row['size'] = len(data)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Pillow's doubts about metadata; what matters is raised
        header = read_header(data)
        for field, value in header._asdict().items():
            if field != 'complete':
                row[field] = value
        if header.width and header.height:
            row['bytes_per_pixel'] = len(data) / (header.width * header.height)
        try:
            image = decode_rgb(data)
        except BadImage as error:
            row['problem'] = _problem(data, str(error), header.complete)
        except Exception:  # a plugin's mistake; the audit goes on to the next image
            row['problem'] = 'undecodable'
        else:
            pixels = np.ascontiguousarray(image)
            row['pixels_hash'] = pixels_hash(pixels)
            for field, value in measure_pixels(pixels).items():
                row[field] = value
    row['misnamed'] = header.format != _EXTENSIONS.get(extension, header.format) and row['problem'] not in (
        b'empty',
        b'not_an_image',
    )
    return row


def pixels_hash(pixels: NDArray[np.uint8]) -> bytes:
    """16 bytes that identify uint8[H, W, 3], contiguous, by shape and values."""
    shape = np.array(pixels.shape[:2], '<i8').tobytes()
    return hashlib.blake2b(pixels.data, digest_size=16, person=shape).digest()


PIXEL_STATISTICS = (
    'mean', 'std', 'saturation', 'greyness', 'sharpness', 'noise', 'blockiness', 'high_frequency', 'spectrum',
)  # fmt: skip


def _problem(data: bytes, message: str, complete: bool) -> str:
    if not data:
        return 'empty'
    if 'exceeds limit' in message:
        return 'too_large'
    if not complete or 'runcated' in message:
        return 'truncated'
    if image_format(data) == 'other' and message.startswith('not an image'):
        return 'not_an_image'
    return 'undecodable'


def name_pattern(name: str) -> str:
    """The scheme a file is named by: class words become '@', hexadecimal runs 'x', digits '#'; lower case.

    A name that says the class outright is how data sets are labelled and no shortcut; another scheme of numbering is
    a trace of another origin.

    >>> name_pattern('train/FAKE/fake_0012 (3).jpg')
    '@_# (#)'
    """
    return _without_numbers(_without_class(_split_name(name)[0]))


def _split_name(name: str) -> tuple[str, str]:
    return posixpath.splitext(posixpath.basename(name).lower())


def _without_class(stem: str) -> str:
    return _CLASS_WORD.sub('@', stem)


def _without_numbers(stem: str) -> str:
    return _DIGITS.sub('#', _HEX_RUN.sub('x', stem))

"""What an image's header says, read without decoding: the traces that encoders and pipelines leave in files."""

import io
import struct
import zlib
from functools import cache
from typing import NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from fakeimg.data import formats, jpeg_tables

_MODES = {
    '1': 'bilevel',
    'L': 'grey',
    'LA': 'grey+a',
    'I': 'grey16',
    'I;16': 'grey16',
    'I;16B': 'grey16',
    'F': 'float',
    'P': 'palette',
    'RGB': 'rgb',
    'RGBA': 'rgba',
    'CMYK': 'cmyk',
}


class Header(NamedTuple):
    """Facts of one header. What a broken header does not tell stays at its default."""

    format: str
    width: int = 0  # pixels, as stored: an EXIF orientation is not applied
    height: int = 0
    mode: str = ''
    jpeg_quality: int = 0  # 1..100 on the scale of the Independent JPEG Group; 0: no JPEG
    jpeg_tables: int = 0  # CRC-32 of all quantisation tables
    subsampling: int = 0  # 11, 21, 22 for 4:4:4, 4:2:2, 4:2:0: luma samples per chroma sample, across and down
    progressive: bool = False
    exif: bool = False
    icc: bool = False
    jfif: bool = False
    complete: bool = True  # False: the file ends before its format says it does


def read_header(data: bytes) -> Header:
    """Reads the header of any bytes; raises nothing."""
    kind = image_format(data)
    if kind == 'jpeg':
        return _read_jpeg(data)
    header = Header(kind, complete=_complete(kind, data))
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            mode = _MODES.get(image.mode, 'other')
            exif, icc = 'exif' in image.info, 'icc_profile' in image.info
    except Exception:  # whatever a plugin stumbles over; decoding will name it
        return header
    return header._replace(width=width, height=height, mode=mode, exif=exif, icc=icc)


def image_format(data: bytes) -> str:
    """One of `formats.FORMATS` by the first bytes, else 'other'."""
    return formats.image_format(data[: formats.START])


def _complete(kind: str, data: bytes) -> bool:
    if kind == 'png':
        return data.rfind(b'IEND') >= 0
    if kind == 'gif':
        return data.rstrip(b'\0').endswith(b';')
    try:
        if kind == 'webp':
            return struct.unpack_from('<I', data, 4)[0] + 8 <= len(data)
        if kind == 'bmp':
            return struct.unpack_from('<I', data, 2)[0] <= len(data)
        if kind == 'tiff' and 42 in data[2:4]:  # its directory of 12-byte entries often follows the pixels
            order = '<' if data[:2] == b'II' else '>'
            directory = struct.unpack_from(order + 'I', data, 4)[0]
            return directory + 2 + 12 * struct.unpack_from(order + 'H', data, directory)[0] <= len(data)
    except struct.error:
        return False
    return True


def _read_jpeg(data: bytes) -> Header:
    header, tables, at = Header('jpeg', complete=False), {}, 2
    crc = 0
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # padding and markers without a segment
            at += 1 if marker == 0xFF else 2
            continue
        if marker == 0xD9:
            break
        length = data[at + 2] << 8 | data[at + 3]
        segment = data[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == 0xDA:
            header = header._replace(complete=data.find(b'\xff\xd9', at) >= 0)
            break
        if marker == 0xDB:
            crc = zlib.crc32(segment, crc)
            tables |= _quantisation_tables(segment)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(segment) >= 6:
            height, width, components = struct.unpack_from('>HHB', segment, 1)
            mode = {1: 'grey', 3: 'rgb', 4: 'cmyk'}.get(components, 'other')
            sampling = segment[7::3] if components == 3 and len(segment) >= 15 else b''
            header = header._replace(
                width=width,
                height=height,
                mode=mode,
                progressive=marker in (0xC2, 0xC6, 0xCA, 0xCE),
                subsampling=_subsampling(sampling[0], sampling[1]) if sampling else 0,
            )
        elif marker == 0xE0 and segment[:5] == b'JFIF\0':
            header = header._replace(jfif=True)
        elif marker == 0xE1 and segment[:5] == b'Exif\0':
            header = header._replace(exif=True)
        elif marker == 0xE2 and segment[:12] == b'ICC_PROFILE\0':
            header = header._replace(icc=True)
    return header._replace(jpeg_tables=crc, jpeg_quality=_quality(tables.get(0, b'')))


def _subsampling(luma: int, chroma: int) -> int:
    across = (luma >> 4) // max(chroma >> 4, 1)
    down = (luma & 15) // max(chroma & 15, 1)
    return across * 10 + down


def _quantisation_tables(segment: bytes) -> dict[int, bytes]:
    """Tables by number, 64 values of 8 bits each in zigzag order; 16-bit values are clipped."""
    tables, at = {}, 0
    while at < len(segment):
        precision, number = segment[at] >> 4, segment[at] & 15
        size = 128 if precision else 64
        values = segment[at + 1 : at + 1 + size]
        if precision and len(values) == size:
            values = bytes(min(value, 255) for value in struct.unpack('>64H', values))
        tables[number] = values
        at += 1 + size
    return tables


@cache  # a data set holds few different tables
def _quality(luminance: bytes) -> int:
    if len(luminance) != 64:
        return 0
    table = np.frombuffer(luminance, np.uint8).astype(np.int64)
    return int(((_tables_by_quality() - table) ** 2).sum(1).argmin()) + 1


@cache
def _tables_by_quality() -> NDArray[np.int64]:
    """int64[100, 64]: the tables of qualities 1 to 100 in zigzag order."""
    rows, columns = zigzag(8)
    return jpeg_tables.LUMA[:, rows, columns].astype(np.int64)


def zigzag(side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of a square of coefficients in the zigzag order of JPEG, each int64[side**2]."""
    rows, columns = (index.ravel() for index in np.indices((side, side)))
    diagonal = rows + columns
    order = np.lexsort((np.where(diagonal % 2, rows, columns), diagonal))
    return rows[order], columns[order]

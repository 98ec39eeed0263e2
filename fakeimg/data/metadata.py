"""What lies beside the pixels in a file, read with care: whatever is wrong with it never costs the image."""

import struct
import zlib

import numpy as np
import PIL.Image
from jaxtyping import UInt8

_MOST_PADDING = 4096  # bytes between the segments of a JPEG
ORIENTATION_TAG = 0x0112
_INTEGERS = {1: 'B', 3: 'H', 4: 'I'}  # types of a tag's value, as in `struct`
_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
# The orientations whose rows are columns, that are then to be turned upside down, and left to right.
_TURNED, _UPSIDE_DOWN, _MIRRORED = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)
_PNG_START = b'\x89PNG\r\n\x1a\n'
_PNG_CHUNK = struct.Struct('>I4s')  # length of the content, name; a CRC of 4 bytes follows the content
# The chunks that say what the pixels are, and eXIf, which says how they lie.
_PNG_NEEDED = (b'IHDR', b'PLTE', b'IDAT', b'IEND', b'tRNS', b'eXIf')


JpegHeader = tuple[int, int, int, bytes | None]


def read_jpeg_header(data: bytes) -> JpegHeader | None:
    """Reads a JPEG up to its frame; simplejpeg's header reader is slower and does not know Exif.

    Returns:
        Height and width as stored, pixels; the number of components; and the content of the Exif segment, if there is
        one. None of anything out of the ordinary.
    """
    place, end, exif, padding = 2, len(data) - 10, None, 0
    # Segments: marker (2 bytes), length (2 bytes, itself included), content. Exif is an APP1, before the frame, whose
    # content is precision (1 byte), height, width (2 bytes each), components (1 byte).
    while place < end and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xC3:
            height, width = data[place + 5] << 8 | data[place + 6], data[place + 7] << 8 | data[place + 8]
            return (height, width, data[place + 9], exif) if height and width else None
        if marker == 0xFF:  # padding
            place, padding = place + 1, padding + 1
            if padding > _MOST_PADDING:  # byte by byte, megabytes of it would take seconds
                return None
            continue
        length = data[place + 2] << 8 | data[place + 3]
        if marker == 0xE1 and exif is None and data[place + 4 : place + 10] == b'Exif\0\0':
            exif = data[place + 10 : place + 2 + length]
        place += 2 + length
    return None


def orientation(exif: bytes | None) -> int:
    """Returns the orientation that the content of an Exif segment gives, 1 to 8; 1, upright, where it is broken."""
    try:
        tiff = (exif or b'').removeprefix(b'Exif\0\0')
        order = {b'II*\0': '<', b'MM\0*': '>'}[tiff[:4]]
        (directory,) = struct.unpack_from(f'{order}I', tiff, 4)
        (count,) = struct.unpack_from(f'{order}H', tiff, directory)
        for place in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f'{order}HH', tiff, place)
            if tag == ORIENTATION_TAG:
                (value,) = struct.unpack_from(order + _INTEGERS[kind], tiff, place + 8)
                return value if 1 <= value <= 8 else 1
    except (KeyError, struct.error):
        pass
    return 1


def upright(pixels: UInt8[np.ndarray, 'h w 3'], orientation: int) -> UInt8[np.ndarray, 'h2 w2 3']:
    """Turns pixels as `orientation` says (Exif 2.3, tag 274)."""
    if orientation == 1:
        return pixels
    # By Pillow, since numpy takes six times as long for pixels of three bytes.
    return np.asarray(PIL.Image.fromarray(pixels).transpose(_TURNS[orientation]))


def stored_box(
    box: tuple[float, float, float, float], shape: tuple[int, int], orientation: int
) -> tuple[float, float, float, float]:
    """Returns where a part of an upright image lies in it as stored: left, top, right and bottom, pixels.

    Args:
        box: the part.
        shape: height and width, upright.
        orientation: as for `upright`.
    """
    left, top, right, bottom = box
    if orientation in _MIRRORED:
        left, right = shape[1] - right, shape[1] - left
    if orientation in _UPSIDE_DOWN:
        top, bottom = shape[0] - bottom, shape[0] - top
    return (top, left, bottom, right) if orientation in _TURNED else (left, top, right, bottom)


def plain_png(data: bytes) -> bytes:
    """Returns a PNG without the chunks that its pixels do not need, whose checksums or sizes readers stumble over.

    Texts (prompts and workflows of generators take megabytes), profiles and times go; so do needed but optional chunks
    with a wrong checksum, as browsers ignore them too. What does not look like a PNG is returned unchanged.
    """
    if not data.startswith(_PNG_START):
        return data
    parts, place, is_changed = [_PNG_START], len(_PNG_START), False
    while place + _PNG_CHUNK.size <= len(data):
        length, name = _PNG_CHUNK.unpack_from(data, place)
        end = place + 12 + length
        is_optional = bool(name[0] & 32)
        checksum = data[end - 4 : end]
        is_whole = not is_optional or checksum == zlib.crc32(data[place + 4 : end - 4]).to_bytes(4, 'big')
        if name in _PNG_NEEDED and is_whole or not is_optional:
            parts.append(data[place:end])
        else:
            is_changed = True
        place = end
        if name == b'IEND':
            break
    return b''.join(parts) if is_changed else data

"""One record of a prepared set: its fields, and its form as a serialised tf.train.Example."""

import functools
import os
from typing import NamedTuple

_IMAGE_KEY = b'\x0a\x05image\x12'


class Record(NamedTuple):
    """A record without its image; these are the manifest's columns."""

    split: str
    name: str
    label: int
    source: str
    group: str
    width: int
    height: int
    format: str
    size: int  # bytes
    sha256: str


def encode_example(image: bytes, row: Record) -> bytes:
    """Returns a serialised tf.train.Example; protobuf's classes take three times as long.

    The image comes first, which `decode_image` relies on.
    """
    # tf/core/example/feature.proto: Example.features = 1, Features.feature = 1, a map of Feature.bytes_list = 1 or
    # Feature.int64_list = 3, whose values are field 1 (int64 packed).
    size = len(image)
    inner = b'\x0a' + _varint(size)
    value = b'\x0a' + _varint(len(inner) + size) + inner
    feature = _IMAGE_KEY + _varint(len(value) + size) + value
    start = b'\x0a' + _varint(len(feature) + size) + feature
    rest = b''.join(
        (
            _text('name', row.name),
            _repeated_text('split', row.split),
            _repeated_text('source', row.source),
            _repeated_text('group', row.group),
            _repeated_text('format', row.format),
            _text('sha256', row.sha256),
            _number('label', row.label),
            _number('width', row.width),
            _number('height', row.height),
            _number('size', row.size),
        )
    )
    # One copy of the image, not one a level.
    return b''.join((b'\x0a', _varint(len(start) + size + len(rest)), start, image, rest))


def _text(key: str, text: str) -> bytes:
    return _entry(key, _field(b'\x0a', _field(b'\x0a', os.fsencode(text))))


_repeated_text = functools.lru_cache(1024)(_text)


@functools.lru_cache(1 << 14)
def _number(key: str, number: int) -> bytes:
    return _entry(key, _field(b'\x1a', _field(b'\x0a', _varint(number))))


def _entry(key: str, feature: bytes) -> bytes:
    return _field(b'\x0a', _field(b'\x0a', key.encode()) + _field(b'\x12', feature))


def _field(tag: bytes, payload: bytes) -> bytes:
    return tag + _varint(len(payload)) + payload


@functools.lru_cache(1 << 14)
def _varint(number: int) -> bytes:
    """Seven bits a byte, lowest first."""
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def decode_image(example: bytes) -> bytes:
    """Returns the image of an example that `encode_example` made. Raises ValueError for others."""
    place = example.find(_IMAGE_KEY, 0, 32) + len(_IMAGE_KEY)
    if place < len(_IMAGE_KEY):
        raise ValueError('not a record of fakeimg')
    size = 0
    for _ in range(3):  # the lengths of Feature, BytesList and value, each behind its tag but for the first
        size = shift = 0
        while True:
            byte = example[place]
            place += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        place += 1
    return example[place - 1 : place - 1 + size]

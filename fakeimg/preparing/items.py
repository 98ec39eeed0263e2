"""What becomes of one image, or of one photo with several faces: the records that it gives."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import PIL.Image
import simplejpeg

from fakeimg.data import decode, openforensics
from fakeimg.data.datasets import Split
from fakeimg.data.example import Row
from fakeimg.data.files import Files
from fakeimg.errors import UserError


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How images are written; as they are by default.

    Attributes:
        side: length that the short side is brought to, pixels; 0 keeps it.
        quality: of JPEG, 1 to 100; 0 keeps the original bytes.
    """

    side: int = 0
    quality: int = 0

    @classmethod
    def parse(cls, side: int, encode: str) -> 'Encoding':
        """Reads `--to_size` and `--encode jpeg:QUALITY`; a new size without an encoder means jpeg:95.

        Raises:
            UserError: another encoder, or a number out of range.
        """
        name, _, quality = (encode or ('jpeg:95' if side else 'jpeg:0')).partition(':')
        if name != 'jpeg' or not quality.isdecimal() or (encode and not 1 <= int(quality) <= 100):
            raise UserError(f'--encode is {encode!r}; it must be jpeg:QUALITY, QUALITY from 1 to 100.')
        if side < 0 or 0 < side < 8:
            raise UserError(f'--to_size is {side}; it must be 0 (as they are) or at least 8 pixels.')
        return cls(side, int(quality))

    def apply(self, data: bytes) -> bytes:
        """Decodes, resizes and encodes; the same encoder whatever the class. Raises decode.BadImage."""
        if not self.quality:
            return data
        image = decode.decode_rgb(data)  # never at a fraction, as JPEG alone can: classes may differ in format
        height, width = image.shape[:2]
        if self.side and min(height, width) != self.side:
            scale = self.side / min(height, width)
            size = (max(self.side, round(width * scale)), max(self.side, round(height * scale)))
            image = np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BICUBIC))
        return encode_jpeg(image, self.quality)


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encodes uint8[H, W, 3] with the chroma subsampled (4:2:0), as nearly all JPEGs in the wild are."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, colorsubsampling='420')


class Items(Protocol):
    """What one split is made from, in the order in which it is written."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def files(self) -> Files: ...

    def __len__(self) -> int: ...

    def take(self, indices: Sequence[int] | np.ndarray) -> 'Items': ...

    def records(self, index: int, bad: list[tuple[str, str]]) -> Iterator[tuple[bytes, Row]]:
        """Yields image and description of each record; appends (name, reason) to `bad` for each there cannot be."""
        ...


@dataclasses.dataclass(frozen=True)
class Images:
    """One record an image."""

    split: str
    source: Split
    encoding: Encoding

    @property
    def names(self) -> Sequence[str]:
        return self.source.names

    def __len__(self) -> int:
        return len(self.source)

    @property
    def files(self) -> Files:
        return self.source.files

    def take(self, indices: Sequence[int] | np.ndarray) -> 'Images':
        return dataclasses.replace(self, source=self.source.take(np.asarray(indices, int)))

    def records(self, index: int, bad: list[tuple[str, str]]) -> Iterator[tuple[bytes, Row]]:
        source, name = self.source, self.names[index]
        label, group = int(source.labels[index]), source.groups[index]
        try:
            data = self.encoding.apply(source[index])
            row = describe(data, self.split, name, label, source.generators[index], group)
        except (OSError, decode.BadImage) as error:
            bad.append((name, str(error)))
        else:
            yield data, row


@dataclasses.dataclass(frozen=True)
class Photos:
    """One record a face of OpenForensics; each photo is decoded once."""

    split: str
    files: Files
    photos: Sequence[openforensics.Photo]
    margin: float
    size: int
    quality: int

    @property
    def names(self) -> Sequence[str]:
        return self.files.names

    def __len__(self) -> int:
        return len(self.photos)

    def take(self, indices: Sequence[int] | np.ndarray) -> 'Photos':
        photos = [self.photos[index] for index in indices]
        return dataclasses.replace(self, files=self.files.take(indices), photos=photos)

    def records(self, index: int, bad: list[tuple[str, str]]) -> Iterator[tuple[bytes, Row]]:
        photo = self.photos[index]
        try:
            image = decode.decode_rgb(self.files.read(index))
        except (OSError, decode.BadImage) as error:
            bad.append((photo.name, str(error)))
            return
        for face in photo.faces:
            name = f'{photo.name}/{face.annotation}'
            try:
                crop = openforensics.crop_face(image, face.box, self.margin, self.size)
            except openforensics.BadBox as error:
                bad.append((name, str(error)))
                continue
            data = encode_jpeg(crop, self.quality)
            yield data, describe(data, self.split, name, face.label, 'OpenForensics', f'{self.split}/{photo.image_id}')


def describe(data: bytes, split: str, name: str, label: int, source: str, group: str) -> Row:
    """Returns the row of a record. Raises decode.BadImage when the header says that it is no image."""
    kind, width, height = decode.read_header(data)
    return Row(split, name, label, source, group, width, height, kind, len(data), hashlib.sha256(data).hexdigest())

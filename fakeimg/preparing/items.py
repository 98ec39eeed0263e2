"""From one image, or one photo with several faces, to records."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import PIL.Image
import simplejpeg
from jaxtyping import UInt8

from fakeimg.data import decode, openforensics
from fakeimg.data.datasets import Split
from fakeimg.data.example import Record
from fakeimg.data.files import Files
from fakeimg.errors import UserError


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How images are written; unchanged by default.

    Attributes:
        side: length that the short side is brought to, pixels; 0 keeps it.
        quality: of JPEG, 1 to 100; 0 keeps the original bytes.
    """

    side: int = 0
    quality: int = 0

    @classmethod
    def parse(cls, side: int, encode: str) -> 'Encoding':
        """Reads the options `to_size` and `encode` (jpeg:QUALITY); a new size without an encoder means jpeg:95.

        Raises:
            UserError: another encoder, or a number out of range.
        """
        name, _, quality = (encode or ('jpeg:95' if side else 'jpeg:0')).partition(':')
        if name != 'jpeg' or not quality.isdecimal() or (encode and not 1 <= int(quality) <= 100):
            raise UserError(f'encode is {encode!r}; it must be jpeg:QUALITY, QUALITY from 1 to 100.')
        if side < 0 or 0 < side < 8:
            raise UserError(f'to_size is {side}; it must be 0 (unchanged) or at least 8 pixels.')
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


def encode_jpeg(image: UInt8[np.ndarray, 'h w 3'], quality: int) -> bytes:
    """Encodes an image with the chroma subsampled (4:2:0), as nearly all JPEGs in the wild are."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, colorsubsampling='420')


class Items(Protocol):
    """The images or photos of one split, in the order in which they are written."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def files(self) -> Files: ...

    def __len__(self) -> int: ...

    def take(self, indices: Sequence[int] | np.ndarray) -> 'Items': ...

    def records(self, index: int, bad: list[tuple[str, str]]) -> Iterator[tuple[bytes, Record]]:
        """Yields image and description of each record; appends (name, reason) to `bad` for each unreadable one."""
        ...


@dataclasses.dataclass(frozen=True)
class ImageItems:
    """One record an image."""

    name: str
    split: Split
    encoding: Encoding

    @property
    def names(self) -> Sequence[str]:
        return self.split.names

    def __len__(self) -> int:
        return len(self.split)

    @property
    def files(self) -> Files:
        return self.split.files

    def take(self, indices: Sequence[int] | np.ndarray) -> 'ImageItems':
        return dataclasses.replace(self, split=self.split.take(np.asarray(indices, int)))

    def records(self, index: int, bad: list[tuple[str, str]]) -> Iterator[tuple[bytes, Record]]:
        split, name = self.split, self.names[index]
        label, generator, group = int(split.labels[index]), split.generators[index], split.groups[index]
        try:
            data = self.encoding.apply(split[index])
            record = describe(data, self.name, name, label, generator, group)
        except (OSError, decode.BadImage) as error:
            bad.append((name, str(error)))
        else:
            yield data, record


@dataclasses.dataclass(frozen=True)
class PhotoItems:
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

    def take(self, indices: Sequence[int] | np.ndarray) -> 'PhotoItems':
        photos = [self.photos[index] for index in indices]
        return dataclasses.replace(self, files=self.files.take(indices), photos=photos)

    def records(self, index: int, bad: list[tuple[str, str]]) -> Iterator[tuple[bytes, Record]]:
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


def describe(data: bytes, split: str, name: str, label: int, generator: str, group: str) -> Record:
    """Returns the record of an encoded image. Raises decode.BadImage when the header says that it is no image."""
    kind, width, height = decode.identify(data)
    return Record(
        split, name, label, generator, group, width, height, kind, len(data), hashlib.sha256(data).hexdigest()
    )

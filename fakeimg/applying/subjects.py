"""What of an image is scored: all of it, or each face in it, cropped as the images of training were."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fakeimg.applying import faces as faces_lib
from fakeimg.applying.faces import Face
from fakeimg.data import decode
from fakeimg.data.inputs import Input, read_content, read_input
from fakeimg.data.openforensics import BadBox

NO_FACE = 'no face found: the whole image was scored, which is not what this detector was trained on'


class Subject(NamedTuple):
    """What is scored of one image, as `number` inputs.

    Attributes:
        number: of inputs, at least 1.
        faces: those that were found; None where nobody looked.
        provenance: what the file says of itself; None where it is not read here.
    """

    number: int = 1
    faces: list[Face] | None = None
    provenance: str | None = None


@dataclasses.dataclass(frozen=True)
class FaceFinder:
    """Finds and crops the faces of images.

    Attributes:
        network: see `faces.load_detector`.
        margin: of a crop, see `faces.crop_face`.
        provenance: reads what a file says of itself, which a crop no longer says; None leaves it out.
    """

    network: Any
    margin: float = faces_lib.MARGIN
    provenance: Callable[[bytes], str] | None = None

    def inputs(self, images: Iterable[Input], subjects: collections.deque[Subject]) -> Iterator[Input]:
        """Yields what is to be scored of each image, and appends to `subjects` what that is."""
        for image in images:
            try:
                data = read_content(image.content)
                pixels = decode.decode_rgb(data).copy()
            except (OSError, decode.BadImage) as error:
                subjects.append(Subject())
                yield Input(image.name, functools.partial(_fail, str(error)))
                continue
            crops, found = [], []
            for face in faces_lib.find_faces(pixels, self.network):
                try:
                    crops.append(faces_lib.crop_face(pixels, face, self.margin))
                except BadBox:
                    continue
                found.append(face)
            provenance = None if self.provenance is None else self.provenance(data)
            subjects.append(Subject(max(1, len(crops)), found, provenance))
            yield from (_named(image.name, crop) for crop in crops)
            if not crops:
                yield Input(image.name, data)


def _named(name: str, pixels: np.ndarray) -> Input:
    return read_input(pixels, 0)._replace(name=name)


def _fail(reason: str) -> bytes:
    raise OSError(reason)

"""Rows of images: whole, as their faces, and re-encoded; with a network that says how red an image is."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import PIL.Image
import pytest

from fakeimg.applying import faces, predict, stability
from fakeimg.applying.predict import Applied
from fakeimg.applying.subjects import NO_FACE, FaceFinder
from fakeimg.data import decode
from fakeimg.data.inputs import Input, read_content
from fakeimg.decision import Decision
from fakeimg.prediction import Prediction, conclude
from fakeimg.streaming import Scored

SIDE = 64


class Redness:
    """In place of a detector."""

    digest = 'd' * 64
    decision = Decision()

    class config:  # noqa: N801
        class model:  # noqa: N801
            name = 'redness'

    def predict_inputs(self, images: Iterable[Input], look: Any = None) -> Iterator[tuple[Prediction, Any]]:
        for image in images:
            try:
                data = read_content(image.content)
                pixels = decode.decode_rgb(data)
            except (OSError, decode.BadImage) as error:
                yield conclude(Scored(image, reason=str(error)), self.decision), None
                continue
            probability = float(pixels[..., 0].mean() / 255)
            logit = float(np.log(probability + 1e-9) - np.log(1 - probability + 1e-9))
            scored = Scored(image, logit, probability)
            yield conclude(scored, self.decision), look and look([data], pixels[None])[0]


class Squares:
    """In place of YuNet: the places that are asked for."""

    def __init__(self, *boxes: tuple[int, int, int]):
        self._boxes = boxes

    def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802
        self._size = size

    def detect(self, pixels: np.ndarray) -> tuple[int, np.ndarray | None]:
        scale = len(pixels) / SIDE
        rows = [[x * scale, y * scale, w * scale, w * scale, *[0] * 10, 0.9] for x, y, w in self._boxes]
        return len(rows), np.array(rows, np.float32) if rows else None


def image(name: str, red: int = 0, patch: tuple[int, int, int] | None = None) -> Input:
    pixels = np.full((SIDE, SIDE, 3), (red, 90, 90), np.uint8)
    if patch is not None:
        x, y, side = patch
        pixels[y : y + side, x : x + side, 0] = 250
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, 'PNG')
    return Input(name, file.getvalue())


def applied(**more: Any) -> Applied:
    return Applied(Redness(), **more)  # pyright: ignore[reportArgumentType]


def test_an_image_has_the_row_of_its_face_with_the_highest_score() -> None:
    finder = FaceFinder(Squares((4, 4, 16), (36, 36, 16)), 1.0, lambda data: f'{len(data)} bytes')
    photo = image('photo.png', patch=(36, 36, 16))
    face_rows = list(applied(faces=finder, shows_faces=True).rows([photo, Input('none', 'none'), photo]))
    assert [row.path for row in face_rows] == ['photo.png'] * 3 + ['none'] + ['photo.png'] * 3
    first, second, whole = face_rows[:3]
    assert [first.faces, second.faces, whole.faces] == ['1 of 2: 4 4 16 16', '2 of 2: 36 36 16 16', '2']
    assert first.probability == pytest.approx(0, abs=1e-6) and second.probability == pytest.approx(250 / 255)
    assert (whole.probability, whole.verdict) == (second.probability, 'fake')
    assert whole.provenance == f'{len(read_content(photo.content))} bytes' and first.provenance is None
    assert face_rows[3].verdict is None and face_rows[3].note == 'none cannot be read: there is no such file'
    assert [row for row in face_rows if not row.is_face] == list(
        applied(faces=finder).rows([photo, Input('none', 'none'), photo])
    )


def test_without_a_face_the_whole_image_is_scored_and_says_so() -> None:
    [row] = applied(faces=FaceFinder(Squares()), shows_faces=True).rows([image('photo.png', red=200)])
    assert (row.faces, row.note, row.verdict) == ('0', NO_FACE, 'fake')
    [plain] = applied().rows([image('photo.png', red=200)])
    assert plain.probability == row.probability and (plain.faces, plain.note) == (None, None)


def test_stability_is_that_of_mild_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(applied(stability=True).rows([image('steady.png', red=250), Input('none', 'none')]))
    assert rows[0].stability == pytest.approx(1, abs=0.01) and rows[0].verdict == 'fake'
    assert (rows[1].stability, rows[1].verdict) == (None, None)
    assert rows[1].note == 'none cannot be read: there is no such file'
    # As much red as black, which JPEG does not keep.
    edge = np.zeros((SIDE, SIDE, 3), np.uint8)
    edge[..., 0] = np.random.default_rng(0).permutation(SIDE**2).reshape(SIDE, SIDE) % 2 * 255
    file = io.BytesIO()
    PIL.Image.fromarray(edge).save(file, 'PNG')
    [row] = applied(stability=True).rows([Input('edge.png', file.getvalue())])
    assert row.stability is not None and row.stability < 1
    assert row.verdict == 'unsure' and row.note == stability.FLIPS
    assert row.label == ('fake' if row.probability and row.probability >= 0.5 else 'real')


def test_the_variants_of_an_image() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, 'PNG')
    made = [read_content(one.content) for one in stability.variants([Input('x', file.getvalue())])]
    assert len(made) == stability.COUNT and made[0] == file.getvalue()
    kinds = [decode.identify(data) for data in made]
    assert kinds == [('png', 50, 40), ('jpeg', 50, 40), ('jpeg', 50, 40), ('png', 45, 36), ('png', 50, 40)]
    assert len(made[1]) > len(made[2])
    np.testing.assert_array_equal(decode.decode_rgb(made[4]), pixels[:, ::-1])


def test_faces_and_stability_together() -> None:
    finder = FaceFinder(Squares((4, 4, 16), (36, 36, 16)), 1.0)
    rows = list(
        applied(faces=finder, shows_faces=True, stability=True).rows([image('a', patch=(4, 4, 16)), image('b')])
    )
    assert [row.is_face for row in rows] == [True, True, False] * 2
    assert all(row.stability is not None for row in rows)
    assert rows[2].probability == rows[0].probability


def test_margin_of_a_folder_that_says_nothing(tmp_path: Any) -> None:
    assert faces.margin_of(tmp_path) is None
    assert predict.Counts() == (0, 0)

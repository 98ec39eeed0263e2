"""Faces in photos: geometry with a stand-in for the network; recall where FAKEIMG_FACE_WEIGHTS names its file."""

import hashlib
import io
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from typing import Any

import huggingface_hub
import numpy as np
import PIL.Image
import pytest
from huggingface_hub import constants

from fakeimg.applying import faces
from fakeimg.applying.faces import Face, crop_face, face_weights, find_faces, load_detector, margin_of
from fakeimg.data import demo, openforensics
from fakeimg.errors import UserError
from fakeimg.preparing.prepare import prepare
from tests.support.coco import CATEGORIES, coco, face, noise, photo, png
from tests.support.sets import options_of
from tests.support.verbs import ROOT, Verb

RED, BLUE = (250, 0, 0), (0, 0, 250)
WEIGHTS = os.environ.get('FAKEIMG_FACE_WEIGHTS', '')


class StandIn:
    """Takes the place of cv2.FaceDetectorYN: finds one red block, between `least` and `most` pixels wide.

    Attributes:
        sizes: width and height of each image that was shown.
        extra: more rows, in pixels of a photo of 320 x 320.
    """

    def __init__(self, least: float = 1, most: float = 1000, extra: list[list[float]] | None = None) -> None:
        self.least, self.most, self.extra = least, most, np.array(extra or [])
        self.sizes: list[tuple[int, int]] = []

    def setInputSize(self, size: tuple[int, int]) -> None:
        self.sizes.append(size)

    def detect(self, image: np.ndarray) -> tuple[int, np.ndarray | None]:
        assert image.shape[1::-1] == self.sizes[-1] and image.dtype == np.uint8 and image.flags.c_contiguous
        is_red = (image[:, :, 2] > 128) & (image[:, :, 0] < 64)  # blue, green, red, as OpenCV has them
        rows = [[*row[:4] * image.shape[1] / 320, *row[4:]] for row in self.extra]
        if is_red.any():
            down, across = (np.flatnonzero(is_red.any(axis)) for axis in (1, 0))
            width, height = across[-1] - across[0] + 1, down[-1] - down[0] + 1
            if self.least <= width <= self.most:
                # The more pixels it has, the surer it is.
                rows.append([across[0], down[0], width, height, *[0] * 10, 0.9 + width / 1e5])
        return 1, np.array(rows, np.float32).reshape(-1, 15) if rows else None


def block(height: int, width: int, box: tuple[int, int, int, int], colour: tuple[int, int, int] = RED) -> np.ndarray:
    pixels = np.full((height, width, 3), 128, np.uint8)
    left, top, wide, high = box
    pixels[top : top + high, left : left + wide] = colour
    return pixels


@pytest.mark.parametrize(
    ('height', 'width', 'box'),
    [
        (480, 640, (100, 60, 80, 120)),
        (3000, 2000, (1300, 200, 400, 500)),
        (50, 40, (10, 20, 12, 15)),
        (200, 1600, (1500, 20, 64, 90)),
        (333, 77, (0, 300, 20, 33)),
    ],
)
def test_boxes_are_in_pixels_of_the_photo(height: int, width: int, box: tuple[int, int, int, int]) -> None:
    detector = StandIn()
    (found,) = find_faces(block(height, width, box), detector)
    assert np.abs(np.array(found.box) - box).max() <= max(height, width) / 640 + 1e-3
    assert [max(size) for size in detector.sizes] == [640, 320]
    for size in detector.sizes:
        assert np.abs(np.array(size) / size[0] - np.array([width, height]) / width).max() <= 0.5 / size[0] + 1e-9


def test_colours_are_handed_on_as_opencv_has_them() -> None:
    assert find_faces(block(64, 64, (8, 8, 20, 20), BLUE), StandIn()) == []


def test_a_face_that_one_scale_sees_is_found_once() -> None:
    small, large = (block(640, 640, (50, 60, side, side)) for side in (24, 500))
    for pixels, detector in ((small, StandIn(least=20)), (large, StandIn(most=300)), (small, StandIn())):
        (found,) = find_faces(pixels, detector)
        assert found.x == pytest.approx(50, abs=2)
    assert find_faces(small, StandIn(least=30)) == []


def row(x: float, y: float, w: float, h: float, score: float) -> list[float]:
    return [x, y, w, h, *[0.0] * 10, score]


def test_doubles_are_left_out_and_the_highest_score_comes_first() -> None:
    rows = [
        row(10, 10, 100, 100, 0.8),
        row(20, 15, 100, 100, 0.95),  # the same face, better
        row(50, 60, 30, 40, 0.9),  # a part of it
        row(10, 60, 100, 100, 0.65),  # and it again, moved down by half
        row(100, 100, 100, 100, 0.7),  # a neighbour, whose cheek it touches
        row(200, 10, 100, 100, 0.85),
    ]
    found = find_faces(np.zeros((320, 320, 3), np.uint8), StandIn(extra=rows))
    boxes = [(20, 15, 100, 100), (200, 10, 100, 100), (100, 100, 100, 100)]
    assert [face.box for face in found] == boxes
    assert [face.score for face in found] == pytest.approx([0.95, 0.85, 0.7])


def test_nonsense_of_the_network_is_left_out() -> None:
    nan, inf = float('nan'), float('inf')
    rows = [
        row(nan, 0, 9, 9, 0.9), row(0, 0, inf, 9, 0.9), row(0, 0, 9, 9, nan), row(5, 5, 0, 9, 1), row(5, 5, 9, -9, 1),
        row(-1488, -461476, 9, 9, 1), row(321, 5, 9, 9, 1), row(5, 321, 9, 9, 1), row(-9, 0, 9, 9, 1),
        row(0, 0, 1e6, 1e6, 1),
    ]  # fmt: skip
    assert find_faces(np.zeros((320, 320, 3), np.uint8), StandIn(extra=rows)) == []


@pytest.mark.parametrize('shape', [(1, 1), (1, 5000), (5000, 1), (7, 3)])
def test_images_without_a_face_give_an_empty_list(shape: tuple[int, int]) -> None:
    assert find_faces(np.zeros((*shape, 3), np.uint8), StandIn()) == []


def test_crops_are_those_of_openforensics() -> None:
    pixels, found = noise(200, 300), Face(120.4, 60.2, 40.5, 61.3, 0.9)
    crop = crop_face(pixels, found)
    side = round(1.3 * 61.3)
    assert crop.shape == (side, side, 3)
    assert (crop == openforensics.crop_face(pixels, found.box, 1.3, side)).all()
    left, top = round(120.4 + 40.5 / 2 - side / 2), round(60.2 + 61.3 / 2 - side / 2)
    assert (crop == pixels[top : top + side, left : left + side]).all()
    assert crop_face(pixels, found, 2.0).shape == (123, 123, 3)
    edge = crop_face(pixels, Face(-10, -10, 60, 60, 0.9))
    assert edge.shape == (78, 78, 3) and (edge[19:, 19:] == pixels[:59, :59]).all()
    assert (edge[18, 19:] == pixels[1, :59]).all()  # mirrored about the first row
    assert crop_face(pixels, Face(5, 5, 0.2, 0.2, 0.9)).shape == (1, 1, 3)
    with pytest.raises(openforensics.BadBox):
        crop_face(pixels, Face(400, 5, 20, 20, 0.9))


def test_a_given_file_of_weights_is_taken(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'yunet.onnx'
    path.write_bytes(b'weights')
    assert face_weights(str(path)) == str(path)
    for other in (str(tmp_path), str(tmp_path / 'nothing.onnx')):
        with pytest.raises(UserError, match='is no file; give the path of face_detection_yunet_2023mar.onnx, or none'):
            face_weights(other)


def test_without_a_connection_the_refusal_comes_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    def connect(*args: Any) -> None:
        raise socket.gaierror(-2, 'Name or service not known')

    monkeypatch.setattr(socket, 'create_connection', connect)
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    began = time.monotonic()
    way_out = r'check your connection, or download .* from OpenCV Zoo .* and give its path\.$'
    with pytest.raises(UserError, match=rf'from opencv/face_detection_yunet .*ConnectionError: .*; {way_out}'):
        face_weights()
    assert time.monotonic() - began < 3


def test_only_the_known_file_is_taken_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    path = tmp_path / faces.WEIGHTS
    path.write_bytes(b'other weights')
    asked = []

    def download(repository: str, file: str, **options: Any) -> str:
        asked.append((repository, file))
        return str(path)

    monkeypatch.setattr(faces.hub, 'check_connection', lambda: None)
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
    with pytest.raises(UserError, match=r'is not the face_detection_yunet_2023mar.onnx that fakeimg knows .*; remove'):
        face_weights()
    digest = hashlib.sha256(b'other weights').hexdigest()
    monkeypatch.setitem(faces.SHA256, faces.WEIGHTS, digest)
    assert face_weights() == str(path)
    assert asked == [('opencv/face_detection_yunet', 'face_detection_yunet_2023mar.onnx')] * 2


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'cv2', None)
    with pytest.raises(UserError, match=r"without OpenCV; install the extra: pip install 'fakeimg\[faces\]'\."):
        load_detector('yunet.onnx')


def other_network() -> bytes:
    """An ONNX file of a network with one ReLU, in the wire format of protocol buffers."""

    def field(number: int, content: int | bytes) -> bytes:
        if isinstance(content, int):
            return bytes([number << 3, content])
        return bytes([number << 3 | 2, len(content)]) + content

    def value(name: bytes) -> bytes:
        dimensions = [field(1, 1), field(1, 3), field(2, b'h'), field(2, b'w')]
        shape = b''.join(field(1, dimension) for dimension in dimensions)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    node = field(1, b'x') + field(2, b'y') + field(4, b'Relu')
    graph = field(1, node) + field(2, b'g') + field(11, value(b'x')) + field(12, value(b'y'))
    return field(1, 7) + field(7, graph) + field(8, field(2, 11))


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'version https://git-lfs.github.com/spec/v1\noid sha256:8f\nsize 232589\n',
        b'<!DOCTYPE html>\n<html></html>',
        other_network(),
        other_network()[:-9],
    ],
)
def test_other_files_are_refused(content: bytes, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip('cv2')
    path = tmp_path / 'yunet.onnx'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'yunet.onnx is not a whole file of YuNet that OpenCV .* can use; download'):
        load_detector(str(path))
    assert capfd.readouterr() == ('', '')


def test_opencv_reads_an_onnx_file_written_here() -> None:
    cv2 = pytest.importorskip('cv2')
    network = cv2.dnn.readNetFromONNX(np.frombuffer(other_network(), np.uint8))
    network.setInput(np.full((1, 3, 4, 4), -1, np.float32))
    assert (network.forward() == 0).all()


def of_openforensics(folder: pathlib.Path) -> None:
    (folder / 'Images' / 'Train').mkdir(parents=True)
    for number in range(4):
        (folder / 'Images' / 'Train' / f'{number}.jpg').write_bytes(png(noise(80, 80, number)))
    (folder / 'Train_poly.json').write_bytes(
        coco(
            [photo(number, f'Images/Train/{number}.jpg') for number in range(4)],
            [face(number, number, number % 2, 10, 10, 40, 40) for number in range(4)],
            CATEGORIES,
        )
    )


def test_the_margin_of_a_set_is_what_it_was_prepared_with(tmp_path: pathlib.Path) -> None:
    of_openforensics(tmp_path / 'source')
    for name, settings, margin in (('given', [('size', '32'), ('margin', '1.6')], 1.6), ('default', [], 1.3)):
        made_from = {'path': str(tmp_path / 'source'), 'settings': settings}
        prepare(str(tmp_path / 'source'), options_of(margin=margin), tmp_path / name, made_from=made_from)
        assert margin_of(tmp_path / name) == margin
        run = tmp_path / f'run_{name}'
        run.mkdir()
        (run / 'config.json').write_text(json.dumps({'data': {'path': str(tmp_path / name)}}))
        assert margin_of(str(run)) == margin


@pytest.mark.slow
def test_the_verb_that_prepares_writes_the_margin(verb: Verb, tmp_path: pathlib.Path) -> None:
    of_openforensics(tmp_path / 'source')
    done = verb('prepare', tmp_path / 'source', '--out', tmp_path / 'out', '--margin=1.6', '--workers=1')
    assert (done.returncode, margin_of(tmp_path / 'out')) == (0, 1.6), done.stderr


@pytest.mark.parametrize(
    'content',
    [
        '',
        '{}',
        '{"made_from": null, "layout": "OpenForensics"}',
        '{"made_from": {"settings": [["margin", "wide"]]}, "layout": "OpenForensics"}',
        '{"made_from": {"settings": [["margin", "1.6"]]}, "layout": "classes only"}',
        '[]',
    ],
)
def test_sets_that_do_not_say_have_no_margin(content: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / 'prepared.json').write_text(content)
    assert margin_of(tmp_path) is None
    assert margin_of(tmp_path / 'nothing') is None
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'config.json').write_text('{"data": {"path": ""}}')
    assert margin_of(tmp_path / 'run') is None


def drawn(rng: np.random.Generator, side: int) -> np.ndarray:
    """A drawn portrait whose face is about `side` pixels wide."""
    whole = demo.DemoFaces('test', size=max(round(side * 1.65), 64), seed=int(rng.integers(1 << 30)), num_examples=1)
    image, size = PIL.Image.open(io.BytesIO(whole[0])).convert('RGB'), round(side * 1.65)
    return np.asarray(image.resize((size, size), PIL.Image.Resampling.LANCZOS))


needs_weights = pytest.mark.skipif(not WEIGHTS, reason='FAKEIMG_FACE_WEIGHTS does not name the file of YuNet')


@needs_weights
@pytest.mark.slow
def test_drawn_faces_of_24_to_600_pixels_are_found() -> None:
    pytest.importorskip('cv2')
    detector, rng = load_detector(face_weights(WEIGHTS)), np.random.default_rng(0)
    found = doubles = 0
    sides = [24, 32, 48, 64, 96, 128, 192, 256, 320, 400, 500, 600] * 5
    for side in sides:
        portrait = drawn(rng, side)
        size = len(portrait)
        height, width = max(480, size + 40), max(640, size + 80)
        scene = np.clip(rng.normal(128, 6, (height, width, 3)), 0, 255).astype(np.uint8)
        top, left = rng.integers(0, height - size), rng.integers(0, width - size)
        scene[top : top + size, left : left + size] = portrait
        boxes = find_faces(scene, detector)
        middles = [(box.x + box.w / 2 - left - size / 2, box.y + box.h / 2 - top - size / 2) for box in boxes]
        hits = [np.hypot(*middle) < 0.35 * side for middle in middles]
        found += any(hits)
        doubles += len(hits) - any(hits)
    assert found / len(sides) >= 0.98, found
    assert doubles / len(sides) <= 0.02


@needs_weights
def test_scenes_without_a_face_give_none() -> None:
    pytest.importorskip('cv2')
    detector, rng = load_detector(face_weights(WEIGHTS)), np.random.default_rng(0)
    for cells in (480, 60, 12, 4):
        coarse = PIL.Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        assert find_faces(np.asarray(coarse.resize((640, 480))), detector) == []
    for shape in ((1, 1), (1, 2000), (2000, 1), (9, 7)):
        assert find_faces(np.zeros((*shape, 3), np.uint8), detector) == []


@needs_weights
def test_a_whole_file_is_told_from_one_cut_short(tmp_path: pathlib.Path) -> None:
    pytest.importorskip('cv2')
    whole = pathlib.Path(WEIGHTS).read_bytes()
    for length in (100, len(whole) // 2, len(whole) - 1):
        (tmp_path / 'cut.onnx').write_bytes(whole[:length])
        with pytest.raises(UserError, match='is not a whole file of YuNet'):
            load_detector(str(tmp_path / 'cut.onnx'))


def test_the_module_is_imported_without_opencv_and_jax() -> None:
    code = 'import sys; from fakeimg.applying import faces; print(sorted({"cv2", "jax"} & set(sys.modules)))'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('[]\n', '')

"""A detector gives the numbers of the evaluation, for images in any form, and a row for each."""

import csv
import dataclasses
import io
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import PIL.Image
import pytest

import fakeimg
from fakeimg.config import default_config
from fakeimg.data import decode
from fakeimg.data.datasets import open_data
from fakeimg.detector import Detector, load
from fakeimg.errors import TrainingDiverged, UserError
from fakeimg.evaluation.evaluator import evaluate
from fakeimg.prediction import Prediction, read_inputs
from fakeimg.scoring import block_size
from fakeimg.training import loop

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def run(faces_once: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of the small CNN on faces that are resized and cropped."""
    config, root = default_config(), tmp_path_factory.mktemp('detector')
    shutil.copytree(faces_once, root / 'faces')
    config.batch_size, config.steps, config.model.name = 16, 4, 'cnn'
    config.data.path, config.data.image_size, config.data.resize_size = str(root / 'faces'), 24, 28
    config.optimizer.base_learning_rate = 0.03
    loop.train(config, root / 'run')
    return root / 'run'


@pytest.fixture(scope='module')
def detector(run: pathlib.Path) -> Detector:
    return load(run)


@pytest.fixture(scope='module')
def evaluated(detector: Detector) -> dict[str, str]:
    """The logit of each image of test, as `predictions.csv` has it."""
    with open(evaluate(detector)[1] / 'predictions.csv', newline='') as file:
        return {str(pathlib.Path(detector.config.data.path, row['name'])): row['logit'] for row in csv.DictReader(file)}


def logits(predictions: list[Prediction]) -> list[float | None]:
    return [prediction.logit for prediction in predictions]


def test_predictions_are_those_of_the_evaluation(detector: Detector, evaluated: dict[str, str]) -> None:
    split = open_data(detector.config).get('test')
    scored, _ = detector.score(split, 'test')
    expected = dict(
        zip(evaluated, zip(scored.logits.tolist(), scored.probabilities.tolist(), strict=True), strict=True)
    )
    paths = sorted(evaluated, reverse=True)[:19]  # in another order, beside other images
    for prediction, path in zip(detector.predict(paths), paths, strict=True):
        assert (prediction.logit, prediction.probability) == expected[path]  # to the bit
        assert f'{prediction.logit:.6f}' == evaluated[path]
        assert (prediction.name, prediction.error) == (path, None)
        assert prediction.label == ('fake' if (prediction.probability or 0) >= 0.5 else 'real')
    assert {prediction.label for prediction in detector.predict(evaluated)} == {'real', 'fake'}


@pytest.mark.parametrize('batch_size', [2, 6, 64])
def test_scores_have_the_same_bits_with_every_batch_size(
    batch_size: int, run: pathlib.Path, detector: Detector, evaluated: dict[str, str]
) -> None:
    other = load(run, batch_size=batch_size)
    assert other.config.batch_size == batch_size
    expected = logits(detector.predict(evaluated))
    assert logits(other.predict(evaluated)) == expected
    alone = [other.predict(path).logit for path in list(evaluated)[:3]]
    assert alone == expected[:3]


def test_images_in_every_form_have_the_same_score(detector: Detector, evaluated: dict[str, str]) -> None:
    path = pathlib.Path(next(iter(evaluated)))
    data = path.read_bytes()
    pixels = decode.decode_rgb(data).copy()
    png = io.BytesIO()
    PIL.Image.fromarray(pixels).save(png, 'PNG')
    forms = [str(path), path, data, bytearray(data), png.getvalue(), pixels, pixels[::-1][::-1]]
    forms += [PIL.Image.open(path), PIL.Image.open(png), PIL.Image.fromarray(pixels).convert('RGBA')]
    predictions = detector.predict(forms)
    assert logits(predictions) == [predictions[0].logit] * len(forms)
    assert [prediction.name for prediction in predictions[:4]] == [str(path), str(path), 'image 2', 'image 3']


def test_a_photo_on_its_side_is_turned_upright(detector: Detector) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    exif, file = PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    PIL.Image.fromarray(pixels).save(file, 'PNG', exif=exif)
    upright = np.rot90(pixels, -1)
    first, second, third = logits(detector.predict([file.getvalue(), PIL.Image.open(file), upright]))
    assert first == second == third != logits(detector.predict([pixels]))[0]


def test_unreadable_images_have_a_row_with_an_error(
    detector: Detector, evaluated: dict[str, str], tmp_path: pathlib.Path
) -> None:
    good = list(evaluated)[:20]
    (tmp_path / 'empty.jpg').write_bytes(b'')
    (tmp_path / 'cut.jpg').write_bytes(pathlib.Path(good[0]).read_bytes()[:-100])
    broken = PIL.Image.open(io.BytesIO((tmp_path / 'cut.jpg').read_bytes()))
    images = [tmp_path / 'empty.jpg', *good, tmp_path / 'none.jpg', tmp_path, b'text', broken, good[0], 'a\0b.jpg']
    predictions = detector.predict(images)
    assert len(predictions) == len(images)
    assert logits(predictions)[1:21] == logits(detector.predict(good))
    assert predictions[25] == predictions[1]  # the same path twice
    errors = {row.name: row.error for row in predictions if row.error is not None}
    assert errors[f'{tmp_path}/empty.jpg'] == f'{tmp_path}/empty.jpg cannot be read: empty file'
    assert errors[f'{tmp_path}/none.jpg'] == f'{tmp_path}/none.jpg cannot be read: there is no such file'
    assert errors[str(tmp_path)] == f'{tmp_path} cannot be read: Is a directory'
    assert errors['image 23'] == 'image 23 cannot be read: not an image of a known format'
    assert 'truncated' in (errors['image 24'] or '')
    assert 'null' in (errors['a\0b.jpg'] or '')
    assert len(errors) == 6
    for row in predictions:
        assert row.error is None or (row.probability, row.logit, row.label) == (None, None, None)
    with pytest.raises(UserError, match=r'empty\.jpg cannot be read: empty file; leave it out, or'):
        detector.predict(images, strict=True)


def test_a_look_shows_pixels_as_large_as_the_network_is_given_them(detector: Detector) -> None:
    """Of a resized image, the rest of the square that batches hold is black."""
    shown = []

    def look(contents: Sequence[bytes], squares: np.ndarray) -> Sequence[bytes]:
        shown.append(squares.copy())
        return contents

    images = [np.full((*size, 3), 200, np.uint8) for size in ((28, 28), (60, 40))]
    scored = list(detector.score_inputs(read_inputs(images), look=look))
    assert [one.seen[:2] for one in scored] == [b'P6', b'P6']
    assert shown[0].shape == (2, 24, 24, 3) and (shown[0] == 200).all()


def test_nothing_gives_nothing(detector: Detector) -> None:
    assert detector.predict([]) == []
    assert detector.predict(iter(())) == []


def test_images_are_read_as_predictions_are_taken(detector: Detector, evaluated: dict[str, str]) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        frame = np.zeros((30, 30, 3), np.uint8)
        while True:
            frame[...] = taken % 251  # the same memory for each
            taken += 1
            yield frame

    predictions = detector.stream(endless())
    first = [next(predictions) for _ in range(3)]
    threads = len(os.sched_getaffinity(0))
    assert taken <= block_size(24) * detector.devices.count * (threads + 3)
    assert len({row.logit for row in first}) == 3
    assert [row.name for row in first] == ['image 0', 'image 1', 'image 2']


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros((9, 9), np.uint8), 'image 0 is an array uint8[9, 9]; it must be uint8[H, W, 3], RGB.'),
        (np.zeros((9, 9, 4), np.uint8), 'image 0 is an array uint8[9, 9, 4]; it must be'),
        (np.zeros((3, 9, 9), np.uint8), 'image 0 is an array uint8[3, 9, 9]; it must be'),
        (np.zeros((0, 9, 3), np.uint8), 'image 0 is an array uint8[0, 9, 3]; it must be'),
        (np.zeros((9, 9, 3), np.float32), 'image 0 is an array float32[9, 9, 3]; it must be'),
        (7, 'image 0 is of type int; an image is a path, encoded bytes, a PIL image, or an array'),
        (None, 'image 0 is of type NoneType;'),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused(detector: Detector, image: object, message: str) -> None:
    with pytest.raises(UserError) as error:
        detector.predict([image])
    assert message in str(error.value)


def test_a_single_image_gives_a_single_prediction(detector: Detector, evaluated: dict[str, str]) -> None:
    path = pathlib.Path(next(iter(evaluated)))
    pixels = decode.decode_rgb(path.read_bytes()).copy()
    forms = [str(path), path, path.read_bytes(), bytearray(path.read_bytes()), PIL.Image.fromarray(pixels), pixels]
    assert [detector.predict(image).logit for image in forms] == [detector.predict([path])[0].logit] * len(forms)
    with pytest.raises(UserError, match='stream takes several images, not one'):
        next(detector.stream(pixels))
    with pytest.raises(UserError, match=r'predict takes an image .* or several, not a int'):
        detector.predict(7)


def test_probabilities_as_classifiers_give_them(detector: Detector) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 30, 26, 3), np.uint8)
    found = detector.predict_proba(pixels)
    assert found.shape == (5, 2) and found.dtype == np.float64
    assert found[:, 1].tolist() == [row.probability for row in detector.predict(list(pixels))]
    np.testing.assert_allclose(found.sum(1), 1)
    assert detector.predict_proba([]).shape == (0, 2)
    with pytest.raises(UserError, match='image 0 cannot be read'):
        detector.predict_proba([b'text'])


def test_ruined_weights_are_no_scores(detector: Detector) -> None:
    ruined = {**detector.variables, 'params': {**detector.variables['params']}}
    ruined['params']['head'] = {name: value * np.nan for name, value in ruined['params']['head'].items()}
    with pytest.raises(TrainingDiverged, match='these weights are ruined'):
        dataclasses.replace(detector, variables=ruined).predict([np.zeros((9, 9, 3), np.uint8)])


def test_a_detector_says_where_it_comes_from(run: pathlib.Path, detector: Detector) -> None:
    assert detector.origin == f'checkpoint 4 of {run}'
    assert (detector.run, detector.step, detector.notes) == (run, 4, ())
    assert detector.meta.labels == {'real': 0, 'fake': 1}
    assert detector.meta.preprocessing['image_size'] == 24
    assert detector.meta.data_digest == open_data(detector.config).digest
    assert load(str(run), 'latest').step == load(run, 4).step == load(run, '4').step == 4


def test_a_damaged_checkpoint_is_a_note(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(run, tmp_path / 'run')
    shutil.copytree(run / 'checkpoints/4', tmp_path / 'run/checkpoints/8')
    for path in (tmp_path / 'run/checkpoints/8/state').rglob('*'):
        if path.is_file():
            path.write_bytes(b'')
    detector = load(tmp_path / 'run', 'latest')
    assert detector.step == 4
    assert 'checkpoint 8 is damaged' in detector.notes[0]


def test_a_run_with_other_labels_is_refused(run: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('fakeimg.portable.LABELS', {'real': 1, 'fake': 0})
    with pytest.raises(UserError, match=f'^{run} was trained with the labels real = 0, fake = 1, but here they'):
        load(run)


def test_runs_that_cannot_be_loaded(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=rf'{tmp_path} is not a run folder .*; check the path\.'):
        load(tmp_path)
    with pytest.raises(UserError, match='nowhere is not a run folder'):
        load(tmp_path / 'nowhere')
    (tmp_path / 'run/checkpoints').mkdir(parents=True)
    with pytest.raises(UserError, match=f'there are no checkpoints in {tmp_path}/run/checkpoints; train first'):
        load(tmp_path / 'run')
    with pytest.raises(UserError, match=r'no checkpoint 7 in .* \(there are 4\)'):
        load(run, 7)
    with pytest.raises(UserError, match="step is 'newest'; it must be best, latest"):
        load(run, 'newest')
    with pytest.raises(UserError, match='^batch_size is -3; it must be'):
        load(run, batch_size=-3)
    with pytest.raises(UserError, match='batch_size=3 cannot be split over 2 devices'):
        load(run, batch_size=3)


def python(code: str, *arguments: object) -> str:
    command = [sys.executable, '-c', code, *map(str, arguments)]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_package_alone_loads_and_predicts(run: pathlib.Path, evaluated: dict[str, str]) -> None:
    path, logit = next(iter(evaluated.items()))
    code = 'import sys, fakeimg; print(f"{fakeimg.load(sys.argv[1]).predict([sys.argv[2]])[0].logit:.6f}")'
    assert python(code, run, path) == f'{logit}\n'


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        'import sys; before = set(sys.modules); import fakeimg\n'
        'assert sorted(fakeimg.__all__) == ["Detector", "Prediction", "UserError", "load"]\n'
        'assert set(fakeimg.__all__) <= set(dir(fakeimg))\n'
        'fakeimg.UserError\n'
        'print(*sorted({name.split(".")[0] for name in sys.modules} & {"jax", "numpy", "flax", "grain", "rich"}))'
    )
    assert python(code) == '\n'


def test_names_of_the_package() -> None:
    assert fakeimg.load is load
    assert (fakeimg.Detector, fakeimg.Prediction, fakeimg.UserError) == (Detector, Prediction, UserError)
    with pytest.raises(AttributeError, match="module 'fakeimg' has no attribute 'predict'"):
        fakeimg.predict  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]

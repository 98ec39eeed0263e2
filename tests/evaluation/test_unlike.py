"""An evaluation knows what the run was trained on, and says how many images of another set are unlike it."""

import io
import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from fakeimg import known
from fakeimg.config import Config
from fakeimg.detector import load
from fakeimg.evaluation import words
from fakeimg.evaluation.evaluator import evaluate
from fakeimg.training import loop


@pytest.fixture
def run(config: Config, tmp_path: pathlib.Path) -> pathlib.Path:
    config.data.validation_fraction = 0.45
    loop.train(config, tmp_path / 'run')
    return tmp_path / 'run'


def test_an_evaluation_counts_images_unlike_those_of_training(
    run: pathlib.Path, tmp_path: pathlib.Path, no_page: None
) -> None:
    assert load(run).known is None
    own, _ = evaluate(load(run))
    assert (run / known.FILE).exists()
    assert own['unlike']['images'] == 40 and own['unlike']['unlike'] <= 8
    other = tmp_path / 'other'
    for index in range(12):
        path = other / ('real', 'fake')[index % 2] / f'{index}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (90, 60, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(path)
    metrics, _ = evaluate(load(run), data_path=str(other))
    found = metrics['unlike']
    assert (found['images'], found['unlike']) == (12, 12)
    assert found['reasons']['format'] == found['reasons']['size'] == 12
    sentences = ' '.join(words.conditions(metrics))
    assert '12 of 12 images that were compared are unlike the training images (in ' in sentences
    assert json.dumps(found)


def test_what_is_known_belongs_to_the_weights(run: pathlib.Path, no_page: None) -> None:
    evaluate(load(run))
    detector = load(run)
    assert detector.known is not None and detector.known.digest == detector.digest
    file = io.BytesIO()
    PIL.Image.new('RGB', (300, 200), (9, 200, 9)).save(file, 'PNG')
    assert detector.predict(file.getvalue()).note.startswith(known.UNLIKE)
    assert known.read(run / known.FILE, 'another') is None


def test_nothing_is_learned_from_other_images(run: pathlib.Path, faces: pathlib.Path, no_page: None) -> None:
    for path in faces.glob('*/*/*.jpg'):
        PIL.Image.new('RGB', (32, 32), (len(path.name), 0, 0)).save(path)  # named alike
    metrics, _ = evaluate(load(run))
    assert metrics['unlike'] is None and not (run / known.FILE).exists()

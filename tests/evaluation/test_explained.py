"""What an evaluation says about the reasons of its scores."""

import dataclasses
import json

import numpy as np
import pytest

from fakeimg.data.datasets import Split
from fakeimg.data.inputs import InputFiles, read_input
from fakeimg.detector import Detector
from fakeimg.evaluation import explained, gallery
from fakeimg.explaining.checks import Randomisation
from fakeimg.models.cnn import SmallCNN
from fakeimg.scoring import Predictions
from tests.support.console import Recorder
from tests.support.explained import detector_of, planted

COUNT = 24


@pytest.fixture(scope='module')
def detector() -> Detector:
    return detector_of(SmallCNN(4, 2, 8), batch=8)


@pytest.fixture(scope='module')
def split() -> Split:
    """The last of its images cannot be read."""
    images, labels, _ = planted(COUNT)
    inputs = [read_input(image, number) for number, image in enumerate([*images, b'no image'])]
    return Split(InputFiles(inputs), np.append(labels, 1).astype(np.int32), [''] * (COUNT + 1), [''] * (COUNT + 1))


@pytest.fixture(scope='module')
def predictions(detector: Detector, split: Split) -> Predictions:
    return detector.tolerating(1.0).score(split, 'test')[0]


def test_the_images_of_the_report_have_maps_and_the_checks_have_intervals(
    detector: Detector, split: Split, predictions: Predictions
) -> None:
    console = Recorder()
    metrics, maps = explained.explain(detector, split, predictions, 0.5, console=console)
    shown = {predictions.names[row] for _, _, rows in gallery.groups(predictions, 0.5) for row in rows}
    assert shown and set(maps) == shown
    for name, (one, replaced) in maps.items():
        logit = predictions.logits[predictions.names.index(name)]
        assert one.logit == pytest.approx(float(logit), abs=1e-5) and replaced.highest is not None
    assert metrics is not None and json.loads(json.dumps(metrics)) == metrics
    assert (metrics['n'], metrics['cells'], metrics['cell']) == (COUNT, [8, 8], 4)
    drops = {name: figure['value'] for name, figure in metrics['drops'].items()}
    assert drops['difference'] == pytest.approx(drops['highest'] - drops['random'], abs=2e-6)
    rows = metrics['randomisation']['rows']
    assert [row['drawn'] for row in rows] == ['head', 'dense', 'conv2', 'conv1']
    for figure in [*metrics['drops'].values(), *(row['correlation'] for row in rows)]:
        assert figure['low'] < figure['value'] < figure['high'] and figure['n'] == COUNT
    assert explained.explain(detector, split, predictions, 0.5, images=False) == (metrics, {})


def test_a_detector_whose_maps_do_not_depend_on_its_weights_is_warned_about(
    detector: Detector, split: Split, predictions: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = Randomisation(['head', 'all'], np.full((2, COUNT), 0.4) + np.arange(COUNT) / 1000)
    monkeypatch.setattr('fakeimg.explaining.checks.randomisation', lambda *_: same)
    console = Recorder()
    metrics, _ = explained.explain(detector, split, predictions, 0.5, images=False, console=console)
    assert metrics is not None and metrics['randomisation']['looks_same']
    assert any('look the same' in line for line in console.lines)


def test_without_images_there_is_nothing_to_explain(detector: Detector, split: Split, predictions: Predictions) -> None:
    none = predictions.take(np.zeros(len(predictions.labels), bool))
    assert explained.explain(detector, split, none, 0.5) == (None, {})


def test_of_a_single_image_no_figure_has_an_interval(
    detector: Detector, split: Split, predictions: Predictions
) -> None:
    metrics, maps = explained.explain(detector, split, predictions.take(np.arange(1)), 0.5)
    assert metrics is not None and metrics['drops']['highest']['why'] == 'there is no other image to take regions from'
    assert metrics['randomisation']['rows'][0]['correlation']['why'] == 'a single image'
    assert len(maps) == 1


def test_an_image_that_is_gone_has_no_map(detector: Detector, split: Split, predictions: Predictions) -> None:
    class Gone(InputFiles):
        def read(self, index: int) -> bytes:
            if index == 0:
                raise OSError('gone')
            return super().read(index)

    files = Gone(split.files._images)  # pyright: ignore
    metrics, maps = explained.explain(detector, dataclasses.replace(split, files=files), predictions, 0.5)
    assert metrics is not None and metrics['n'] == COUNT - 1 and '0' not in maps

"""What is published is the detector of the run: its scores, its thresholds, its figures, and nothing of the machine."""

import dataclasses
import json
import pathlib
import shutil

import huggingface_hub
import numpy as np
import pytest
import safetensors

from fakeimg import operating, portable
from fakeimg.applying import words
from fakeimg.config import Config, default_config, override
from fakeimg.console import SILENT
from fakeimg.data.datasets import open_data
from fakeimg.detector import Detector, load
from fakeimg.errors import UserError
from fakeimg.evaluation import card, evaluator, fitting
from fakeimg.evaluation.card import Published
from fakeimg.evaluation.options import Options
from fakeimg.publishing import folder
from fakeimg.training import loop

PUBLISHED = Published('hf://me/faces', license='mit', about='## What it knows\n\nFaces of **32** pixels.')


@pytest.fixture(scope='module')
def run(faces_once: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run with averaged weights that was evaluated on its test set."""
    root = tmp_path_factory.mktemp('published')
    config: Config = default_config()
    config.batch_size, config.steps, config.model.name = 16, 8, 'cnn'
    config.data.path, config.data.image_size = str(shutil.copytree(faces_once, root / 'faces')), 32
    config.data.resize_size, config.data.validation_fraction = 32, 0.25
    config.optimizer.base_learning_rate, config.optimizer.ema_decay = 0.03, 0.5
    loop.train(config, root / 'run')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('fakeimg.evaluation.report.write_report', lambda *_args, **_more: None)
        evaluator.evaluate(load(root / 'run'), options=Options(command=f'fakeimg evaluate --workdir {root}/run'))
    (root / 'run/known.npz').write_bytes(b'known')
    return root / 'run'


@pytest.fixture(scope='module')
def detector(run: pathlib.Path) -> Detector:
    return load(run)


@pytest.fixture(scope='module')
def written(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp('out') / 'faces'
    folder.write(out, detector, 'float32', PUBLISHED, SILENT)
    return out


@pytest.mark.slow
def test_the_portable_detector_is_the_one_of_the_run(
    detector: Detector, written: pathlib.Path, faces: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    other = load(shutil.copytree(written, tmp_path / 'elsewhere'))
    images = sorted(faces.glob('test/*/*.jpg'))
    assert other.predict(images) == detector.predict(images)
    assert other.decision == detector.decision
    assert other.digest == detector.digest
    assert words.of_test(other) == words.of_test(detector) != {}
    names = {'model.safetensors', 'operating.json', 'metrics.json', 'README.md', 'known.npz'}
    assert {path.name for path in written.iterdir()} == names
    assert [path.name for path in written.parent.iterdir()] == ['faces']


def test_nothing_of_the_machine_is_published(detector: Detector, written: pathlib.Path) -> None:
    assert detector.run is not None
    for path in written.iterdir():
        assert str(detector.run.parent).encode() not in path.read_bytes()
    with safetensors.safe_open(written / portable.WEIGHTS, 'numpy') as file:
        assert {name.split('/')[0] for name in file.keys()} == {'params'}  # noqa: SIM118  no optimizer, no second copy
        assert json.loads(file.metadata()['config'])['data']['path'] == 'faces'
    metrics = json.loads((written / portable.METRICS).read_text())
    assert (metrics['detector']['run'], metrics['data_path']) == ('run', 'faces')
    assert metrics['command'] == 'fakeimg evaluate --workdir run'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('/home/me/my data/CIFAKE/', 'CIFAKE'),
        ('~/runs/a', 'a'),
        ("--workdir '/home/me/my runs/a' --data_path=/data/b --out c/d", "--workdir 'a' --data_path=b --out c/d"),
        ('https://huggingface.co/me/faces and/or 1 / 2', 'https://huggingface.co/me/faces and/or 1 / 2'),
        ('read /data/x/y.jpg: no', 'read y.jpg: no'),
    ],
)  # fmt: skip
def test_paths_become_names(text: str, said: str) -> None:
    assert folder.names_only({'a': [text, 1, None]}) == {'a': [said, 1, None]}


def test_the_card_says_how_to_load_it_and_what_it_knows(detector: Detector, written: pathlib.Path) -> None:
    read = huggingface_hub.ModelCard((written / portable.CARD).read_text())
    assert read.data.to_dict()['license'] == 'mit'
    for said in (
        "fakeimg.load('hf://me/faces')",
        'fakeimg predict --model hf://me/faces image.jpg',
        '\nFaces of **32** pixels.\n',
        'License: mit',
        f'P(fake) is at least {detector.decision.threshold:.3g} ({detector.decision.rule})',
    ):
        assert said in read.text
    unstated = written / 'unstated.md'
    card.write_card(unstated, json.loads((written / portable.METRICS).read_text()), Published('x'))
    assert 'License: not stated' in unstated.read_text()
    unstated.unlink()


def test_thresholds_of_float16_are_those_of_the_rounded_weights(
    detector: Detector, tmp_path: pathlib.Path, no_page: None
) -> None:
    folder.write(tmp_path / 'half', detector, 'float16', PUBLISHED, SILENT)
    half = load(tmp_path / 'half')
    data = open_data(detector.config)
    scored, _ = half.score(data.get('validation'), 'validation')
    expected = fitting.fit(scored.labels, scored.logits, scored.groups)
    assert half.operating is not None and detector.operating is not None
    assert {name: half.operating[name] for name in expected} == expected
    assert half.operating['calibration'] != detector.operating['calibration']
    tested, _ = half.score(data.get('test'), 'test')
    metrics = json.loads((tmp_path / 'half' / portable.METRICS).read_text())
    right = (tested.probabilities >= half.decision.threshold) == tested.labels
    assert metrics['accuracy'] == pytest.approx(np.mean(right), abs=1e-6)
    assert metrics['command'].startswith('fakeimg evaluate --model hf://me/faces --moved_to faces --threshold')
    assert words.of_test(half)


def test_float16_needs_the_images_of_validation(detector: Detector, tmp_path: pathlib.Path) -> None:
    other = dataclasses.replace(detector, config=override(detector.config, {'data.path': 'gone'}))
    with pytest.raises(UserError, match=r'images of validation, which are not there; .* now \(moved_to'):
        folder.write(tmp_path / 'half', other, 'float16', PUBLISHED, SILENT)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_figures_is_not_published(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(run, tmp_path / 'run', ignore=shutil.ignore_patterns('evaluations'))
    with pytest.raises(UserError, match='^checkpoint 8 of .*run was not evaluated on its test set; evaluate it first'):
        folder.write(tmp_path / 'out', load(tmp_path / 'run'), 'float32', PUBLISHED, SILENT)
    assert not (tmp_path / 'out').exists()


def test_nothing_is_replaced_and_nothing_is_left_half_written(
    detector: Detector, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, out = tmp_path / 'taken', tmp_path / 'out'
    taken.mkdir()
    (taken / 'README.md').write_text('mine')
    for path in (taken, taken / 'README.md'):
        with pytest.raises(UserError, match='exists; name another folder, or remove it first'):
            folder.write(path, detector, 'float32', PUBLISHED, SILENT)
    assert (taken / 'README.md').read_text() == 'mine'

    def fail(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(card, 'write_card', fail)
        with pytest.raises(OSError, match='No space left'):
            folder.write(out, detector, 'float32', PUBLISHED, SILENT)
    assert list(tmp_path.iterdir()) == [taken]
    out.mkdir()  # an empty folder is nobody's
    folder.write(out, detector, 'float32', PUBLISHED, SILENT)
    assert operating.load(out / operating.FILE)['step'] == 8

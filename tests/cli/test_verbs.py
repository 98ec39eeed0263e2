"""Every verb started as a person starts it, with good input and with bad."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import safetensors.numpy

from fakeimg import run
from fakeimg.config import Config
from fakeimg.data.datasets import open_data
from tests.support.torch_networks import random_state
from tests.support.verbs import Verb, assert_refused, train_flags


def test_train_continue_and_evaluate(verb: Verb, config: Config, tmp_path: pathlib.Path) -> None:
    trained = verb('main', *train_flags(config))
    assert trained.returncode == 0, trained.stderr
    run = tmp_path / 'work/runs/cnn-faces'  # named after the recipe and the images
    for line in ('devices    1 x cpu', 'train 72 (36 real, 36 fake)', 'parameters', '12 steps', 'split off train'):
        assert line in trained.stdout
    assert 'step 12/12  ETA 0:00  loss' in trained.stdout
    assert trained.stderr == ''
    assert sorted(path.name for path in run.iterdir()) == [
        '.lock', 'checkpoints', 'config.json', 'environment.json', 'figures', 'metrics.jsonl', 'seen_images.npz',
        'tensorboard',
    ]  # fmt: skip
    assert json.loads((run / 'config.json').read_text())['batch_size'] == 16
    assert 'fakeimg.main' in json.loads((run / 'environment.json').read_text())['command']
    rows = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows if 'train/loss' in row] == [4, 8, 12]
    assert rows[-1]['validation/auc'] >= 0

    again = verb('main', *train_flags(config))
    assert again.returncode == 0, again.stderr
    assert 'continues  at step 12 of 12' in again.stdout
    for path in (run / 'checkpoints/12/state').rglob('*'):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:50])
    longer = verb('main', *train_flags(config), '--config.steps=14')
    assert '!! checkpoint 12 is damaged' in longer.stdout
    assert 'continues  at step 8 of 14' in longer.stdout
    assert longer.stderr == ''
    assert 'the configuration changed since the checkpoint: steps: 12 -> 14' in longer.stdout
    assert 'finished: 14 steps' in longer.stdout

    # The same scores whether one device computes or two.
    results = []
    for devices in (1, 2):
        evaluated = verb(
            'evaluate', '--workdir', 'runs/cnn-faces', '--split', 'test', '--step', 'latest', devices=devices
        )
        assert evaluated.returncode == 0, evaluated.stderr
        folder = run / 'evaluations/test'
        assert f'report: {folder.relative_to(tmp_path / "work")}/report.html' in evaluated.stdout
        results.append((folder / 'metrics.json').read_text())
        predictions = (folder / 'predictions.csv').read_text().splitlines()
        assert predictions[0] == 'name,label,probability,logit'
        assert len(predictions) == 1 + 40
        assert '<h1>faces, test split</h1>' in (folder / 'report.html').read_text()
    assert results[0] == results[1]
    assert json.loads(results[0])['n'] == 40
    assert json.loads(results[0])['step'] == 14


@pytest.mark.slow
def test_broken_images_are_listed_in_the_run_folder(
    verb: Verb, config: Config, faces: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    config.steps = 6
    name = open_data(config).splits['train'].names[0]
    (faces / name).write_bytes(b'')
    stopped = verb('main', *train_flags(config), '--workdir', 'run')
    assert_refused(stopped, f'1 of 72 images of split train cannot be read (first: {name}: empty file)')
    trained = verb('main', *train_flags(config), '--workdir', 'run2', '--config.data.max_bad_fraction=0.05')
    assert trained.returncode == 0, trained.stderr
    assert f'train,{name},empty file' in (tmp_path / 'work/run2/bad_pictures.csv').read_text()


@pytest.mark.slow
def test_resnet50_trains_on_a_cpu(verb: Verb) -> None:
    flags = ('--config.init.weights=none', '--config.steps=3', '--config.batch_size=4')
    trained = verb(
        'main', '--config', 'configs/resnet50.py', *flags, '--config.data.path=demo', '--config.data.demo_examples=16'
    )
    assert trained.returncode == 0, trained.stderr
    assert '23,510,081 parameters' in trained.stdout
    assert '!! DEMO FACES' in trained.stdout
    assert 'finished: 3 steps, run folder runs/resnet50-demo' in trained.stdout


def test_convert_weights_writes_what_training_starts_from(verb: Verb, tmp_path: pathlib.Path) -> None:
    source = tmp_path / 'source.safetensors'
    safetensors.numpy.save_file(random_state('resnet50', classes=1000), source)
    converted = verb('convert_weights', 'resnet50', '--source', source)
    assert converted.returncode == 0, converted.stderr
    written = tmp_path / 'work/weights/resnet50.safetensors'
    with safetensors.safe_open(written, 'numpy') as file:
        assert len(file.metadata()['source_sha256']) == 64
        assert np.isfinite(file.get_tensor('params/stem_conv/kernel')).all()
    assert_refused(verb('convert_weights', 'resnet51', '--source', source), 'one of resnet18')
    assert_refused(verb('convert_weights', 'resnet50', '--source', tmp_path / 'none.pth'), 'does not exist')


def test_a_diverged_run_exits_with_1(verb: Verb, config: Config) -> None:
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.clip_norm = 0.0
    config.optimizer.base_learning_rate = 1e36
    diverged = verb('main', *train_flags(config))
    assert diverged.returncode == 1, diverged.stdout + diverged.stderr
    assert re.fullmatch(r'fakeimg: training diverged: [^\n]* not finite in step[^\n]*\.\n', diverged.stderr)
    assert 'Traceback' not in diverged.stdout
    assert 'finished' not in diverged.stdout


@pytest.mark.parametrize(
    ('flag', 'sentence'),
    [
        ('--config.bach_size=3', 'unknown config field config.bach_size. Did you mean batch_size?'),
        ('--config.data.pth=x', 'unknown config field config.data.pth. Did you mean path?'),
        ('--config.batch_size=many', 'config.batch_size=many'),
        ('--config.data.path=/nowhere', 'data path /nowhere does not exist'),
        ('--config.batch_size=7', 'config.batch_size=7 cannot be split over 2 devices; use 6 or 8'),
        ('--config.precision=float8', "config.precision is 'float8'; it must be one of"),
        ('--config.model.name=resnet51', "config.model.name is 'resnet51'; it must be one of"),
        ('--config=configs/absent.py', 'No such file or directory'),
        ('--config=README.md', 'cannot be read'),
        ('--wrkdir=x', 'unknown command line flag'),
        ('stray', "unexpected argument 'stray'"),
    ],
)
def test_mistakes_on_the_command_line(
    verb: Verb, config: Config, tmp_path: pathlib.Path, flag: str, sentence: str
) -> None:
    assert_refused(verb('main', *train_flags(config), flag, devices=2), sentence)
    assert [path.name for path in (tmp_path / 'work').iterdir()] == ['configs']  # nothing was written


def test_mistakes_in_the_data(verb: Verb, config: Config, faces: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.rmtree(faces / 'train/fake')
    assert_refused(verb('main', *train_flags(config)), 'has no fake images (36 real, 0 fake)')
    (faces / 'train/real').rename(faces / 'train/photos')
    assert_refused(verb('main', *train_flags(config)), "its folders are 'photos'")
    assert [path.name for path in (tmp_path / 'work').iterdir()] == ['configs']


@pytest.mark.slow
def test_mistakes_about_a_run(verb: Verb, config: Config, tmp_path: pathlib.Path) -> None:
    config.steps = 2
    assert verb('main', *train_flags(config), '--workdir', 'run').returncode == 0
    files = sorted(str(path) for path in tmp_path.rglob('*'))
    other = verb('main', *train_flags(config), '--workdir', 'run', '--config.data.image_size=24')
    assert_refused(other, 'this run folder holds another run (data.image_size: 32 -> 24)')
    flags = ('--workdir', 'run', '--config.data.image_size=24', '--continue_with_changes')
    other = verb('main', *train_flags(config), *flags)
    assert_refused(other, 'another model or optimizer')
    assert 'params/dense/kernel (float32[2048,64] there, float32[1152,64] here)' in other.stderr
    batch = verb('main', *train_flags(config), '--workdir', 'run', '--config.batch_size=8')
    assert_refused(batch, 'started with config.batch_size=16, not 8')
    assert_refused(
        verb('evaluate', '--workdir', 'run', '--split', 'holdout'), "no split 'holdout' in this data; it has"
    )
    assert_refused(verb('evaluate', '--workdir', 'run', '--step', '77'), 'no checkpoint 77')
    assert_refused(verb('evaluate', '--workdir', 'nowhere'), 'nowhere is not a run folder')
    assert_refused(verb('evaluate'), '--workdir')
    with run.open_workdir(tmp_path / 'work/run'):
        assert_refused(verb('main', *train_flags(config), '--workdir', 'run'), 'another training is using run')
    config_file = tmp_path / 'work/run/config.json'
    assert_refused(verb('main', *train_flags(config), '--workdir', config_file), 'cannot be written to')
    assert sorted(str(path) for path in tmp_path.rglob('*')) == files  # nothing written, nothing lost

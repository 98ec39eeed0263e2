"""A run starts from the weights of another detector of ours, and says in a sentence why it cannot."""

import json
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import pytest

from fakeimg import initial, portable
from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config, Init, complete, override
from fakeimg.data import seen
from fakeimg.detector import Detector, describe, load
from fakeimg.errors import UserError
from fakeimg.meta import Meta
from fakeimg.models import create_model, init_variables
from fakeimg.training import loop, resume
from fakeimg.training.program import build
from fakeimg.untrained import from_recipe
from tests.support.console import Recorder
from tests.support.small import small_config

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def tiny(images: pathlib.Path | str, **fields: Any) -> Config:
    config = small_config(pathlib.Path())
    config.data.path, config.data.image_size, config.data.resize_size = str(images), 16, 16
    config.data.demo_examples, config.model.filters, config.steps = 64, 4, 4
    return override(config, {name.replace('__', '.'): value for name, value in fields.items()})


def of_source(steps: int) -> Config:
    """With a mean, a std and an average of its own."""
    fields = {'data.mean': MEAN, 'data.std': STD, 'optimizer.ema_decay': 0.5, 'optimizer.base_learning_rate': 0.1}
    return override(tiny('demo', steps=steps), fields)


@pytest.fixture(scope='module')
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of the small CNN on the demo faces, with two checkpoints."""
    folder = tmp_path_factory.mktemp('source') / 'run'
    loop.train(of_source(8), folder)
    return folder


@pytest.fixture
def source(trained_once: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of it that the test may change."""
    return pathlib.Path(shutil.copytree(trained_once, tmp_path / 'source'))


def starting(source: pathlib.Path | str, images: pathlib.Path | str = 'demo', **fields: Any) -> Config:
    fields = {'init__weights': str(source), 'data__mean': (), 'data__std': (), **fields}
    return tiny(images, **fields)


def write_portable(folder: pathlib.Path, variables: Any, meta: Meta) -> pathlib.Path:
    folder.mkdir()
    weights = portable.rounded(portable.Weights(jax.device_get(variables), meta, 1), 'float32')
    portable.write_weights(folder / portable.WEIGHTS, weights, 'float32')
    return folder


def start_of(config: Config, folder: pathlib.Path) -> resume.Start:
    return resume.starting_point(build(config), folder / 'checkpoints')


def assert_starts_with(config: Config, expected: Detector, folder: pathlib.Path) -> resume.Start:
    start = start_of(config, folder)
    state = {'params': start.state.params, 'batch_stats': start.state.batch_stats}
    jax.tree.map(np.testing.assert_array_equal, state, expected.variables)
    return start


def test_a_run_starts_with_the_best_weights_of_another(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    detector = load(source)
    start = assert_starts_with(starting(source), detector, tmp_path)  # its average, for it has one
    assert start.origin == f'from checkpoint {detector.step} of {source}'
    fresh = init_variables(create_model(complete(starting('none'))), 16, 0)
    assert not np.allclose(start.state.params['head']['kernel'], fresh['params']['head']['kernel'])
    other = 12 - (detector.step or 0)
    assert other in (4, 8) and load(source, other).digest != detector.digest
    assert_starts_with(starting(source / f'checkpoints/{other}'), load(source, other), tmp_path)
    config = initial.complete(starting(source))
    assert (config.data.mean, config.data.std) == (MEAN, STD)
    assert config.init.weights == str(source / f'checkpoints/{detector.step}')
    assert config.init.digest == detector.digest
    assert from_recipe(starting(source)).origin == f'weights checkpoint {detector.step} of {source}'


def test_a_portable_detector_is_as_good(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    detector = load(source)
    folder = write_portable(tmp_path / 'portable', detector.variables, detector.meta)
    for named in (folder, folder / portable.WEIGHTS):
        config = starting(named)
        start = assert_starts_with(config, detector, tmp_path)
        assert start.origin == f'from {named}'
        done = initial.complete(config)
        assert (done.init.weights, done.init.digest, done.data.mean) == (str(named), detector.digest, MEAN)


def test_a_packaged_detector_has_a_name(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = load('cifake')
    there = detector.config
    model = {f'model__{name}': value for name, value in there.model.options().items()}
    config = starting('cifake', data__image_size=32, data__resize_size=32, model__name=there.model.name, **model)
    assert assert_starts_with(config, detector, tmp_path).origin == 'from cifake'
    assert initial.complete(config).init.weights == 'cifake'
    with pytest.raises(UserError) as refused:
        build(starting('cifake', model__filters=5))
    assert 'config.init.weights is cifake, whose network is another one' in str(refused.value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'cifake').mkdir()  # a path that exists comes first
    with pytest.raises(UserError, match='config.init.weights: cifake is not a run folder or portable detector'):
        build(config)


def test_another_image_size_head_or_training_may_differ(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    there = load(source).variables['params']
    start = start_of(starting(source, model__head='softmax'), tmp_path)
    assert start.origin.endswith(', with a new head')
    assert start.state.params['head']['kernel'].shape[1] == 2
    np.testing.assert_array_equal(start.state.params['conv1']['kernel'], there['conv1']['kernel'])
    resnet = {'model__name': 'resnet18', 'model__filters': None, 'model__width': 2, 'model__small_stem': True}
    other = complete(tiny('demo', **resnet))
    folder = write_portable(tmp_path / 'resnet', init_variables(create_model(other), 16, 1), describe(other, None))
    config = starting(folder, **resnet, data__image_size=24, data__resize_size=24, model__freeze_batch_norm=True)
    start = assert_starts_with(config, load(folder), tmp_path)
    assert start.state.batch_stats


def test_another_network_is_named_with_what_to_set(source: pathlib.Path) -> None:
    with pytest.raises(UserError) as refused:
        build(starting(source, model__filters=6, model__layers=1))
    assert str(refused.value) == (
        f'config.init.weights is {source}, whose network is another one (filters: 4 there, 6 here, layers: 2 there, '
        '1 here); set config.model.filters=4 and config.model.layers=2.'
    )
    assert refused.value.add == (('config.model.filters', '4'), ('config.model.layers', '2'))
    with pytest.raises(UserError, match='set config.model.name=cnn and config.model.filters=4.$'):
        build(starting(source, model__name='resnet18', model__filters=None))
    program = build(starting(source, data__image_size=24, data__resize_size=24))
    with pytest.raises(UserError, match='for images of 16 px, whose size its params/dense/kernel depends on, and this '
                       'run has 24 px; set config.data.image_size=16.') as refused:  # fmt: skip
        program.initial_state()
    assert refused.value.add == (('config.data.image_size', '16'),)
    config = starting(source, data__mean=(0.1, 0.1, 0.1), data__std=STD)
    with pytest.raises(UserError, match=r'checkpoint \d .* a mean of \(0.5,0.4,0.3\), but config.data.mean is .*leave'):
        build(config).initial_state()


def test_what_is_no_detector_says_so(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for step in (source / 'checkpoints').iterdir():
        shutil.rmtree(step) if step.is_dir() else step.unlink()
    with pytest.raises(UserError, match='^config.init.weights: there are no checkpoints in .*; train first'):
        build(starting(source))
    shutil.rmtree(source / 'checkpoints')
    with pytest.raises(UserError, match='^config.init.weights: .* is not a run folder or portable detector'):
        build(starting(source))
    with pytest.raises(UserError, match='config.init.weights is /no/where, which does not exist; set it to a file, a'):
        build(starting('/no/where'))
    with pytest.raises(UserError, match='config.init.weights is runs/absent, which does not exist; set it to'):
        build(starting('runs/absent'))
    with pytest.raises(UserError, match='is runs/absent, which is no path here, and model.safetensors of runs/absent'):
        build(starting('runs/absent', model__name='resnet18', model__filters=None))


def test_a_run_of_a_newer_fakeimg_is_refused(source: pathlib.Path) -> None:
    for path in source.glob('checkpoints/*/meta/metadata'):
        path.write_text(json.dumps({**json.loads(path.read_text()), 'format': 99, 'fakeimg': '9.0'}))
    with pytest.raises(UserError, match=r'^config.init.weights: checkpoint \d .* written by a newer fakeimg \(9.0\)'):
        build(starting(source))


@pytest.mark.slow
def test_a_run_goes_on_without_the_weights_that_it_started_from(
    source: pathlib.Path, faces: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    console, digest, best = Recorder(), load(source).digest, load(source).step
    config = starting('source', faces, steps=2)
    loop.train(config, tmp_path / 'run', console)
    assert f'px, from checkpoint {best} of ' in console.text
    written = json.loads((tmp_path / 'run/config.json').read_text())
    assert written['init'] == {'weights': str(source / f'checkpoints/{best}'), 'digest': digest}
    assert written['data']['mean'] == list(MEAN)
    inherited, own = seen.read(source), seen.read(tmp_path / 'run')
    assert len(inherited['train']) and set(inherited['train'].tolist()) <= set(own['train'].tolist())
    loop.train(of_source(12), source)
    config.steps = 3  # the same command, whichever checkpoint is the best by now
    assert loop.train(config, tmp_path / 'run').step == 3
    shutil.rmtree(source)
    config.steps = 4
    assert loop.train(config, tmp_path / 'run').step == 4
    meta = Checkpoints(tmp_path / 'run/checkpoints', read_only=True).read_meta()
    assert meta.config['init'] == written['init']


def test_validation_images_that_the_weights_have_learned_are_named(
    source: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    learned = int(np.count_nonzero(seen.read(source)['train'] != b''))
    fields = {'data__train_split': 'train[50%:]', 'data__validation_split': 'train[:50%]', 'data__demo_examples': 64}
    for source_of_weights, expected in ((str(source), True), ('none', False)):
        console = Recorder()
        config = starting(source_of_weights, steps=2, validate_every_epochs=0.5, **fields)
        loop.train(config, tmp_path / f'run{expected}', console)
        notes = [line for line in console.lines if 'the run that config.init.weights names was trained on' in line]
        assert len(notes) == expected
    console = Recorder()
    loop.train(starting(source, steps=1), tmp_path / 'same_split', console)
    assert learned and 'was trained on' not in console.text


def test_what_continues_is_what_started() -> None:
    before = Init('/runs/a/checkpoints/8', 'digest')
    for named in ('/runs/a', '/runs/a/checkpoints/8', '/runs/b/../a'):
        assert initial.continued(Init(named), before) == {'init.weights': before.weights, 'init.digest': 'digest'}
    assert initial.continued(Init('/runs/a', 'other'), before)['init.digest'] == 'other'  # and is then refused
    assert initial.continued(Init('/runs/b'), before) == initial.continued(Init('none'), Init('none')) == {}
    assert initial.continued(Init('cifake'), Init('cifake', 'digest'))


@pytest.mark.slow
def test_the_weights_that_a_run_started_from_may_move(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = starting(source, steps=1)
    loop.train(config, tmp_path / 'run')
    config.steps, config.init.weights = 2, str(source.rename(tmp_path / 'moved'))
    assert loop.train(config, tmp_path / 'run').step == 2
    config.steps, config.init.weights = 3, str(tmp_path / 'moved/checkpoints/4')
    if load(tmp_path / 'moved').step == 4:
        config.init.weights = str(tmp_path / 'moved/checkpoints/8')
    with pytest.raises(UserError, match='this run folder holds another run .init.digest'):
        loop.train(config, tmp_path / 'run')


def test_config_json_starts_the_same_run_or_none(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = initial.complete(starting(source))
    build(config).initial_state()
    other = override(config, {'init.digest': '0' * 64})
    assert initial.complete(other) == other  # of a run that goes on, whose detector may be another one by now
    with pytest.raises(UserError, match='no longer holds the weights of config.init.digest .000000000000, now '):
        build(other).initial_state()
    with pytest.raises(UserError, match='no longer holds the weights of config.init.digest'):
        build(starting(source, init__digest='0' * 64))
    with pytest.raises(UserError, match='config.init.digest identifies a detector, and config.init.weights=none names'):
        build(tiny('demo', init__digest='0' * 64)).initial_state()

"""A run folder goes on with the same recipe, images and seed, and ranks scores of one validation."""

import json
import pathlib
import shutil
from typing import Any

import PIL.Image
import pytest

from fakeimg.checkpoint import Checkpoints
from fakeimg.cli.folders import default_workdir
from fakeimg.config import Config, default_config, override
from fakeimg.errors import UserError
from fakeimg.meta import Meta
from fakeimg.run import open_workdir
from fakeimg.training import loop
from tests.support.console import Recorder


def small(faces: pathlib.Path) -> Config:
    config = default_config()
    config.data.path, config.data.image_size, config.data.resize_size = str(faces), 16, 16
    config.model.name, config.model.filters, config.batch_size, config.steps = 'cnn', 4, 16, 2
    config.data.validation_fraction = 0.25
    return config


@pytest.fixture
def config(faces: pathlib.Path) -> Config:
    return small(faces)


@pytest.fixture(scope='module')
def trained_once(faces_once: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of `config`, after two steps."""
    folder = tmp_path_factory.mktemp('trained') / 'run'
    loop.train(small(faces_once), folder)
    return folder


@pytest.fixture
def workdir(trained_once: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(trained_once, tmp_path / 'run'))


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize(
    ('fields', 'phrase'),
    [
        ({'seed': 1}, 'seed: 0 -> 1'),
        ({'data.validation_split': 'test[:6]'}, "data.validation_split: 'validation' -> 'test[:6]'"),
        ({'data.mean': (0.5, 0.5, 0.5)}, 'data.mean'),
        ({'augment.flip': False}, 'augment.flip: True -> False'),
        ({'optimizer.weight_decay': 0.1}, 'optimizer.weight_decay: 0.0001 -> 0.1'),
        ({'model.filters': 8}, 'model.filters: 4 -> 8'),
    ],
)
def test_another_recipe_is_refused_and_nothing_is_written(
    config: Config, workdir: pathlib.Path, fields: dict[str, Any], phrase: str
) -> None:
    before = contents(workdir)
    with pytest.raises(UserError, match='this run folder holds another run') as refused:
        loop.train(override(config, {**fields, 'steps': 4}), workdir)
    assert phrase in str(refused.value)
    assert 'choose another run folder, or set continue_with_changes' in str(refused.value)
    assert contents(workdir) == before


def test_refusals_name_both_ways_out(config: Config, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workdir.parent)
    (workdir.parent / 'run-2').mkdir()
    with pytest.raises(UserError) as refused:
        loop.train(override(config, {'seed': 1, 'steps': 4}), workdir)
    assert (refused.value.add, refused.value.instead) == ((('workdir', 'run-3'),), (('continue_with_changes', ''),))
    with pytest.raises(UserError) as refused:
        loop.train(override(config, {'batch_size': 8, 'steps': 4}), workdir)
    assert (refused.value.add, refused.value.instead) == ((('config.batch_size', '16'),), (('workdir', 'run-3'),))


def test_the_same_run_goes_on_wherever_its_images_lie(
    config: Config, faces: pathlib.Path, workdir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    before = contents(workdir)
    assert loop.train(config, workdir).step == 2
    after = {name: data for name, data in contents(workdir).items() if not name.startswith('tensorboard/')}
    assert after == {name: data for name, data in before.items() if name in after}  # nothing was trained
    moved = faces.rename(tmp_path / 'moved')
    changes = {'data.path': str(moved), 'steps': 3, 'log_every_steps': 1, 'data.threads': 1, 'steps_per_call': 2}
    assert loop.train(override(config, changes), workdir).step == 3


def test_images_with_the_same_names_are_told_apart(config: Config, faces: pathlib.Path, workdir: pathlib.Path) -> None:
    for path in faces.rglob('*.jpg'):  # the same images in another quality
        PIL.Image.open(path).save(path, quality=30)
    with pytest.raises(UserError, match='the images are not those that this run was started on'):
        loop.train(override(config, {'steps': 4}), workdir)


@pytest.mark.slow
def test_scores_of_another_validation_are_not_ranked_with_those_before(
    config: Config, faces: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.9, 0.4, 0.5, 0.3])
    monkeypatch.setattr(loop.metrics_lib, 'compute_metrics', lambda _: {'auc': next(scores)})
    monkeypatch.setattr(loop.StepLog, 'write_validation', lambda *_: None)
    loop.train(config, tmp_path / 'run')
    shutil.copy(faces / 'test/real/000000.jpg', faces / 'train/real/new.jpg')
    with pytest.raises(UserError, match='the images are not those that this run was started on'):
        loop.train(override(config, {'steps': 4}), tmp_path / 'run')
    said = Recorder()
    loop.train(override(config, {'steps': 4}), tmp_path / 'run', said, with_changes=True)
    assert any('the best checkpoint is chosen among those that come' in line for line in said.lines)
    checkpoints = Checkpoints(tmp_path / 'run/checkpoints', read_only=True)
    assert checkpoints.best_step() == 4  # 0.4, where step 2 had 0.9 of another validation
    loop.train(override(config, {'steps': 6}), tmp_path / 'run')  # no change any more, yet still the new ranking
    loop.train(override(config, {'steps': 8}), tmp_path / 'run')
    checkpoints = Checkpoints(tmp_path / 'run/checkpoints', read_only=True)
    assert checkpoints.best_step() == 6
    assert checkpoints.steps() == [6, 8]


def test_the_lock_comes_before_the_checkpoints_are_read(config: Config, tmp_path: pathlib.Path) -> None:
    (tmp_path / 'run/checkpoints/2').mkdir(parents=True)  # which nobody could read
    with open_workdir(tmp_path / 'run'), pytest.raises(UserError, match='another training is using'):
        loop.train(config, tmp_path / 'run')


def test_what_cannot_begin_leaves_no_folder_behind(config: Config, tmp_path: pathlib.Path) -> None:
    config.data.path = ''
    with pytest.raises(UserError, match='there are no images; .* config.data.path=demo'):
        loop.train(config, tmp_path / 'runs/new/run')
    assert not (tmp_path / 'runs').exists()
    (tmp_path / 'mine').mkdir()
    with pytest.raises(UserError):
        loop.train(config, tmp_path / 'mine')
    assert (tmp_path / 'mine').is_dir()


def test_paths_are_stored_absolute(
    config: Config, faces: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config.data.path = faces.name
    said = Recorder()
    loop.train(config, tmp_path / 'run', said)
    assert json.loads((tmp_path / 'run/config.json').read_text())['data']['path'] == str(faces)
    assert any('data       faces: train 72' in line for line in said.lines)


def test_default_folders_name_data_and_seed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = default_config()
    names = []
    for path, seed in (('/data/faces/', 0), ('sets/faces.zip', 3), ('demo', 0)):
        config.data.path, config.seed = path, seed
        names.append(str(default_workdir('cnn', config)))
    assert names == ['runs/cnn-faces', 'runs/cnn-faces-seed3', 'runs/cnn-demo']
    assert default_workdir('demo', config) == pathlib.Path('runs/demo')
    (tmp_path / 'runs/cnn').mkdir(parents=True)  # of an earlier fakeimg
    (tmp_path / 'runs/cnn/config.json').write_text(json.dumps({'seed': 0, 'data': {'path': '/data/faces'}}))
    for path, name in (('/data/faces', 'cnn'), ('/data/others', 'cnn-others')):
        config.data.path, config.seed = path, 0
        assert default_workdir('cnn', config).name == name


def test_meta_of_early_checkpoints_ranks_everything() -> None:
    values = {'config': {}, 'labels': {}, 'preprocessing': {}, 'data_digest': None}
    assert Meta.from_json(values, 'a checkpoint').ranked_since == 0

"""Recipes that choose: what they say, what the command line wins, and what a run that goes on keeps."""

import json
import pathlib
import runpy

import pytest

from fakeimg.config import override
from fakeimg.data.summary import Summary
from tests.support.verbs import ROOT, Verb

CHOOSE = runpy.run_path(str(ROOT / 'configs/own.py'))['choose']
SMALL = ('--config.model.width=2', '--config.batch_size=16', '--config.checkpoint_every_steps=0')


@pytest.mark.parametrize('weights', ['none', 'imagenet', 'detector'])
@pytest.mark.parametrize('has_gpu', [False, True])
@pytest.mark.parametrize('count', [2, 100, 1540, 20_000, 140_000])
@pytest.mark.parametrize('side', [8, 32, 40, 64, 256, 1024])
def test_every_choice_is_a_recipe_that_can_be_trained(side: int, count: int, has_gpu: bool, weights: str) -> None:
    name, changes, reason = CHOOSE(Summary(count // 2, count // 2, side, ('jpeg',)), has_gpu, weights)
    config = runpy.run_path(str(ROOT / f'configs/{name}.py'))['get_config']()
    for field, value in changes.items():
        config = override(config, {field: value})
    config.check()
    assert reason and not reason.endswith('.')
    seen = count * config.epochs
    assert (name == 'own_pretrained') == (weights != 'none')
    assert has_gpu or weights != 'none' or seen <= 1_000_000 or config.epochs <= 6


def test_it_says_what_it_chose_and_a_run_that_goes_on_keeps_it(faces: pathlib.Path, verb: Verb) -> None:
    arguments = ('train', '--config', 'own', f'--config.data.path={faces}', *SMALL)
    first = verb(*arguments, '--config.steps=2')
    assert first.returncode == 0, first.stderr
    assert 'images to learn from' in first.stdout and 'of 32 px, jpeg: as --config cifake_fast' in first.stdout
    (folder,) = faces.parent.glob('work/runs/own-*')
    config = json.loads((folder / 'config.json').read_text())
    assert (config['model']['name'], config['model']['width'], config['batch_size']) == ('airbench', 2, 16)
    for path in faces.glob('train/real/*'):  # another choice, were one made now
        path.with_name(f'copy_{path.name}').write_bytes(path.read_bytes() + b' ')
    changed = verb(
        'train', '--config', 'own', f'--config.data.path={faces}', '--config.steps=3', *SMALL, '--continue_with_changes'
    )
    assert changed.returncode == 0, changed.stderr
    after = json.loads((folder / 'config.json').read_text())
    assert after == {**config, 'steps': 3} and ': as --config' not in changed.stdout


def test_the_network_of_a_detector_comes_with_its_weights(faces: pathlib.Path, verb: Verb) -> None:
    arguments = ('train', '--config', 'own', f'--config.data.path={faces}', '--config.init.weights=cifake')
    result = verb(*arguments, '--config.steps=1', '--config.batch_size=16')
    assert result.returncode == 0, result.stderr
    (folder,) = faces.parent.glob('work/runs/own-*')
    config = json.loads((folder / 'config.json').read_text())
    assert (config['model']['name'], config['data']['image_size']) == ('cnn', 32)
    assert 'as --config own_pretrained --config.model.name=cnn' in result.stdout


def test_what_a_copy_of_the_recipe_sets_stays(faces: pathlib.Path, verb: Verb) -> None:
    text = (ROOT / 'configs/own.py').read_text()
    changed = (
        f'config = default_config()\n    config.data.path = {str(faces)!r}\n    config.seed = 3\n    return config'
    )
    assert text.count('return default_config()') == 1
    copy = faces.parent / 'mine.py'
    copy.write_text(text.replace('return default_config()', changed))
    result = verb('train', '--config', copy, '--config.steps=1', *SMALL)
    assert result.returncode == 0, result.stderr
    (folder,) = faces.parent.glob('work/runs/mine-*')
    config = json.loads((folder / 'config.json').read_text())
    assert (config['data']['path'], config['seed'], config['model']['name']) == (str(faces), 3, 'airbench')

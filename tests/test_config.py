"""Fields, their types, options of networks, and what a configuration is completed with."""

import json
import pathlib
import re
from typing import Any

import flax.traverse_util
import numpy as np
import pytest

from fakeimg import initial
from fakeimg.cli import recipe
from fakeimg.config import IMAGENET_MEAN, IMAGENET_STD, Config, Data, complete, default_config, from_plain, override
from fakeimg.errors import UserError
from fakeimg.fields import changed_fields, get_field, set_field, to_plain
from fakeimg.models import MODELS, create_model
from fakeimg.networks import NETWORKS
from fakeimg.pretrained import weights_file
from fakeimg.training import loop, resume
from tests.support.variables import random_variables
from tests.support.verbs import Verb, assert_refused

# What a run of commit c6e1e88 wrote: every network's options, whichever its network.
OLD: dict[str, Any] = {
    'augment': {
        'blur': [0.3, 3.0], 'brightness': [0.6, 1.4], 'contrast': [0.6, 1.4], 'cutmix': 0.0,
        'degradation_probability': 0.0, 'flip': True, 'jpeg': [30, 95], 'mixup': 0.0, 'noise': [2.0, 25.0],
        'occlusion': [0.1, 0.5], 'pixelate': [0.15, 0.6], 'random_crop': True, 'rescale': [0.25, 0.9],
        'saturation': [-0.5, 1.5],
    },
    'batch_size': 128, 'checkpoint_every_steps': 500,
    'data': {
        'balanced_sampling': False, 'cache': 'auto', 'demo_examples': 4000, 'image_size': 64,
        'max_bad_fraction': 0.01, 'mean': [0.485, 0.456, 0.406], 'path': '', 'resize_size': 64,
        'std': [0.229, 0.224, 0.225], 'threads': 0, 'train_split': 'train', 'validation_fraction': 0.1,
        'validation_split': 'validation',
    },
    'epochs': 6.0, 'finetune': {'head_epochs': 0.0, 'last_stages': -1, 'layer_decay': 1.0},
    'init': {'weights': 'none'}, 'log_every_steps': 25,
    'loss': {'class_weights': 'none', 'label_smoothing': 0.0}, 'microbatches': 1,
    'model': {
        'dense': 64, 'dense_layers': 1, 'dropout': 0.5, 'filters': 32, 'freeze_batch_norm': False, 'head': 'sigmoid',
        'layers': 2, 'name': 'cnn', 'small_stem': False, 'sync_batch_norm': False, 'width': 64,
    },
    'optimizer': {
        'base_learning_rate': 0.002, 'clip_norm': 1.0, 'ema_decay': 0.0, 'momentum': 0.9, 'name': 'adamw',
        'warmup_epochs': 0.5, 'weight_decay': 0.0001,
    },
    'parallel': 'pmap', 'precision': 'auto', 'seed': 0, 'steps': 0, 'validate_every_epochs': 1.0,
}  # fmt: skip


def demo_recipe() -> Config:
    config = default_config()
    config.epochs, config.log_every_steps = 6, 25
    config.data.image_size = config.data.resize_size = 64
    config.model.name = 'cnn'
    config.optimizer.base_learning_rate = 2e-3
    return config


@pytest.mark.parametrize(
    ('section', 'name', 'sentence'),
    [
        ('', 'bach_size', 'unknown config field config.bach_size. Did you mean batch_size?'),
        ('data', 'pth', 'unknown config field config.data.pth. Did you mean path?'),
        ('optimizer', 'xyz', 'unknown config field config.optimizer.xyz. All fields are in fakeimg/config.py.'),
    ],
)
def test_a_misspelt_field_fails_on_assignment_and_on_reading(section: str, name: str, sentence: str) -> None:
    config = default_config()
    part = getattr(config, section) if section else config
    for use in (lambda: setattr(part, name, 1), lambda: getattr(part, name)):
        with pytest.raises(UserError) as error:
            use()
        assert str(error.value) == sentence


def test_fields_keep_their_types() -> None:
    config = default_config()
    config.epochs = 3
    assert type(config.epochs) is float
    set_field(config, 'model.dropout', 0)
    assert type(get_field(config, 'model.dropout')) is float
    for field, value, kind in (('batch_size', 2.5, 'int'), ('data.path', None, 'str'), ('model.layers', 'x', 'int')):
        with pytest.raises(UserError, match=f'config.{field} is {value!r}; it must be of type {kind}'):
            set_field(config, field, value)


@pytest.mark.parametrize('name', NETWORKS)
def test_options_are_arguments_of_their_network_with_its_defaults(name: str) -> None:
    config = default_config()
    config.model.name = name
    options = config.model.options()
    assert create_model(config) == MODELS[name]()
    assert complete(config).model.options() == options
    stored = to_plain(complete(config))['model']
    assert stored.keys() == {'name', 'head', *options}
    assert from_plain(to_plain(complete(config))) == complete(config)


@pytest.mark.parametrize(
    ('name', 'option', 'value', 'own'),
    [
        ('resnet50', 'filters', 32, 'width, small_stem, sync_batch_norm, freeze_batch_norm'),
        ('cnn', 'dropout', 0.1, 'filters, layers, dense, dense_layers'),
        ('vgg19', 'freeze_batch_norm', False, 'dropout'),
    ],
)
def test_an_option_of_another_network_is_refused(name: str, option: str, value: object, own: str) -> None:
    config = override(default_config(), {'model.name': name, f'model.{option}': value})
    for use in (config.check, lambda: complete(config), lambda: create_model(config)):
        with pytest.raises(UserError, match=f'config.model.{option} belongs to .*, not to {name}, .* {own}; leave it'):
            use()


def test_options_of_the_network_in_use_alone_are_checked() -> None:
    config = override(default_config(), {'model.name': 'resnet18', 'data.image_size': 8})
    config.check()  # 8 px are too few for more than three layers of a cnn, and this is none


@pytest.mark.parametrize(
    ('before', 'image_size', 'after'),
    [((224, 256), 160, 183), ((32, 32), 64, 64), ((64, 72), 128, 144), ((224, 0), 160, 183), ((224, 0), 224, 256)],
)
def test_the_image_size_moves_the_size_before_the_crop(before: tuple[int, int], image_size: int, after: int) -> None:
    config = default_config()
    config.data = Data(image_size=before[0], resize_size=before[1])
    assert complete(override(config, {'data.image_size': image_size})).data.resize_size == after
    both = override(config, {'data.image_size': image_size, 'data.resize_size': 300})
    assert complete(both).data.resize_size == 300


def test_old_configurations_load_without_options_of_other_networks() -> None:
    config = from_plain(OLD)
    assert config.model.options() == {'filters': 32, 'layers': 2, 'dense': 64, 'dense_layers': 1}
    assert config.model.dropout is None and config.model.width is None
    assert config.data.mean == IMAGENET_MEAN and config.augment.jpeg == (30, 95)
    newer = ['data.resize_version: 1 -> 2', 'data.split_version: 1 -> 2']
    assert changed_fields(config, complete(demo_recipe())) == newer
    other = override(demo_recipe(), {'seed': 1, 'data.resize_version': 1, 'data.split_version': 1})
    assert changed_fields(config, complete(other)) == ['seed: 0 -> 1']
    assert from_plain({**OLD, 'newer': 1, 'data': {**OLD['data'], 'newer': 1}}) == config


def test_a_later_network_loads_and_is_refused_when_it_is_built() -> None:
    config = from_plain({**OLD, 'model': {'name': 'vit', 'patch': 16}})
    with pytest.raises(UserError, match="config.model.name is 'vit'; it must be one of"):
        create_model(config)


def header_of(mean: tuple[float, ...], std: tuple[float, ...]) -> weights_file.Header:
    return weights_file.Header('resnet18', 'here', '0' * 64, None, mean, std)


@pytest.fixture
def resnet_with_weights(config: Config, tmp_path: pathlib.Path) -> Config:
    """ResNet18 of width 2 whose initial weights expect a mean and a std of 0.5."""
    config.model.name, config.model.width = 'resnet18', 2
    config.steps = 2
    config.data.mean = config.data.std = ()
    variables: dict[str, Any] = random_variables(create_model(config), 32)
    flat = {k: np.asarray(v) for k, v in flax.traverse_util.flatten_dict(variables, sep='/').items() if 'head' not in k}
    weights_file.write(tmp_path / 'weights', flat, header_of((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))
    config.init.weights = str(tmp_path / 'weights')
    return config


def test_mean_and_std_come_with_the_weights(resnet_with_weights: Config) -> None:
    config = resnet_with_weights
    data = initial.complete(config).data
    assert (data.mean, data.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert config.data.mean == ()  # the recipe's is left alone
    config.init.weights = 'none'
    data = initial.complete(config).data
    assert (data.mean, data.std) == (IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.slow
def test_a_run_records_mean_and_std_and_continues_without_its_weights(
    resnet_with_weights: Config, tmp_path: pathlib.Path
) -> None:
    config = resnet_with_weights
    loop.train(config, tmp_path / 'run')
    assert json.loads((tmp_path / 'run/config.json').read_text())['data']['mean'] == [0.5, 0.5, 0.5]
    pathlib.Path(config.init.weights).unlink()
    assert resume.continued(config, tmp_path / 'run/checkpoints').data.std == (0.25, 0.25, 0.25)
    config.steps = 3
    assert loop.train(config, tmp_path / 'run').step == 3


def test_command_line_refuses_options_of_other_networks_and_follows_the_image_size(
    verb: Verb, tmp_path: pathlib.Path
) -> None:
    refused = verb('train', '--config', 'resnet50', '--config.model.filters=64')
    assert_refused(refused, 'config.model.filters belongs to cnn, not to resnet50, whose options are width')
    refused = verb('train', '--config', 'cnn', '--config.model.dropout=0.1')
    assert_refused(refused, 'config.model.dropout belongs to vgg19, vgg19_bn, not to cnn')
    flags = [
        '--config.data.image_size=16',
        '--config.data.path=demo',
        '--config.data.demo_examples=64',
        '--config.steps=1',
        '--workdir=run',
    ]
    trained = verb('train', '--config', 'cnn', *flags, '--config.batch_size=16')
    assert trained.returncode == 0, trained.stderr
    run = json.loads((tmp_path / 'work/run/config.json').read_text())
    assert run['data']['resize_size'] == 18  # the recipe has 64 and 72


def test_help_lists_every_field_with_default_and_comment() -> None:
    text = recipe.help_text()
    lines = [line.strip() for line in text.splitlines()]
    fields = flatten(to_plain(default_config())) | {
        f'model.{name}' for options in NETWORKS.values() for name in options
    }
    assert {line.split('=')[0] for line in lines if re.match(r'[\w.]+=', line)} == fields
    assert max(map(len, text.splitlines())) <= 100
    assert not [line for line in lines if re.fullmatch(r'[\w.]+=\S+', line) and '(' not in line]  # all have comments
    assert any(re.fullmatch(r"data\.path='' +prepared set, folder, zip, tar or table; .*", line) for line in lines)
    assert any(re.fullmatch(r'model\.filters=32 +cnn: of every convolution', line) for line in lines)


def flatten(plain: dict[str, Any], prefix: str = '') -> set[str]:
    parts = [flatten(v, f'{prefix}{k}.') if isinstance(v, dict) else {prefix + k} for k, v in plain.items()]
    return set().union(*parts)

import json
import pathlib
from typing import Any

import flax.traverse_util
import jax
import numpy as np
import pytest
import safetensors.numpy

from fakeimg.config import Config
from fakeimg.errors import UserError
from fakeimg.models.resnet import ResNet
from fakeimg.models.vgg import VGG19
from fakeimg.pretrained import convert, hub, imagenet, weights_file
from tests.support.parity import to_ours
from tests.support.torch_networks import random_state
from tests.support.variables import abstract_variables, random_variables

HEADER = weights_file.Header('tiny', 'source.pth', 'digest', 1000, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def tiny() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A network's variables, all 2, and converted weights for it, which have no head."""
    flat = to_ours('tiny_bottleneck', random_state('tiny_bottleneck'))
    shapes = abstract_variables(ResNet((1, 2, 1, 1), width=4), 32)
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 2, leaf.dtype), shapes)
    return variables, {name: value for name, value in flat.items() if '/head/' not in name}


def test_weights_are_loaded_and_the_head_is_kept(config: Config, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'weights.safetensors'
    variables, flat = tiny()
    weights_file.write(path, flat, HEADER)
    loaded = imagenet.load_weights(path, variables, config)
    np.testing.assert_array_equal(loaded['params']['stem_conv']['kernel'], flat['params/stem_conv/kernel'])
    np.testing.assert_array_equal(loaded['params']['head']['kernel'], variables['params']['head']['kernel'])
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)


def test_weights_of_a_network_without_batch_norm_start_a_training(config: Config, tmp_path: pathlib.Path) -> None:
    model = VGG19(width=2, dense=8)
    variables = random_variables(model, 32)
    flat = flax.traverse_util.flatten_dict({'params': variables['params']}, sep='/')
    path = tmp_path / 'weights.safetensors'
    weights_file.write(path, {name: np.asarray(flat[name]) + 1 for name in flat if '/head/' not in name}, HEADER)
    loaded = imagenet.load_weights(path, variables, config)
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    assert loaded['batch_stats'] == {}
    np.testing.assert_array_equal(loaded['params']['fc6']['bias'], np.asarray(variables['params']['fc6']['bias']) + 1)


def test_unfitting_weights_are_named(config: Config, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'weights.safetensors'
    variables, flat = tiny()
    removed = flat.pop('params/stem_bn/bias')
    weights_file.write(path, flat, HEADER)
    with pytest.raises(UserError, match=r'1 tensors missing: params/stem_bn/bias \[4\]'):
        imagenet.load_weights(path, variables, config)
    weights_file.write(path, flat | {'params/stem_bn/bias': removed[:2]}, HEADER)
    with pytest.raises(UserError, match=r'params/stem_bn/bias has shape \[2\], the model needs \[4\]'):
        imagenet.load_weights(path, variables, config)
    weights_file.write(path, flat | {'params/stem_bn/bias': removed, 'params/more': removed}, HEADER)
    with pytest.raises(UserError, match=r'1 unknown: params/more \[4\]'):
        imagenet.load_weights(path, variables, config)
    for dtype in ('float16', 'int32'):
        weights_file.write(path, flat | {'params/stem_bn/bias': removed.astype(dtype)}, HEADER)
        with pytest.raises(UserError, match=f'params/stem_bn/bias is {dtype}, the model needs float32'):
            imagenet.load_weights(path, variables, config)
    weights_file.write(path, flat | {'params/stem_bn/bias': np.array([1, np.nan, np.inf, 2], np.float32)}, HEADER)
    with pytest.raises(UserError, match=r'damaged: params/stem_bn/bias \[4\] holds 2 values that are not finite'):
        imagenet.load_weights(path, variables, config)
    weights_file.write(path, flat | {'params/stem_bn/bias': removed}, HEADER)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match='is not a readable safetensors file'):
        imagenet.load_weights(path, variables, config)
    path.write_text('<html>')
    with pytest.raises(UserError, match='is not a readable safetensors file'):
        imagenet.load_weights(path, variables, config)
    safetensors.numpy.save_file({'conv1.weight': removed}, path)
    with pytest.raises(UserError, match='not a file of converted weights; convert it first with "fakeimg convert"'):
        imagenet.load_weights(path, variables, config)


def test_weights_of_another_normalisation_say_which(config: Config, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'weights.safetensors'
    variables, flat = tiny()
    weights_file.write(path, flat, HEADER)
    config.data.mean = (0.5, 0.5, 0.5)
    with pytest.raises(UserError, match=r'config.data.mean is .*leave it out'):
        imagenet.load_weights(path, variables, config)


@pytest.fixture
def empty_place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A working folder and a cache folder with nothing in them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path


def test_which_weights_win(config: Config, empty_place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(name: str):
        raise UserError(f'{name} could not be downloaded; check.')

    monkeypatch.setattr(hub, 'download', no_network)
    config.model.name = 'resnet50'
    config.init.weights = 'none'
    assert imagenet.find_weights(config) is None
    for wish in ('auto', 'imagenet'):
        config.init.weights = wish
        with pytest.raises(
            UserError, match='no ImageNet weights for resnet50 .*, and timm/resnet50.* could not .*"fakeimg convert"'
        ):
            imagenet.find_weights(config)
    path = config.data.path
    config.data.path = ''  # the demo faces make do without, but not where weights are demanded
    config.init.weights = 'auto'
    assert imagenet.find_weights(config) is None
    config.data.path = path
    cached = empty_place / 'cache/fakeimg/resnet50.safetensors'
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b'')
    assert imagenet.find_weights(config) == cached
    here = empty_place / 'weights/resnet50.safetensors'
    here.parent.mkdir()
    here.write_bytes(b'')
    assert imagenet.find_weights(config) == pathlib.Path('weights/resnet50.safetensors')
    config.init.weights = str(empty_place / 'absent.safetensors')
    with pytest.raises(UserError, match='absent.safetensors, which does not exist'):
        imagenet.find_weights(config)
    config.init.weights = 'imagenet'
    config.model.small_stem = True
    with pytest.raises(UserError, match='no ImageNet weights for resnet50 with a small stem; set config.init'):
        imagenet.find_weights(config)


def test_weights_from_the_hub_are_converted_once(
    config: Config, empty_place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = empty_place / 'model.safetensors'
    safetensors.numpy.save_file(random_state('resnet18', classes=1000), source)
    asked = []

    def download(name: str):
        asked.append(name)
        return source, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)

    monkeypatch.setattr(hub, 'download', download)
    config.model.name = 'resnet18'
    for wish, name in (('imagenet', 'timm/resnet18.tv_in1k'), ('somebody/resnet-18@v1', 'somebody/resnet-18@v1')):
        config.init.weights = wish
        path = imagenet.find_weights(config)
        assert path == imagenet.find_weights(config)
        assert path is not None and path.parent == empty_place / 'cache/fakeimg'
        assert asked[-1] == name
        with safetensors.safe_open(path, 'numpy') as file:
            metadata = file.metadata()
        assert (metadata['model'], metadata['source'], metadata['classes']) == ('resnet18', name, '1000')
        assert json.loads(metadata['preprocessing'])['mean'] == [0.5, 0.5, 0.5]
        assert len(metadata['source_sha256']) == 64
    assert len(asked) == 2
    config.init.weights = 'imagenet'
    config.model.name = 'cnn'
    with pytest.raises(UserError, match='no ImageNet weights for cnn'):
        imagenet.find_weights(config)
    with pytest.raises(UserError, match='no weights to convert for cnn'):
        convert.convert('cnn', 'x', empty_place / 'out')

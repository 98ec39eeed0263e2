import pathlib
from collections.abc import Iterator

import jax
import numpy as np
import pytest
import safetensors.numpy

from fakeimg.config import Config
from fakeimg.errors import UserError
from fakeimg.models import imagenet, init_variables
from fakeimg.models.resnet import ResNet, resnet50


def torch_names(stage_sizes: tuple[int, ...] = (3, 4, 6, 3), width: int = 64) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of torchvision's ResNet file."""

    def norm(name: str, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        for leaf in ('running_mean', 'running_var', 'weight', 'bias'):
            yield f'{name}.{leaf}', (size,)

    yield 'conv1.weight', (width, 3, 7, 7)
    yield from norm('bn1', width)
    inputs = width
    for stage, blocks in enumerate(stage_sizes):
        filters = width * 2**stage
        for block in range(blocks):
            name = f'layer{stage + 1}.{block}'
            shapes = ((filters, inputs, 1, 1), (filters, filters, 3, 3), (4 * filters, filters, 1, 1))
            for number, shape in enumerate(shapes, start=1):
                yield f'{name}.conv{number}.weight', shape
                yield from norm(f'{name}.bn{number}', shape[0])
            if block == 0:
                yield f'{name}.downsample.0.weight', (4 * filters, inputs, 1, 1)
                yield from norm(f'{name}.downsample.1', 4 * filters)
            inputs = 4 * filters
    yield 'fc.weight', (1000, inputs)
    yield 'fc.bias', (1000,)


def random_tensors(stage_sizes: tuple[int, ...] = (3, 4, 6, 3), width: int = 64) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.random(shape, np.float32) for name, shape in torch_names(stage_sizes, width)}


def test_torchvision_file_converts_without_leftover() -> None:
    tensors = random_tensors()
    assert len(tensors) == 267
    flat = imagenet.convert_resnet(tensors)
    imagenet.check_weights(flat, jax.eval_shape(lambda: init_variables(resnet50(), 64, 0)), pathlib.Path('x'))
    assert len(flat) == len(tensors) - 2  # the classifier's weight and bias
    np.testing.assert_array_equal(
        flat['params/stage2_block1/downsample_conv/kernel'][0, 0], tensors['layer2.0.downsample.0.weight'][:, :, 0, 0].T
    )
    np.testing.assert_array_equal(flat['batch_stats/stem_bn/var'], tensors['bn1.running_var'])


def test_weights_are_loaded_and_the_head_is_kept(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'weights.safetensors'
    flat = imagenet.convert_resnet(random_tensors((1, 1), 8))
    imagenet.save_weights(path, flat, 'tiny', 'digest')
    variables = init_variables(ResNet((1, 1), width=8), 32, 0)
    loaded = imagenet.load_weights(path, variables)
    np.testing.assert_array_equal(loaded['params']['stem_conv']['kernel'], flat['params/stem_conv/kernel'])
    np.testing.assert_array_equal(loaded['params']['head']['kernel'], variables['params']['head']['kernel'])
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)


def test_unfitting_weights_are_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'weights.safetensors'
    flat = imagenet.convert_resnet(random_tensors((1, 1), 8))
    variables = init_variables(ResNet((1, 1), width=8), 32, 0)
    removed = flat.pop('params/stem_bn/bias')
    safetensors.numpy.save_file({name: np.ascontiguousarray(value) for name, value in flat.items()}, path)
    with pytest.raises(UserError, match='1 tensors missing .first: params/stem_bn/bias.'):
        imagenet.load_weights(path, variables)
    flat['params/stem_bn/bias'] = removed[:4]
    safetensors.numpy.save_file({name: np.ascontiguousarray(value) for name, value in flat.items()}, path)
    with pytest.raises(UserError, match=r'params/stem_bn/bias has shape \(4,\), the model wants \(8,\)'):
        imagenet.load_weights(path, variables)
    path.write_text('<html>')
    with pytest.raises(UserError, match='is not a readable safetensors file'):
        imagenet.load_weights(path, variables)
    with pytest.raises(UserError, match="tensor 'features.0.weight' does not belong"):
        imagenet.convert_resnet({'features.0.weight': np.zeros(1)})


def test_which_weights_win(config: Config, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    config.model.name = 'resnet50'
    config.init.weights = 'none'
    assert imagenet.find_weights(config) is None
    for wish in ('auto', 'imagenet'):
        config.init.weights = wish
        with pytest.raises(UserError, match='no ImageNet weights for resnet50 .*fakeimg.convert_weights resnet50'):
            imagenet.find_weights(config)
    path = config.data.path
    config.data.path = ''  # the demo faces make do without, but not where weights are demanded
    config.init.weights = 'auto'
    assert imagenet.find_weights(config) is None
    config.data.path = path
    cached = tmp_path / 'cache/fakeimg/resnet50.safetensors'
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b'')
    assert imagenet.find_weights(config) == cached
    config.init.weights = str(tmp_path / 'absent.safetensors')
    with pytest.raises(UserError, match='there is no file .*absent.safetensors'):
        imagenet.find_weights(config)

"""Features are the network's own, computed once, and never those of something else."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from fakeimg import models
from fakeimg.config import Config, override
from fakeimg.data import decode
from fakeimg.data.datasets import open_data
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.detector import Detector
from fakeimg.errors import UserError
from fakeimg.models import create_model, normalize, resnet
from fakeimg.networks import NETWORKS
from fakeimg.probing import features as features_lib
from fakeimg.untrained import from_recipe
from tests.support.console import Recorder


def read(
    config: Config, folder: pathlib.Path, split: str = 'test', network: Detector | None = None
) -> tuple[features_lib.Features, list[str]]:
    folder.mkdir(exist_ok=True)
    data = open_data(config)
    said = Recorder()
    network = network or from_recipe(config)
    found = features_lib.read_features(network, data, split, folder, said)
    return found, said.lines


@pytest.mark.parametrize(('model', 'count', 'parallel'), [('cnn', 64, 'pmap'), ('tiny_resnet', 8, 'shard_map')])
def test_features_are_the_heads_input_of_each_image(
    model: str, count: int, parallel: str, config: Config, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = functools.partial(resnet.ResNet, (1, 1), 4, False)
    monkeypatch.setitem(models.MODELS, 'tiny_resnet', tiny)
    monkeypatch.setitem(NETWORKS, 'tiny_resnet', {})
    config.model.name = model
    config.parallel = parallel
    config.data.image_size, config.data.resize_size = 40, 44  # larger than the images, and cropped
    config.batch_size = 12  # which does not divide the 40 images
    frozen = from_recipe(config)
    found, _ = read(config, tmp_path / 'out', 'test', frozen)
    assert found.values.dtype == np.float32
    assert found.values.shape == (40, count)
    np.testing.assert_array_equal(found.rows, np.arange(40))
    source = open_data(config).splits['test']
    network = create_model(config)
    variables = jax.device_get(frozen.variables)
    alone = jax.jit(lambda variables, image: network.apply(variables, image, method='features'))
    for row in (0, 13, 39):
        image = np.empty((40, 40, 3), np.uint8)
        decode.crop_square(decode.decode_rgb(source[row]), 44, 40, (0.5, 0.5), image)
        expected = np.asarray(alone(variables, normalize(image[None], config.data.mean, config.data.std)))[0]
        np.testing.assert_allclose(found.values[row], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_features_are_computed_once(config: Config, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = from_recipe(config)
    first, said = read(config, tmp_path / 'out', 'test', network)
    assert not said
    monkeypatch.setattr(Detector, 'features', None)  # computing again would fail
    again, said = read(config, tmp_path / 'out', 'test', network)
    assert said == [f'test: features of 40 images read from {tmp_path}/out/features-test.npz']
    np.testing.assert_array_equal(again.values, first.values)
    np.testing.assert_array_equal(again.rows, first.rows)


def remove_an_image(faces: pathlib.Path) -> None:
    next((faces / 'test/real').iterdir()).unlink()


def change_the_bytes(faces: pathlib.Path) -> None:
    first, second, *_ = sorted((faces / 'test/real').iterdir())
    first.write_bytes(second.read_bytes())


def test_features_of_something_else_are_not_reused(
    config: Config, faces: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []

    def features(detector, split, name, **_):
        computed.append(name)
        return np.zeros((len(split), 3), np.float32), np.arange(len(split)), UnreadableImages(name, 1, 0.0)

    monkeypatch.setattr(Detector, 'features', features)
    out = tmp_path / 'out'
    network = from_recipe(config)
    for split in ('train', 'test'):
        assert read(config, out, split, network)[1] == []

    def assert_computed_once(split: str, reason: str) -> None:
        path = out / f'features-{split}.npz'
        computed.clear()
        assert read(config, out, split, network)[1] == [f'{path} was computed with different {reason}; recomputing.']
        rows = len(open_data(config).get(split))
        assert read(config, out, split, network)[1] == [f'{split}: features of {rows:,} images read from {path}']
        assert computed == [split]

    change_the_bytes(faces)
    assert_computed_once('test', 'images')
    remove_an_image(faces)
    assert_computed_once('test', 'data, images')
    network = from_recipe(override(config, {'seed': 1}))
    assert_computed_once('test', 'weights')
    network = from_recipe(override(config, {'seed': 1, 'precision': 'bfloat16'}))
    assert_computed_once('test', 'precision')
    fields: dict[str, Any] = {'seed': 1, 'precision': 'bfloat16'}
    for name, value, reason in (
        ('data.resize_size', 36, 'preprocessing'),
        ('data.mean', (0.5, 0.5, 0.5), 'preprocessing'),
        ('model.dense', 32, 'weights, model'),
    ):
        fields[name] = value
        network = from_recipe(override(config, fields))
        assert_computed_once('test', reason)
    config.data.validation_fraction = 0.4
    assert_computed_once('train', 'weights, model, preprocessing, precision, data, images')


def test_the_digest_is_of_all_weights_but_the_heads(config: Config) -> None:
    network = from_recipe(config)
    assert from_recipe(override(config, {'seed': 1})).backbone_digest != network.backbone_digest
    changed = jax.tree.map(np.array, jax.device_get(network.variables))
    changed['params']['head']['kernel'] += 1
    assert dataclasses.replace(network, variables=changed).backbone_digest == network.backbone_digest
    changed['params']['conv1']['kernel'][0, 0, 0, 0] += 1e-3
    assert dataclasses.replace(network, variables=changed).backbone_digest != network.backbone_digest


def test_a_damaged_file_is_computed_again(config: Config, tmp_path: pathlib.Path) -> None:
    network = from_recipe(config)
    first, _ = read(config, tmp_path / 'out', 'test', network)
    path = tmp_path / 'out/features-test.npz'
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[:-500], bytes(flipped), b'features', b''):
        path.write_bytes(damaged)
        second, said = read(config, tmp_path / 'out', 'test', network)
        assert said == [f'!! {path} is damaged; recomputing.']
        np.testing.assert_array_equal(second.values, first.values)
        assert path.read_bytes() == whole


def test_unreadable_images_are_left_out_and_listed(config: Config, faces: pathlib.Path, tmp_path: pathlib.Path) -> None:
    name = open_data(config).splits['test'].names[7]
    network = from_recipe(config)
    whole, _ = read(config, tmp_path / 'whole', 'test', network)
    (faces / name).write_bytes(b'')
    with pytest.raises(UserError, match=f'1 of 40 images of split test cannot be read .first: {name}: empty file'):
        read(config, tmp_path / 'out', 'test', network)
    network = network.tolerating(0.1)
    found, _ = read(config, tmp_path / 'out', 'test', network)
    np.testing.assert_array_equal(found.rows, np.delete(np.arange(40), 7))
    np.testing.assert_allclose(found.values, np.delete(whole.values, 7, 0), rtol=1e-5, atol=1e-5)
    assert f'test,{name},empty file' in (tmp_path / 'out/bad_pictures.csv').read_text()


def test_features_that_are_not_finite_are_refused(config: Config, tmp_path: pathlib.Path) -> None:
    config.data.std = (1e-38, 1e-38, 1e-38)
    with pytest.raises(UserError, match='the features of split test are not finite in float32'):
        read(config, tmp_path / 'out')
    assert not (tmp_path / 'out/features-test.npz').exists()

"""The file of a portable detector gives back what was written, and one that is not whole is refused in a sentence."""

import dataclasses
import json
import pathlib
from typing import Any

import flax.traverse_util
import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from fakeimg import portable
from fakeimg.config import Config
from fakeimg.detector import describe
from fakeimg.errors import UserError
from fakeimg.models import create_model, init_variables
from fakeimg.models.resnet import ResNet
from fakeimg.portable import Weights
from tests.support.variables import random_variables


@pytest.fixture
def weights(config: Config) -> Weights:
    """Random ones of the small CNN."""
    variables = jax.device_get(init_variables(create_model(config), 32, seed=1))
    return portable.rounded(Weights(variables, describe(config, 'digest'), 12), 'float32')


@pytest.fixture
def path(tmp_path: pathlib.Path, weights: Weights) -> pathlib.Path:
    portable.write_weights(tmp_path / portable.WEIGHTS, weights, 'float32')
    return tmp_path / portable.WEIGHTS


def rewrite(path: pathlib.Path, tensors: dict[str, np.ndarray] | None = None, **header: Any) -> None:
    """Changes tensors and values of the header; None takes a value away."""
    with safetensors.safe_open(path, 'numpy') as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    metadata |= {name: json.dumps(value) for name, value in header.items()}
    metadata = {name: text for name, text in metadata.items() if header.get(name, '') is not None}
    safetensors.numpy.save_file(found if tensors is None else tensors, path, metadata)


def flat(variables: Any) -> dict[str, np.ndarray]:
    return flax.traverse_util.flatten_dict(variables, sep='/')  # pyright: ignore


def shapes(config: Config) -> Any:
    return jax.eval_shape(lambda: init_variables(create_model(config), 32, 0))


def test_what_is_read_is_what_was_written(weights: Weights, path: pathlib.Path, config: Config) -> None:
    read = portable.read_weights(path)
    assert (read.meta, read.step) == (weights.meta, 12)
    fitted = portable.fitted(read, shapes(config), 'file')
    assert fitted['batch_stats'] == {}  # an empty part comes back too
    jax.tree.map(np.testing.assert_array_equal, fitted['params'], weights.variables['params'])
    with safetensors.safe_open(path, 'numpy') as file:
        header = {name: json.loads(text) for name, text in file.metadata().items()}
    assert header['labels'] == {'real': 0, 'fake': 1} and header['model'] == 'cnn'
    assert header['preprocessing']['image_size'] == 32 and header['data_digest'] == 'digest'
    assert not list(path.parent.glob('*.partial'))


def test_float16_takes_half_the_space_and_is_float32_again(
    weights: Weights, path: pathlib.Path, config: Config, tmp_path: pathlib.Path
) -> None:
    half = portable.rounded(weights, 'float16')
    portable.write_weights(tmp_path / 'half.safetensors', half, 'float16')
    read = portable.read_weights(tmp_path / 'half.safetensors')
    for name, value in flat(portable.fitted(read, shapes(config), 'file')).items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, flat(weights.variables)[name].astype(np.float16).astype(np.float32))
    assert read.meta.checksums != weights.meta.checksums
    sizes = [file.stat().st_size for file in (tmp_path / 'half.safetensors', path)]
    assert sizes[0] < 0.6 * sizes[1]
    first = next(iter(flat(weights.variables)))
    large = flat(weights.variables) | {first: np.full_like(flat(weights.variables)[first], 1e5)}
    too_large = dataclasses.replace(weights, variables=flax.traverse_util.unflatten_dict(large, sep='/'))
    with pytest.raises(UserError, match=f'^{first} holds values that float16 cannot; write the weights in float32'):
        portable.rounded(too_large, 'float16')


def test_batch_statistics_come_back(tmp_path: pathlib.Path, config: Config) -> None:
    variables = jax.device_get(random_variables(ResNet((1, 2, 1, 1), width=4), 32))
    weights = portable.rounded(Weights(variables, describe(config, None), 0), 'float32')
    portable.write_weights(tmp_path / 'x.safetensors', weights, 'float32')
    fitted = portable.fitted(portable.read_weights(tmp_path / 'x.safetensors'), variables, 'file')
    assert fitted['batch_stats']
    jax.tree.map(np.testing.assert_array_equal, fitted, variables)


def test_files_that_are_no_detector_are_refused(path: pathlib.Path, weights: Weights) -> None:
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole[:100], b'<html>', b''):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r'is not a readable safetensors file .*; get it again\.$'):
            portable.read_weights(path)
    safetensors.numpy.save_file(flat(weights.variables), path, {'model': 'resnet50'})  # weights to start from
    with pytest.raises(UserError, match='holds no detector of fakeimg; name a file that "fakeimg push" wrote'):
        portable.read_weights(path)


@pytest.mark.parametrize('field', ['fakeimg_detector', 'format'])
def test_a_file_of_a_later_version_asks_for_an_update(field: str, path: pathlib.Path) -> None:
    rewrite(path, **{field: 9, 'fakeimg': '7.0'})
    with pytest.raises(UserError, match=r'was written by a newer fakeimg \(7.0\); update fakeimg'):
        portable.read_weights(path)


@pytest.mark.parametrize('header', [{'config': None}, {'step': 'many'}, {'step': None}])
def test_a_damaged_header_is_a_sentence(header: dict[str, Any], path: pathlib.Path) -> None:
    rewrite(path, **header)
    with pytest.raises(UserError, match=r'^the header of .* is damaged \(.*\); get the file again\.$'):
        portable.read_weights(path)


def test_tensors_that_do_not_fit_are_named(path: pathlib.Path, weights: Weights, config: Config) -> None:
    tensors = {name: np.asarray(value) for name, value in flat(weights.variables).items()}
    name = 'params/head/bias'
    absent = {other: value for other, value in tensors.items() if other != name}
    for changed, said in (
        (absent, rf'1 tensors differ, among them {name} \(absent there, float32\[1\] in the network\)'),
        (absent | {name: np.zeros(2, np.float32)}, r'float32\[2\] there, float32\[1\] in the network'),
        (absent | {name: np.zeros(1, np.int32)}, r'int32\[1\] there'),
        (tensors | {'params/more': np.zeros(1, np.float32)}, r'params/more \(float32\[1\] there, absent in'),
        (absent | {name: np.full(1, 0.5, np.float32)}, f'^file is damaged: 1 leaves .* {name}; get the file again'),
    ):
        rewrite(path, changed)
        with pytest.raises(UserError, match=said):
            portable.fitted(portable.read_weights(path), shapes(config), 'file')


def test_other_labels_are_refused(weights: Weights) -> None:
    portable.require_labels(weights.meta, 'file')
    meta = dataclasses.replace(weights.meta, labels={'real': 1, 'fake': 0})
    with pytest.raises(UserError, match='^file was trained with the labels real = 1, fake = 0, but here they are real'):
        portable.require_labels(meta, 'file')


def test_the_evaluation_is_that_of_the_checkpoint_on_its_own_test_set(tmp_path: pathlib.Path) -> None:
    def write(where: str, **metrics: object) -> None:
        (tmp_path / where).mkdir(parents=True, exist_ok=True)
        (tmp_path / where / portable.METRICS).write_text(json.dumps(metrics))

    assert portable.metrics_on_test(tmp_path, 4) == {}
    write('evaluations/test-of-others-1234', split='test', step=4, name='of other images')
    write('evaluations/test', split='test', step=8, name='of another checkpoint')
    assert portable.metrics_on_test(tmp_path, 4) == {}
    write('evaluations/test-step-4', split='test', step=4, name='own')
    assert portable.metrics_on_test(tmp_path, 4)['name'] == 'own'
    write('.', split='test', step=4, name='portable')
    assert portable.metrics_on_test(tmp_path, 4)['name'] == 'portable'

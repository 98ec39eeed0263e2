"""Muon: which weights it moves and how, and AdamW beside it."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from fakeimg.config import IMAGENET_MEAN, IMAGENET_STD, Config, default_config, override
from fakeimg.errors import UserError
from fakeimg.models import create_model
from fakeimg.models.resnet import ResNet
from fakeimg.training import loop, program
from fakeimg.training.optimizer import create_optimizer
from tests.support.console import Recorder
from tests.support.runs import assert_same_state
from tests.support.steps import BATCH, take_step
from tests.support.variables import random_variables


@pytest.fixture
def config() -> Config:
    """A small cnn on demo faces of 16 px, six steps of 8, with Muon and without clipping."""
    config = default_config()
    config.batch_size, config.steps = BATCH, 6
    config.data.path, config.data.demo_examples = 'demo', 32
    config.data.image_size = config.data.resize_size = 16
    config.data.mean, config.data.std = IMAGENET_MEAN, IMAGENET_STD
    config.model.name, config.model.filters, config.model.dense = 'cnn', 8, 8
    config.optimizer.name, config.optimizer.clip_norm, config.optimizer.weight_decay = 'muon', 0.0, 0.0
    return config


def gradients(params: Any, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape) ** 3, jnp.float32), params)


def update(config: Config, params: Any) -> Any:
    """The first update at a learning rate of 1."""
    tx = create_optimizer(config, optax.constant_schedule(1.0), create_model(config))
    return tx.update(gradients(params), tx.init(params), params)[0]


def spread(kernel: jax.Array) -> float:
    """The largest singular value of a kernel as a matrix, inputs by outputs, over the smallest."""
    values = np.linalg.svd(np.asarray(kernel).reshape(-1, kernel.shape[-1]), compute_uv=False)
    return values[0] / values[-1]


def test_updates_of_kernels_have_nearly_equal_singular_values(config: Config) -> None:
    """Convolutions as matrices of kh * kw * C by F: Newton-Schulz leaves values of about 0.7 to 1.2."""
    params = random_variables(create_model(config), 16)['params']
    before, after = gradients(params), update(config, params)
    for name in ('conv1', 'conv2', 'dense'):
        assert before[name]['kernel'].ndim == (2 if name == 'dense' else 4)
        assert spread(after[name]['kernel']) < 2 < spread(before[name]['kernel'])
    assert spread(after['conv2']['kernel'][0, 0]) > 2  # not each place of the kernel by itself


def test_kernels_move_as_with_optax(config: Config) -> None:
    """Also that with more outputs than inputs; several steps, for the momentum."""
    config.optimizer.momentum, config.optimizer.weight_decay, config.model.filters = 0.8, 0.1, 40
    params = random_variables(create_model(config), 16)['params']
    kernels = {name: params[name] for name in ('conv1', 'conv2')}
    assert kernels['conv1']['kernel'].shape == (3, 3, 3, 40)

    def as_matrices(params: Any) -> Any:
        return jax.tree.map(
            lambda leaf: optax.contrib.MuonDimensionNumbers((0, 1, 2), 3) if leaf.ndim == 4 else None, params
        )

    schedule = optax.constant_schedule(0.02)
    ours = create_optimizer(config, schedule)
    theirs = optax.contrib.muon(schedule, beta=0.8, weight_decay=0.1, muon_weight_dimension_numbers=as_matrices)
    state, expected_state = ours.init(params), theirs.init(kernels)
    after: Any
    expected: Any
    for step in range(2):
        grads = gradients(params, step)
        after, state = ours.update(grads, state, params)
        expected, expected_state = theirs.update({name: grads[name] for name in kernels}, expected_state, kernels)
        for name in kernels:
            np.testing.assert_allclose(after[name]['kernel'], expected[name]['kernel'], rtol=1e-5, atol=1e-8)


def test_the_head_and_biases_move_as_with_adamw_at_its_rate(config: Config) -> None:
    params = random_variables(create_model(config), 16)['params']
    settings = {'optimizer.base_learning_rate': 0.02, 'optimizer.adamw_learning_rate': 0.01}
    after = update(override(config, {**settings, 'optimizer.weight_decay': 0.1}), params)
    expected = update(override(config, {'optimizer.name': 'adamw', 'optimizer.weight_decay': 0.1}), params)
    for name, leaf in (('head', 'kernel'), ('head', 'bias'), ('conv1', 'bias'), ('dense', 'bias')):
        np.testing.assert_allclose(after[name][leaf], expected[name][leaf] / 2, rtol=1e-6)


def test_weight_decay_pulls_kernels_and_nothing_else(config: Config) -> None:
    """Of a ResNet, which has BatchNorm."""
    params = random_variables(ResNet((1,), width=4, small_stem=True), 16)['params']
    plain, decayed = (update(override(config, {'optimizer.weight_decay': decay}), params) for decay in (0.0, 0.1))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path)
        one, other = (dict(jax.tree_util.tree_leaves_with_path(tree))[path] for tree in (plain, decayed))
        share = 0.1 if "'kernel'" in name else 0.0
        np.testing.assert_allclose(one - other, share * leaf, atol=1e-6, err_msg=name)


def test_frozen_stages_keep_every_bit_and_have_no_state(config: Config) -> None:
    config.optimizer.weight_decay, config.optimizer.clip_norm = 0.1, 1.0
    model = ResNet((1, 1), width=4, bottleneck=False, small_stem=True, frozen_stages=2)
    before, after, outputs = take_step(config, model)
    changed = {
        name
        for name in before.params
        if any(
            jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), before.params[name], after.params[name]))
        )
    }
    assert changed == {'stage2_block1', 'head'}
    assert outputs['update_norm'] > 0
    assert not any(
        'stem' in jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(before.opt_state)
    )


@pytest.mark.slow
def test_a_run_with_muon_resumes_to_the_same_bits(
    config: Config, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head begins alone; stopped in its phase, at the border, and behind it."""
    config.init.weights, config.finetune.head_epochs, config.finetune.layer_decay = 'auto', 0.5, 0.5
    config.optimizer.clip_norm, config.optimizer.weight_decay, config.optimizer.ema_decay = 1.0, 0.1, 0.9
    config.checkpoint_every_steps = config.log_every_steps = 1
    built = program.build(config)
    monkeypatch.setattr(loop, 'build', lambda _, continues: built)  # compiled once
    loop.train(config, tmp_path / 'whole')
    for _ in range(3):
        loop.train(config, tmp_path / 'stopped', Recorder(interrupt_at='  first step'))
    loop.train(config, tmp_path / 'stopped')
    assert_same_state(config, tmp_path / 'stopped', tmp_path / 'whole')


@pytest.mark.parametrize('field', ['base_learning_rate', 'adamw_learning_rate'])
def test_rates_are_above_0(config: Config, field: str) -> None:
    with pytest.raises(UserError, match=f'config.optimizer.{field} is 0.0; it must be more than 0'):
        override(config, {f'optimizer.{field}': 0.0}).check()

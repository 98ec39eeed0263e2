from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fakeimg.config import Config
from fakeimg.models import create_model
from fakeimg.models.resnet import ResNet
from fakeimg.models.vgg import VGG19
from fakeimg.runtime import parallel
from fakeimg.training.optimizer import create_optimizer, is_decayed
from tests.support.steps import BATCH, mapped_step, mean_loss, random_batch, start_state, take_step, with_scale
from tests.support.variables import abstract_variables


def float16_step(config: Config):
    devices = parallel.Devices.create('pmap', BATCH)
    model = ResNet((1,), width=8, dtype=jnp.float16)
    tx = create_optimizer(config, optax.constant_schedule(1e-3))
    return devices, start_state(config, model, tx, scale=1024.0), mapped_step(devices, config, model, tx)


def test_float16_overflow_leaves_no_trace(config: Config) -> None:
    devices, state, step = float16_step(config)
    batch = devices.split(random_batch())
    # One good step first, so that optimizer and statistics hold something an overflow could spoil.
    before, outputs = step(devices.replicate(state), batch)
    assert outputs['skipped'] == 0
    after, outputs = step(devices.replicate(with_scale(before, 2.0**127)), batch)
    assert outputs['skipped'] == 1
    assert float(outputs['loss_scale']) == 2.0**126
    assert int(after.step) == int(before.step) + 1
    for part in ('params', 'batch_stats', 'opt_state'):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, part), getattr(before, part))


@pytest.mark.slow
def test_float16_step_without_overflow_changes_everything(config: Config) -> None:
    devices, state, step = float16_step(config)
    start = devices.replicate(state)
    after, outputs = step(start, devices.split(random_batch()))
    assert outputs['skipped'] == 0
    assert float(outputs['loss_scale']) == 1024.0
    for part in ('params', 'batch_stats', 'opt_state'):
        changed = jax.tree.map(lambda x, y: bool((x != y).any()), getattr(after, part), getattr(start, part))
        assert any(jax.tree.leaves(changed)), part


@pytest.mark.parametrize('precision', ['float32', 'float16', pytest.param('bfloat16', marks=pytest.mark.slow)])
def test_small_cnn_learns_a_batch_by_heart(config: Config, precision: str) -> None:
    config.augment.flip = False
    devices = parallel.Devices.create('pmap', BATCH)
    model = create_model(config, jnp.dtype(precision))
    tx = create_optimizer(config, optax.constant_schedule(3e-3))
    state = devices.replicate(start_state(config, model, tx))
    step = mapped_step(devices, config, model, tx, donate=True)
    batch = devices.split(random_batch())
    outputs = {}
    for _ in range(40):
        state, outputs = step(state, batch)
    assert mean_loss(outputs) < 0.1
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.params))


def test_images_of_weight_zero_do_not_count(config: Config) -> None:
    """A batch with padding trains like the batch without it (no BatchNorm here, whose statistics see the padding)."""
    config.augment.flip = False
    devices = parallel.Devices.create('pmap', 4, jax.devices()[:1])
    model, tx = create_model(config), optax.sgd(1e-2)
    step = mapped_step(devices, config, model, tx)
    state = devices.replicate(start_state(config, model, tx))
    batch = random_batch()
    padded = {name: value.copy() for name, value in batch.items()}
    padded['weight'][5:] = 0
    cut = {name: value[:5] for name, value in batch.items()}
    a, outputs_a = step(state, devices.split(padded))
    b, outputs_b = step(state, devices.split(cut))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a.params, b.params)
    np.testing.assert_allclose(mean_loss(outputs_a), mean_loss(outputs_b), rtol=1e-6)


def test_images_are_flipped_where_the_batch_says_so(config: Config) -> None:
    config.augment.alternating_flip = True
    batch, model = random_batch(), create_model(config)
    flip = np.arange(BATCH) % 3 == 0
    mirrored = np.where(flip[:, None, None, None], batch['image'][:, :, ::-1], batch['image'])
    _, _, one = take_step(config, model, {**batch, 'flip': flip}, devices=2)
    _, _, other = take_step(config, model, {**batch, 'image': mirrored, 'flip': np.zeros(BATCH, bool)}, devices=2)
    np.testing.assert_array_equal(one['logits'], other['logits'])


def test_microbatches_are_no_loop_on_a_cpu(config: Config) -> None:
    """Inside loops, XLA computes convolutions twenty to forty times as slowly."""
    model, tx, devices = create_model(config), optax.sgd(1.0), parallel.Devices.create('pmap', BATCH, jax.devices()[:1])
    arguments = devices.replicate(start_state(config, model, tx)), devices.split(random_batch())

    def convolutions(parts: int) -> int:
        config.microbatches = parts
        step: Any = mapped_step(devices, config, model, tx)
        return step.lower(*arguments).compile().as_text().count(' convolution(')

    assert convolutions(4) == 4 * convolutions(1) > 0  # a loop would hold those of one part


def test_weight_decay_spares_batch_norm_and_biases() -> None:
    params = abstract_variables(ResNet((1,), width=4), 32)['params']
    decayed = is_decayed(params)
    assert decayed['stem_conv']['kernel']
    assert decayed['head']['kernel']
    assert not decayed['head']['bias']
    assert not decayed['stem_bn']['scale']
    assert not decayed['stage1_block1']['bn1']['bias']


@pytest.mark.slow
def test_every_device_silences_units_of_its_own(config: Config) -> None:
    """Both devices see the same images; only dropout can tell their logits apart."""
    config.augment.flip = False
    devices = parallel.Devices.create('pmap', BATCH)
    model = VGG19(width=1, dense=16)
    tx = create_optimizer(config, optax.constant_schedule(1e-3))
    state = devices.replicate(start_state(config, model, tx, head=1.0))
    batch = {name: np.concatenate([value[: BATCH // 2]] * 2) for name, value in random_batch().items()}
    step = mapped_step(devices, config, model, tx)
    after, outputs = step(state, devices.split(batch))
    first, second = np.split(np.asarray(outputs['logits']), 2)
    assert (first != second).any()
    assert (np.asarray(step(after, devices.split(batch))[1]['logits']) != outputs['logits']).any()

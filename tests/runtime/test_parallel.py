import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fakeimg.config import Config
from fakeimg.errors import UserError
from fakeimg.models import normalize
from fakeimg.models.resnet import ResNet
from fakeimg.runtime import parallel
from fakeimg.training.state import TrainState
from tests.support.steps import BATCH, Batch, mapped_step, mean_loss, random_batch, start_state


def random_batches(steps: int) -> list[Batch]:
    batches = [random_batch(seed) for seed in range(steps)]
    for batch in batches[1:2]:
        batch['weight'][-3:] = 0  # padding, all of it on the last device
    return batches


def train(mode: str, num_devices: int, config: Config, norm_axis: str | None, steps: int = 3):
    devices = parallel.Devices.create(mode, BATCH, jax.devices()[:num_devices])
    model = ResNet((1, 1), width=8, norm_axis=norm_axis)
    tx = optax.sgd(0.05, momentum=0.9)
    state = devices.replicate(start_state(config, model, tx))
    step = mapped_step(devices, config, model, tx, donate=True)
    losses = []
    for batch in random_batches(steps):
        state, outputs = step(state, devices.split(batch))
        losses.append(mean_loss(outputs))
    return np.array(losses), jax.device_get(state)


def assert_states_close(a: TrainState, b: TrainState, atol: float) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol, rtol=0), a, b)


@pytest.mark.slow
def test_two_devices_equal_one(config: Config) -> None:
    losses_one, state_one = train('pmap', 1, config, parallel.AXIS)
    for mode in ('pmap', 'shard_map'):
        losses_two, state_two = train(mode, 2, config, parallel.AXIS)
        np.testing.assert_allclose(losses_two, losses_one, atol=1e-6)
        assert_states_close(state_two, state_one, atol=2e-6)


@pytest.mark.slow
def test_batch_statistics_of_all_devices_count(config: Config) -> None:
    """Without synchronised BatchNorm each device has statistics of its own; their mean is kept, not the first's."""
    config.augment.flip = False
    _, both = train('pmap', 2, config, None, steps=1)
    model = ResNet((1, 1), width=8)
    variables = start_state(config, model, optax.sgd(0.1))
    variables = {'params': variables.params, 'batch_stats': variables.batch_stats}
    batch = random_batches(1)[0]
    images = normalize(batch['image'], config.data.mean, config.data.std)
    halves = [
        model.apply(variables, half, train=True, mutable=['batch_stats'])[1]['batch_stats']
        for half in jnp.split(images, 2)
    ]
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), both.batch_stats, expected)
    first_only = jax.tree.leaves(halves[0])[0]
    assert np.abs(jax.tree.leaves(both.batch_stats)[0] - first_only).max() > 1e-4


def test_state_has_no_device_axis_and_is_donated(config: Config) -> None:
    devices = parallel.Devices.create('pmap', BATCH)
    state = devices.replicate({'w': np.ones((3, 2), np.float32)})
    step = devices.map(lambda state, batch: {'w': state['w'] + parallel.mean(batch.sum())}, donate_state=True)
    new = step(state, devices.split(np.ones((BATCH, 1), np.float32)))
    assert new['w'].shape == (3, 2)
    assert new['w'].is_fully_replicated
    assert state['w'].is_deleted()
    np.testing.assert_array_equal(new['w'], 1 + BATCH / 2)


def test_batch_size_must_divide(config: Config) -> None:
    with pytest.raises(UserError, match='config.batch_size=7 cannot be split over 2 devices; use 6 or 8'):
        parallel.Devices.create('pmap', 7)

"""Half precision: as good a detector as float32's, and gradients that float16 alone would lose."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fakeimg.config import IMAGENET_MEAN, IMAGENET_STD, Config, default_config
from fakeimg.models import create_model, init_variables
from fakeimg.runtime import parallel
from fakeimg.scoring import make_predict_step
from fakeimg.training.optimizer import create_optimizer
from fakeimg.training.schedule import Schedule
from fakeimg.training.state import create_state
from tests.support.steps import mapped_step, start_state

SIZE, BATCH, STEPS = 16, 64, 250
NUM_TRAIN, NUM_VALIDATION = 8192, 4000  # 0.5 points are 20 images


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Patches with sensor noise, of which fakes have 45 % to all at half the resolution, as after enlarging."""
    random = np.random.default_rng(seed)

    def noise(scale: float, pixel: int) -> np.ndarray:
        return random.normal(0, scale, (count, SIZE // pixel, SIZE // pixel, 3)).repeat(pixel, 1).repeat(pixel, 2)

    labels = (np.arange(count) % 2).astype(np.int32)
    share = random.uniform(0.45, 1, (count, 1, 1, 1)) * labels[:, None, None, None]
    images = 128 + noise(40, 4) + np.sqrt(1 - share) * noise(25, 1) + np.sqrt(share) * noise(25, 2)
    return np.clip(images.round(), 0, 255).astype(np.uint8), labels


def batch_of(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    return {'image': images, 'label': labels, 'weight': np.ones(len(labels), np.float32)}


@pytest.fixture(scope='module')
def patches() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    return draw(NUM_TRAIN, 0), draw(NUM_VALIDATION, 1)


@pytest.fixture(scope='module')
def small() -> Config:
    config = default_config()
    config.batch_size, config.steps = BATCH, STEPS
    config.data.image_size = config.data.resize_size = SIZE
    config.data.mean, config.data.std = IMAGENET_MEAN, IMAGENET_STD
    config.model.name, config.model.filters, config.model.dense = 'cnn', 16, 32
    config.optimizer.base_learning_rate = 8e-3
    config.optimizer.warmup_epochs = 0.2
    return config


def train_and_validate(config: Config, precision: str, patches) -> float:
    """Trains the small CNN and returns its accuracy on the validation images."""
    (images, labels), validation = patches
    dtype = jnp.dtype(precision)
    devices = parallel.Devices.create('pmap', BATCH)
    model = create_model(config, dtype)
    tx = create_optimizer(config, Schedule.create(config, NUM_TRAIN).learning_rate())
    state = devices.replicate(create_state(init_variables(model, SIZE, 0), tx, dtype))
    step = mapped_step(devices, config, model, tx, donate=True)
    random = np.random.default_rng(0)  # the same batches for every precision
    for _ in range(STEPS):
        rows = random.integers(0, NUM_TRAIN, BATCH)
        state, outputs = step(state, devices.split(batch_of(images[rows], labels[rows])))
        jax.block_until_ready(outputs)
    predict = devices.map(make_predict_step(model, config, dtype))
    logits = []
    for start in range(0, NUM_VALIDATION, 400):
        rows = slice(start, start + 400)
        batch = devices.split(batch_of(validation[0][rows], validation[1][rows]))
        logits.append(jax.device_get(predict(state.variables, batch)[0]))
    return float(((np.concatenate(logits) >= 0) == validation[1]).mean())


@pytest.fixture(scope='module')
def float32_accuracy(small: Config, patches) -> float:
    return train_and_validate(small, 'float32', patches)


@pytest.mark.slow
@pytest.mark.parametrize('precision', ['bfloat16', 'float16'])
def test_half_precision_is_as_accurate_as_float32(
    small: Config, patches, float32_accuracy: float, precision: str
) -> None:
    """Within 0.5 points. The precisions disagree about 0.3 % of the images, so that luck alone cannot fail it."""
    assert float32_accuracy > 0.97
    assert train_and_validate(small, precision, patches) > float32_accuracy - 0.005


def test_loss_scaling_keeps_gradients_that_float16_would_lose(small: Config, patches) -> None:
    """Gradients of about 1e-9, below float16's 6e-8, reach the first layer as float32 has them."""
    (images, labels), _ = patches
    updates = {}
    for precision in ('float32', 'float16'):
        dtype = jnp.dtype(precision)
        devices = parallel.Devices.create('pmap', BATCH)
        model = create_model(small, dtype)
        tx = optax.sgd(1e6)
        start = start_state(small, model, tx)
        start.params['head']['kernel'] *= 1e-6
        step = mapped_step(devices, small, model, tx)
        after, outputs = step(devices.replicate(start), devices.split(batch_of(images[:BATCH], labels[:BATCH])))
        assert outputs['skipped'] == 0
        moved = after.params['conv1']['kernel'] - start.params['conv1']['kernel']
        updates[precision] = np.asarray(moved)
    error = np.linalg.norm(updates['float16'] - updates['float32']) / np.linalg.norm(updates['float32'])
    assert error < 0.05

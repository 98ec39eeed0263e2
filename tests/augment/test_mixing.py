import functools

import jax
import numpy as np
import pytest

from fakeimg.augment import mixing
from fakeimg.errors import UserError
from fakeimg.runtime import parallel

COUNT = 64


@functools.cache
def mapped_mix(mixup: float, cutmix: float, devices: int):
    mapped = parallel.Devices.create('pmap', COUNT, jax.devices()[:devices])

    def program(seed: jax.Array, batch: dict[str, jax.Array]):
        parts = mixing.mix(jax.random.key(seed), batch['image'], batch['label'], batch['weight'], mixup, cutmix)
        return tuple(parallel.all_rows(part) for part in parts)

    return mapped, mapped.map(program)


Alphas = tuple[float, float]


def mixed(alphas: Alphas, labels: np.ndarray, weights: np.ndarray, devices: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Mixes images that are as white as they are fake: real ones black, fake ones 255."""
    images = np.broadcast_to((255 * labels)[:, None, None, None], (len(labels), 20, 20, 3)).astype(np.uint8)
    mapped, program = mapped_mix(*alphas, devices)
    batch = mapped.split({'image': images, 'label': labels, 'weight': weights})
    after, soft = program(mapped.replicate(np.int32(0)), batch)
    return np.asarray(after), np.asarray(soft)


@pytest.fixture(params=[(1.0, 0.0), (0.0, 1.0), (0.4, 0.4)], ids=['mixup', 'cutmix', 'both'])
def alphas(request: pytest.FixtureRequest) -> Alphas:
    return request.param


def test_a_label_is_the_share_of_the_fake_image(alphas: Alphas) -> None:
    labels = np.tile(np.array([0, 1, 1, 0], np.int32), COUNT // 4)
    after, soft = mixed(alphas, labels, np.ones(COUNT, np.float32))
    np.testing.assert_allclose(after.mean((1, 2, 3)) / 255, soft, atol=1e-5)
    assert soft.std() > 0.1 and (soft >= 0).all() and (soft <= 1).all()
    assert len(np.unique(soft.round(3))) > COUNT / 4  # each image has its own share
    one_colour = np.ptp(after, axis=(1, 2, 3)) == 0
    two_colours = np.array([set(np.unique(row)) == {0, 255} for row in after])
    # Shares near 0 and 1 leave rectangles of nothing.
    assert one_colour.any() == (alphas[0] > 0) or one_colour.sum() < 20
    assert two_colours.any() == (alphas[1] > 0)


def test_images_of_one_class_keep_their_label(alphas: Alphas) -> None:
    labels = np.repeat(np.array([0, 1], np.int32), COUNT // 2)
    _, soft = mixed(alphas, labels, np.ones(COUNT, np.float32))
    np.testing.assert_allclose(soft, labels, atol=1e-6)


def test_images_of_weight_zero_are_mixed_with_none(alphas: Alphas) -> None:
    labels, weights = np.tile(np.array([0, 1], np.int32), COUNT // 2), np.ones(COUNT, np.float32)
    weights[0] = weights[3] = 0
    after, soft = mixed(alphas, labels, weights)
    np.testing.assert_array_equal(soft[:4], [0, 1, 0, 1])
    np.testing.assert_array_equal(after[:4].mean((1, 2, 3)), [0, 255, 0, 255])
    assert (soft[4:] != labels[4:]).mean() > 0.5


def test_two_devices_mix_what_one_mixes() -> None:
    alphas = (0.4, 0.4)
    labels, weights = np.tile(np.array([0, 1], np.int32), COUNT // 2), np.ones(COUNT, np.float32)
    for one, two in zip(mixed(alphas, labels, weights), mixed(alphas, labels, weights, devices=2), strict=True):
        np.testing.assert_array_equal(one, two)


def test_pairs_need_an_even_number() -> None:
    with pytest.raises(UserError, match='config.batch_size=6 leaves 3 images to each device; .* even number'):
        mixed((1.0, 0.0), np.zeros(6, np.int32), np.ones(6, np.float32), devices=2)

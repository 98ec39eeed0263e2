import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fakeimg.augment import augment as augment_lib
from fakeimg.augment import degradations, jpeg
from fakeimg.config import DEGRADATIONS, IMAGENET_MEAN, IMAGENET_STD, Augment, Config, default_config
from fakeimg.errors import UserError
from fakeimg.models import create_model, normalize
from fakeimg.runtime import parallel
from fakeimg.training.step import balanced_weights
from tests.support.steps import mapped_step, mean_loss, start_state

BATCH = 8


def smooth_images(count: int, height: int = 32, width: int = 32) -> np.ndarray:
    """Gradients with a square and noise, uint8[count, height, width, 3]."""
    random = np.random.default_rng(1)
    rows, columns = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    images = 60 + 80 * rows + 60 * columns * np.array([1, 0.5, 0.2]) + random.normal(0, 4, (count, height, width, 3))
    images[:, 8:20, 10:24] += 40
    return np.clip(images, 0, 255).astype(np.uint8)


def only(probability: float = 1.0, **ranges: tuple[float, ...]) -> Augment:
    """`config.augment` with no degradation but those given."""
    all_ranges = {kind: ranges.get(kind, ()) for kind in DEGRADATIONS}
    return dataclasses.replace(Augment(), degradation_probability=probability, **all_ranges)


def degrade(images: np.ndarray, settings: Augment, seed: int = 0) -> np.ndarray:
    keys = jax.random.split(jax.random.key(seed), len(images))
    return np.asarray(jax.jit(lambda keys, images: degradations.degrade(keys, images, settings))(keys, images))


def augmented(
    config: Config, originals: np.ndarray, steps: tuple[int, ...] = (0,), devices: int = 1
) -> list[np.ndarray]:
    mapped = parallel.Devices.create('pmap', len(originals), jax.devices()[:devices])

    def program(step: jax.Array, images: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(config.seed), step)
        return parallel.all_rows(augment_lib.augment(key, images, config))

    compiled = mapped.map(program)
    return [np.asarray(compiled(mapped.replicate(np.int32(step)), mapped.split(originals))) for step in steps]


@pytest.fixture
def everything() -> Config:
    config = default_config()
    config.data.image_size = config.data.resize_size = 32
    config.data.mean, config.data.std = IMAGENET_MEAN, IMAGENET_STD
    config.model.name = 'cnn'
    config.augment.degradation_probability = 0.5
    return config


def test_off_leaves_the_bytes_alone() -> None:
    config = default_config()
    config.augment.flip = False
    images = smooth_images(BATCH)
    (after,) = augmented(config, images)
    assert after.dtype == np.uint8
    np.testing.assert_array_equal(after, images)


def test_flip_alone_mirrors_some_and_changes_nothing_else() -> None:
    images = smooth_images(BATCH)
    (after,) = augmented(default_config(), images)
    mirrored = [bool((row == image[:, ::-1]).all()) for row, image in zip(after, images, strict=True)]
    kept = [bool((row == image).all()) for row, image in zip(after, images, strict=True)]
    assert any(mirrored) and any(kept)
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))


@pytest.mark.slow
def test_an_image_depends_on_the_step_and_not_on_the_devices(everything: Config) -> None:
    images = smooth_images(BATCH)
    first, again, another = augmented(everything, images, steps=(3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != another).any((1, 2, 3)).all()
    assert first.min() >= 0 and first.max() <= 255 and (first == np.round(first)).all()
    np.testing.assert_array_equal(first, augmented(everything, images, steps=(3,), devices=2)[0])


@pytest.fixture
def shifted() -> Config:
    """Nothing but shifts of up to 3 pixels."""
    config = default_config()
    config.augment.flip, config.augment.translate = False, 3
    return config


def test_images_are_shifted_both_ways_with_mirrored_edges(shifted: Config) -> None:
    images = smooth_images(256)
    (after,) = augmented(shifted, images)
    assert after.dtype == np.uint8
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)), 'reflect')
    shifts = [(row, column) for row in range(7) for column in range(7)]
    matches = np.stack([(padded[:, i : i + 32, j : j + 32] == after).all((1, 2, 3)) for i, j in shifts])
    assert (matches.sum(0) == 1).all()
    assert (matches.sum(1) > 0).sum() >= 45  # of 49; on average all but one in 200 come


@pytest.fixture
def covered() -> Config:
    """Nothing but squares of a quarter of the side."""
    config = default_config()
    config.augment.flip, config.augment.cutout = False, 0.25
    config.data.mean, config.data.std = IMAGENET_MEAN, IMAGENET_STD
    return config


def test_a_square_of_every_image_becomes_the_mean_colour(covered: Config) -> None:
    """8 of 32 pixels, less where the edge cuts it off; 0 for the network."""
    images = np.full((256, 32, 32, 3), 255, np.uint8)
    (after,) = augmented(covered, images)
    mask = (after != 255).any(-1)
    np.testing.assert_allclose(normalize(after, IMAGENET_MEAN, IMAGENET_STD)[mask], 0, atol=1e-6)
    sides = np.stack([mask.any(2).sum(1), mask.any(1).sum(1)])
    np.testing.assert_array_equal(mask.sum((1, 2)), sides.prod(0))  # rectangles
    assert sides.max() == 8 and 4 <= sides.min() < 7
    assert 0.6 < (sides == 8).mean() < 0.9  # 3 in 4 on either side
    assert mask.mean(0).min() > 0  # every pixel is met, the corners too
    middle = mask[:, 8:24, 8:24].mean((1, 2)) > 0
    assert 0.3 < middle.mean() < 0.8


def test_shifts_and_squares_depend_on_the_step_and_not_on_the_devices(shifted: Config, covered: Config) -> None:
    images = smooth_images(BATCH)
    for config in (shifted, covered):
        first, again, another = augmented(config, images, steps=(3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert (first != another).any()
        np.testing.assert_array_equal(first, augmented(config, images, steps=(3,), devices=2)[0])


def test_no_draw_changes_when_others_come(shifted: Config, covered: Config) -> None:
    images = smooth_images(BATCH)
    (alone,) = augmented(default_config(), images)
    (shifts,) = augmented(shifted, alone)
    covered.augment.flip, covered.augment.translate = True, 3
    (together,) = augmented(covered, images)
    mask = (together != np.round(together)).any(-1)
    np.testing.assert_array_equal(together[~mask], shifts[~mask])
    covered.augment.flip, covered.augment.translate = False, 0
    (squares,) = augmented(covered, images)
    np.testing.assert_array_equal((squares != np.round(squares)).any(-1), mask)


def test_labels_are_no_argument() -> None:
    """What cannot see a label cannot treat the classes differently."""
    assert list(inspect.signature(augment_lib.augment).parameters) == ['key', 'images', 'config', 'flip']
    assert list(inspect.signature(degradations.degrade).parameters) == ['keys', 'images', 'settings']


@pytest.mark.slow
def test_applied_images_change_and_others_stay() -> None:
    images = smooth_images(64)
    ranges = {kind: getattr(default_config().augment, kind) for kind in DEGRADATIONS}
    ranges |= {
        'brightness': (0.5, 0.9),
        'contrast': (0.5, 0.9),
        'saturation': (-0.5, 0.9),
    }  # a factor of 1 is no change
    ranges['blur'] = (4.0, 8.0)  # nor is a weak blur in images as small as these
    settings = {kind: only(0.5, **{kind: ranges[kind]}) for kind in DEGRADATIONS}

    @jax.jit
    def degrade_by_each(keys: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
        return {
            kind: (degradations.degrade(keys, images, own), degradations._draw(keys, own)[kind].applied)
            for kind, own in settings.items()
        }

    for kind, (after, applied) in degrade_by_each(jax.random.split(jax.random.key(0), 64)).items():
        np.testing.assert_array_equal((np.asarray(after) != images).any((1, 2, 3)), applied, err_msg=kind)
        assert 18 <= applied.sum() <= 46, kind


def test_kinds_strike_independently_with_strengths_from_their_ranges() -> None:
    settings = default_config().augment
    settings.degradation_probability = 0.3
    draws = jax.jit(lambda keys: degradations._draw(keys, settings))(jax.random.split(jax.random.key(0), 4000))
    draws = {kind: draws[kind] for kind in DEGRADATIONS}
    for kind, draw in draws.items():
        low, high = getattr(settings, kind)
        assert abs(draw.applied.mean() - 0.3) < 0.04
        # Standardised: 0 to 1, evenly.
        strength = (np.asarray(draw.strength) - low) / (high - low)
        assert -1e-6 <= strength.min() < 0.01 and 0.99 < strength.max() <= 1 + 1e-6
        assert abs(strength.mean() - 0.5) < 0.02
    values = np.stack([part for draw in draws.values() for part in (draw.applied, draw.strength)]).astype(np.float64)
    correlations = np.corrcoef(values) - np.eye(len(values))
    assert np.abs(correlations).max() < 0.08


def test_leaving_a_kind_out_changes_no_other_draw() -> None:
    keys = jax.random.split(jax.random.key(0), 16)
    settings = only(0.5, noise=(1.0, 2.0), jpeg=(30, 95))
    alone = degradations._draw(keys, only(0.5, jpeg=(30, 95)))['jpeg']
    both = degradations._draw(keys, settings)['jpeg']
    np.testing.assert_array_equal(alone.applied, both.applied)
    np.testing.assert_array_equal(alone.strength, both.strength)


def test_colour() -> None:
    images = smooth_images(4)
    grey = degrade(images, only(saturation=(-0.4, -0.1)))
    assert np.ptp(grey, axis=-1).max() == 0
    np.testing.assert_allclose(grey[..., 0], images @ np.array(degradations.GREY), atol=0.51)
    np.testing.assert_allclose(degrade(images, only(brightness=(0.5, 0.5))), images / 2, atol=0.51)
    flatter = degrade(images, only(contrast=(0.5, 0.5)))
    np.testing.assert_allclose(flatter.std((1, 2)), images.std((1, 2)) / 2, rtol=0.02)
    np.testing.assert_allclose(flatter.mean(), images.mean(), rtol=0.05)


@pytest.mark.parametrize('size', [32, 45])
def test_detail_matrices_keep_flat_images_flat(size: int) -> None:
    strengths = jnp.linspace(0.1, 1, 7)
    rescale, pixelate, blur = (
        jax.jit(function, static_argnums=1)
        for function in (degradations.rescale_matrix, degradations.pixelate_matrix, degradations.blur_matrix)
    )
    for matrix in (rescale(strengths, size), pixelate(strengths, size), blur(20 * strengths, size)):
        assert matrix.shape == (7, size, size)
        np.testing.assert_allclose(matrix.sum(-1), 1, atol=1e-5)
        assert (matrix >= 0).all()
    np.testing.assert_array_equal(blur(jnp.zeros(7), size)[0], np.eye(size))
    for matrix in (rescale, pixelate):
        np.testing.assert_allclose(matrix(jnp.ones(7), size)[0], np.eye(size), atol=1e-5)


def test_blur_has_the_width_asked_for() -> None:
    row = np.asarray(degradations.blur_matrix(jnp.array([3.0]), degradations.BLUR_SIDE))[0, 112]
    place = np.arange(degradations.BLUR_SIDE) - 112
    np.testing.assert_allclose(np.sqrt((row * place**2).sum()), 3, rtol=1e-3)


def test_detail_is_lost_along_both_sides_of_an_oblong_image() -> None:
    images = smooth_images(2, 24, 40)
    squares = degrade(images, only(pixelate=(0.25, 0.25)))
    means = images.reshape(2, 6, 4, 10, 4, 3).mean((2, 4))
    np.testing.assert_allclose(squares, means.repeat(4, 1).repeat(4, 2), atol=0.51)


def test_noise_is_as_strong_as_asked_for_and_differs_between_images_and_colours() -> None:
    images = np.full((4, 64, 64, 3), 128, np.uint8)
    noise = degrade(images, only(noise=(10, 10))) - 128
    np.testing.assert_allclose(noise.std((1, 2)), 10, rtol=0.06)
    correlations = np.corrcoef(noise.transpose(0, 3, 1, 2).reshape(12, -1))
    assert np.abs(correlations - np.eye(12)).max() < 0.1


def test_occlusion_covers_a_rectangle_of_one_colour() -> None:
    images = np.zeros((64, 40, 40, 3), np.uint8)
    after = degrade(images, only(occlusion=(0.5, 0.5)))
    covered = (after != 0).any(-1)
    # A quarter of the image, up to the rounding of sides to pixels.
    assert 0.22 < covered.mean() < 0.28
    centres = []
    for mask, image in zip(covered, after, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns)
        assert len(np.unique(image[mask], axis=0)) == 1
        assert 1 / 2.3 < len(rows) / len(columns) < 2.3
        centres.append((rows.mean(), columns.mean()))
    assert np.std(centres, axis=0).min() > 3
    assert len(np.unique(after[covered], axis=0)) > 50


def test_jpeg_has_the_quality_drawn() -> None:
    qualities = np.arange(30, 96)
    planes = np.moveaxis(smooth_images(1), -1, 1).repeat(len(qualities), 0)
    compressed = np.moveaxis(np.asarray(jax.jit(jpeg.compress)(planes, qualities)), 1, -1)
    images = smooth_images(1).repeat(16, 0)
    for quality in (40, 90):
        after = degrade(images, only(jpeg=(quality, quality)))
        np.testing.assert_array_equal(after, compressed[[quality - 30] * 16])
    after = degrade(images, only(jpeg=(40, 90)))
    matches = (after[:, None] == compressed).all((2, 3, 4))
    found = qualities[matches.argmax(1)]
    assert matches.any(1).all()
    assert 40 <= found.min() < 50 and 80 < found.max() <= 90 and len(set(found)) > 8


def test_a_kind_that_cannot_strike_is_not_compiled() -> None:
    keys, images = jax.random.split(jax.random.key(0), 2), smooth_images(2)

    def operations(settings: Augment) -> str:
        return jax.jit(lambda keys, x: degradations.degrade(keys, x, settings)).lower(keys, images).as_text()

    assert 'dot_general' in operations(only(jpeg=(30, 95)))
    assert 'dot_general' not in operations(only(noise=(1, 2)))


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('degradation_probability', 1.5, 'config.augment.degradation_probability is 1.5; it must be between 0 and 1'),
        ('jpeg', (0, 95), r'config.augment.jpeg is \(0, 95\); it must be two numbers \(low, high\) between 1 and 100'),
        ('blur', (3.0, 1.0), r'config.augment.blur is \(3.0, 1.0\)'),
        ('noise', (3.0,), r'config.augment.noise .* or \(\)'),
        ('mixup', -1.0, 'config.augment.mixup is -1.0; it must be 0'),
        ('translate', -1, 'config.augment.translate is -1; it must be 0'),
        ('translate', 224, r'config.augment.translate is 224; it must be 0 \(off\) to 223'),
        ('cutout', 1.0, 'config.augment.cutout is 1.0; it must be 0'),
    ],
)
def test_impossible_settings_are_refused(field: str, value: object, message: str) -> None:
    config = default_config()
    setattr(config.augment, field, value)
    with pytest.raises(UserError, match=message):
        config.check()


def step_outputs(config: Config, devices: int, class_weights: tuple[float, float] = (1.0, 1.0), mode: str = 'pmap'):
    mapped = parallel.Devices.create(mode, BATCH, jax.devices()[:devices])
    model, tx = create_model(config), optax.sgd(1e-2)
    state = mapped.replicate(start_state(config, model, tx))
    step = mapped_step(mapped, config, model, tx, class_weights=class_weights)
    labels = np.array([0, 1, 1, 0, 1, 1, 1, 0], np.int32)
    batch = {'image': smooth_images(BATCH), 'label': labels, 'weight': np.ones(BATCH, np.float32)}
    _, outputs = step(state, mapped.split(batch))
    return jax.device_get(outputs)


@pytest.mark.slow
def test_a_step_with_all_of_it_is_the_same_on_two_devices(everything: Config) -> None:
    everything.augment = only(
        0.5, noise=(2, 25), jpeg=(30, 95)
    )  # the other kinds compile for long and are tested above
    everything.augment.cutmix = 1.0
    everything.loss.label_smoothing = 0.1
    one, two = step_outputs(everything, 1), step_outputs(everything, 2, mode='shard_map')
    for name in ('logits', 'labels', 'grad_norm'):
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-5)
    assert set(one['labels']) <= {0, 1} and one['labels'].dtype == np.int32


def test_label_smoothing_and_class_weights_enter_the_loss(everything: Config) -> None:
    everything.augment.degradation_probability = 0.0
    everything.loss.label_smoothing = 0.2
    outputs = step_outputs(everything, 2, balanced_weights(3, 5))
    logits, labels = outputs['logits'].astype(np.float64), outputs['labels']
    assert labels.tolist() == [0, 1, 1, 0, 1, 1, 1, 0]  # accuracy and AUC keep whole labels
    smooth = np.where(labels, 0.9, 0.1)
    losses = np.log1p(np.exp(logits)) - smooth * logits
    expected = np.mean(losses * np.where(labels, 8 / 10, 8 / 6))
    np.testing.assert_allclose(mean_loss(outputs), expected, rtol=1e-5)

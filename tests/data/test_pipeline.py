import io
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from fakeimg import models
from fakeimg.config import Config
from fakeimg.data import datasets, decode, pipeline
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.errors import UserError

Row = tuple[bytes, int]


def rows(batch: pipeline.Batch) -> list[Row]:
    kept = batch['weight'] > 0
    return [
        (image.tobytes(), int(label)) for image, label in zip(batch['image'][kept], batch['label'][kept], strict=True)
    ]


def train_batches(config: Config, steps: int = 12, shard: tuple[int, int] = (0, 1)) -> pipeline.TrainBatches:
    source = datasets.open_data(config).splits['train']
    bad = UnreadableImages('train', len(source), config.data.max_bad_fraction)
    return pipeline.TrainBatches(source, config, bad, steps, shard=shard)


def eval_batches(config: Config, split: str = 'test') -> tuple[pipeline.EvalBatches, datasets.Split, UnreadableImages]:
    source = datasets.open_data(config).splits[split]
    bad = UnreadableImages(split, len(source), config.data.max_bad_fraction)
    return pipeline.EvalBatches(source, config, bad), source, bad


def test_batches_have_the_promised_form(config: Config) -> None:
    batch = train_batches(config)[0]
    assert {name: (value.dtype.name, value.shape) for name, value in batch.items()} == {
        'image': ('uint8', (16, 32, 32, 3)),
        'label': ('int32', (16,)),
        'weight': ('float32', (16,)),
    }


def test_the_device_cuts_out_what_the_host_would(config: Config) -> None:
    """Squares are cropped on the device; among them one that is broken, and others whose crop is the host's already."""
    config.data.image_size, config.data.resize_size, config.data.max_bad_fraction = 24, 32, 1.0
    root, source = pathlib.Path(config.data.path), datasets.open_data(config).splits['train']
    (root / source.names[5]).write_bytes(b'not an image')
    for index, size in ((7, (40, 32)), (9, (50, 60)), (11, (32, 32))):
        file = io.BytesIO()
        PIL.Image.effect_noise(size, 80).save(file, 'PNG')
        (root / source.names[index]).write_bytes(file.getvalue())
    batches = train_batches(config)
    assert (batches[0]['offset'].dtype.name, batches[0]['offset'].shape) == ('int32', (16, 2))
    seen = set()
    for step in range(9):
        batch, indices = batches[step], batches.indices(step)
        positions = np.random.default_rng((config.seed, 1, step)).random((16, 2))
        found = models.crop({name: jnp.asarray(value) for name, value in batch.items()}, 24)
        for row, index in enumerate(indices):
            expected = np.zeros((24, 24, 3), np.uint8)
            if index != 5:
                decode.crop_square(decode.decode_rgb(source[index]), 32, 24, positions[row], expected)
            np.testing.assert_array_equal(found[row], expected)
            assert batch['weight'][row] == (index != 5)
            seen |= {tuple(batch['offset'][row])} if index not in (5, 7, 9) else set()
    assert {row for row, _ in seen} == {column for _, column in seen} == set(range(9))


def test_a_batch_keeps_its_memory_as_long_as_somebody_has_it(config: Config) -> None:
    batches, expected = train_batches(config), train_batches(config)
    views = (
        lambda images: images,
        lambda images: images[3:5],
        lambda images: images.reshape(2, 8, *images.shape[1:])[1],
        lambda images: jax.device_put(images.reshape(2, 8, *images.shape[1:])),
        lambda images: memoryview(images),
    )
    held: list[Any] = [views[step % len(views)](batches[step]['image']) for step in range(12)]
    for step, view in enumerate(held):
        np.testing.assert_array_equal(np.asarray(view), views[step % len(views)](expected[step]['image']))


def test_memory_of_a_batch_that_nobody_has_is_used_again(config: Config) -> None:
    batches = train_batches(config)
    places = {batches[step]['image'].ctypes.data for step in range(12)}
    assert len(places) == 1


def test_reading_ahead_takes_no_more_memory_with_every_step(config: Config) -> None:
    """Also where device arrays share the memory of batches: one in the reader's hands, one that replaces it."""
    places, batch = set(), None
    for batch in pipeline.read_batches(train_batches(config, steps=60), threads=2):
        places.add(batch['image'].ctypes.data)
        batch = jax.device_put(batch)  # noqa: PLW2901
    assert batch is not None
    assert len(places) <= 2 + 3 + 3  # made by threads, waiting, held here


def test_order_is_a_function_of_seed_and_step(config: Config) -> None:
    config.data.image_size, config.data.resize_size = 24, 32  # with random crops
    config.augment.alternating_flip = True
    by_hand = [train_batches(config)[step] for step in range(12)]
    for threads in (1, 4):
        for expected, batch in zip(by_hand, pipeline.read_batches(train_batches(config), threads), strict=True):
            for name in batch:
                np.testing.assert_array_equal(batch[name], expected[name])
    config.seed = 1
    assert (train_batches(config)[0]['image'] != by_hand[0]['image']).any()
    assert (train_batches(config)[0]['offset'] != by_hand[0]['offset']).any()


def test_without_random_crops_training_sees_the_centre(config: Config) -> None:
    config.data.image_size, config.data.resize_size = 24, 32
    config.augment.random_crop = False
    batches = train_batches(config)
    for step in range(3):
        np.testing.assert_array_equal(batches[step]['offset'], np.full((16, 2), 4))


def test_every_epoch_holds_every_image_once(config: Config) -> None:
    """72 images in batches of 16: epochs end inside batches, and nothing is left out or repeated."""
    batches = train_batches(config, steps=9)
    seen = [row for step in range(9) for row in rows(batches[step])]
    epochs = [seen[:72], seen[72:]]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert len(set(epochs[0])) == 72
    assert epochs[0] != epochs[1]


def flips_of_images(batches: pipeline.TrainBatches, steps: int) -> dict[int, list[bool]]:
    """By image: whether it is flipped when it comes the first time, the second time, ..."""
    flips: dict[int, list[bool]] = {}
    for step in range(steps):
        for index, flip in zip(batches.indices(step).tolist(), batches[step]['flip'].tolist(), strict=True):
            flips.setdefault(index, []).append(flip)
    return flips


@pytest.mark.parametrize('balanced', [False, True])
def test_images_are_flipped_every_other_time(config: Config, balanced: bool) -> None:
    """Also where the fake images come more often than the real ones."""
    config.augment.alternating_flip, config.data.balanced_sampling = True, balanced
    config.batch_size = 2  # in which no image is twice, in shuffled order
    root = pathlib.Path(config.data.path)
    for path in sorted((root / 'train/fake').iterdir())[18:]:
        path.unlink()
    flips = flips_of_images(train_batches(config, steps=150), 150)
    counts = {len(each) for each in flips.values()}
    assert max(counts) - min(counts) > 2 if balanced else min(counts) >= 5
    for each in flips.values():
        assert each == [each[0] != bool(number % 2) for number in range(len(each))]
    first = [each[0] for each in flips.values()]
    assert 0.3 < np.mean(first) < 0.7
    config.seed = 1
    others = flips_of_images(train_batches(config, steps=150), 150)
    assert [others[index][0] for index in flips] != first


def test_processes_share_the_same_global_batch(config: Config) -> None:
    config.augment.alternating_flip = True
    whole = train_batches(config)[3]
    parts = [train_batches(config, shard=(index, 2))[3] for index in range(2)]
    for name in whole:
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole[name])


def test_evaluation_pads_and_counts_every_image_once(config: Config) -> None:
    batches, source, _ = eval_batches(config)
    assert len(batches) == 3  # 40 images in batches of 16
    weights = np.concatenate([batches[step]['weight'] for step in range(3)])
    np.testing.assert_array_equal(weights, [1] * 40 + [0] * 8)
    labels = np.concatenate([batches[step]['label'] for step in range(3)])
    np.testing.assert_array_equal(labels[:40], source.labels)
    np.testing.assert_array_equal(batches[2]['image'][7], decode.decode_rgb(source[39]))


def test_broken_images_are_counted_and_listed_not_replaced(config: Config, tmp_path: pathlib.Path) -> None:
    config.data.max_bad_fraction = 0.1
    _, source, _ = eval_batches(config)
    root = pathlib.Path(config.data.path)
    (root / source.names[3]).write_bytes(b'')
    (root / source.names[20]).write_bytes(b'not an image')
    (root / source.names[39]).write_bytes(source[39][:-200])
    batches, source, bad = eval_batches(config)
    weights = np.concatenate([batch['weight'] for batch in pipeline.read_batches(batches)])
    assert np.flatnonzero(weights == 0).tolist() == [3, 20, 39, *range(40, 48)]
    bad.check()
    listing = tmp_path / 'bad.csv'
    bad.write(listing)
    bad.write(listing)  # nothing is listed twice
    lines = listing.read_text().splitlines()
    assert lines[0] == 'split,name,reason'
    assert len(lines) == 4
    assert f'test,{source.names[3]},empty file' in lines
    assert not batches[0]['image'][3].any()


def test_broken_images_of_any_name_can_be_listed(tmp_path: pathlib.Path) -> None:
    bad = UnreadableImages('train', 10, 1.0)
    bad.add(os.fsdecode(b'train/real/caf\xe9, "1".jpg'), 'empty file')
    bad.write(tmp_path / 'bad.csv')
    bad.write(tmp_path / 'bad.csv')
    assert (tmp_path / 'bad.csv').read_bytes().count(b'caf\xe9') == 1


def test_too_many_broken_images_stop(config: Config) -> None:
    batches, source, _ = eval_batches(config)
    (pathlib.Path(config.data.path) / source.names[0]).write_bytes(b'')
    batches, _, bad = eval_batches(config)
    batches[0]
    with pytest.raises(UserError, match='1 of 40 images of split test cannot be read .*max_bad_fraction=0.01'):
        bad.check()


def test_a_vanished_file_is_a_broken_image(config: Config) -> None:
    batches, source, bad = eval_batches(config)
    (pathlib.Path(config.data.path) / source.names[0]).unlink()
    assert batches[0]['weight'][0] == 0
    assert len(bad) == 1

"""Images that were kept decoded give the batches that decoding them again would."""

import dataclasses
import io
import pathlib

import numpy as np
import PIL.Image
import pytest

from fakeimg.config import Config
from fakeimg.data import cache, datasets, decode, pipeline
from fakeimg.errors import UserError
from fakeimg.training import program

STEPS = 14  # of 16 images, about three epochs of 72


def train_batches(config: Config, kept: cache.DecodedImages | None) -> pipeline.TrainBatches:
    source = dataclasses.replace(datasets.open_data(config).splits['train'], cache=kept)
    return pipeline.TrainBatches(source, config, pipeline.UnreadableImages('train', len(source), 1.0), STEPS)


def kept_images(config: Config) -> cache.DecodedImages:
    return cache.DecodedImages(len(datasets.open_data(config).splits['train']), config.data.resize_size)


def assert_same(batches: pipeline.Batches, expected: pipeline.Batches, threads: int) -> None:
    pairs = zip(pipeline.read_batches(batches, threads), pipeline.read_batches(expected, 1), strict=True)
    for batch, plain in pairs:
        for name in plain:
            np.testing.assert_array_equal(batch[name], plain[name])


@pytest.mark.parametrize('image_size', [32, 24])
@pytest.mark.parametrize('threads', [1, 4])
def test_batches_are_those_of_decoding_each_time(config: Config, image_size: int, threads: int) -> None:
    """Whole images and random crops; among the files a broken one and two of other sizes."""
    config.data.image_size = image_size
    root = pathlib.Path(config.data.path)
    names = datasets.open_data(config).splits['train'].names
    (root / names[5]).write_bytes(b'not an image')
    for name, size in ((names[7], (40, 32)), (names[9], (50, 60))):
        file = io.BytesIO()
        PIL.Image.effect_noise(size, 80).save(file, 'PNG')
        (root / name).write_bytes(file.getvalue())
    kept = kept_images(config)
    assert_same(train_batches(config, kept), train_batches(config, None), threads)
    assert len(kept) == len(names) - 3


@pytest.mark.parametrize('image_size', [32, 24])
def test_nothing_is_decoded_twice(config: Config, image_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config.data.image_size = image_size
    decoded = []
    real = decode.decode_rgb
    monkeypatch.setattr(decode, 'decode_rgb', lambda *args: decoded.append(1) or real(*args))
    batches = train_batches(config, kept_images(config))
    for step in range(STEPS):
        batches[step]
    assert len(decoded) == 72


def test_a_place_belongs_to_whoever_claimed_it_first() -> None:
    """Two threads may meet the same image; what one decodes into, no other may write to."""
    kept = cache.DecodedImages(3, 4)
    place = kept.claim(1)
    assert place is not None
    assert place.shape == (4, 4, 3)
    assert kept.claim(1) is None
    kept.release(1)
    place = kept.claim(1)
    assert place is not None
    place[...] = 7
    assert kept.get(1) is None
    kept.keep(1, place)
    assert (kept.get(1) == 7).all()
    assert kept.claim(1) is None


def test_an_image_that_could_not_be_read_once_is_kept_the_next_time(config: Config) -> None:
    kept = kept_images(config)
    batches = train_batches(config, kept)
    name = pathlib.Path(config.data.path) / datasets.open_data(config).splits['train'].names[5]
    data = name.read_bytes()
    name.unlink()
    for step in range(5):
        batches[step]
    assert len(kept) == 71
    name.write_bytes(data)
    for step in range(5, 10):
        batches[step]
    assert len(kept) == 72


def test_evaluation_from_memory_pads_as_ever(config: Config) -> None:
    source = datasets.open_data(config).splits['test']
    kept = dataclasses.replace(source, cache=cache.DecodedImages(len(source), 32))
    bad = pipeline.UnreadableImages('test', len(source), 0.0)
    expected = [pipeline.EvalBatches(source, config, bad)[step] for step in range(3)]
    for _ in range(2):
        for step, plain in enumerate(expected):
            batch = pipeline.EvalBatches(kept, config, bad)[step]
            for name in plain:
                np.testing.assert_array_equal(batch[name], plain[name])


def test_auto_keeps_what_fits_and_is_used_again(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config.data.cache = 'auto'
    needed = 96 * 32 * 32 * 3
    assert program.build(config).cached_bytes == needed
    monkeypatch.setattr(cache, 'available_memory', lambda: 2 * needed - 1)
    assert program.build(config).cached_bytes == 0
    monkeypatch.undo()
    config.steps = 4  # of 16 images, less than an epoch
    assert program.build(config).cached_bytes == 0
    config.data.cache = 'host'
    parts = program.build(config)
    assert parts.cached_bytes == needed
    assert [name for name, source in parts.splits.items() if source.cache is not None] == ['train', 'validation']
    monkeypatch.setattr(cache, 'available_memory', lambda: 1000)
    with pytest.raises(UserError, match='config.data.cache=host wants .* leave it auto'):
        program.build(config)


def test_a_container_has_its_own_limit(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.available_memory() > 100_000_000
    monkeypatch.setattr(cache, '_CGROUP', tmp_path)
    (tmp_path / 'memory.current').write_text('40\n')
    (tmp_path / 'memory.max').write_text('100\n')
    assert cache.available_memory() == 60
    (tmp_path / 'memory.max').write_text('max\n')
    assert cache.available_memory() > 100_000_000

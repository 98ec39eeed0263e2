"""Cached images give the batches that decoding them again would."""

import dataclasses
import io
import pathlib
import threading

import numpy as np
import PIL.Image
import pytest

from fakeimg.config import Config
from fakeimg.data import datasets, decode, pipeline
from fakeimg.data.images import CachedImages
from fakeimg.data.unreadable import UnreadableImages

STEPS = 14  # of 16 images, about three epochs of 72


def train_batches(config: Config, cache: CachedImages | None) -> pipeline.TrainBatches:
    split = dataclasses.replace(datasets.open_data(config).splits['train'], cache=cache)
    return pipeline.TrainBatches(split, config, UnreadableImages('train', len(split), 1.0), STEPS)


def cached_images(config: Config) -> CachedImages:
    return CachedImages(datasets.open_data(config).splits['train'].files, config.data.resize_size)


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
    cache = cached_images(config)
    assert_same(train_batches(config, cache), train_batches(config, None), threads)
    assert cache.num_cached == len(names) - 3


@pytest.mark.parametrize('image_size', [32, 24])
def test_nothing_is_decoded_twice(config: Config, image_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config.data.image_size = image_size
    decoded = []
    real = decode.decode
    monkeypatch.setattr(decode, 'decode', lambda *args: decoded.append(1) or real(*args))
    batches = train_batches(config, cached_images(config))
    for step in range(STEPS):
        batches[step]
    assert len(decoded) == 72


def test_threads_that_meet_one_image_never_write_to_the_same_memory(config: Config) -> None:
    """The second one decodes while the first has not finished, and both get the whole image."""
    files = datasets.open_data(config).splits['train'].files
    expected = decode.decode_rgb(files.read(1)).copy()
    begun, go_on = threading.Event(), threading.Event()

    class SlowFiles:
        names = files.names

        def __len__(self) -> int:
            return len(files)

        def read(self, index: int) -> bytes:
            if not begun.is_set():
                begun.set()
                assert go_on.wait(10)
            return files.read(index)

        def take(self, indices):
            raise NotImplementedError

    cache = CachedImages(SlowFiles(), 32)
    first, second = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)
    thread = threading.Thread(target=cache.read, args=(1, first))
    thread.start()
    assert begun.wait(10)
    assert cache.read(1, second) is second
    np.testing.assert_array_equal(second, expected)
    assert cache.num_cached == 0
    assert not cache.gather(np.array([1]), second[None])
    go_on.set()
    thread.join()
    np.testing.assert_array_equal(first, expected)
    assert cache.num_cached == 1
    assert cache.gather(np.array([1]), second[None])


def test_an_image_that_could_not_be_read_once_is_kept_the_next_time(config: Config) -> None:
    cache = cached_images(config)
    batches = train_batches(config, cache)
    name = pathlib.Path(config.data.path) / datasets.open_data(config).splits['train'].names[5]
    data = name.read_bytes()
    name.unlink()
    for step in range(5):
        batches[step]
    assert cache.num_cached == 71
    name.write_bytes(data)
    for step in range(5, 10):
        batches[step]
    assert cache.num_cached == 72


def test_evaluation_from_memory_pads_as_ever(config: Config) -> None:
    split = datasets.open_data(config).splits['test']
    cached = dataclasses.replace(split, cache=CachedImages(split.files, 32))
    unreadable = UnreadableImages('test', len(split), 0.0)
    expected = [pipeline.EvalBatches(split, config, unreadable)[step] for step in range(3)]
    for _ in range(2):
        for step, plain in enumerate(expected):
            batch = pipeline.EvalBatches(cached, config, unreadable)[step]
            for name in plain:
                np.testing.assert_array_equal(batch[name], plain[name])

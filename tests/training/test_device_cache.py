"""Images of train that stay on the devices: the same run as with batches from the host."""

import pathlib

import numpy as np
import PIL.Image
import pytest

from fakeimg.config import Config
from fakeimg.data import datasets
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.errors import UserError
from fakeimg.training import device_cache, loop
from fakeimg.training.program import build
from tests.support.console import Recorder
from tests.support.runs import assert_same_state, progress, written


@pytest.fixture
def config(config: Config) -> Config:
    config.model.filters = config.model.dense = 8
    config.data.image_size = 24  # random crops, so that their order counts too
    config.data.max_bad_fraction = 0.1
    config.augment.mixup = 0.2  # so that the pixels of an unreadable image count
    config.augment.alternating_flip = True
    return config


def train_image(config: Config, number: int) -> pathlib.Path:
    return pathlib.Path(config.data.path) / datasets.open_data(config).splits['train'].names[number]


def run(config: Config, workdir: pathlib.Path, cache: str, steps_per_call: int = 1) -> Recorder:
    config.data.cache, config.steps_per_call = cache, steps_per_call
    console = Recorder()
    loop.train(config, workdir, console)
    return console


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['pmap', 'shard_map'])
def test_a_run_from_device_memory_is_that_from_the_host(config: Config, tmp_path: pathlib.Path, mode: str) -> None:
    """Alone and with several steps in a call; one image is broken, and is listed as ever."""
    config.parallel = mode
    train_image(config, 5).write_bytes(b'not an image')
    expected = run(config, tmp_path / 'host', 'host')
    for name, steps_per_call in (('device', 1), ('both', 4)):
        console = run(config, tmp_path / name, 'device', steps_per_call)
        assert 'the images of train on each device' in console.text
        assert_same_state(config, tmp_path / name, tmp_path / 'host')
        assert written(tmp_path / name) == written(tmp_path / 'host')
        assert progress(console) == progress(expected)
        listed = [(tmp_path / folder / 'bad_pictures.csv').read_text() for folder in (name, 'host')]
        assert listed[0] == listed[1]


@pytest.mark.slow
def test_a_stopped_run_continues_with_images_on_the_device(config: Config, tmp_path: pathlib.Path) -> None:
    """Begun with batches from the host, stopped in validation after 4 steps, continued on the device by calls of 3."""
    run(config, tmp_path / 'whole', 'host')
    config.data.cache = 'host'
    stopped = loop.train(config, tmp_path / 'stopped', Recorder(interrupt_at='step 4/'))
    assert stopped.step == 4
    run(config, tmp_path / 'stopped', 'device', 3)
    assert_same_state(config, tmp_path / 'stopped', tmp_path / 'whole')


@pytest.mark.parametrize('mode', ['pmap', 'shard_map'])
def test_batches_name_the_images_of_those_from_the_host(config: Config, mode: str) -> None:
    config.parallel, config.data.cache = mode, 'device'
    train_image(config, 5).write_bytes(b'not an image')
    program = build(config)
    assert program.splits['train'].cache is not None
    program.splits['train'].cache.images[:] = 7  # what memory may hold where nothing was decoded
    bad = UnreadableImages('train', program.num_train, 1.0)
    from_host = program.train_batches(bad)
    resident = program.with_device_images(bad, Recorder())
    numbered = resident.train_batches(bad)
    assert resident.splits['train'].cache is None  # its memory is free again
    assert list(bad.reasons) == [program.splits['train'].names[5]]
    on_devices = next(iter(resident.device_batches(numbered)))['images']
    side = config.data.resize_size
    copies = np.asarray(on_devices).reshape(2, program.num_train, side, side, 3)  # one for each device
    for step in range(6):
        batch, expected = numbered[step], from_host[step]
        for name in ('label', 'weight', 'offset', 'flip'):
            np.testing.assert_array_equal(batch[name], expected[name])
        for images in copies:
            np.testing.assert_array_equal(images[batch['index']], expected['image'])


@pytest.fixture
def oblong(config: Config) -> str:
    """The name of an image that is no square."""
    path = train_image(config, 9)
    PIL.Image.effect_noise((40, 32), 80).convert('RGB').save(path)
    return str(path.relative_to(config.data.path))


def test_images_that_are_cropped_from_all_their_pixels_are_refused(
    config: Config, tmp_path: pathlib.Path, oblong: str
) -> None:
    config.data.cache = 'device'
    with pytest.raises(UserError, match=f'devices keep images of 32x32 px .* and {oblong} is not one; set config'):
        loop.train(config, tmp_path / 'run')
    assert not (tmp_path / 'run/config.json').exists()


def test_auto_leaves_such_images_on_the_host(
    config: Config, oblong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(device_cache, 'is_used', lambda *_: True)  # as on a GPU
    program, console = build(config), Recorder()
    on_host = program.with_device_images(UnreadableImages('train', program.num_train, 1.0), console)
    assert 'decoded images stay in host memory: devices keep images of 32x32 px' in console.text
    assert on_host.device_images is None
    assert on_host.device_cached_bytes == 0
    assert on_host.splits['train'].cache is not None


def test_too_many_unreadable_images_stop_the_run_before_its_first_step(config: Config, tmp_path: pathlib.Path) -> None:
    for number in range(9):
        train_image(config, number).write_bytes(b'not an image')
    config.data.cache = 'device'
    with pytest.raises(UserError, match='of 72 images of split train cannot be read'):
        loop.train(config, tmp_path / 'run')
    assert (tmp_path / 'run/bad_pictures.csv').read_text().count('train,') >= 8


def test_what_does_not_fit(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config.data.cache = 'device'
    monkeypatch.setattr(device_cache, 'free_memory', lambda _: 72 * 32 * 32 * 3 - 1)
    with pytest.raises(
        UserError, match=r'needs 0.000221 GB .* a device has 0.000221 GB left; set config.data.cache=host'
    ):
        build(config)
    monkeypatch.setattr(device_cache.jax, 'process_count', lambda: 2)
    with pytest.raises(UserError, match='cache=device is for runs of one process, and this one has 2; set'):
        build(config)


class Gpu:
    """As much as `is_used` asks of a device."""

    platform = 'gpu'

    def __init__(self, limit: int):
        self.limit = limit

    def memory_stats(self) -> dict[str, int]:
        return {'bytes_limit': self.limit, 'bytes_in_use': 0}


def test_auto_takes_devices_that_have_room(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not build(config).caches_on_devices  # a CPU has no memory of its own
    program = build(config)
    needed = program.num_train * 32 * 32 * 3
    for limits, fits in (((10 * needed, 20 * needed), True), ((10 * needed - 1, 20 * needed), False)):
        monkeypatch.setattr(type(program.devices), 'local', [Gpu(limit) for limit in limits])
        assert device_cache.is_used(config, program.devices, program.splits['train']) == fits

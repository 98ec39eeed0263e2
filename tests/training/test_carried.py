"""A run goes on in another precision, and on another number of devices."""

import pathlib
from typing import Any

import jax
import pytest

from fakeimg import detector
from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config
from fakeimg.errors import UserError
from fakeimg.runtime import parallel
from fakeimg.training import loop
from tests.support.console import Recorder


@pytest.mark.slow
def test_the_loss_scale_comes_and_goes_with_float16(config: Config, tmp_path: pathlib.Path) -> None:
    config.steps, config.precision = 4, 'float32'
    loop.train(config, tmp_path)
    config.steps, config.precision = 6, 'float16'
    loop.train(config, tmp_path)
    meta = Checkpoints(tmp_path / 'checkpoints', read_only=True).read_meta(6)
    assert [name for name in meta.state_tree if name.startswith('dynamic_scale')]
    config.steps, config.precision = 8, 'bfloat16'
    loop.train(config, tmp_path)
    meta = Checkpoints(tmp_path / 'checkpoints', read_only=True).read_meta(8)
    assert not [name for name in meta.state_tree if name.startswith('dynamic_scale')]


def test_a_batch_that_the_devices_do_not_divide(
    config: Config, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new run is told what divides; one that goes on leaves a device out; evaluation takes any number."""
    config.batch_size, config.steps = 15, 4
    with pytest.raises(UserError, match='config.batch_size=15 cannot be split over 2 devices; use 14 or 16'):
        loop.train(config, tmp_path)
    create = parallel.Devices.create.__func__  # pyright: ignore[reportFunctionMemberAccess]

    def on_one(cls: type, mode: str, size: int, devices: Any = None, **others: Any) -> parallel.Devices:
        return create(cls, mode, size, jax.devices()[:1], **others)

    with monkeypatch.context() as one_device:
        one_device.setattr(parallel.Devices, 'create', classmethod(on_one))
        loop.train(config, tmp_path)
    config.steps, console = 6, Recorder()
    loop.train(config, tmp_path, console)
    assert 'devices    1 of 2 (which divide the batch) x cpu' in console.text
    assert detector.load(tmp_path).config.batch_size == 16
    assert detector.load(tmp_path, batch_size=6).config.batch_size == 6
    with pytest.raises(UserError, match='^batch_size=7 cannot be split over 2 devices; use 6 or 8'):
        detector.load(tmp_path, batch_size=7)

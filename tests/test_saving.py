"""A state is written beside the training from a copy: what happens to the state meanwhile does not matter."""

import errno
import pathlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fakeimg import checkpoint
from fakeimg.checkpoint import Checkpoints
from fakeimg.errors import UserError
from fakeimg.meta import Meta
from fakeimg.runtime import parallel
from fakeimg.saving import Saving

META = Meta(config={}, labels={}, preprocessing={}, data_digest=None)


def state_of(value: float) -> dict[str, jax.Array]:
    devices = parallel.Devices.create('pmap', 2)
    return devices.replicate({'w': np.full((300, 70), value, np.float32), 'n': np.int32(value)})


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Nothing is written before this is set."""
    event, sums = threading.Event(), checkpoint.checksums
    monkeypatch.setattr(checkpoint, 'checksums', lambda state: event.wait(20) and sums(state))
    return event


@pytest.mark.parametrize('mode', ['pmap', 'shard_map'])
def test_the_state_may_be_donated_before_it_is_written(
    mode: str, tmp_path: pathlib.Path, held: threading.Event
) -> None:
    def step(state, batch):
        return jax.tree.map(lambda leaf: leaf + 1, state), batch.sum()

    devices = parallel.Devices.create(mode, 2)
    advance = devices.map(lambda state, batch: (step(state, batch)[0], parallel.total(batch.sum())), donate_state=True)
    state, _ = advance(state_of(3), devices.split(np.zeros(2)))  # as it comes out of a step
    checkpoints, order = Checkpoints(tmp_path), []
    checkpoints.save(4, state, {}, META, then=lambda: order.append(sorted(path.name for path in tmp_path.glob('4'))))
    after, _ = advance(state, devices.split(np.zeros(2)))
    assert state['w'].is_deleted() and not order and not (tmp_path / '4').exists()
    jax.block_until_ready(after)
    held.set()
    checkpoints.close()
    assert order == [['4']]  # `then` came when it was complete
    restored = Checkpoints(tmp_path, read_only=True).restore(devices.abstract(after)).state
    assert (restored['w'] == 4).all() and restored['n'] == 4


def test_the_next_save_waits_for_the_one_before(tmp_path: pathlib.Path, held: threading.Event) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state_of(1), {}, META)
    threading.Timer(0.3, held.set).start()
    checkpoints.save(2, state_of(2), {}, META)
    assert (tmp_path / '1').is_dir()
    assert checkpoints.steps() == [1, 2]  # waits too: only complete ones are named
    checkpoints.close()


def test_a_save_that_fails_is_said_at_the_next_opportunity(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state_of(1), {}, META)
    checkpoints.wait()

    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(checkpoints._manager, 'save', full)
    checkpoints.save(2, state_of(2), {}, META)
    with pytest.raises(
        UserError, match=r'checkpoint 2 cannot be written .*No space left.*; the last complete one is 1'
    ):
        while True:
            checkpoints.check()
    checkpoints.close()  # which says it no more
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, state_of(3), {}, META, then=full)
    with pytest.raises(OSError, match='No space left'):  # after the checkpoint, which is there
        checkpoints.close()
    assert checkpoints.steps() == [1, 3]


def test_without_room_for_a_copy_the_state_itself_is_written_first(monkeypatch: pytest.MonkeyPatch) -> None:
    state, size = {'w': jnp.ones(1000)}, 4000
    used = {'peak_bytes_in_use': 10_000, 'bytes_limit': 10_000 + 2 * size}
    monkeypatch.setattr(jax, 'local_devices', lambda: [type('Device', (), {'memory_stats': lambda _: used})()])
    saving, written = Saving(), []

    def write(found: dict[str, jax.Array]) -> None:
        written.append((found is state, threading.current_thread() is threading.main_thread()))

    for peak in (10_000, 10_000 + size, 10_001 + size, 10_001 + size):  # the second with an earlier copy
        used['peak_bytes_in_use'] = peak
        saving.start(state, write, lambda: None)
        saving.wait()
    assert written == [(False, False), (False, False), (True, True), (True, True)]
    assert len(saving.new_notes()) == 1 and saving.new_notes() == []

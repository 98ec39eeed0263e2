"""Signals that ask to stop, each sent in the middle of a run in this process."""

import pathlib
import signal
from collections.abc import Iterator

import pytest

from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config
from fakeimg.training import interrupts, loop
from fakeimg.training.interrupts import Interrupts
from tests.support.console import Recorder

ALL = ('SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU')


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [100.0]
    monkeypatch.setattr(interrupts.time, 'monotonic', lambda: now[0])
    yield now


@pytest.mark.parametrize(
    'name', [name if name == 'SIGHUP' else pytest.param(name, marks=pytest.mark.slow) for name in ALL]
)
def test_every_signal_saves_the_steps_under_way(name: str, config: Config, tmp_path: pathlib.Path) -> None:
    config.validate_every_epochs, config.checkpoint_every_steps = 1e5, 0
    sent, before = signal.Signals[name], signal.getsignal(signal.Signals[name])
    result = loop.train(config, tmp_path, Recorder(interrupt_at='step 4/', sent=sent))
    assert result.interrupted_by is sent
    assert Checkpoints(tmp_path / 'checkpoints', read_only=True).steps() == [result.step] and 4 < result.step < 12
    assert signal.getsignal(sent) is before


def test_signals_that_repeat_by_themselves_do_not_leave_at_once(clock: list[float]) -> None:
    with Interrupts() as asked:
        for sent in (signal.SIGHUP, signal.SIGXCPU, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            signal.raise_signal(sent)
            clock[0] += 1
        assert asked.received is signal.SIGHUP
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_an_echo_is_not_a_second_signal(clock: list[float]) -> None:
    """`timeout` signals its child, and then the group that the child is in."""
    with Interrupts() as asked:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert asked.received is signal.SIGINT
        clock[0] += 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert asked.received is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

"""The ETA: what a run says of the time that it still needs."""

import pytest

from fakeimg.training import progress
from fakeimg.training.progress import Meter


def test_the_first_eta_is_not_that_of_the_first_images(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    meter = Meter(16)
    assert meter.eta(100) is None
    for seconds in (*[3.0] * 5, *[0.1] * 15):  # the input pipeline starts, then steps follow each other
        now[0] += seconds
        meter.count_steps(1)
    meter.read()
    assert meter.eta(100) == pytest.approx(10)
    with meter.apart():
        now[0] += 500  # a validation
    for _ in range(400):
        now[0] += 0.2  # the machine is shared from here on
        meter.count_steps(1)
    meter.read()
    assert meter.eta(100) == pytest.approx(20)
    assert Meter(16).eta(5) is None


def test_calls_of_several_steps_count_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    meter = Meter(16)
    for _ in range(3):
        assert meter.eta(40) is None
        now[0] += 2
        meter.count_steps(8)
    assert meter.eta(40) == pytest.approx(10)

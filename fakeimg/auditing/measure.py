"""Reads every image of a data set once, over several processes, and stacks the facts."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fakeimg.auditing import facts as facts_lib
from fakeimg.console import SILENT, Console
from fakeimg.data.decode import decode_rgb
from fakeimg.data.files import Files, prefetched
from fakeimg.runtime import pool

_PER_TASK = 512  # images
_TICK_EVERY = 64


@dataclasses.dataclass(frozen=True)
class MeasuredImages:
    """All images of a data set, split after split.

    Attributes:
        splits: names of the splits, in the order of the images.
        split: int32[n], index into `splits`.
        names: path of each image within the set.
        facts: FACTS[n].
        reasons: why an image cannot be read, by its place.
    """

    splits: tuple[str, ...]
    split: np.ndarray
    names: list[str]
    facts: NDArray
    reasons: dict[int, str] = dataclasses.field(default_factory=dict)


def measure_splits(files: dict[str, Files], workers: int, console: Console = SILENT) -> MeasuredImages:
    """Measures the images of each split, with 0 `workers` in this process. Raises UserError when one is killed."""
    sizes = [len(part) for part in files.values()]
    results = map(_measure_part, _parts(files))
    if workers:
        results = pool.run_tasks(
            _measure_part, _parts(files), workers=workers, total=sum(sizes), title='measuring', console=console
        )
    rows, reasons, total = [np.zeros(0, facts_lib.FACTS)], {}, 0
    for part, why in results:
        rows.append(part)
        reasons |= {total + place: reason for place, reason in why.items()}
        total += len(part)
    return MeasuredImages(
        splits=tuple(files),
        split=np.repeat(np.arange(len(files), dtype=np.int32), sizes),
        names=[name for part in files.values() for name in part.names],
        facts=np.concatenate(rows),
        reasons=reasons,
    )


def _parts(files: dict[str, Files]) -> Iterator[Files]:
    for part in files.values():
        for start in range(0, len(part), _PER_TASK):
            yield part.take(range(start, min(start + _PER_TASK, len(part))))


def _measure_part(files: Files) -> tuple[NDArray, dict[int, str]]:
    rows, reasons = [], {}
    for index in prefetched(files):
        name = files.names[index]
        try:
            data = files.read(index)
            row = facts_lib.measure_image(name, data)
            if row['problem']:
                reasons[index] = _reason(data)
        except OSError as error:
            row = facts_lib.measure_image(name, b'')
            row['problem'] = 'unreadable'
            reasons[index] = error.strerror or str(error)
        rows.append(row)
        if index % _TICK_EVERY == _TICK_EVERY - 1:
            pool.tick(_TICK_EVERY)
    pool.tick(len(files) % _TICK_EVERY)
    return np.stack(rows), reasons


def _reason(data: bytes) -> str:
    try:
        decode_rgb(data)
    except Exception as error:  # a plugin's mistake among them
        return str(error) or type(error).__name__
    return 'its pixels cannot be measured'

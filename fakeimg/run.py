"""The run folder: what is in it, and how scalars get there.

`config.json`, `environment.json`, `checkpoints/`, `metrics.jsonl`, `tensorboard/`, `bad_pictures.csv`,
`evaluations/<split>/`.
"""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax

from fakeimg import files

PACKAGES = ('fakeimg', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy', 'simplejpeg', 'pillow')


@contextlib.contextmanager
def open_workdir(workdir: pathlib.Path) -> Iterator[None]:
    """Makes the run folder and keeps other trainings out of it, see `files.hold_folder`."""
    with files.hold_folder(workdir, 'training', jax.process_index()):
        yield


def unreadable_file(workdir: pathlib.Path) -> pathlib.Path:
    """Where this process lists its unreadable images."""
    index = jax.process_index()
    return workdir / ('bad_pictures.csv' if index == 0 else f'bad_pictures.{index}.csv')


def environment() -> dict[str, Any]:
    """Describes this process: command, versions, devices, git commit."""
    return {
        'started': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'command': shlex.join([pathlib.Path(sys.executable).name, *sys.orig_argv[1:]]),
        'python': platform.python_version(),
        'platform': platform.platform(),
        'versions': {name: _version(name) for name in PACKAGES},
        'devices': [device.device_kind for device in jax.devices()],
        'processes': jax.process_count(),
        'cpu_cores': len(os.sched_getaffinity(0)),
        'git_commit': _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    command = ['git', '-C', str(pathlib.Path(__file__).parent), 'describe', '--always', '--dirty', '--abbrev=40']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


class MetricsWriter:
    """Writes scalars to `metrics.jsonl` and TensorBoard; only process 0 writes.

    Args:
        workdir: the run folder.
        start_step: later rows, left by a run that died after its last checkpoint, are dropped.

    Attributes:
        failure: why a row could not be written, or None; nothing is written from then on.
    """

    def __init__(self, workdir: pathlib.Path, start_step: int):
        self.failure: OSError | None = None
        self._file = self._board = None
        if jax.process_index() != 0:
            return
        path = workdir / 'metrics.jsonl'
        rows = [json.loads(line) for line in path.read_text().splitlines() if _is_row(line)] if path.exists() else []
        with files.replacing(path) as file:
            file.writelines(json.dumps(row) + '\n' for row in rows if row['step'] <= start_step)
        self._file = open(path, 'a', buffering=1)
        with _as_if_not_installed('torch'):  # slow to import, and tensorboardX needs it only for a type
            import tensorboardX.event_file_writer
        (workdir / 'tensorboard').mkdir(exist_ok=True)
        # In this thread: the one of SummaryWriter dies of a full disk, and `add_scalar` then waits for it for ever.
        self._board = tensorboardX.event_file_writer.EventsWriter(str(workdir / 'tensorboard' / 'events'))
        self._event(step=start_step + 1, session_log={'status': 1})  # START: TensorBoard drops later rows too

    def write(self, step: int, scalars: dict[str, float | None]) -> None:
        """Writes one row; names are `train/loss`, `validation/auc` and the like. None is left out."""
        present = {name: value for name, value in scalars.items() if value is not None}
        if self._file is None or self.failure is not None:
            return
        try:
            self._file.write(json.dumps({'step': step, **present}) + '\n')
            values = [{'tag': name, 'simple_value': value} for name, value in present.items()]
            self._event(step=step, summary={'value': values})
        except OSError as error:  # full, for example; the run can save and then stop
            self.failure = error

    def _event(self, **fields: Any) -> None:
        from tensorboardX.proto import event_pb2

        assert self._board is not None
        event: Any = event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]  # made at import
        self._board.write_event(event(wall_time=time.time(), **fields))

    def close(self) -> None:
        for file in (self._file, self._board):
            if file is not None:
                # What is left in a buffer after a failure would fail again.
                with contextlib.suppress(OSError) if self.failure else contextlib.nullcontext():
                    file.close()


@contextlib.contextmanager
def _as_if_not_installed(module: str) -> Iterator[None]:
    """Makes `import module` raise ImportError, unless it has been imported already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        del sys.modules[module]


def _is_row(line: str) -> bool:
    try:
        return 'step' in json.loads(line)
    except json.JSONDecodeError:  # the last line of a process that was killed while writing
        return False

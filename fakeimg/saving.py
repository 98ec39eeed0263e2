"""Saving beside the training: a copy of the state on the devices, which a thread of its own writes meanwhile."""

import json
import os
import pathlib
import shutil
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fakeimg.errors import UserError, system_error

NEEDED = 2  # states that must find room: the copy, and as much for what steps take that are larger than those so far


class Saving:
    """Writes one state at a time beside its caller; the next `check`, `wait` or `start` raises what that fails with."""

    def __init__(self):
        self._notes: list[str] = []
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._peak = 0  # bytes that a device has used at most, copies of ours apart
        self._copies = True

    def start(self, state: Any, write: Callable[[Any], None], finish: Callable[[], None]) -> None:
        """Calls `write` with a copy of a pytree of arrays, and then `finish`, and returns once the copy is begun.

        The state may be donated then. Where its copy may not fit into memory, or where several processes must do
        everything in one order, `write` gets the state, before this returns.
        """
        self.wait()
        if jax.process_count() == 1 and self._fits(state):
            copies = [_copied(state)]
            self._begin(lambda: write(copies.pop()), finish)  # nothing else holds the copy, for the sake of memory
        else:
            write(state)
            self._begin(finish)

    def _begin(self, *work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                for part in work:
                    part()
            except BaseException as error:  # raised where somebody can do something about it
                self._error = error

        self._thread = threading.Thread(target=run, name='save')
        self._thread.start()

    def new_notes(self) -> list[str]:
        """What the user should know and was not told yet: that states cannot be copied, once."""
        notes, self._notes = self._notes, []
        return notes

    def check(self) -> None:
        """Raises what the last write failed with, if it is over."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Waits for the write under way."""
        self.settle()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def settle(self) -> None:
        """Waits for the write under way, and leaves what it failed with to others."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _fits(self, state: Any) -> bool:
        """Whether a copy fits beside what training has needed so far; memory of the host does without this."""
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        stats = jax.local_devices()[0].memory_stats() or {}
        peak, limit = stats.get('peak_bytes_in_use', 0), stats.get('bytes_limit', 0)
        if not self._peak or peak > self._peak + size:  # beyond what an earlier copy explains
            self._peak = peak
        fits = not limit or limit - self._peak >= NEEDED * size
        if not fits and self._copies:
            self._notes.append('the devices have no room for a copy of the state: training waits for each checkpoint')
        self._copies = fits
        return fits


def _copied(tree: Any) -> Any:
    """Copies on the devices; what is on the host, there."""
    leaves, structure = jax.tree.flatten(tree)
    copies = iter(_copies([leaf for leaf in leaves if isinstance(leaf, jax.Array)]))
    return structure.unflatten([next(copies) if isinstance(leaf, jax.Array) else leaf.copy() for leaf in leaves])


@jax.jit
def _copies(arrays: list[jax.Array]) -> list[jax.Array]:
    return [jnp.copy(array) for array in arrays]  # an array that is returned as it came would not be copied


def add_metrics(checkpoint: pathlib.Path, metrics: dict[str, Any]) -> None:
    """Gives a complete checkpoint the metrics that it was saved without, in one piece, as Orbax writes them.

    The state stays as it is: a checkpoint that is written anew, and not to the end, would be lost.

    Raises:
        UserError: they cannot be written; the disk is full, for example.
    """
    if jax.process_index() != 0:
        return
    item, partial = checkpoint / 'metrics', checkpoint / 'metrics.partial'
    try:
        shutil.rmtree(partial, ignore_errors=True)  # what a kill left
        partial.mkdir()
        (partial / 'metrics').write_text(json.dumps(metrics))
        if (mark := checkpoint / 'meta' / 'commit_success.txt').exists():
            shutil.copyfile(mark, partial / mark.name)
        os.rename(partial, item)
    except OSError as error:
        raise UserError(
            f'the validation of step {checkpoint.name} cannot be written to {checkpoint} ({system_error(error)}); '
            'make that possible, and the same command continues from there.'
        ) from error

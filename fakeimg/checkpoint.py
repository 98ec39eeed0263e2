"""Checkpoints: state, data iterator and what is needed to rebuild the model, in one atomic Orbax step."""

import contextlib
import dataclasses
import os
import pathlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from fakeimg.errors import UserError
from fakeimg.meta import Meta

BEST_BY = 'auc'
Item = TypeVar('Item')


@dataclasses.dataclass(frozen=True)
class Restored:
    """One checkpoint, read back.

    Attributes:
        step: its step.
        state: the restored pytree.
        data: state of the data iterator.
        meta: configuration, label map, preprocessing, data digest.
        notes: warnings for the user: damaged checkpoints that were skipped.
    """

    step: int
    state: Any
    data: dict[str, Any]
    meta: Meta
    notes: list[str]


class Checkpoints:
    """The checkpoints of one run folder: the last two and the best by validation AUC are kept.

    Saving is asynchronous; `close` waits for what is under way. A checkpoint is complete or it is not listed.
    """

    def __init__(self, folder: pathlib.Path, *, read_only: bool = False):
        if read_only and not folder.is_dir():
            raise _no_checkpoints(folder)
        self.folder = folder.absolute()
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(2),  # the one before the last is what a damaged last falls back to
                checkpoint_managers.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False),
            ]
        )
        handlers = {
            'state': ocp.PyTreeCheckpointHandler(),
            'data': ocp.JsonCheckpointHandler(),
            'meta': ocp.JsonCheckpointHandler(),
        }
        verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)  # Orbax warns about each option that read_only implies
        try:
            options = ocp.CheckpointManagerOptions(
                best_fn=_score, preservation_policy=policy, read_only=read_only, cleanup_tmp_directories=not read_only
            )
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        finally:
            logging.set_verbosity(verbosity)

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step of the highest validation AUC, or the last one where none was validated."""
        best = self._manager.best_step()
        return self._manager.latest_step() if best is None else best

    def resolve(self, step: str | int) -> int | None:
        """The number of the checkpoint that a user names: `best` (validation AUC), `latest`, or a number.

        None is the newest that can be read. Raises UserError for any other word.
        """
        if step in ('best', 'latest'):
            return self.best_step() if step == 'best' else None
        if not str(step).isdecimal():
            raise UserError(f'step is {step!r}; it must be best, latest, or the number of a checkpoint.')
        return int(step)

    def is_validated(self, step: int) -> bool:
        """Whether there is a checkpoint of `step` that was saved with its validation metrics."""
        return (self.folder / str(step) / 'metrics').exists()

    def save(
        self, step: int, state: Any, data: dict[str, Any], meta: Meta, metrics: dict[str, Any] | None = None
    ) -> None:
        """Starts saving; returns once the state is copied off the devices.

        A step that exists is left alone, unless it was saved without metrics and now has some.

        Args:
            step: steps taken so far.
            state: a pytree of arrays, replicated over all processes.
            data: state of the data iterator, JSON.
            meta: of the run; `state_tree` and `checksums` of the leaves are added to it.
            metrics: validation metrics; without them the checkpoint cannot become the best.
        """
        if step in self._manager.all_steps():
            if metrics is None or self.is_validated(step):
                return
            self._manager.delete(step)  # a signal had cut its validation short; now it comes with its metrics
        meta = dataclasses.replace(meta, state_tree=describe(state), checksums=checksums(state))
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state),
            data=ocp.args.JsonSave(data),
            meta=ocp.args.JsonSave(meta.to_json()),
        )
        self._manager.save(step, args=items, metrics=metrics and {BEST_BY: metrics[BEST_BY]})

    def restore(self, abstract_state: Any, step: int | None = None) -> Restored:
        """Reads one checkpoint onto the devices of `abstract_state`.

        Args:
            abstract_state: a pytree of jax.ShapeDtypeStruct with shardings, the whole saved state or some of its
                top-level parts (`{'params': ..., 'batch_stats': ...}`).
            step: which one; None takes the last, and the one before if that is damaged, and so on.

        Raises:
            UserError: nothing there, nothing readable, or a checkpoint of another model (the leaves are named).
        """
        restored, notes = self._first_readable(step, lambda candidate: self._restore(abstract_state, candidate))
        return dataclasses.replace(restored, notes=[f'{note}, falling back to the one before' for note in notes])

    def _restore(self, abstract_state: Any, step: int) -> Restored:
        meta = self._read_meta(step)
        check_same_tree(meta.state_tree, describe(abstract_state), f'{self.folder}/{step}')
        restore_args = ocp.checkpoint_utils.construct_restore_args(abstract_state)
        # A partial restore can pass silently by itself, hence the check above.
        state = ocp.args.PyTreeRestore(abstract_state, restore_args=restore_args, partial_restore=True)
        with _late_reads_unreported():
            items = self._manager.restore(step, args=ocp.args.Composite(state=state, data=ocp.args.JsonRestore()))
        _check_intact(meta.checksums, checksums(items['state']))
        return Restored(step, items['state'], items['data'], meta, [])

    def restore_variables(self, abstract_variables: Any, step: int | None = None) -> Restored:
        """Reads what a trained model is applied with: the average of the weights if the run has one, or the weights.

        Args and errors are those of `restore`; `state` is then `{'params': ..., 'batch_stats': ...}` in either case.
        """
        if not any(name.startswith('ema/') for name in self.read_meta(step).state_tree):
            return self.restore(abstract_variables, step)
        restored = self.restore({'ema': abstract_variables}, step)
        return dataclasses.replace(restored, state=restored.state['ema'])

    def read_meta(self, step: int | None = None) -> Meta:
        """Reads what is needed to rebuild the model, of one checkpoint or of the newest that can be read.

        Raises:
            UserError: nothing there, nothing readable, or a checkpoint of a newer fakeimg.
        """
        return self._first_readable(step, self._read_meta)[0]

    def _read_meta(self, step: int) -> Meta:
        values = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))['meta']
        return Meta.from_json(values, f'checkpoint {step} in {self.folder}')

    def _first_readable(self, step: int | None, read: Callable[[int], Item]) -> tuple[Item, list[str]]:
        """What `read` returns of `step`, or of the newest checkpoint that is not damaged, and those that are."""
        steps, notes = self.steps(), []
        if not steps:
            raise _no_checkpoints(self.folder)
        listed = f'there are {", ".join(map(str, steps))}'
        if step is not None and step not in steps:
            raise UserError(f'there is no checkpoint {step} in {self.folder} ({listed}); choose one of these.')
        for candidate in reversed(steps) if step is None else [step]:
            try:
                return read(candidate), notes
            except UserError:
                raise
            except Exception as error:  # whatever tensorstore, zarr or json make of damaged bytes
                notes.append(f'checkpoint {candidate} is damaged ({_short(error)})')
        raise UserError(f'{self.folder}: {"; ".join(notes)}; choose another checkpoint or run ({listed}).')

    def set_aside_after(self, step: int) -> None:
        """Moves checkpoints later than `step` out of the way, to `damaged/` beside the folder, deleting nothing."""
        for later in [other for other in self.steps() if other > step]:
            target = self.folder.parent / 'damaged' / f'{later}-{int(time.time())}'
            target.parent.mkdir(exist_ok=True)
            if jax.process_index() == 0:
                os.rename(self.folder / str(later), target)
        self._manager.reload()

    def wait(self) -> None:
        """Blocks until the save under way is complete on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the save under way and releases the manager."""
        self._manager.close()


def describe(tree: Any) -> dict[str, str]:
    """Names every leaf with dtype and shape: `{'params/conv1/kernel': 'float32[3,3,3,32]'}`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): f'{leaf.dtype}[{",".join(map(str, leaf.shape))}]'
        for path, leaf in leaves
    }


def checksums(tree: Any) -> dict[str, int]:
    """Returns a 32-bit sum over the bits of every leaf, by name, that any single changed bit changes.

    Neither zarr nor tensorstore notices a flipped bit in what they read back.
    """
    sums = jax.device_get(_bit_sums(jax.tree.leaves(tree)))
    return {name: int(value) for name, value in zip(describe(tree), sums, strict=True)}


@jax.jit
def _bit_sums(leaves: list[jax.Array]) -> list[jax.Array]:
    def bit_sum(leaf: jax.Array) -> jax.Array:
        words = jnp.ravel(leaf).view(jnp.uint32 if leaf.dtype.itemsize % 4 == 0 else jnp.uint8).astype(jnp.uint32)
        # Odd weights, so that no change of one bit can vanish modulo 2^32, and swapped values show too.
        return jnp.sum(words * (2 * jnp.arange(words.size, dtype=jnp.uint32) + 1), dtype=jnp.uint32)

    return [bit_sum(leaf) for leaf in leaves]


@contextlib.contextmanager
def _late_reads_unreported() -> Iterator[None]:
    """Keeps tensorstore's other reads quiet once one has failed.

    Orbax closes its event loop at the first error; every read that ends later then prints a traceback of its own, and
    every read that had not begun a warning. Some do after this ends, so the silence lasts when there was an error.
    """
    previous = sys.unraisablehook

    def report(event: 'sys.UnraisableHookArgs') -> None:
        if str(event.exc_value) != 'Event loop is closed':
            previous(event)

    sys.unraisablehook = report
    try:
        yield
    except BaseException:
        warnings.filterwarnings('ignore', 'coroutine .* was never awaited', RuntimeWarning)
        raise
    sys.unraisablehook = previous


def _check_intact(saved: dict[str, int], found: dict[str, int]) -> None:
    changed = [name for name, value in found.items() if saved[name] != value]
    if changed:
        raise ValueError(f'{len(changed)} leaves are not what was saved, first {changed[0]}')


def check_same_tree(saved: dict[str, str], wanted: dict[str, str], where: str) -> None:
    """Raises UserError naming the leaves in which a checkpoint and the model differ.

    Top-level parts of the checkpoint that are not wanted at all (the optimizer's, in evaluation) may be there.
    """
    parts = {name.split('/')[0] for name in wanted}
    saved = {name: leaf for name, leaf in saved.items() if name.split('/')[0] in parts}
    differing = [name for name in sorted(saved.keys() | wanted.keys()) if saved.get(name) != wanted.get(name)]
    if differing:
        # Optimizer leaves mirror the parameters; naming the parameters says more.
        shown = ([name for name in differing if name.startswith('params')] or differing)[:4]
        lines = ', '.join(f'{name} ({saved.get(name, "absent")} there, {wanted.get(name, "absent")} here)'
                          for name in shown)  # fmt: skip
        raise UserError(
            f'{where} is a checkpoint of another model or optimizer: {len(differing)} leaves differ, among them '
            f'{lines}; choose another run folder, or the configuration it was trained with.'
        )


def _score(metrics: dict[str, Any]) -> float:
    value = metrics.get(BEST_BY)
    return -1.0 if value is None else value  # one class only: AUC is undefined


def _no_checkpoints(folder: pathlib.Path) -> UserError:
    return UserError(f"there are no checkpoints in {folder}; train first, or check the run folder's path.")


def _short(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [''])[0]
    return f'{type(error).__name__}: {first[:120]}'

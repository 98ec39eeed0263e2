"""Checkpoints: state, data iterator and what is needed to rebuild the model, in one atomic Orbax step."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from fakeimg.errors import UserError, system_error
from fakeimg.leaves import check_intact, check_same_tree, checksums, describe, late_reads_unreported, quiet_closed_loops
from fakeimg.meta import Meta
from fakeimg.orbax_setup import open_manager
from fakeimg.saving import Saving, add_metrics

BEST_BY, RANKED_BY = 'auc', 'smoothed_auc'
ATTEMPTS = 10  # at a checkpoint that a running training deletes meanwhile
_NOT_RANKED = -2.0
Item = TypeVar('Item')


class CheckpointDeleted(UserError):
    """A checkpoint is not there, or no longer."""


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
    """The checkpoints of one run folder: the last two and the best by smoothed validation AUC are kept.

    Saving is asynchronous; `close` waits for what is under way. A checkpoint is complete or it is not listed.

    Attributes:
        folder: where they are.
        saving: what is under way.
        ranked_since: the first step whose score counts for the best, see `Meta`; of a run that goes on, set by it.
    """

    def __init__(self, folder: pathlib.Path, *, read_only: bool = False):
        if read_only and not folder.is_dir():
            raise _no_checkpoints(folder)
        self.folder = folder.absolute()
        self.saving = Saving()
        self._saved: int | None = None  # the step whose save may still fail
        if not read_only:
            quiet_closed_loops()  # a write that fails leaves others behind, too
        self.ranked_since = 0
        self._manager = open_manager(self.folder, self._score, read_only=read_only)

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        self.saving.settle()
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step of the highest smoothed AUC of validation, or the last one where none was validated."""
        if self.steps():
            self.ranked_since = max(self.ranked_since, self.read_meta().ranked_since)
        scores = {}
        for step in filter(self.is_validated, self.steps()):
            with contextlib.suppress(FileNotFoundError):  # a running training deletes some
                scores[step] = self._score(self._manager.metrics(step) or {})
        ranked = [step for step, score in scores.items() if score > _NOT_RANKED]
        return max(ranked, key=lambda step: (scores[step], step)) if ranked else self._manager.latest_step()

    def resolve(self, step: str | int) -> int | None:
        """The number of the checkpoint that a user names: `best` (smoothed validation AUC), `latest`, or a number.

        None is the newest that can be read. Raises UserError for any other word.
        """
        if step in ('best', 'latest'):
            return self.best_step() if step == 'best' else None
        if not str(step).isdecimal():
            raise UserError(f'step is {step!r}; it must be best, latest, or the number of a checkpoint.')
        return int(step)

    def read_named(self, step: str | int, read: Callable[[int | None], Item]) -> Item:
        """What `read` returns of the checkpoint that `resolve` finds; of the next one where a training deletes that."""
        for attempt in range(ATTEMPTS):
            try:
                return read(self.resolve(step))
            except CheckpointDeleted:
                if step not in ('best', 'latest') or attempt == ATTEMPTS - 1:
                    raise
                self._manager.reload()
        raise AssertionError

    def is_validated(self, step: int) -> bool:
        """Whether there is a checkpoint of `step` that was saved with its validation metrics."""
        return (self.folder / str(step) / 'metrics').exists()

    def score(self, step: int) -> float | None:
        """The validation AUC of a step; None of one class alone."""
        return (self._manager.metrics(step) or {}).get(BEST_BY)

    def save(
        self,
        step: int,
        state: Any,
        data: dict[str, Any],
        meta: Meta,
        metrics: dict[str, Any] | None = None,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts saving; returns once the state is copied, on its devices, and the save before is complete.

        A step that exists is left alone; the metrics that it lacks are added to it.

        Args:
            step: steps taken so far.
            state: a pytree of arrays, replicated over all processes; may be donated afterwards.
            data: state of the data iterator, JSON.
            meta: of the run; `state_tree` and `checksums` of the leaves are added to it.
            metrics: validation metrics; without them the checkpoint cannot become the best.
            then: is called in another thread once the checkpoint is complete.

        Raises:
            UserError: this checkpoint, or the one before, cannot be written; the disk is full, for example.
        """
        self.wait()  # its failure is one of the step before
        ranking = metrics and {name: metrics[name] for name in (BEST_BY, RANKED_BY) if name in metrics} | {'step': step}
        if step in self._manager.all_steps():
            if ranking and not self.is_validated(step):  # a signal had cut its validation short
                add_metrics(self.folder / str(step), ranking)
                self._manager.reload()
            return

        def write(state: Any) -> None:
            full = dataclasses.replace(meta, state_tree=describe(state), checksums=checksums(state))
            items = ocp.args.Composite(
                state=ocp.args.PyTreeSave(state), data=ocp.args.JsonSave(data), meta=ocp.args.JsonSave(full.to_json())
            )
            self._manager.save(step, args=items, metrics=ranking)

        def finish() -> None:
            self._manager.wait_until_finished()
            then()

        with self._failing_in_words():
            self._saved = step
            self.saving.start(state, write, finish)

    def _score(self, metrics: dict[str, Any]) -> float:
        """What the best is chosen by, -1 for an AUC of one class; early checkpoints say neither step nor RANKED_BY."""
        if metrics.get('step', 0) < self.ranked_since:
            return _NOT_RANKED
        return -1.0 if (auc := metrics.get(RANKED_BY, metrics.get(BEST_BY))) is None else auc

    def restore(self, abstract_state: Any, step: int | None = None, *, optional: str = '') -> Restored:
        """Reads one checkpoint onto the devices of `abstract_state`.

        Args:
            abstract_state: a pytree of jax.ShapeDtypeStruct with shardings, the whole saved state or some of its
                top-level parts (`{'params': ..., 'batch_stats': ...}`).
            step: which one; None takes the last, and the one before if that is damaged, and so on.
            optional: field of `abstract_state` that stays None where the checkpoint has none.

        Raises:
            UserError: nothing there, nothing readable, or a checkpoint of another model (the leaves are named).
        """
        restored, notes = self._first_readable(
            step, lambda candidate: self._restore(abstract_state, candidate, optional)
        )
        return dataclasses.replace(restored, notes=[f'{note}, falling back to the one before' for note in notes])

    def _restore(self, abstract_state: Any, step: int, optional: str = '') -> Restored:
        meta = self._read_meta(step)
        if optional and not any(name.startswith(f'{optional}/') for name in meta.state_tree):
            abstract_state = abstract_state.replace(**{optional: None})
        check_same_tree(meta.state_tree, describe(abstract_state), f'{self.folder}/{step}')
        restore_args = ocp.checkpoint_utils.construct_restore_args(abstract_state)
        # A partial restore can pass silently by itself, hence the check above.
        state = ocp.args.PyTreeRestore(abstract_state, restore_args=restore_args, partial_restore=True)
        with late_reads_unreported():
            items = self._manager.restore(step, args=ocp.args.Composite(state=state, data=ocp.args.JsonRestore()))
        check_intact(meta.checksums, checksums(items['state']))
        return Restored(step, items['state'], items['data'], meta, [])

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
            raise CheckpointDeleted(f'there is no checkpoint {step} in {self.folder} ({listed}); choose one of these.')
        deleted = []
        for candidate in reversed(steps) if step is None else [step]:
            before = self._files(candidate)
            try:
                return read(candidate), notes
            except UserError:
                raise
            except Exception as error:  # whatever tensorstore, zarr or json make of damaged bytes
                if not before or before - self._files(candidate):
                    deleted.append(candidate)
                else:
                    notes.append(f'checkpoint {candidate} is damaged ({_short(error)})')
        if not deleted:
            raise UserError(f'{self.folder}: {"; ".join(notes)}; choose another checkpoint or run ({listed}).')
        self._manager.reload()
        if step is None and set(self.steps()) - set(steps):
            return self._first_readable(None, read)  # newer ones, for which the others were deleted
        named = ', '.join(map(str, deleted))
        raise CheckpointDeleted(f'checkpoint {named} of {self.folder} was deleted while it was read; try again.')

    def _files(self, step: int) -> set[str]:
        return {name for _, _, names in os.walk(self.folder / str(step)) for name in names}

    def set_aside_after(self, step: int) -> None:
        """Moves checkpoints later than `step` out of the way, to `damaged/` beside the folder, deleting nothing."""
        for later in filter(lambda other: other > step, self.steps()):
            (damaged := self.folder.parent / 'damaged').mkdir(exist_ok=True)
            if jax.process_index() == 0:
                os.rename(self.folder / str(later), damaged / f'{later}-{int(time.time())}')
        self._manager.reload()

    def check(self) -> None:
        """Raises UserError if the save under way has failed."""
        with self._failing_in_words():
            self.saving.check()

    def wait(self) -> None:
        """Blocks until the save under way is complete on disk. Raises UserError if it cannot be."""
        with self._failing_in_words():
            self.saving.wait()

    def close(self) -> None:
        """Waits for the save under way and releases the manager. Raises UserError if the save fails."""
        with self._failing_in_words():
            self.saving.wait()
            self._manager.close()

    @contextlib.contextmanager
    def _failing_in_words(self) -> Iterator[None]:
        """Turns what the file system refuses to a save into a UserError, once, and removes what was written of it."""
        try:
            yield
        except Exception as error:
            reason, step = system_error(error), self._saved
            if reason is None:
                raise
            self._saved = None
            if step is None:  # said before
                return
            warnings.filterwarnings('ignore', 'coroutine .* was never awaited', RuntimeWarning)  # those after this one
            if jax.process_index() == 0:
                for partial in self.folder.glob(f'{step}.orbax-checkpoint-tmp*'):
                    shutil.rmtree(partial, ignore_errors=True)
            complete = sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())
            if step in complete:  # what came after it failed
                raise
            last = f'the last complete one is {complete[-1]}' if complete else 'there is none before it'
            raise UserError(
                f'checkpoint {step} cannot be written to {self.folder} ({reason}); {last}; make that possible, and the '
                'same command continues from there.'
            ) from error


def _no_checkpoints(folder: pathlib.Path) -> UserError:
    return UserError(f"there are no checkpoints in {folder}; train first, or check the run folder's path.")


def _short(error: Exception) -> str:
    return f'{type(error).__name__}: {next(iter(str(error).strip().splitlines()), "")[:120]}'

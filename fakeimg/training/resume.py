"""Where a run starts: at its last checkpoint, at other weights, or from scratch."""

import dataclasses
import pathlib
from typing import Any

from fakeimg import files, initial
from fakeimg.checkpoint import Checkpoints, Restored
from fakeimg.config import Config, from_plain, override
from fakeimg.errors import UserError
from fakeimg.meta import Meta
from fakeimg.training import identity
from fakeimg.training.program import Program
from fakeimg.training.schedule import Schedule
from fakeimg.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        state: on the devices.
        origin: where it comes from, in words.
        restored: the checkpoint that it comes from, or None.
        notes: warnings for the user: what changed since, and damaged checkpoints that were skipped.
        ranked_since: see `Meta`.
        validations: likewise.
    """

    state: TrainState
    origin: str
    restored: Restored | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    ranked_since: int = 0
    validations: list[list[Any]] = dataclasses.field(default_factory=list)

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return self.restored.step if self.restored else 0


def starting_point(program: Program, folder: pathlib.Path, *, with_changes: bool = False) -> Start:
    """Which weights win: this run's newest readable checkpoint, else what `config.init.weights` says.

    Args:
        program: of the run.
        folder: of its checkpoints, which need not exist.
        with_changes: continue whatever changed, see `identity.check`.

    Raises:
        UserError: the checkpoint belongs to another run or another model.
    """
    if folder.is_dir():
        checkpoints = Checkpoints(folder, read_only=True)
        try:
            if checkpoints.steps():
                meta = checkpoints.read_meta()
                _check_same_batch(program, meta, folder.parent)
                notes, same = identity.check(program, meta, folder.parent, with_changes=with_changes)
                restored = checkpoints.restore(program.abstract_state(), optional='dynamic_scale')
                restored = dataclasses.replace(restored, state=program.with_loss_scale(restored.state))
                _check_length(program, restored.step)
                goes_on = same and not _is_longer(program, restored.meta)
                return Start(
                    state=restored.state,
                    origin=f'from checkpoint {restored.step}',
                    restored=restored,
                    notes=[*restored.notes, *notes],
                    ranked_since=restored.meta.ranked_since if same else restored.step + 1,
                    validations=_validations(checkpoints, restored) if goes_on else [],
                )
        finally:
            checkpoints.close()
    return Start(*program.initial_state())


def _validations(checkpoints: Checkpoints, restored: Restored) -> list[list[Any]]:
    """Those of the run so far, with the one that was added to the checkpoint after a signal had cut it short."""
    found = list(restored.meta.validations)
    if checkpoints.is_validated(restored.step) and restored.step not in (step for step, _ in found):
        found.append([restored.step, checkpoints.score(restored.step)])
    return found


def has_checkpoints(folder: pathlib.Path) -> bool:
    """Whether a run goes on here, rather than starts."""
    return folder.is_dir() and any(path.name.isdecimal() for path in folder.iterdir())


def continued(config: Config, folder: pathlib.Path) -> Config:
    """`config` with the resize and splits of the run that it continues, and its mean and std where it sets none.

    The weights that the latter came from may be gone, and the best checkpoint of their run may be another one.
    """
    if not folder.is_dir():
        return config
    checkpoints = Checkpoints(folder, read_only=True)
    try:
        if not checkpoints.steps():
            return config
        saved = from_plain(checkpoints.read_meta().config)
    finally:
        checkpoints.close()
    before = saved.data
    fields = {
        **initial.continued(config.init, saved.init),
        'data.mean': config.data.mean or before.mean,
        'data.std': config.data.std or before.std,
        'data.resize_version': before.resize_version,
        'data.split_version': before.split_version,
    }
    return override(config, fields)


def _is_longer(program: Program, meta: Meta) -> bool:
    """Whether a run is given more steps than it had; what stopped it early counts anew with the learning rates then."""
    return program.schedule.total_steps > Schedule.create(from_plain(meta.config), program.num_train).total_steps


def _check_length(program: Program, step: int) -> None:
    if step > program.schedule.total_steps:
        raise UserError(
            f'this run has taken {step} steps already, more than the {program.schedule.total_steps} of the '
            'configuration; raise config.epochs or config.steps, or choose another run folder.'
        )


def _check_same_batch(program: Program, meta: Meta, workdir: pathlib.Path) -> None:
    before = meta.config['batch_size']
    if before != program.config.batch_size:
        raise UserError(
            f'this run was started with config.batch_size={before}, not {program.config.batch_size}, which '
            'would change what a step means; continue with the old value, or choose another run folder.',
            add=[('config.batch_size', str(before))],
            instead=[('workdir', files.shown(identity.another_folder(workdir)))],
        )

"""Where a run starts: at its last checkpoint, at converted weights, or from scratch."""

import dataclasses
import pathlib

from fakeimg.checkpoint import Checkpoints, Restored
from fakeimg.config import Config, from_plain, override
from fakeimg.errors import UserError
from fakeimg.fields import changed_fields
from fakeimg.training.program import Program
from fakeimg.training.state import TrainState


def starting_point(program: Program, folder: pathlib.Path) -> tuple[TrainState, Restored | None, str]:
    """Which weights win: this run's newest readable checkpoint, else what `config.init.weights` says.

    Returns:
        The state on the devices, the checkpoint it comes from (or None), and its origin in words.

    Raises:
        UserError: the checkpoint belongs to another model, or to a run with another batch size.
    """
    if folder.is_dir():
        checkpoints = Checkpoints(folder, read_only=True)
        try:
            if checkpoints.steps():
                restored = checkpoints.restore(program.abstract_state(), optional='dynamic_scale')
                restored = dataclasses.replace(restored, state=program.with_loss_scale(restored.state))
                _check_same_steps(program, restored)
                return restored.state, restored, f'from checkpoint {restored.step}'
        finally:
            checkpoints.close()
    state, origin = program.initial_state()
    return state, None, origin


def has_checkpoints(folder: pathlib.Path) -> bool:
    """Whether a run goes on here, rather than starts."""
    return folder.is_dir() and any(path.name.isdecimal() for path in folder.iterdir())


def continued(config: Config, folder: pathlib.Path) -> Config:
    """`config` with the mean and std of the run that it continues where it sets none: its weights file may be gone."""
    if not folder.is_dir() or (config.data.mean and config.data.std):
        return config
    checkpoints = Checkpoints(folder, read_only=True)
    try:
        if not checkpoints.steps():
            return config
        before = from_plain(checkpoints.read_meta().config).data
    finally:
        checkpoints.close()
    return override(config, {'data.mean': config.data.mean or before.mean, 'data.std': config.data.std or before.std})


def _check_same_steps(program: Program, restored: Restored) -> None:
    if restored.step > program.schedule.total_steps:
        raise UserError(
            f'this run has taken {restored.step} steps already, more than the {program.schedule.total_steps} of the '
            'configuration; raise config.epochs or config.steps, or choose another run folder.'
        )
    before = restored.meta.config['batch_size']
    if before != program.config.batch_size:
        raise UserError(
            f'this run was started with config.batch_size={before}, not {program.config.batch_size}, which '
            'would change what a step means; continue with the old value, or choose another run folder.'
        )


def changes(program: Program, restored: Restored | None) -> list[str]:
    """Notes for the user: what changed since the checkpoint, and damaged checkpoints that were skipped."""
    if restored is None:
        return []
    notes = list(restored.notes)
    fields = changed_fields(from_plain(restored.meta.config), program.config)
    if fields:
        notes.append(f'the configuration changed since the checkpoint: {"; ".join(fields)}')
    if restored.meta.data_digest != program.data.digest:
        notes.append('the images are not those that this run was started on')
    return notes

"""Where a run starts: at its own last checkpoint, at converted weights, or from scratch."""

import pathlib

from fakeimg import config as config_lib
from fakeimg.checkpoint import Checkpoints, Restored
from fakeimg.errors import UserError
from fakeimg.training.program import Setup
from fakeimg.training.state import TrainState


def starting_point(setup: Setup, folder: pathlib.Path) -> tuple[TrainState, Restored | None, str]:
    """Which weights win: this run's newest readable checkpoint, else what `config.init.weights` says.

    Returns:
        The state on the devices, the checkpoint it comes from (or None), and its origin in words.

    Raises:
        UserError: the checkpoint is another model's, or of a run whose steps were other ones.
    """
    if folder.is_dir():
        checkpoints = Checkpoints(folder, read_only=True)
        try:
            if checkpoints.steps():
                restored = checkpoints.restore(setup.abstract_state())
                _check_same_steps(setup, restored)
                return restored.state, restored, f'from checkpoint {restored.step}'
        finally:
            checkpoints.close()
    state, origin = setup.initial_state()
    return state, None, origin


def _check_same_steps(setup: Setup, restored: Restored) -> None:
    if restored.step > setup.schedule.total_steps:
        raise UserError(
            f'this run has taken {restored.step} steps already, more than the {setup.schedule.total_steps} asked for; '
            'raise config.epochs or config.steps, or choose another run folder.'
        )
    before = restored.meta.config['batch_size']
    if before != setup.config.batch_size:
        raise UserError(
            f'this run was started with config.batch_size={before}, not {setup.config.batch_size}, and a step must '
            'stay a step; continue with the old value, or choose another --workdir.'
        )


def changes(setup: Setup, restored: Restored | None) -> list[str]:
    """What is no longer as it was when the checkpoint was written, and what was damaged, for people."""
    if restored is None:
        return []
    notes = list(restored.notes)
    fields = config_lib.changed_fields(restored.meta.config, setup.config)
    if fields:
        notes.append(f'the configuration changed since the checkpoint: {"; ".join(fields)}')
    if restored.meta.data_digest != setup.data_digest:
        notes.append('the images are not the ones that this run was started on')
    return notes

"""What makes a run what it is: its recipe, its images and its seed. Only the same run goes on in a run folder."""

import itertools
import pathlib

from fakeimg import files
from fakeimg.config import from_plain
from fakeimg.errors import UserError
from fakeimg.fields import changed_fields
from fakeimg.meta import Meta
from fakeimg.training.program import Program

# What may change while a run goes on. Its length is among it; where the images lie is too, for their digest says which
# they are.
FREE = (
    *('epochs', 'steps', 'early_stopping', 'steps_per_call', 'precision', 'parallel'),
    *('log_every_steps', 'validate_every_epochs', 'checkpoint_every_steps'),
    *('data.path', 'data.demo_examples', 'data.cache', 'data.threads', 'data.max_bad_fraction'),
)
# What the scores of a validation depend on besides the weights: those before and after a change cannot be ranked.
VALIDATION = (
    *('data.validation_split', 'data.validation_fraction', 'data.split_version'),
    *('data.image_size', 'data.resize_size', 'data.mean', 'data.std'),
)


def changes(program: Program, meta: Meta) -> tuple[list[str], list[str]]:
    """What differs between a run and the configuration and images that would continue it, one phrase each.

    Returns:
        What makes another run of it, and what does not.
    """
    before = from_plain(meta.config)
    fields = changed_fields(before, program.config)
    moved = {'init.weights'} if '' != before.init.digest == program.config.init.digest else set()
    free = [field for field in fields if _name(field) in {*FREE, *moved}]
    others = [field for field in fields if field not in free]
    if not has_same_images(program, meta):
        others.insert(0, 'the images are not those that this run was started on')
    return others, free


def has_same_images(program: Program, meta: Meta) -> bool:
    """Whether the images are those of a checkpoint: by names, splits and labels, and by what some files hold."""
    return meta.data_digest == program.data.digest and meta.content_digest in (None, program.content_digest)


def check(program: Program, meta: Meta, workdir: pathlib.Path, *, with_changes: bool) -> tuple[list[str], bool]:
    """Whether a run may go on from a checkpoint.

    Args:
        program: what would continue.
        meta: of the checkpoint.
        workdir: the run folder.
        with_changes: whether the user has asked for it, whatever changed.

    Returns:
        Notes for the user, and whether validation scores can be compared with those before.

    Raises:
        UserError: it would be another run, and nobody asked for that.
    """
    others, free = changes(program, meta)
    if others and not with_changes:
        raise UserError(
            f'this run folder holds another run ({"; ".join(others[:4])}); choose another run folder, or set '
            'continue_with_changes to go on with what changed.',
            add=[('workdir', files.shown(another_folder(workdir)))],
            instead=[('continue_with_changes', '')],
        )
    notes = [f'the configuration changed since the checkpoint: {"; ".join(free)}'] if free else []
    notes += [f'continues with changes: {change}' for change in others]
    same = has_same_images(program, meta) and not any(_name(field) in VALIDATION for field in others)
    if not same:
        notes.append('validation is another one now: the best checkpoint is chosen among those that come')
    return notes, same


def another_folder(workdir: pathlib.Path) -> pathlib.Path:
    """A run folder of a similar name that is not there yet."""
    names = (workdir.with_name(f'{workdir.name}-{number}') for number in itertools.count(2))
    return next(path for path in names if not path.exists())


def _name(field: str) -> str:
    return field.split(':')[0]

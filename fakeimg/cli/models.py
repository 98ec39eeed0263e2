"""The flag --model, for verbs that apply a detector of a run or of others."""

from absl import flags

from fakeimg import portable
from fakeimg.cli import verb
from fakeimg.errors import UserError

_MODEL = flags.DEFINE_string(
    'model', None, 'Portable detector instead of a run: a folder or file that fakeimg push wrote, hf://OWNER/NAME of '
    f'the Hugging Face Hub, or one in the package: {", ".join(portable.names())}.'
)  # fmt: skip


def named() -> str | None:
    """What --model is, if it is given."""
    return _MODEL.value


def chosen(workdir: str | None) -> str:
    """The detector that --workdir or --model names. Raises UserError unless one of them does."""
    if not workdir and not _MODEL.value:
        packaged = ', '.join(f'--model {name}' for name in portable.names())
        raise UserError(
            'no detector given; pass --workdir runs/NAME, --model hf://OWNER/NAME, or one of those in the package: '
            f'{packaged}.'
        )
    verb.require(not (workdir and _MODEL.value), 'model', _MODEL.value, 'left out where --workdir is given')
    return str(workdir or _MODEL.value)

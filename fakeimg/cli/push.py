"""Publishes a detector: fakeimg push runs/resnet50 OWNER/NAME --license apache-2.0

The folder holds the weights without the optimizer (model.safetensors), the thresholds, the figures on the test set and
a model card. fakeimg.load('hf://OWNER/NAME') and fakeimg predict --model hf://OWNER/NAME take it from the Hugging Face
Hub. With --out DIR the folder is written there, and nothing is sent.
"""

import pathlib
import tempfile
from collections.abc import Sequence

from absl import flags

from fakeimg import detector, loading
from fakeimg.cli import verb
from fakeimg.console import Console
from fakeimg.errors import UserError
from fakeimg.evaluation import evaluator
from fakeimg.evaluation.card import Published
from fakeimg.publishing import folder, upload

_STEP = flags.DEFINE_string('step', 'best', 'Checkpoint: best (by validation), latest, or its step.')
_OUT = flags.DEFINE_string('out', None, 'Folder to write, instead of sending it; OWNER/NAME may then be left out.')
_FLOAT16 = flags.DEFINE_bool(
    'float16', False, 'Half the size: thresholds are fitted and the test set is scored anew, for which the images of '
    'the run must be there.'
)  # fmt: skip
_PRIVATE = flags.DEFINE_bool('private', False, 'Only you see the repository, if it does not exist yet.')
_LICENSE = flags.DEFINE_string('license', '', 'Of the weights, as the Hub spells it: apache-2.0, mit, cc-by-nc-4.0.')
_ABOUT = flags.DEFINE_string('about', None, 'Markdown file whose text the model card begins with.')
_MOVED_TO = flags.DEFINE_string('moved_to', None, 'Where the images that the run was trained on are now.')


def main(argv: Sequence[str]) -> None:
    console = verb.console()
    if len(argv) < 2:
        raise UserError('no run given: fakeimg push runs/NAME OWNER/NAME.')
    if len(argv) > 3:
        raise UserError(f'unexpected argument {argv[3]!r}; a run and OWNER/NAME are enough.')
    name = argv[2] if len(argv) == 3 else ''
    if not name and not _OUT.value:
        raise UserError('no name on the Hugging Face Hub given; add OWNER/NAME, or write a folder with --out DIR.')
    out = pathlib.Path(_OUT.value).expanduser().absolute() if _OUT.value else None
    if name:
        upload.require_name(name)
    if out is None:
        upload.require_login()
    else:
        folder.require_free(out)
    published = Published(loading.HUB + name if name else pathlib.Path(_OUT.value or '').name, _LICENSE.value, _about())
    trained = detector.load(argv[1], _STEP.value)
    if _MOVED_TO.value:
        trained = evaluator.moved(trained, _MOVED_TO.value)
    with tempfile.TemporaryDirectory() as work:
        written = out or pathlib.Path(work, name.partition('/')[2])
        folder.write(written, trained, 'float16' if _FLOAT16.value else 'float32', published, console)
        _say(written, name, console)
        if out is None:
            console.say(f'published: {upload.upload(written, name, private=_PRIVATE.value)}')


def _about() -> str:
    if not _ABOUT.value:
        return ''
    try:
        return pathlib.Path(_ABOUT.value).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'--about is {_ABOUT.value}, which cannot be read ({error}).') from None


def _say(written: pathlib.Path, name: str, console: Console) -> None:
    """What is in the folder, and under which license."""
    for path in sorted(written.iterdir()):
        console.say(f'  {path.stat().st_size:>13,} bytes  {path.name}')
    console.say(f'  license: {_LICENSE.value or "not stated; say it with --license apache-2.0, for example"}')
    console.say(f'written to {written}' if _OUT.value else f'sending to {name}')

"""Where evaluations lie: each in a folder that no other evaluation has."""

import json
import pathlib
from typing import Any

from fakeimg import files, portable
from fakeimg.errors import UserError
from fakeimg.runtime import parallel


def home(folder: pathlib.Path) -> pathlib.Path:
    """Where the evaluations of a detector lie: in its run folder; in the working directory if it has none."""
    return pathlib.Path('evaluations') if portable.is_portable(folder) else folder / 'evaluations'


def free(parent: pathlib.Path, name: str, key: dict[str, Any]) -> pathlib.Path:
    """A folder that no other evaluation has: where one has the plain name, it says what is different."""
    shown = {name.split('_')[0]: _short(name, value) for name, value in key.items() if value is not None}
    words = dict.fromkeys(other.split('_')[0] for other in _others(parent / name, key))
    return parent / ''.join([name, *(f'-{word}-{shown[word]}' for word in words)])


def _short(name: str, value: Any) -> str:
    if name.endswith('_digest'):
        return value[:8]
    return f'{value:g}' if isinstance(value, float) else str(value)


def require_other(folder: pathlib.Path, key: dict[str, Any]) -> None:
    """Raises UserError where a folder cannot be written to, or holds an evaluation with another `key`."""
    if _others(folder, key):
        raise UserError(f'{folder} holds another evaluation; choose another folder.')
    if parallel.is_first_process():
        files.require_writable(folder)


def before(folder: pathlib.Path) -> dict[str, Any]:
    """The metrics that a folder holds already."""
    path = folder / 'metrics.json'
    return json.loads(path.read_text()) if path.exists() else {}


def _others(folder: pathlib.Path, key: dict[str, Any]) -> list[str]:
    """In what the evaluation of a folder differs from this one, if there is one."""
    if not (found := before(folder)):
        return []
    earlier = {**dict.fromkeys(key), 'flip': False, **found}
    return [
        name for name, value in key.items() if earlier[name] != value and not (name == 'threshold' and value is None)
    ]

"""Annotations of arrays are checked in every call: shapes and dtypes. Only tests pay for that."""

import pathlib

import jaxtyping

from tests.support import shapes

ROOT = pathlib.Path(__file__).parents[1]


def annotated() -> list[str]:
    """The modules that annotate arrays; a call of the others would cost tens of microseconds more for nothing."""
    paths = (path for path in (ROOT / 'fakeimg').rglob('*.py') if 'jaxtyping' in path.read_text())
    return ['.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__') for path in paths]


jaxtyping.install_import_hook(annotated(), f'{shapes.__name__}.check')

"""Where fakeimg keeps what outlives a run: converted weights and compiled programs. All of it can be deleted."""

import os
import pathlib


def cache_folder() -> pathlib.Path:
    """$XDG_CACHE_HOME/fakeimg, or ~/.cache/fakeimg."""
    return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'fakeimg'

"""Where verbs write unless told otherwise: names that two different runs do not share."""

import json
import pathlib

from fakeimg.config import Config
from fakeimg.data import layouts


def default_workdir(name: str, config: Config) -> pathlib.Path:
    """runs/NAME-DATA-seedN, without what goes without saying: the demo faces of the recipe `demo`, and seed 0."""
    path = config.data.path
    parts = [name, '' if path in ('', name) else layouts.set_name(path), f'seed{config.seed}' if config.seed else '']
    folder, early = (pathlib.Path('runs', name) for name in ('-'.join(filter(None, parts)), name))
    if early != folder and not folder.exists() and (early / 'config.json').is_file():  # named by an earlier fakeimg
        began = json.loads((early / 'config.json').read_text())
        if began['seed'] == config.seed and layouts.set_name(began['data']['path']) == layouts.set_name(path):
            return early
    return folder

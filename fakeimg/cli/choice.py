"""Recipes that look at the images before they say what to train: those with a function `choose`."""

import pathlib
import runpy

import jax

from fakeimg import initial
from fakeimg.checkpoint import Checkpoints
from fakeimg.cli import data_names, recipe
from fakeimg.config import Config, default_config, from_plain
from fakeimg.data.summary import summarise
from fakeimg.errors import UserError
from fakeimg.fields import changed_fields, get_field, set_field
from fakeimg.training.resume import has_checkpoints


def chosen(config: Config, workdir: pathlib.Path) -> tuple[Config, str]:
    """What to train by a recipe that chooses, and why; any other recipe's configuration is returned as it is.

    `choose(images: data.summary.Summary, has_gpu: bool, weights: str)` of the recipe returns the name of a recipe that
    comes with fakeimg, the fields to change in it, and the reason; `weights` is what `config.init.weights` names: none,
    imagenet or detector. The network of a detector comes with its weights. What the recipe's `get_config` and the
    command line set wins over all. A run that goes on keeps what was chosen when it began, wherever it began.

    Args:
        config: of the recipe, after overrides.
        workdir: the run folder.

    Returns:
        The configuration, and a line for the user, '' where nothing was chosen.

    Raises:
        UserError: the data cannot be opened.
    """
    choose = runpy.run_path(str(recipe.path())).get('choose')
    if choose is None:
        return config, ''
    checkpoints = workdir / 'checkpoints'
    if has_checkpoints(checkpoints):
        saved = Checkpoints(checkpoints, read_only=True)
        try:
            return _with_overrides(from_plain(saved.read_meta().config)), ''
        finally:
            saved.close()
    images = summarise(config)
    given = config.init.weights
    kind = 'none' if given == 'none' else 'detector' if initial.is_detector(given) else 'imagenet'
    name, changes, reason = choose(images, jax.default_backend() != 'cpu', kind)
    if kind == 'detector':
        changes = {**initial.fields_of(given), **changes}
    path = recipe.folder() / f'{name}.py'
    if not path.is_file():
        raise UserError(f'{recipe.path()} chose {name!r}, which is no recipe; it must be one of {recipe.names()}.')
    own, config = config, runpy.run_path(str(path))['get_config']()
    for field, value in changes.items():
        set_field(config, field, value)
    for field in (line.partition(':')[0] for line in changed_fields(default_config(), own)):
        set_field(config, field, get_field(own, field))
    as_typed = ' '.join([f'--config {name}', *(f'--config.{field}={value}' for field, value in changes.items())])
    return _with_overrides(config), f'{images}: as {as_typed}, {reason}'


def _with_overrides(config: Config) -> Config:
    before = config.data.image_size
    for field, value in recipe.overrides().items():
        set_field(config, field, value)
    if 'data.image_size' in recipe.overrides() and 'data.resize_size' not in recipe.overrides():
        config.data.keep_ratio(before)
    data_names.apply(config)
    return config

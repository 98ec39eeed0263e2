"""Where detectors are loaded from: run folders, portable detectors here or on the Hugging Face Hub, and the package."""

import dataclasses
import os
import pathlib
from typing import Any

import flax.linen as nn
import jax

from fakeimg import portable
from fakeimg.checkpoint import Checkpoints, Restored
from fakeimg.config import DEMO, Config, from_plain
from fakeimg.errors import UserError
from fakeimg.meta import Meta
from fakeimg.models import create_model, init_variables
from fakeimg.pretrained import hub
from fakeimg.runtime import parallel, precision
from fakeimg.runtime.start import start

HUB = 'hf://'


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained network on its devices, and where it comes from; see `detector.Detector` for the fields."""

    config: Config
    model: nn.Module
    variables: dict[str, Any]
    devices: parallel.Devices
    meta: Meta
    step: int
    folder: pathlib.Path
    origin: str
    notes: tuple[str, ...] = ()


def find(source: str | os.PathLike[str]) -> pathlib.Path:
    """The run folder, or the file of weights, that a user names; downloads it where it is on the Hub.

    Args:
        source: a run folder, a portable detector or its `model.safetensors`, `hf://OWNER/NAME[@REVISION]`, or the name
            of a detector in the package, which is looked for last.

    Raises:
        UserError: none of these, or it cannot be downloaded.
    """
    text = os.fspath(source)
    if text.startswith(HUB):
        name = text.removeprefix(HUB)
        if not hub.is_name(name):
            raise UserError(f'{text} is no detector on the Hub; write {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION.')
        folder = hub.download_folder(name, [portable.WEIGHTS], [*portable.BESIDE, portable.METRICS])
        return folder / portable.WEIGHTS
    path = pathlib.Path(text).expanduser()
    if (path / 'checkpoints').is_dir() or path.is_file():
        return path
    if portable.is_portable(path):
        return path / portable.WEIGHTS
    packaged = portable.names()
    if path.exists():
        also = f', and hides the detector {text} of the package' if text in packaged else ''
        raise UserError(
            f'{path} is not a run folder or portable detector (there are no checkpoints and no {portable.WEIGHTS} in '
            f'it){also}; check the path.'
        )
    if text in packaged:
        return portable.PACKAGED / text / portable.WEIGHTS
    raise UserError(
        f'{path} is not a run folder, a portable detector, or a detector of the package ({", ".join(packaged)}); '
        'check the path.'
    )


def read(source: str | os.PathLike[str], step: str | int, batch_size: int) -> Network:
    """Reads a network onto all devices.

    Args:
        source: see `find`.
        step: of a run's checkpoint: `best`, `latest`, or a number. A portable detector has one.
        batch_size: images per step over all GPUs; 0 takes the run's, or the next that the devices divide.

    Raises:
        UserError: see `detector.load`.
    """
    path, name = find(source), os.fspath(source)
    start()
    if path.is_dir():
        return _of_run(path, step, batch_size)
    weights = portable.read_weights(path)
    if step not in ('best', 'latest', weights.step, str(weights.step)):
        raise UserError(f'{name} holds the weights of step {weights.step} alone; leave out the step {step}.')
    portable.require_labels(weights.meta, name)
    try:
        config, model, devices, shapes = _rebuild(weights.meta, batch_size)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f'the header of {name} is damaged ({error}); get the file again.') from error
    variables = devices.replicate(portable.fitted(weights, shapes, name))
    return Network(config, model, variables, devices, weights.meta, weights.step, path.parent, name)


def identify(source: str | os.PathLike[str], step: str | int) -> tuple[pathlib.Path, int, Meta]:
    """The file or the run folder, the step, and the meta of what `read` would read, without its weights.

    Args:
        source: see `find`.
        step: of a run's checkpoint: `best`, or a number.

    Raises:
        UserError: see `detector.load`.
    """
    path = find(source)
    if path.is_file():
        meta, number = portable.read_meta(path)
        portable.require_labels(meta, os.fspath(source))
        return path, number, meta
    checkpoints = Checkpoints(path / 'checkpoints', read_only=True)
    try:
        number, meta = checkpoints.read_named(step, lambda number: (number, checkpoints.read_meta(number)))
        assert number is not None
        portable.require_labels(meta, str(path))
        return path, number, meta
    finally:
        checkpoints.close()


def _of_run(folder: pathlib.Path, step: str | int, batch_size: int) -> Network:
    checkpoints = Checkpoints(folder / 'checkpoints', read_only=True)

    def read_checkpoint(number: int | None) -> tuple[Config, nn.Module, parallel.Devices, Restored]:
        meta = checkpoints.read_meta(number)
        portable.require_labels(meta, str(folder))
        config, model, devices, shapes = _rebuild(meta, batch_size)
        return config, model, devices, _restore(checkpoints, devices.abstract(shapes), number)

    try:
        config, model, devices, restored = checkpoints.read_named(step, read_checkpoint)
    finally:
        checkpoints.close()
    return Network(
        config=config,
        model=model,
        variables=restored.state,
        devices=devices,
        meta=restored.meta,
        step=restored.step,
        folder=folder,
        origin=f'checkpoint {restored.step} of {folder}',
        notes=tuple(restored.notes),
    )


def _rebuild(meta: Meta, batch_size: int) -> tuple[Config, nn.Module, parallel.Devices, Any]:
    """The configuration, the network, the devices, and the shapes of its variables."""
    config = from_plain(meta.config)
    config.batch_size = parallel.batch_size(batch_size, config.batch_size)
    config.data.path = config.data.path or DEMO  # what early runs left empty
    devices = parallel.Devices.create(config.parallel, config.batch_size)
    model = create_model(config, precision.resolve(config.precision))
    return config, model, devices, jax.eval_shape(lambda: init_variables(model, config.data.image_size, 0))


def _restore(checkpoints: Checkpoints, abstract_variables: Any, step: int | None) -> Restored:
    """Reads what a trained model is applied with: the average of the weights if the run has one, or the weights."""
    if not any(name.startswith('ema/') for name in checkpoints.read_meta(step).state_tree):
        return checkpoints.restore(abstract_variables, step)
    restored = checkpoints.restore({'ema': abstract_variables}, step)
    return dataclasses.replace(restored, state=restored.state['ema'])

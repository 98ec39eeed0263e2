"""Converts ImageNet weights to the file training starts from.

python -m fakeimg.convert_weights resnet50 --source resnet50-11ad3fa6.pth --out weights/resnet50.safetensors
"""

import hashlib
import importlib
import pathlib
import pickle
from collections.abc import Sequence

import jax
import numpy as np
import safetensors
import safetensors.numpy
from absl import flags

from fakeimg import cli
from fakeimg.config import default_config
from fakeimg.errors import UserError
from fakeimg.models import create_model, imagenet, init_variables

_SOURCE = flags.DEFINE_string('source', None, 'A .safetensors file, or a .pth/.pt file where torch is installed.')
_OUT = flags.DEFINE_string('out', None, 'File to write; default weights/NAME.safetensors.')


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a torch state dict. Raises UserError when the file is not one or needs torch."""
    if not path.is_file():
        raise UserError(f'--source: there is no file {path}.')
    if path.suffix == '.safetensors':
        try:
            return safetensors.numpy.load_file(path)
        except safetensors.SafetensorError as error:
            raise UserError(f'{path} is not a readable safetensors file ({error}).') from error
    try:
        torch = importlib.import_module('torch')
    except ImportError:
        raise UserError(
            f'reading {path.name} needs torch, which is not installed; install it, or take the model as '
            'safetensors (timm/resnet50.a1_in1k has one).'
        ) from None
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        return {name: value.numpy() for name, value in state.items()}
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'{path} is not a state dict that can be read without running code ({reason}).') from error


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2 or argv[1] not in imagenet.CONVERTIBLE:
        raise UserError(f'say which model to convert: one of {", ".join(imagenet.CONVERTIBLE)}.')
    if not _SOURCE.value:
        raise UserError('say which file to convert: --source FILE.')
    model, source = argv[1], pathlib.Path(_SOURCE.value)
    out = pathlib.Path(_OUT.value or f'weights/{model}.safetensors')
    flat = imagenet.convert_resnet(read_tensors(source))
    config = default_config()
    config.model.name = model
    network = create_model(config)
    imagenet.check_weights(flat, jax.eval_shape(lambda: init_variables(network, 64, 0)), source)
    imagenet.save_weights(out, flat, model, hashlib.sha256(source.read_bytes()).hexdigest())
    values = sum(value.size for value in flat.values())
    print(f'{source} -> {out}: {len(flat)} tensors, {values:,} values; train with --config.init.weights={out}')


if __name__ == '__main__':
    cli.run_verb(main)

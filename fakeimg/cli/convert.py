"""Converts ImageNet weights to the file training starts from.

fakeimg convert resnet50 --source resnet50-11ad3fa6.pth --out weights/resnet50.safetensors
fakeimg convert resnet50 --source microsoft/resnet-50
"""

import pathlib
import shlex
from collections.abc import Sequence

from absl import flags

from fakeimg.cli import verb
from fakeimg.errors import UserError
from fakeimg.pretrained import convert

_SOURCE = flags.DEFINE_string(
    'source',
    None,
    'A .safetensors file; a .pth/.pt file where torch is installed; a .h5 file of VGG19 where h5py is; or the name of '
    'a model on the Hugging Face Hub (OWNER/NAME).',
)
_OUT = flags.DEFINE_string('out', None, 'File to write; default weights/NAME.safetensors.')


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2:
        raise UserError(f'no model given; name one of {", ".join(convert.CONVERTIBLE)}.')
    if not _SOURCE.value:
        raise UserError('no weights given; pass --source FILE or --source OWNER/NAME.')
    model = argv[1]
    out = pathlib.Path(_OUT.value or f'weights/{model}.safetensors')
    header = convert.convert(model, _SOURCE.value, out)
    head = f'without its classifier of {header.classes} classes' if header.classes else 'which had no classifier'
    prefix = f'its names without "{header.prefix}", ' if header.prefix else ''
    verb.console().say(
        f'{header.source} -> {out}: {model}, {prefix}{head}; train with --config.init.weights={shlex.quote(str(out))}'
    )

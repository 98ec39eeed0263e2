"""The whole conversion: from one published source to one safetensors file of ours."""

import pathlib

import jax

from fakeimg.config import default_config
from fakeimg.errors import UserError
from fakeimg.models import create_model, init_variables
from fakeimg.pretrained import hub, naming, published, weights_file

CONVERTIBLE = tuple(hub.DEFAULTS)


def convert(model: str, source_name: str, out: pathlib.Path) -> weights_file.Header:
    """Writes every parameter and statistic of `model` except the head's to `out`.

    Args:
        model: one of CONVERTIBLE.
        source_name: a local file or the name of a model on the Hugging Face Hub.
        out: the safetensors file to write, atomically.

    Raises:
        UserError: `source_name` is unreadable, or does not fill the model exactly.
    """
    if model not in CONVERTIBLE:
        raise UserError(f'there are no weights to convert for {model}; it must be one of {", ".join(CONVERTIBLE)}.')
    source = published.read_published(source_name)
    renamed = naming.rename(model, source.tensors, source_name)
    config = default_config()
    config.model.name = model
    network = create_model(config)
    shapes = jax.eval_shape(lambda: init_variables(network, 64, 0))
    weights_file.check_fit(renamed.flat, shapes, source_name)
    header = weights_file.Header(
        model=model,
        source=source.name,
        source_sha256=source.sha256,
        classes=renamed.classes,
        mean=renamed.mean or source.mean or naming.MEAN,
        std=source.std or naming.STD,
        prefix=renamed.prefix,
    )
    weights_file.write(out, renamed.flat, header)
    return header

"""The networks by name, and the section `model` of a configuration: the options of each."""

import dataclasses
import math
from typing import Any

from fakeimg.errors import UserError
from fakeimg.fields import Section

_BATCH_NORM = {'sync_batch_norm': False, 'freeze_batch_norm': False}
# The networks and the options of each with their defaults: fields of `Model`, arguments of the network's module.
NETWORKS: dict[str, dict[str, Any]] = {
    'cnn': {'filters': 32, 'layers': 2, 'dense': 64, 'dense_layers': 1},
    'airbench': {'width': 64, 'blocks': 3, **_BATCH_NORM},
    **{f'resnet{depth}': {'width': 64, 'small_stem': False, **_BATCH_NORM} for depth in (18, 34, 50, 101)},
    'vgg19': {'dropout': 0.5},
    'vgg19_bn': {'dropout': 0.5, **_BATCH_NORM},
}


@dataclasses.dataclass
class Model(Section):
    name: str = 'resnet50'  # cnn | airbench | resnet18 | resnet34 | resnet50 | resnet101 | vgg19 | vgg19_bn
    head: str = 'sigmoid'  # one logit; softmax: two, whose difference is the score
    # Options of one network or another, whose defaults are in NETWORKS; None: not set.
    width: int | None = None  # resnet*, airbench: filters of the first stage; ImageNet weights have 64
    blocks: int | None = None  # airbench: each halves the image
    small_stem: bool | None = None  # resnet*: 3x3 without pooling, for images below 64 px
    sync_batch_norm: bool | None = None  # resnet*, vgg19_bn, airbench: batch statistics over all devices, slower
    freeze_batch_norm: bool | None = None  # resnet*, vgg19_bn, airbench: keep the statistics of the initial weights
    dropout: float | None = None  # vgg19*: of the dense layers
    filters: int | None = None  # cnn: of every convolution
    layers: int | None = None  # cnn: convolutions, each followed by pooling
    dense: int | None = None  # cnn: units of every dense layer
    dense_layers: int | None = None  # cnn: 0 puts the head on the feature maps

    def options(self) -> dict[str, Any]:
        """The network's options, with its defaults for those that are not set.

        Raises:
            UserError: no such network, or an option of another one is set.
        """
        self.require_one_of('name', *NETWORKS)
        own = NETWORKS[self.name]
        for option in _OPTIONS:
            if option not in own and getattr(self, option) is not None:
                owners = ', '.join(name for name, options in NETWORKS.items() if option in options)
                raise UserError(
                    f'config.model.{option} belongs to {owners}, not to {self.name}, whose options are '
                    f'{", ".join(own)}; leave it out.'
                )
        return {name: default if getattr(self, name) is None else getattr(self, name) for name, default in own.items()}

    def forget_others(self) -> None:
        """Unsets the options of other networks."""
        for option in _OPTIONS:
            if option not in NETWORKS.get(self.name, _OPTIONS):
                setattr(self, option, None)

    def check(self, image_size: int) -> None:
        """Raises UserError at the first option that cannot work for images of `image_size` pixels."""
        options = self.options()
        self.require_one_of('head', 'sigmoid', 'softmax')
        most = math.floor(math.log2(image_size))
        wanted = f'1 to {most}, for every layer halves the images of {image_size} px'
        self.require('layers', 1 <= options.get('layers', 1) <= most, wanted)
        most = math.floor(math.log2(image_size - 1))  # behind the stem
        wanted = f'1 to {most}, for every block halves the images of {image_size} px'
        if not 1 <= options.get('blocks', 1) <= most:
            raise UserError(f'config.model.blocks is {options["blocks"]}; it must be {wanted}.')
        self.require('dropout', 0 <= options.get('dropout', 0) < 1, '0 (none) or more and less than 1')
        for name, least in (('width', 1), ('filters', 1), ('dense', 1), ('dense_layers', 0)):
            self.require(name, options.get(name, least) >= least, f'at least {least}')


_OPTIONS = tuple(field.name for field in dataclasses.fields(Model) if field.default is None)

"""Published names and layouts to ours: torchvision's and timm's, Hugging Face's, Keras'."""

import collections
import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from fakeimg.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's RGB in [0, 1]
CAFFE_MEAN = (123.68, 116.779, 103.939)  # of RGB in [0, 255], all that keras.applications' VGG subtracts
LISTED = 4  # names in a message

_NORM = {
    'weight': ('params', 'scale'),
    'bias': ('params', 'bias'),
    'running_mean': ('batch_stats', 'mean'),
    'running_var': ('batch_stats', 'var'),
}
_VGG_CONVS = (2, 2, 4, 4, 4)  # in each stage
_TORCHVISION_RESNET = re.compile(r'(?:layer(\d)\.(\d+)\.)?(?:(conv|bn)(\d)|downsample\.([01]))\.(\w+)')
_HUGGING_FACE_STEM = re.compile(r'(?:resnet\.)?embedder\.embedder\.(convolution|normalization)\.(\w+)')
_HUGGING_FACE_BLOCK = re.compile(
    r'(?:resnet\.)?encoder\.stages\.(\d)\.layers\.(\d+)\.(?:layer\.(\d)|(shortcut))\.(convolution|normalization)\.(\w+)'
)
_KERAS_VGG = re.compile(
    r'(?:.*/)?(?:block(\d)_conv(\d)|(fc[12]|predictions))(?:_\d+)?/(?:\w+?_)?(kernel|bias|W|b)(?:_1)?(?::0)?'
)
_RESNET_HEAD = re.compile(r'(fc|classifier|head|linear|last_linear)(\..+)?')
_HEADS = ('fc', 'classifier.1', 'classifier.6', 'head.fc', 'head')


@dataclasses.dataclass(frozen=True)
class Renamed:
    """Weights under our names.

    Attributes:
        flat: float32 by `params/stage1_block1/conv1/kernel` and so on; kernels are HWIO, dense ones [in, out].
        classes: of the classifier, which is left out; None if there was none.
        mean: of RGB in [0, 1], which the network needs subtracted; None if the names do not tell.
        prefix: what the names began with before those of the publisher, such as `module.`; it says nothing.
    """

    flat: dict[str, np.ndarray]
    classes: int | None
    mean: tuple[float, ...] | None
    prefix: str = ''


def rename(model: str, tensors: Mapping[str, np.ndarray], source: str) -> Renamed:
    """Renames and transposes every tensor of a published file.

    Args:
        model: `resnet50`, `vgg19_bn` and so on.
        tensors: by the publisher's names, in the publisher's layouts.
        source: where they come from, for the messages.

    Raises:
        UserError: names that the model does not have, listed with their shapes, or numbers that are not floats.
    """
    if model.startswith('resnet') and any(
        re.match(r'(.*/)?(conv1_conv|bn_conv1|res2a_branch2a)/', name) for name in tensors
    ):
        raise UserError(
            f'{source} holds the ResNet of keras.applications, which has its strides in the 1x1 convolutions; {model} '
            'has them in the 3x3 ones, so take weights of torchvision, timm or Hugging Face.'
        )
    place = _resnet_place if model.startswith('resnet') else _vgg_places(with_norm=model.endswith('_bn'))
    flat: dict[str, np.ndarray] = {}
    unknown: dict[str, tuple[int, ...]] = {}
    classes, mean = None, None
    prefix = _common_prefix(tensors, place)
    for name, value in tensors.items():
        name = _without(prefix, name)
        stem, _, leaf = name.rpartition('.')
        if leaf == 'num_batches_tracked':
            continue
        if value.dtype.kind != 'f':
            raise UserError(
                f'{source} cannot be converted: {name} {list(value.shape)} holds {value.dtype} instead of floats; take '
                'the float32 file, as quantised ones have lost precision.'
            )
        keras = _KERAS_VGG.fullmatch(name) if model == 'vgg19' else None
        if _is_head(model, stem) or (keras and keras[3] == 'predictions'):
            classes = value.shape[0] if leaf == 'bias' or value.ndim == 1 else classes
            continue
        if keras:
            target, mean = _keras_target(keras), tuple(value / 255 for value in CAFFE_MEAN)
            value = np.asarray(value, np.float32)
            if target == 'params/conv1_1/kernel' and value.ndim == 4:
                value = value[:, :, ::-1] * (
                    255 * np.asarray(STD, np.float32)[:, None]
                )  # its input was BGR in [0, 255]
        else:
            module = place(stem)
            target, value = _torch_target(module, leaf, value) if module else (None, value)
        if target is None or target in flat:
            unknown[name] = value.shape
        else:
            flat[target] = value
    if unknown:
        raise UserError(
            f'{source} is not a {model} that can be converted: it holds {listed(unknown)}, which {model} does not have.'
        )
    return Renamed(flat, classes, mean, '.'.join([*prefix, '']) if prefix else '')


def _common_prefix(names: Iterable[str], place: Callable[[str], str | None]) -> list[str]:
    """The parts that most tensors have before a name that the network knows.

    DataParallel, torch.compile, Lightning and every class that holds the network as a field put one there.
    """
    found: collections.Counter[str] = collections.Counter()
    for name in names:
        parts = name.split('.')[:-1]
        start = next((start for start in range(len(parts)) if place('.'.join(parts[start:]))), None)
        if start is not None:
            found['.'.join(parts[:start])] += 1
    prefix = max(found, key=lambda text: found[text], default='')
    return prefix.split('.') if prefix else []


def _without(prefix: list[str], name: str) -> str:
    """The name after what it shares with the prefix: a classifier is often beside the rest, not in it."""
    parts = name.split('.')
    shared = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(parts[:-1], prefix, strict=False))
    return '.'.join(parts[sum(1 for _ in shared) :])


def _is_head(model: str, stem: str) -> bool:
    """Whether a module is the classifier, or a part of one that somebody has put in its place."""
    return stem in _HEADS or bool(model.startswith('resnet') and _RESNET_HEAD.fullmatch(stem))


def listed(shapes: Mapping[str, tuple[int, ...]] | Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """The first few names with their shapes, and how many more there are."""
    items = list(dict(shapes).items())
    text = ', '.join(f'{name} {list(shape)}' for name, shape in items[:LISTED])
    return text + (f' and {len(items) - LISTED} more' if len(items) > LISTED else '')


def _torch_target(module: str, leaf: str, value: np.ndarray) -> tuple[str | None, np.ndarray]:
    """Where a tensor of torch belongs, and its value in our layout."""
    value = np.asarray(value, np.float32)
    if re.search(r'(^|/|_)bn(\d|$)', module):
        collection, ours = _NORM.get(leaf, (None, None))
        return (f'{collection}/{module}/{ours}' if collection and value.ndim == 1 else None), value
    if leaf == 'bias' and value.ndim == 1:
        return f'params/{module}/bias', value
    if leaf != 'weight' or value.ndim not in (2, 4):
        return None, value
    if module in ('fc6', 'fc7'):  # timm writes them as convolutions; channels come first in what torch flattens
        if module == 'fc6' and value.ndim == 2 and value.shape[1] % 49 == 0:
            value = value.reshape(len(value), -1, 7, 7)
        value = value.transpose(*range(2, value.ndim), 1, 0).reshape(-1, len(value))
    elif value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
    return f'params/{module}/kernel', value


def _resnet_place(name: str) -> str | None:
    """Our name of a module of torchvision, timm or Hugging Face, say `layer1.0.conv1`; None if there is none."""
    if match := _TORCHVISION_RESNET.fullmatch(f'{name}.x'):
        stage, block, kind, number, downsample, _ = match.groups()
        if stage is None:
            return f'stem_{kind}' if number == '1' else None
        part = f'{kind}{number}' if kind else ('downsample_bn' if downsample == '1' else 'downsample_conv')
        return f'stage{stage}_block{int(block) + 1}/{part}'
    if match := _HUGGING_FACE_STEM.fullmatch(f'{name}.x'):
        return 'stem_conv' if match[1] == 'convolution' else 'stem_bn'
    if match := _HUGGING_FACE_BLOCK.fullmatch(f'{name}.x'):
        stage, block, number, shortcut, kind, _ = match.groups()
        kind = 'conv' if kind == 'convolution' else 'bn'
        part = f'downsample_{kind}' if shortcut else f'{kind}{int(number) + 1}'
        return f'stage{int(stage) + 1}_block{int(block) + 1}/{part}'
    return None


def _vgg_places(with_norm: bool):
    """The counterpart of `_resnet_place` for VGG19, whose files number all layers, ReLU and pooling included."""
    places = {'classifier.0': 'fc6', 'pre_logits.fc1': 'fc6', 'classifier.3': 'fc7', 'pre_logits.fc2': 'fc7'}
    index = 0
    for stage, convs in enumerate(_VGG_CONVS, start=1):
        for number in range(1, convs + 1):
            places[f'features.{index}'] = f'conv{stage}_{number}'
            if with_norm:
                places[f'features.{index + 1}'] = f'bn{stage}_{number}'
            index += 3 if with_norm else 2
        index += 1
    return places.get


def _keras_target(match: re.Match[str]) -> str:
    stage, number, dense, leaf = match.groups()
    module = f'conv{stage}_{number}' if stage else {'fc1': 'fc6', 'fc2': 'fc7'}[dense]
    return f'params/{module}/{"kernel" if leaf in ("kernel", "W") else "bias"}'

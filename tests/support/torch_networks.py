"""The networks written in torch, straight from torchvision's names, for comparison; and their random weights.

Nothing here knows of our code: a ResNet or VGG is a function of a state dict in torchvision's names and layouts.
"""

import importlib
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

STAGES = {
    'resnet18': (2, 2, 2, 2), 'resnet34': (3, 4, 6, 3), 'resnet50': (3, 4, 6, 3), 'resnet101': (3, 4, 23, 3),
    'tiny_basic': (1, 2, 1, 1), 'tiny_bottleneck': (1, 2, 1, 1),
}  # fmt: skip
BASIC = ('resnet18', 'resnet34', 'tiny_basic')
WIDTHS = {'tiny_basic': 4, 'tiny_bottleneck': 4, 'tiny_vgg': 4, 'tiny_vgg_bn': 4}  # of all others 64
VGG_STAGES = ((1, 2), (2, 2), (4, 4), (8, 4), (8, 4))
EPSILON, MOMENTUM = 1e-5, 0.1


def random_state(name: str, seed: int = 0, classes: int = 1) -> Arrays:
    """Weights with which activations neither die nor explode, BatchNorm statistics far from 0 and 1 included."""
    random = np.random.default_rng(seed)
    state: Arrays = {}
    for key, shape in shapes(name, classes):
        leaf = key.rsplit('.', 1)[1]
        if len(shape) > 1:
            fan_in = int(np.prod(shape[1:]))
            state[key] = random.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
        elif leaf in ('bias', 'running_mean'):
            state[key] = random.normal(0, 0.2, shape).astype(np.float32)
        else:  # scale and variance; small enough that the sum over all blocks stays in bounds
            state[key] = random.uniform(0.4, 0.8, shape).astype(np.float32)
    return state


def shapes(name: str, classes: int = 1000) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of torchvision's file, in its order, without num_batches_tracked."""
    return _vgg_shapes(name, classes) if 'vgg' in name else _resnet_shapes(name, classes)


def _norm(name: str, size: int) -> list[tuple[str, tuple[int, ...]]]:
    return [(f'{name}.{leaf}', (size,)) for leaf in ('running_mean', 'running_var', 'weight', 'bias')]


def _resnet_shapes(name: str, classes: int) -> list[tuple[str, tuple[int, ...]]]:
    width = WIDTHS.get(name, 64)
    rows = [('conv1.weight', (width, 3, 7, 7)), *_norm('bn1', width)]
    inputs = width
    for stage, blocks in enumerate(STAGES[name]):
        filters = width * 2**stage
        outputs = filters if name in BASIC else 4 * filters
        for block in range(blocks):
            path = f'layer{stage + 1}.{block}'
            if name in BASIC:
                convs = [(filters, inputs, 3, 3), (filters, filters, 3, 3)]
            else:
                convs = [(filters, inputs, 1, 1), (filters, filters, 3, 3), (outputs, filters, 1, 1)]
            for number, shape in enumerate(convs, start=1):
                rows += [(f'{path}.conv{number}.weight', shape), *_norm(f'{path}.bn{number}', shape[0])]
            if block == 0 and inputs != outputs:
                rows += [
                    (f'{path}.downsample.0.weight', (outputs, inputs, 1, 1)),
                    *_norm(f'{path}.downsample.1', outputs),
                ]
            inputs = outputs
    return [*rows, ('fc.weight', (classes, inputs)), ('fc.bias', (classes,))]


def _vgg_shapes(name: str, classes: int) -> list[tuple[str, tuple[int, ...]]]:
    width, dense = WIDTHS.get(name, 64), 16 if name in WIDTHS else 4096
    rows, inputs, index = [], 3, 0
    for multiple, convs in VGG_STAGES:
        for _ in range(convs):
            filters = multiple * width
            rows += [(f'features.{index}.weight', (filters, inputs, 3, 3)), (f'features.{index}.bias', (filters,))]
            if name.endswith('_bn'):
                rows += _norm(f'features.{index + 1}', filters)
            inputs, index = filters, index + (3 if name.endswith('_bn') else 2)
        index += 1
    for number, shape in ((0, (dense, inputs * 49)), (3, (dense, dense)), (6, (classes, dense))):
        rows += [(f'classifier.{number}.weight', shape), (f'classifier.{number}.bias', shape[:1])]
    return rows


class Network:
    """A torch network that remembers its activations and BatchNorm statistics.

    Attributes:
        state: tensors by torchvision's names; after a call in training mode, the running statistics are the new ones.
        activations: ours by name (`stem_bn`, `stage2_block1`, `conv3_4`, `features`), each NCHW or [B, F].
    """

    def __init__(self, name: str, state: Arrays, dtype: str = 'float32'):
        self.torch = importlib.import_module('torch')
        self.name = name
        self.state: dict[str, Any] = {
            k: self.torch.tensor(v, dtype=getattr(self.torch, dtype)) for k, v in state.items()
        }
        self.before = {k: v.numpy().copy() for k, v in self.state.items() if 'running' in k}
        self.counts: dict[str, int] = {}  # values a channel that each BatchNorm saw
        self.activations: dict[str, Any] = {}

    def __call__(self, images: np.ndarray, *, train: bool) -> Any:
        """Maps images [B, H, W, 3] to logits [B, classes]; no dropout."""
        x = self.torch.tensor(images.transpose(0, 3, 1, 2), dtype=next(iter(self.state.values())).dtype)
        return self._vgg(x, train) if 'vgg' in self.name else self._resnet(x, train)

    def _batch_norm(self, x: Any, name: str, train: bool) -> Any:
        s = self.state
        self.counts[name] = x.numel() // x.shape[1]
        return self.torch.nn.functional.batch_norm(
            x, s[f'{name}.running_mean'], s[f'{name}.running_var'], s[f'{name}.weight'], s[f'{name}.bias'],
            train, MOMENTUM, EPSILON,
        )  # fmt: skip

    def _conv_bn(self, x: Any, conv: str, norm: str, train: bool, stride: int = 1) -> Any:
        kernel = self.state[f'{conv}.weight']
        x = self.torch.nn.functional.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2)
        return self._batch_norm(x, norm, train)

    def _resnet(self, x: Any, train: bool) -> Any:
        functional = self.torch.nn.functional
        x = self._conv_bn(x, 'conv1', 'bn1', train, 2)
        self.activations['stem_bn'] = x
        x = functional.max_pool2d(x.relu(), 3, 2, 1)
        convs = 2 if self.name in BASIC else 3
        for stage, blocks in enumerate(STAGES[self.name], start=1):
            for block in range(blocks):
                path, stride = f'layer{stage}.{block}', 2 if stage > 1 and block == 0 else 1
                y = x
                for number in range(1, convs + 1):
                    at = stride if number == convs - 1 else 1
                    y = self._conv_bn(y, f'{path}.conv{number}', f'{path}.bn{number}', train, at)
                    y = y if number == convs else y.relu()
                if f'{path}.downsample.0.weight' in self.state:
                    x = self._conv_bn(x, f'{path}.downsample.0', f'{path}.downsample.1', train, stride)
                x = (x + y).relu()
                self.activations[f'stage{stage}_block{block + 1}'] = x
        x = x.mean((2, 3))
        self.activations['features'] = x
        return functional.linear(x, self.state['fc.weight'], self.state['fc.bias'])

    def _vgg(self, x: Any, train: bool) -> Any:
        functional, s, index = self.torch.nn.functional, self.state, 0
        for stage, (_, convs) in enumerate(VGG_STAGES, start=1):
            for number in range(1, convs + 1):
                x = functional.conv2d(x, s[f'features.{index}.weight'], s[f'features.{index}.bias'], 1, 1)
                self.activations[f'conv{stage}_{number}'] = x
                if self.name.endswith('_bn'):
                    x = self._batch_norm(x, f'features.{index + 1}', train)
                x, index = x.relu(), index + (3 if self.name.endswith('_bn') else 2)
            x, index = functional.max_pool2d(x, 2), index + 1
        x = functional.adaptive_avg_pool2d(x, 7).flatten(1)
        for number in (0, 3):
            x = functional.linear(x, s[f'classifier.{number}.weight'], s[f'classifier.{number}.bias']).relu()
        self.activations['features'] = x
        return functional.linear(x, s['classifier.6.weight'], s['classifier.6.bias'])

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays]:
        """One training step: the loss (binary cross-entropy on the one logit) and its gradient by name."""
        trained = {k: v.requires_grad_() for k, v in self.state.items() if 'running' not in k}
        logits = self(images, train=True)[:, 0]
        target = self.torch.tensor(labels, dtype=logits.dtype)
        loss = self.torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        loss.backward()
        return loss.item(), {k: v.grad.numpy() for k, v in trained.items()}

    def our_activations(self) -> Arrays:
        """The activations of the last call, in NHWC."""
        arrays = {name: value.detach().numpy() for name, value in self.activations.items()}
        return {name: array.transpose(0, 2, 3, 1) if array.ndim == 4 else array for name, array in arrays.items()}

    def biased_statistics(self) -> Arrays:
        """The running statistics after one training step, had torch used the variance of the batch as it is.

        It takes n / (n - 1) of it, n values a channel, where Flax takes 1.
        """
        result: Arrays = {}
        for name, value in self.state.items():
            if 'running' in name:
                result[name] = value.detach().numpy()
            if 'running_var' in name:
                n, kept = self.counts[name.rpartition('.')[0]], (1 - MOMENTUM) * self.before[name]
                result[name] = kept + (result[name] - kept) * (n - 1) / n
        return result

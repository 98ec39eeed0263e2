"""Steps of our networks in PyTorch, in the process that imports this or in one of their own, for against_torch.py."""

import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import torch

from fakeimg.config import Config, complete, default_config
from fakeimg.networks import Model


def recipe(name: str, size: int, batch_size: int, **model: Any) -> Config:
    """A configuration with random weights on the demo faces, which are not looked at."""
    config = default_config()
    config.data.path, config.batch_size, config.data.demo_examples = 'demo', batch_size, max(16, batch_size)
    config.data.image_size, config.data.resize_size = size, 256 if size == 224 else size
    config.model = Model(name, **model)
    return complete(config)


class Block(torch.nn.Module):
    """A residual block, with or without bottleneck, as torchvision has it."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool):
        super().__init__()
        outputs = width * 4 if bottleneck else width
        shapes = ((inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1))
        if not bottleneck:
            shapes = ((inputs, width, 3, stride), (width, width, 3, 1))
        self.convs = torch.nn.ModuleList(_conv(*shape) for shape in shapes)
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm2d(shape[1]) for shape in shapes)
        self.shortcut = torch.nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = torch.nn.Sequential(_conv(inputs, outputs, 1, stride), torch.nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True), start=1):
            y = norm(conv(y))
            y = torch.relu(y) if number < len(self.convs) else y
        return torch.relu(self.shortcut(x) + y)


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> torch.nn.Conv2d:
    return torch.nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


def network(config: Config) -> torch.nn.Module:
    """The network of `config.model` in PyTorch: cnn, resnet18 with the small stem, resnet50."""
    nn, name, model = torch.nn, config.model.name, types.SimpleNamespace(**config.model.options())
    if name == 'cnn':
        channels = [3, *[model.filters] * model.layers]
        layers = [
            part
            for before, after in zip(channels, channels[1:], strict=False)
            for part in (nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        ]
        flat = model.filters * (config.data.image_size >> model.layers) ** 2
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, model.dense), nn.ReLU(), nn.Linear(model.dense, 1))
    bottleneck, blocks = name == 'resnet50', (3, 4, 6, 3) if name == 'resnet50' else (2, 2, 2, 2)
    stem = [_conv(3, model.width, 3)] if model.small_stem else [_conv(3, model.width, 7, 2)]
    layers = [*stem, nn.BatchNorm2d(model.width), nn.ReLU()]
    layers += [] if model.small_stem else [nn.MaxPool2d(3, 2, 1)]
    channels = model.width
    for stage, count in enumerate(blocks):
        for block in range(count):
            width = model.width << stage
            layers.append(Block(channels, width, 2 if stage and not block else 1, bottleneck))
            channels = width * 4 if bottleneck else width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1))


def step(config: Config, training: bool) -> Callable[[], None]:
    """A step of the same network in PyTorch on random images in memory: channels_last, float32, AdamW."""
    batch, size = config.batch_size, config.data.image_size
    model: Any = network(config).to(memory_format=torch.channels_last).train(training)  # pyright: ignore
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 2, (batch,)).float()

    def take() -> None:
        if not training:
            with torch.inference_mode():
                model(images)
            return
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(model(images)[:, 0], labels).backward()
        optimizer.step()

    take()
    return take


def seconds(action: Callable[[], Any]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def serve(take: Callable[[], None]) -> None:
    """Takes as many steps as each line of the input says, and answers with the seconds that they took."""
    print('ready', flush=True)
    for line in sys.stdin:
        print(seconds(lambda line=line: [take() for _ in range(int(line))]), flush=True)


class OwnProcess:
    """Seconds of PyTorch's steps in a process of its own, which has malloc as it comes."""

    def __init__(self, row: str):
        command = [sys.executable, __file__, row]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def __call__(self, steps: int) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f'{steps}\n')
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


# row -> title, configuration, training or evaluation
ROWS: dict[str, tuple[str, Config, bool]] = {
    'cnn': ('small CNN, training', recipe('cnn', 32, 128), True),
    'resnet18': ('ResNet18 of width 16, training', recipe('resnet18', 32, 128, width=16, small_stem=True), True),
    'resnet50': ('ResNet50, training', recipe('resnet50', 224, 16), True),
    'resnet50_eval': ('ResNet50, evaluation', recipe('resnet50', 224, 16), False),
}

if __name__ == '__main__':
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    serve(step(*ROWS[sys.argv[1]][1:]))

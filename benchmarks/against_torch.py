"""Our rates over PyTorch's on this machine: python benchmarks/against_torch.py --workdir /tmp/bench [--cifake SET]

Needs torch (make parity). Ratios above 1 say that fakeimg is faster; both sides are measured in turn, and a figure is
the median over rounds. --cifake is a prepared set of pictures of 32 px; without it that row is left out.
"""

import functools
import io
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import PIL.Image
import torch
from absl import app, flags, logging

from fakeimg import xla
from fakeimg.benchmarking import inputs, timing
from fakeimg.benchmarking.steps import Steps, random_batches
from fakeimg.config import Config, default_config
from fakeimg.data import decode, demo, pipeline, sources
from fakeimg.training import setup

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder for drawn pictures and their prepared set.', required=True)
_CIFAKE = flags.DEFINE_string('cifake', '', 'Prepared set of pictures of 32 px.')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Rounds of each comparison.')
_ONLY = flags.DEFINE_list(
    'only', [], 'Rows: input, input32, scaled, cnn, resnet18, resnet50, resnet50_eval; empty: all.'
)
_SERVE = flags.DEFINE_string('serve', '', 'For this script itself: take steps of a row in PyTorch alone.')

PICTURES, SIDE = 8000, 256


def draw_set(work: pathlib.Path) -> str:
    """A prepared set of JPEGs of smooth noise, 256 px, about 13 KB each as face crops are."""
    target = work / 'drawn256'
    if not target.exists():
        for seed in range(PICTURES):
            noise = np.random.default_rng(seed).normal(128, 22, (SIDE // 4, SIDE // 4, 3)).clip(0, 255).astype(np.uint8)
            path = work / 'jpegs' / 'train' / ('real', 'fake')[seed % 2] / f'{seed:05d}.jpg'
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(noise).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC).save(path, quality=85)
        command = [sys.executable, '-m', 'fakeimg.prepare', str(work / 'jpegs'), '--out', str(target)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return str(target)


class Pictures(torch.utils.data.Dataset):
    """What a PyTorch user writes: Pillow, a random crop, a flip, float32, normalised."""

    def __init__(self, source: sources.Source, config: Config):
        self.source = source
        self.size = config.data.image_size
        self.mean = torch.tensor(config.data.mean)[:, None, None]
        self.std = torch.tensor(config.data.std)[:, None, None]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        picture = np.asarray(PIL.Image.open(io.BytesIO(self.source[index])).convert('RGB'))
        top, left = (int(torch.randint(0, side - self.size + 1, ())) for side in picture.shape[:2])
        picture = picture[top : top + self.size, left : left + self.size]
        if torch.rand(()) < 0.5:
            picture = picture[:, ::-1]
        image = torch.from_numpy(picture.transpose(2, 0, 1).copy()).float().div(255)
        return (image - self.mean) / self.std, int(self.source.labels[index])


def compare_input(path: str, config: Config, say: Callable[[str], None]) -> None:
    """The pipeline over the prepared set against a DataLoader with as many workers as there are cores."""
    config.data.path = path
    size, side = config.data.image_size, config.data.resize_size
    cores, threads = len(os.sched_getaffinity(0)), pipeline.num_threads(0, side)
    sample, encoded = inputs.sample(sources.open_path(path).splits['train'], 0)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(Pictures(sample, config), range(min(len(sample), PICTURES))),
        config.batch_size,
        shuffle=True,
        num_workers=cores,
        persistent_workers=True,
    )

    def theirs() -> float:
        start = time.perf_counter()
        count = sum(len(labels) for _, labels in loader)
        return count / (time.perf_counter() - start)

    theirs()  # starts the workers
    limit = inputs.DecodeRate(encoded, side, threads)
    encoded_pictures = inputs.encoded_in_memory(sample, encoded)
    decoded_pictures = inputs.decoded_in_memory(sample, side)
    for title, source, other_title, other in (
        ('encoded pictures in memory', encoded_pictures, 'pure decoding', limit),
        ('prepared set, first epoch', sample, 'pure decoding', limit),
        ('prepared set, first epoch', sample, 'DataLoader', theirs),
        ('encoded pictures in memory', encoded_pictures, 'DataLoader', theirs),
        ('decoded pictures in memory', decoded_pictures, 'DataLoader', theirs),
    ):
        found = timing.in_turn(inputs.PipelineRate(source, config, threads), other, _ROUNDS.value)
        say(f'input, {size} px, {title} ÷ {other_title}: {_ratio(found)}')


def compare_scaled(say: Callable[[str], None], count: int = 32) -> None:
    """Demo faces of 1024 px for 224: decoded at a fraction in the DCT domain against whole, then resized."""
    encoded = [demo.DemoFaces('train', size=1024, num_examples=count)[index] for index in range(count)]

    def picture(data: bytes, min_side: int) -> np.ndarray:
        out = np.empty((224, 224, 3), np.uint8)
        decode.crop_square(decode.decode_rgb(data, min_side), 256, 224, (0.5, 0.5), out)
        return out

    def rate(min_side: int) -> float:
        return count / _seconds(lambda: [picture(data, min_side) for data in encoded])

    errors = [np.square(picture(data, 256).astype(float) - picture(data, 0)).mean() for data in encoded]
    worst = 10 * np.log10(255**2 / max(errors))
    found = timing.in_turn(lambda: rate(256), lambda: rate(0), _ROUNDS.value)
    say(f'1024 px for 224, scaled in the DCT ÷ decoded whole: {_ratio(found)}; worst of {count}: {worst:.1f} dB')


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


def torch_network(config: Config) -> torch.nn.Module:
    """The network of `config.model` in PyTorch: cnn, resnet18 with the small stem, resnet50."""
    nn, model = torch.nn, config.model
    if model.name == 'cnn':
        channels = [3, *[model.filters] * model.layers]
        layers = [
            part
            for before, after in zip(channels, channels[1:], strict=False)
            for part in (nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        ]
        flat = model.filters * (config.data.image_size >> model.layers) ** 2
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, model.dense), nn.ReLU(), nn.Linear(model.dense, 1))
    bottleneck, blocks = model.name == 'resnet50', (3, 4, 6, 3) if model.name == 'resnet50' else (2, 2, 2, 2)
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


def torch_step(config: Config, training: bool) -> Callable[[], None]:
    """A step of the same network in PyTorch on random pictures in memory: channels_last, float32, AdamW."""
    batch, size = config.batch_size, config.data.image_size
    network: Any = torch_network(config).to(memory_format=torch.channels_last).train(training)  # pyright: ignore
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 2, (batch,)).float()

    def step() -> None:
        if not training:
            with torch.inference_mode():
                network(images)
            return
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(images)[:, 0], labels).backward()
        optimizer.step()

    step()
    return step


def serve(step: Callable[[], None]) -> None:
    """Takes as many steps as each line of the input says, and answers with the seconds that they took."""
    print('ready', flush=True)
    for line in sys.stdin:
        print(_seconds(lambda line=line: [step() for _ in range(int(line))]), flush=True)


class OwnProcess:
    """Seconds of PyTorch's steps in a process that has nothing of ours in it but this script."""

    def __init__(self, row: str):
        command = [sys.executable, __file__, '--workdir', _WORKDIR.value, '--serve', row]
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


def compare_steps(row: str, config: Config, title: str, say: Callable[[str], None], *, training: bool) -> None:
    """A step on pictures in memory against PyTorch's: in our process, with its malloc, and in one of its own."""
    batch = config.batch_size
    their_step = torch_step(config, training)
    parts = setup.build(config)
    stepper = Steps(parts)
    batches = random_batches(parts)

    def our_step() -> None:
        if training:
            jax.block_until_ready(stepper.advance(batches))
        else:
            jax.block_until_ready(parts.predict(stepper.state.variables, next(batches)))

    our_step()
    steps = max(1, round(1.0 / statistics.median(_seconds(our_step) for _ in range(3))))

    def rate(step: Callable[[], None]) -> float:
        return steps * batch / _seconds(lambda: [step() for _ in range(steps)])

    found = timing.in_turn(lambda: rate(our_step), lambda: rate(their_step), _ROUNDS.value)
    say(f'{title} ÷ PyTorch in our process, batch {batch}: {_ratio(found)}')
    alone = OwnProcess(row)
    found = timing.in_turn(lambda: rate(our_step), lambda: steps * batch / alone(steps), _ROUNDS.value)
    alone.close()
    say(f'{title} ÷ PyTorch in its own process, batch {batch}: {_ratio(found)}')


def _seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _ratio(found: dict[str, float]) -> str:
    spread = f'{found["ratio_minimum"]:.2f} to {found["ratio_maximum"]:.2f}'
    return f'{found["ratio"]:.2f} ({spread}); {found["first"]:,.1f} and {found["second"]:,.1f} images/s'


def recipe(name: str, size: int, batch_size: int, **model: Any) -> Config:
    """A configuration with random weights on the demo faces, which are not looked at."""
    config = default_config()
    config.batch_size, config.data.demo_examples = batch_size, max(16, batch_size)
    config.data.image_size, config.data.resize_size = size, 256 if size == 224 else size
    config.model.name = name
    config.model.update(model)
    return config


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.ERROR)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    large = recipe('resnet50', 224, 16)
    steps = {
        'cnn': (recipe('cnn', 32, 128), 'small CNN, training', True),
        'resnet18': (recipe('resnet18', 32, 128, width=16, small_stem=True), 'ResNet18 of width 16, training', True),
        'resnet50': (large, 'ResNet50, training', True),
        'resnet50_eval': (large, 'ResNet50, evaluation', False),
    }
    if _SERVE.value:
        config, _, training = steps[_SERVE.value]
        serve(torch_step(config, training))
        return
    xla.choose_cpu_kernels()
    xla.keep_memory()
    xla.keep_compiled()
    rows: dict[str, Callable[[], None]] = {
        'input': lambda: compare_input(draw_set(pathlib.Path(_WORKDIR.value)), recipe('cnn', 224, 64), say),
        'scaled': lambda: compare_scaled(say),
    }
    for name, (config, title, training) in steps.items():
        rows[name] = functools.partial(compare_steps, name, config, title, say, training=training)
    if _CIFAKE.value:
        rows['input32'] = lambda: compare_input(_CIFAKE.value, recipe('cnn', 32, 128), say)
    for name, row in rows.items():
        if not _ONLY.value or name in _ONLY.value:
            row()


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == '__main__':
    app.run(main)

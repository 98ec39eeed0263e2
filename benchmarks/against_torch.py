"""Our rates over PyTorch's on this machine: python benchmarks/against_torch.py --workdir /tmp/bench [--cifake SET]

Needs torch (make torch). Ratios above 1 say that fakeimg is faster; both sides are measured in turn, and a figure is
the median over rounds. --cifake is a prepared set of images of 32 px; without it that row is left out.
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

import jax
import numpy as np
import PIL.Image
import torch
import torch_steps
from absl import app, flags, logging

from fakeimg.benchmarking import inputs, timing
from fakeimg.benchmarking.steps import Steps, random_batches
from fakeimg.config import Config
from fakeimg.data import datasets, decode, demo, pipeline
from fakeimg.runtime import xla
from fakeimg.training import program

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder for drawn images and their prepared set.', required=True)
_CIFAKE = flags.DEFINE_string('cifake', '', 'Prepared set of images of 32 px.')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Rounds of each comparison.')
_ONLY = flags.DEFINE_list(
    'only', [], 'Rows: input, input32, scaled, cnn, resnet18, resnet50, resnet50_eval; empty: all.'
)

IMAGES, SIDE = 8000, 256


def draw_set(work: pathlib.Path) -> str:
    """A prepared set of JPEGs of smooth noise, 256 px, about 13 KB each as face crops are."""
    target = work / 'drawn256'
    if not target.exists():
        for seed in range(IMAGES):
            noise = np.random.default_rng(seed).normal(128, 22, (SIDE // 4, SIDE // 4, 3)).clip(0, 255).astype(np.uint8)
            path = work / 'jpegs' / 'train' / ('real', 'fake')[seed % 2] / f'{seed:05d}.jpg'
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(noise).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC).save(path, quality=85)
        command = [sys.executable, '-m', 'fakeimg.prepare', str(work / 'jpegs'), '--out', str(target)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return str(target)


class Images(torch.utils.data.Dataset):
    """What a PyTorch user writes: Pillow, a random crop, a flip, float32, normalised."""

    def __init__(self, source: datasets.Split, config: Config):
        self.source = source
        self.size = config.data.image_size
        self.mean = torch.tensor(config.data.mean)[:, None, None]
        self.std = torch.tensor(config.data.std)[:, None, None]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = np.asarray(PIL.Image.open(io.BytesIO(self.source[index])).convert('RGB'))
        top, left = (int(torch.randint(0, side - self.size + 1, ())) for side in pixels.shape[:2])
        pixels = pixels[top : top + self.size, left : left + self.size]
        if torch.rand(()) < 0.5:
            pixels = pixels[:, ::-1]
        image = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float().div(255)
        return (image - self.mean) / self.std, int(self.source.labels[index])


def compare_input(path: str, config: Config, say: Callable[[str], None]) -> None:
    """The pipeline over the prepared set against a DataLoader with as many workers as there are cores."""
    config.data.path = path
    size, side = config.data.image_size, config.data.resize_size
    cores, threads = len(os.sched_getaffinity(0)), pipeline.num_threads(0, side)
    sample, encoded = inputs.sample(datasets.open_path(path).splits['train'], 0)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(Images(sample, config), range(min(len(sample), IMAGES))),
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
    encoded_images = inputs.encoded_in_memory(sample, encoded)
    decoded_images = inputs.decoded_in_memory(sample, side)
    for title, source, other_title, other in (
        ('encoded images in memory', encoded_images, 'pure decoding', limit),
        ('prepared set, first epoch', sample, 'pure decoding', limit),
        ('prepared set, first epoch', sample, 'DataLoader', theirs),
        ('encoded images in memory', encoded_images, 'DataLoader', theirs),
        ('decoded images in memory', decoded_images, 'DataLoader', theirs),
    ):
        rates = timing.in_turn(inputs.PipelineRate(source, config, threads), other, _ROUNDS.value)
        say(f'input, {size} px, {title} ÷ {other_title}: {_ratio(rates)}')


def compare_scaled(say: Callable[[str], None], count: int = 32) -> None:
    """Demo faces of 1024 px for 224: all pixels resized, against version 1, which scaled in the DCT domain."""
    encoded = [demo.DemoFaces('train', size=1024, num_examples=count)[index] for index in range(count)]

    def image(data: bytes, version: int) -> np.ndarray:
        out = np.empty((224, 224, 3), np.uint8)
        decode.crop_square(decode.decode(data, 256, version=version), 256, 224, (0.5, 0.5), out)
        return out

    def rate(version: int) -> float:
        return count / torch_steps.seconds(lambda: [image(data, version) for data in encoded])

    rates = timing.in_turn(lambda: rate(decode.RESIZE_VERSION), lambda: rate(1), _ROUNDS.value)
    say(f'1024 px for 224, all pixels ÷ scaled in the DCT (version 1): {_ratio(rates)}')


def compare_steps(row: str, say: Callable[[str], None]) -> None:
    """A step on images in memory against PyTorch's: in our process, with its malloc, and in one of its own."""
    title, config, training = torch_steps.ROWS[row]
    batch, their_step = config.batch_size, torch_steps.step(config, training)
    parts = program.build(config)
    stepper = Steps(parts)
    batches = random_batches(parts)

    def our_step() -> None:
        if training:
            jax.block_until_ready(stepper.advance(batches))
        else:
            jax.block_until_ready(parts.scorer.predict(stepper.state.variables, next(batches)))

    our_step()
    steps = max(1, round(1.0 / statistics.median(torch_steps.seconds(our_step) for _ in range(3))))

    def rate(step: Callable[[], None]) -> float:
        return steps * batch / torch_steps.seconds(lambda: [step() for _ in range(steps)])

    rates = timing.in_turn(lambda: rate(our_step), lambda: rate(their_step), _ROUNDS.value)
    say(f'{title} ÷ PyTorch in our process, batch {batch}: {_ratio(rates)}')
    alone = torch_steps.OwnProcess(row)
    rates = timing.in_turn(lambda: rate(our_step), lambda: steps * batch / alone(steps), _ROUNDS.value)
    alone.close()
    say(f'{title} ÷ PyTorch in its own process, batch {batch}: {_ratio(rates)}')


def _ratio(rates: dict[str, float]) -> str:
    spread = f'{rates["ratio_minimum"]:.2f} to {rates["ratio_maximum"]:.2f}'
    return f'{rates["ratio"]:.2f} ({spread}); {rates["first"]:,.1f} and {rates["second"]:,.1f} images/s'


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.ERROR)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    xla.choose_cpu_kernels()
    xla.keep_memory()
    xla.keep_compiled()
    rows: dict[str, Callable[[], None]] = {
        'input': lambda: compare_input(draw_set(pathlib.Path(_WORKDIR.value)), torch_steps.recipe('cnn', 224, 64), say),
        'scaled': lambda: compare_scaled(say),
    }
    for name in torch_steps.ROWS:
        rows[name] = functools.partial(compare_steps, name, say)
    if _CIFAKE.value:
        rows['input32'] = lambda: compare_input(_CIFAKE.value, torch_steps.recipe('cnn', 32, 128), say)
    for name, row in rows.items():
        if not _ONLY.value or name in _ONLY.value:
            row()


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == '__main__':
    app.run(main)

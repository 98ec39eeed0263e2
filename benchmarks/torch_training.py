"""What a PyTorch user writes to train configs/cifake.py: python benchmarks/torch_training.py DATASET SEED files|memory

DATASET has train/ and test/ with REAL/ and FAKE/ in them. Network, AdamW, clipping, warm-up and cosine, batches, flips
and normalisation are the recipe's, initial weights PyTorch's own; float32, channels_last. `files` reads the images by
a DataLoader with as many workers as cores; `memory` decodes them once and then indexes one tensor. A line with the
accuracy on test follows each epoch.
"""

import math
import os
import pathlib
import runpy
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import torch
import torch_steps

from fakeimg.config import Config, complete

Batch = tuple[torch.Tensor, torch.Tensor]
CORES = len(os.sched_getaffinity(0))


class Images(torch.utils.data.Dataset):
    """uint8[3, 32, 32] and label of each file, 1 for FAKE; flipped for training."""

    def __init__(self, folder: pathlib.Path, flip: bool):
        self.files = [(str(path), int(path.parent.name == 'FAKE')) for path in sorted(folder.glob('*/*'))]
        self.flip = flip

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.files[index]
        image = np.asarray(PIL.Image.open(path).convert('RGB'))
        if self.flip and torch.rand(()) < 0.5:
            image = image[:, ::-1]
        return torch.from_numpy(image.transpose(2, 0, 1).copy()), label


class InMemory:
    """Batches out of one tensor, shuffled and flipped for training."""

    def __init__(self, images: Images, batch_size: int, train: bool):
        images.flip, self.batch_size, self.train = False, batch_size, train
        pixels, labels = zip(*loader(images, 1000, train=False), strict=True)
        self.images, self.labels = torch.cat(pixels), torch.cat(labels)

    def __iter__(self) -> Iterator[Batch]:
        count = len(self.images)
        order = torch.randperm(count) if self.train else torch.arange(count)
        end = count - count % self.batch_size if self.train else count
        for start in range(0, end, self.batch_size):
            rows = order[start : start + self.batch_size]
            images = self.images[rows]
            if self.train:
                images = torch.where(torch.rand(len(rows), 1, 1, 1) < 0.5, images.flip(3), images)
            yield images, self.labels[rows]


def loader(images: Images, batch_size: int, train: bool) -> Any:
    return torch.utils.data.DataLoader(
        images, batch_size, shuffle=train, drop_last=train, num_workers=CORES, persistent_workers=True
    )


def learning_rate(config: Config, num_train: int, step: int) -> float:
    """The recipe's schedule: linear warm-up, then one cosine to 0."""
    steps_per_epoch = num_train / config.batch_size
    peak, total = (
        config.optimizer.base_learning_rate * config.batch_size / 256,
        math.ceil(config.epochs * steps_per_epoch),
    )
    warmup = round(config.optimizer.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return peak * step / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def train(config: Config, folder: pathlib.Path, in_memory: bool) -> None:
    batches = InMemory if in_memory else loader
    files, size = Images(folder / 'train', flip=True), config.batch_size
    training, testing = batches(files, size, True), batches(Images(folder / 'test', flip=False), size, False)
    mean, std = (torch.tensor(values)[:, None, None] * 255 for values in (config.data.mean, config.data.std))
    model: Any = torch_steps.network(config).to(memory_format=torch.channels_last)  # pyright: ignore
    decayed = [value for value in model.parameters() if value.ndim > 1]
    others = [value for value in model.parameters() if value.ndim == 1]
    groups = [{'params': decayed, 'weight_decay': config.optimizer.weight_decay}, {'params': others, 'weight_decay': 0}]
    optimizer = torch.optim.AdamW(groups)

    def logits(images: torch.Tensor) -> torch.Tensor:
        return model(((images - mean) / std).to(memory_format=torch.channels_last))[:, 0]

    step = 0
    for epoch in range(1, round(config.epochs) + 1):
        model.train()
        for images, labels in training:
            for group in optimizer.param_groups:
                group['lr'] = learning_rate(config, len(files), step)
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(logits(images), labels.float()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
            optimizer.step()
            step += 1
        model.eval()
        with torch.inference_mode():
            right = [((logits(images) > 0) == (labels == 1)).float() for images, labels in testing]
        print(f'epoch {epoch} accuracy {torch.cat(right).mean():.4f}', flush=True)


if __name__ == '__main__':
    torch.set_num_threads(CORES)
    torch.manual_seed(int(sys.argv[2]))
    recipe = pathlib.Path(__file__).parents[1] / 'configs' / 'cifake.py'
    train(complete(runpy.run_path(str(recipe))['get_config']()), pathlib.Path(sys.argv[1]), sys.argv[3] == 'memory')

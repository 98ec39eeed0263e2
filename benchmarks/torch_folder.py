"""Thirty lines of PyTorch on a folder of images: python benchmarks/torch_folder.py DIR SIZE EPOCHS SEED [BLOCKS]

DIR has train/ and test/ with real/ and fake/ in them. What the recipes small_set and cifake_fast do is all here, with
PyTorch's initial weights in place of a whitening stem; float32, channels_last. No images are held back for validation.
"""

import pathlib
import sys
import time

import numpy as np
import PIL.Image
import torch
from sklearn.metrics import roc_auc_score
from torch import nn


def images(folder: pathlib.Path, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    files = sorted(path for path in folder.glob('*/*') if path.is_file())
    pixels = [np.asarray(PIL.Image.open(path).convert('RGB').resize((size, size))) for path in files]
    x = (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    labels = torch.tensor([float(path.parent.name.lower() == 'fake') for path in files])
    return x.contiguous(memory_format=torch.channels_last), labels


def conv(inputs: int, outputs: int, *pool: nn.Module) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), *pool, nn.BatchNorm2d(outputs), nn.GELU()]


def main(folder: pathlib.Path, size: int, epochs: int, seed: int, blocks: int) -> None:
    torch.manual_seed(seed)
    start, batch = time.perf_counter(), 64
    (x, y), (x_test, y_test) = (images(folder / split, size) for split in ('train', 'test'))
    widths = [24, 64, *[128] * (blocks - 1)]
    layers = [
        layer for a, b in zip(widths, widths[1:], strict=False) for layer in conv(a, b, nn.MaxPool2d(2)) + conv(b, b)
    ]
    layers = [nn.Conv2d(3, 24, 2), nn.GELU(), *layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(128, 1)]
    model = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # pyright: ignore
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.85, nesterov=True, weight_decay=5e-4)
    steps = len(x) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.05, epochs * steps, pct_start=0.2, anneal_strategy='linear', cycle_momentum=False
    )
    for epoch in range(epochs):
        for rows in torch.randperm(len(x))[: steps * batch].view(steps, batch):
            flips = torch.rand(batch, 1, 1, 1) < 0.5
            logits = model(torch.where(flips, x[rows].flip(3), x[rows]))[:, 0]
            loss = nn.functional.binary_cross_entropy_with_logits(logits, 0.9 * y[rows] + 0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f'epoch {epoch + 1} of {epochs}, {time.perf_counter() - start:.0f} s', flush=True)
    model.eval()
    with torch.inference_mode():
        scores = torch.cat([(model(part) + model(part.flip(3)))[:, 0] for part in x_test.split(200)])
    right = ((scores > 0) == (y_test > 0)).float().mean()
    print(f'test AUC {roc_auc_score(y_test, scores):.4f}, accuracy {right:.4f}, {time.perf_counter() - start:.0f} s')


if __name__ == '__main__':
    blocks = int(sys.argv[5]) if len(sys.argv) > 5 else 4
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), blocks)

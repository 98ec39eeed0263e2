"""Training and evaluation steps on one GPU, ours and PyTorch's: python benchmarks/gpu_steps.py --batch_size 256

Each side runs in a process of its own, on random images that are on the GPU already; the input pipeline is left out.
PyTorch trains torchvision's ResNet50 in channels_last with automatic mixed precision and fused AdamW, in eager mode and
compiled. Prints one JSON line a side; needs no network, and PyTorch with torchvision only for its sides.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

SIDES = ('fakeimg', 'eager', 'compiled')
WINDOWS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sides', nargs='+', choices=SIDES, default=SIDES)
    parser.add_argument('--batch_size', type=int, default=256)
    parser.add_argument('--precision', choices=('bfloat16', 'float16'), default='bfloat16')
    parser.add_argument('--model', choices=('resnet50', 'cnn'), default='resnet50', help='of the side fakeimg')
    parser.add_argument('--seconds', type=float, default=4.0, help='to measure each rate for')
    options = parser.parse_args()
    if len(options.sides) > 1:
        shared = [f'--{name}={getattr(options, name)}' for name in ('batch_size', 'precision', 'model', 'seconds')]
        for side in options.sides:
            subprocess.run([sys.executable, __file__, '--sides', side, *shared], check=False)
        return
    side = options.sides[0]
    figures = measure_ours(options) if side == 'fakeimg' else measure_torch(options, compiled=side == 'compiled')
    print(json.dumps({'side': side, 'precision': options.precision, 'batch_size': options.batch_size, **figures}))


def measure_ours(options: argparse.Namespace) -> dict[str, Any]:
    """Images/s of the training and the evaluation step, seconds to the first step, and peak bytes on the GPU."""
    from fakeimg.runtime.start import start

    start()
    import jax

    from fakeimg.benchmarking import steps, timing
    from fakeimg.config import default_config
    from fakeimg.training.program import build

    config = default_config()
    config.model.name, config.precision, config.batch_size = options.model, options.precision, options.batch_size
    config.data.demo_examples = max(16, options.batch_size)  # opened, but never drawn
    if options.model == 'cnn':
        config.data.image_size = config.data.resize_size = 32
    program = build(config)
    stepper = steps.Steps(program)
    step = stepper.step_rate(options.seconds)

    def evaluate() -> Any:
        return program.scorer.predict(stepper.state.variables, next(stepper.batches))

    evaluation = timing.measure(evaluate, options.batch_size, options.seconds)
    device = jax.devices()[0]
    return {
        'model': options.model,
        'device': device.device_kind,
        'jax': jax.__version__,
        'first_step_seconds': stepper.first_step_seconds,
        'train': step['images_per_second_per_device'],
        'eval': evaluation['images_per_second_per_device'],
        'peak_bytes': (device.memory_stats() or {}).get('peak_bytes_in_use'),
    }


def measure_torch(options: argparse.Namespace, *, compiled: bool) -> dict[str, Any]:
    """Images/s of the training and the evaluation step of torchvision's ResNet50 with one logit."""
    import torch
    import torchvision

    torch.backends.cudnn.benchmark = True
    dtype, batch = getattr(torch, options.precision), options.batch_size
    network = torchvision.models.resnet50(num_classes=1).cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    scaler = torch.amp.GradScaler('cuda', enabled=dtype == torch.float16)
    shape = (batch, 3, 224, 224)
    images = [torch.randint(0, 256, shape, dtype=torch.uint8, device='cuda') for _ in range(3)]
    images = [image.to(memory_format=torch.channels_last) for image in images]
    labels = [torch.randint(0, 2, (batch,), device='cuda').float() for _ in range(3)]
    mean, std = (255 * torch.tensor(values, device='cuda').view(1, 3, 1, 1)
                 for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip

    def logits(image: torch.Tensor) -> torch.Tensor:
        with torch.autocast('cuda', dtype):
            return network((image - mean) / std).squeeze(1)

    def loss(image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits(image).float(), label)

    if compiled:
        logits_of, loss_of = torch.compile(logits), torch.compile(loss)
    else:
        logits_of, loss_of = logits, loss

    def train(number: int) -> None:
        scaler.scale(loss_of(images[number % 3], labels[number % 3])).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def evaluate(number: int) -> None:
        with torch.no_grad():
            logits_of(images[number % 3])

    network.train()
    train_rate = _rate(train, batch, options.seconds)
    network.eval()
    eval_rate = _rate(evaluate, batch, options.seconds)
    return {'device': torch.cuda.get_device_name(), 'torch': torch.__version__, 'train': train_rate, 'eval': eval_rate}


def _rate(step: Callable[[int], None], images: int, seconds: float) -> float:
    """Images/s, the median of WINDOWS windows after five steps."""
    import torch

    for number in range(5):
        step(number)
    torch.cuda.synchronize()
    rates = []
    for _ in range(WINDOWS):
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds / WINDOWS:
            step(count)
            count += 1
            if count % 5 == 0:
                torch.cuda.synchronize()
        torch.cuda.synchronize()
        rates.append(count * images / (time.perf_counter() - start))
    return statistics.median(rates)


if __name__ == '__main__':
    main()

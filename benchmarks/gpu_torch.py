"""PyTorch's side of gpu.py's steps, in a process of its own: answers each line of its input with a line of JSON.

`warm eager` and `warm compiled` prepare the steps; `train eager 0.5` measures a rate for half a second.
The network is torchvision's where that is installed, else the same graph from torch_steps.py; channels_last, automatic
mixed precision and fused AdamW.
"""

import json
import sys
import time
from typing import Any

import torch
import torch_steps

from fakeimg.config import default_config
from fakeimg.networks import Model

TOGETHER = {'cuda': 5, 'cpu': 1}  # steps before the next wait; also steps that warm up


class Steps:
    """Training and evaluation steps on random images that are on the device already."""

    def __init__(self, model: dict[str, Any], size: int, batch: int, precision: str):
        self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.dtype, self.batch = getattr(torch, precision), batch
        torch.backends.cudnn.benchmark = True
        self.network, self.graph = build(model, size)
        self.network.to(device=self.device, memory_format=torch.channels_last)  # pyright: ignore
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, fused=True)
        self.scaler = torch.amp.GradScaler(self.device, enabled=self.dtype == torch.float16)
        shape = (batch, 3, size, size)
        images = [torch.randint(0, 256, shape, dtype=torch.uint8, device=self.device) for _ in range(3)]
        self.images = [image.to(memory_format=torch.channels_last) for image in images]
        self.labels = [torch.randint(0, 2, (batch,), device=self.device).float() for _ in range(3)]
        mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        self.mean, self.std = (255 * torch.tensor(x, device=self.device).view(1, 3, 1, 1) for x in (mean, std))
        self.functions = {'eager': (self._logits, self._loss)}
        self.count = 0

    def _logits(self, image: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device, self.dtype):
            return self.network((image - self.mean) / self.std).squeeze(1)

    def _loss(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(self._logits(image).float(), label)

    def warm(self, mode: str) -> dict[str, float]:
        """Prepares training and evaluation; returns the seconds that this took, and the peak bytes so far."""
        start = time.perf_counter()
        if mode == 'compiled':
            backend = 'inductor' if self.device == 'cuda' else 'eager'
            self.functions[mode] = (
                torch.compile(self._logits, backend=backend),
                torch.compile(self._loss, backend=backend),
            )
        for name in ('train', 'eval'):
            self._take(name, mode, TOGETHER[self.device])
        peak = torch.cuda.max_memory_allocated() if self.device == 'cuda' else 0
        return {'seconds': time.perf_counter() - start, 'peak_bytes': peak}

    def rate(self, name: str, mode: str, seconds: float) -> dict[str, float]:
        """Images/s of one window."""
        self._take(name, mode, 1)
        start, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - start < seconds:
            self._take(name, mode, TOGETHER[self.device])
            count += TOGETHER[self.device]
        return {'rate': count * self.batch / (time.perf_counter() - start)}

    def _take(self, name: str, mode: str, steps: int) -> None:
        logits, loss = self.functions[mode]
        self.network.train(name == 'train')
        for _ in range(steps):
            self.count += 1
            image, label = self.images[self.count % 3], self.labels[self.count % 3]
            if name == 'train':
                self._train(loss, image, label)
            else:
                with torch.no_grad():
                    logits(image)
        if self.device == 'cuda':
            torch.cuda.synchronize()

    def _train(self, loss: Any, image: torch.Tensor, label: torch.Tensor) -> None:
        self.scaler.scale(loss(image, label)).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)


def build(model: dict[str, Any], size: int) -> tuple[torch.nn.Module, str]:
    """The network with one logit, and whose graph it is."""
    if model['name'] == 'resnet50':
        try:
            import torchvision  # pyright: ignore

            return torchvision.models.resnet50(num_classes=1), f'torchvision {torchvision.__version__}'
        except ImportError:
            pass
    config = default_config()
    config.model, config.data.image_size = Model(**model), size
    return torch_steps.network(config), 'benchmarks/torch_steps.py'


def main() -> None:
    steps = Steps(**json.loads(sys.argv[1]))
    answer = {'torch': torch.__version__, 'cuda': torch.version.cuda, 'graph': steps.graph}
    print(json.dumps(answer), flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        try:
            if command == 'warm':
                answer = steps.warm(*arguments)
            else:
                answer = steps.rate(command, arguments[0], float(arguments[1]))
        except Exception as error:  # out of memory, no compiler: this side has no figure, others go on
            answer = {'error': f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'}
        print(json.dumps(answer), flush=True)


if __name__ == '__main__':
    main()

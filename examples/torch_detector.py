"""A detector in PyTorch that fakeimg can judge: fakeimg evaluate --detector torch_detector.py:predict --data_path DIR

It stands for your own: `predict` takes paths and returns P(fake). Its process has this folder as working directory, so
weights beside this file are found by their name alone.
"""

import numpy as np
import PIL.Image
import torch

SIZE = 64
device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
torch.manual_seed(0)
# Yours would be loaded here, once: network.load_state_dict(torch.load('weights.pt', map_location=device)).
network = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
    torch.nn.Flatten(), torch.nn.Linear(8, 1),
).to(device).eval()  # fmt: skip


def read(path: str) -> torch.Tensor:
    """An image as float32[3, SIZE, SIZE], from 0 to 1."""
    with PIL.Image.open(path) as image:
        pixels = np.array(image.convert('RGB').resize((SIZE, SIZE)), np.float32)
    return torch.from_numpy(pixels / 255).permute(2, 0, 1)


@torch.inference_mode()
def predict(paths: list[str]) -> torch.Tensor:
    """P(fake) of each image."""
    images = torch.stack([read(path) for path in paths]).to(device)
    return torch.sigmoid(network(images))[:, 0]

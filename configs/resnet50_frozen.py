"""ResNet50 as in resnet50.py, with BatchNorm held to the statistics of its ImageNet weights: for small batches."""

from configs import resnet50
from fakeimg.config import Config


def get_config() -> Config:
    config = resnet50.get_config()
    config.model.freeze_batch_norm = True
    return config

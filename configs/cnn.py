"""The small CNN of the CIFAKE paper on a folder of images of any size, seen at 64 px."""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 128
    config.epochs = 10.0
    config.data.image_size = 64
    config.data.resize_size = 72
    config.model.name = 'cnn'
    config.optimizer.base_learning_rate = 2e-3
    return config

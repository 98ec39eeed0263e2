"""The small CNN of Bird & Lotfi 2024 on CIFAKE (32 px); point config.data.path at the folder of train/ and test/."""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 128
    config.epochs = 6.0
    config.data.image_size = 32
    config.data.resize_size = 32
    config.model.name = 'cnn'
    config.optimizer.base_learning_rate = 2e-3
    return config

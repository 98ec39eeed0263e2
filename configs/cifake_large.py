"""The largest CNN of Bird & Lotfi's family that a laptop trains in minutes, on CIFAKE (32 px): three layers of 64."""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 128
    config.epochs = 6.0
    config.data.image_size = 32
    config.data.resize_size = 32
    config.model.name = 'cnn'
    config.model.filters = 64
    config.model.layers = 3
    config.optimizer.base_learning_rate = 2e-3
    config.optimizer.ema_decay = 0.998
    return config

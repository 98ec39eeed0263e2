"""The small CNN on the built-in demo faces: about a minute on two CPU cores."""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 128
    config.epochs = 6.0
    config.data.path = 'demo'
    config.data.image_size = 64
    config.data.resize_size = 64
    config.model.name = 'cnn'
    config.optimizer.base_learning_rate = 2e-3
    config.log_every_steps = 25
    return config

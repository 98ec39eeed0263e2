"""ResNet50 with BatchNorm held to the statistics of its ImageNet weights, for small batches; else as resnet50.py."""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 16
    config.epochs = 5.0
    config.data.image_size = 224
    config.data.resize_size = 256
    config.model.name = 'resnet50'
    config.model.freeze_batch_norm = True
    config.init.weights = 'auto'
    config.optimizer.base_learning_rate = 4e-4
    config.optimizer.weight_decay = 0.05
    return config

"""ResNet18 with the stem for small images on CIFAKE (32 px); config.data.path is the folder of train/ and test/."""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 128
    config.epochs = 15.0
    config.data.image_size = 32
    config.data.resize_size = 32
    config.model.name = 'resnet18'  # or resnet50
    config.model.small_stem = True
    config.optimizer.base_learning_rate = 2e-3
    config.optimizer.ema_decay = 0.998
    config.optimizer.weight_decay = 0.05
    return config

"""VGG19 from ImageNet weights on face crops."""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 64
    config.epochs = 5.0
    config.data.image_size = 224
    config.data.resize_size = 256
    config.model.name = 'vgg19'  # or vgg19_bn
    config.init.weights = 'auto'
    config.optimizer.base_learning_rate = 1e-4
    config.optimizer.weight_decay = 0.05
    return config

"""Features of ResNet50 as ImageNet left it, for python -m fakeimg.probe; nothing is trained but the classifiers."""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.image_size = 224
    config.data.resize_size = 256
    config.model.name = 'resnet50'
    config.init.weights = 'auto'
    return config

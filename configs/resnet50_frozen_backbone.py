"""A linear classifier on the features of an ImageNet ResNet50, which stays as it is: quick, and a bar for the rest.

Not resnet50_frozen.py, where only the statistics of BatchNorm stay.
"""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 128
    config.epochs = 5.0
    config.data.image_size = 224
    config.data.resize_size = 256
    config.model.name = 'resnet50'
    config.init.weights = 'auto'
    config.finetune.last_stages = 0
    config.optimizer.base_learning_rate = 2e-3
    return config

"""ResNet50 from ImageNet weights: the head alone for an epoch, then everything, early stages slower.

A random head's first gradients would distort good features (Kumar et al. 2022, who fit the head first).
"""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 128
    config.epochs = 6.0
    config.data.image_size = 224
    config.data.resize_size = 256
    config.model.name = 'resnet50'
    config.init.weights = 'auto'
    config.finetune.head_epochs = 1.0
    config.finetune.layer_decay = 0.75
    config.optimizer.base_learning_rate = 4e-4
    config.optimizer.weight_decay = 0.05
    return config

"""One's own images from ImageNet weights: the head alone for two epochs, then everything, early stages slower."""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 64
    config.epochs = 12.0
    config.data.image_size = 224
    config.data.resize_size = 256
    config.model.name = 'resnet50'
    config.init.weights = 'auto'
    config.finetune.head_epochs = 2.0
    config.finetune.layer_decay = 0.75
    config.loss.label_smoothing = 0.1
    config.optimizer.base_learning_rate = 4e-4
    config.optimizer.weight_decay = 0.05
    return config

"""VGG19 from ImageNet weights with a softmax head, which learns alone for an epoch before everything does."""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 64
    config.epochs = 6.0
    config.data.image_size = 224
    config.data.resize_size = 256
    config.model.name = 'vgg19'  # or vgg19_bn
    config.model.head = 'softmax'
    config.init.weights = 'auto'
    config.finetune.head_epochs = 1.0
    config.optimizer.base_learning_rate = 1e-4
    config.optimizer.weight_decay = 0.05
    return config

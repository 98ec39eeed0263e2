"""A network after the CIFAR speed runs on CIFAKE (32 px), in about twenty minutes of two CPU cores."""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 256
    config.epochs = 5.0
    config.data.image_size = 32
    config.data.resize_size = 32
    config.model.name = 'airbench'
    config.augment.alternating_flip = True
    config.loss.label_smoothing = 0.1
    config.optimizer.name = 'muon'
    config.optimizer.base_learning_rate = 0.02
    config.optimizer.schedule = 'linear'
    config.optimizer.warmup_epochs = 1.0
    config.optimizer.momentum = 0.85
    config.optimizer.weight_decay = 5e-4
    config.optimizer.clip_norm = 0.0
    return config

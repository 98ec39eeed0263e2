"""Hundreds to a few thousand images of one's own, from scratch: whole images, seen small, in minutes on a CPU."""

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 64
    config.epochs = 100.0
    config.data.image_size = 64
    config.data.resize_size = 72
    config.model.name = 'airbench'
    config.model.width = 32
    config.model.blocks = 4
    config.augment.alternating_flip = True
    config.augment.mixup = 0.4
    config.loss.label_smoothing = 0.1
    config.optimizer.name = 'muon'
    config.optimizer.base_learning_rate = 0.08  # 0.02 for 64 images
    config.optimizer.adamw_learning_rate = 4e-3
    config.optimizer.schedule = 'linear'
    config.optimizer.warmup_epochs = 20.0
    config.optimizer.momentum = 0.85
    config.optimizer.weight_decay = 5e-4
    config.optimizer.clip_norm = 0.0
    config.validate_every_epochs = 20.0
    return config

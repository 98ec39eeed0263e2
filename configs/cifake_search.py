"""The 36 topologies of Bird & Lotfi 2024 (section III) on CIFAKE, tried with --search; a short training for each."""

from collections.abc import Iterator

from fakeimg.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.batch_size = 128
    config.epochs = 3.0  # for each candidate
    config.data.image_size = 32
    config.data.resize_size = 32
    config.model.name = 'cnn'
    config.model.dense_layers = 0
    config.optimizer.base_learning_rate = 2e-3
    return config


def get_search() -> Iterator[list[dict]]:
    """Yields one list a stage; its candidates change fields of the best candidate so far."""
    yield [{'model.layers': layers, 'model.filters': filters} for layers in (1, 2, 3) for filters in (16, 32, 64, 128)]
    yield [
        {'model.dense_layers': layers, 'model.dense': units}
        for layers in (1, 2, 3)
        for units in (32, 64, 128, 256, 512, 1024, 2048, 4096)
    ]

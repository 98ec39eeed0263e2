"""What stays in memory, by how much is available."""

import pytest

from fakeimg.config import Config
from fakeimg.data import memory
from fakeimg.errors import UserError
from fakeimg.training import program


def test_auto_caches_what_fits_and_is_used_again(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config.data.cache = 'auto'
    needed = 96 * 32 * 32 * 3
    assert program.build(config).cached_bytes == needed
    monkeypatch.setattr(memory, 'available_memory', lambda: 2 * needed - 1)
    assert program.build(config).cached_bytes == 0
    monkeypatch.undo()
    config.steps = 4  # of 16 images, less than an epoch
    assert program.build(config).cached_bytes == 0
    config.data.cache = 'host'
    parts = program.build(config)
    assert parts.cached_bytes == needed
    assert [name for name, split in parts.splits.items() if split.cache is not None] == ['train', 'validation']
    monkeypatch.setattr(memory, 'available_memory', lambda: 1000)
    with pytest.raises(UserError, match='config.data.cache=host needs .* leave it auto'):
        program.build(config)

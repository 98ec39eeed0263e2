"""How much memory is left: the narrowest of the machine and the containers around this process."""

import pathlib

import numpy as np
import PIL.Image
import pytest

from fakeimg.config import Config
from fakeimg.data import memory
from fakeimg.training import program

MB = 10**6
Tree = dict[str, dict[str, str]]
# Memory of the process itself and pages of files, which the kernel can take back.
STAT = f'anon {30 * MB}\nactive_file {20 * MB}\ninactive_file {10 * MB}\nfile {35 * MB}\n'
STAT_1 = f'total_active_file {20 * MB}\ntotal_inactive_file {10 * MB}\nhierarchical_memory_limit {{limit}}\n'
NO_LIMIT = str(2**63 - 4096)


def v2(limit: str, used: int = 60 * MB, high: str = 'max') -> dict[str, str]:
    return {'memory.max': limit, 'memory.current': str(used), 'memory.high': high, 'memory.stat': STAT}


def v1(limit: str, above: str = NO_LIMIT) -> dict[str, str]:
    files = {'memory.limit_in_bytes': limit, 'memory.usage_in_bytes': str(60 * MB)}
    return {**files, 'memory.stat': STAT_1.format(limit=above)}


@pytest.mark.parametrize(
    ('own', 'tree', 'left'),
    [
        ('0::/', {'': v2(f'{100 * MB}')}, 70),
        ('0::/', {'': v2('max', high=f'{90 * MB}')}, 60),
        ('0::/a.slice/job_4/step_0', {'a.slice/job_4': v2(f'{100 * MB}'), 'a.slice/job_4/step_0': v2('max')}, 70),
        ('0::/a/b', {'': v2(f'{500 * MB}'), 'a': v2(f'{200 * MB}'), 'a/b': v2(f'{800 * MB}')}, 170),
        ('0::/../other/b', {'': v2(f'{100 * MB}')}, 70),  # seen from inside a container
        ('0::/a', {'a': v2(f'{50 * MB}', 90 * MB)}, 0),
        ('3:cpu,cpuacct:/x\n9:memory:/docker/4f', {'memory': v1(f'{100 * MB}')}, 70),  # mounted at its own folder
        ('9:memory:/slurm/job', {'memory': v1(NO_LIMIT), 'memory/slurm/job': v1(f'{80 * MB}')}, 50),
        ('9:hugetlb,memory:/x', {'memory': v1(NO_LIMIT, above=f'{90 * MB}')}, 60),
        ('1:name=systemd:/x\n0::/x', {'unified/x': v2(f'{100 * MB}')}, 70),
        ('', {'memory': v1(f'{100 * MB}')}, None),
        ('0::/', {'': v2('max')}, None),
        ('9:memory:/', {'memory': v1(NO_LIMIT)}, None),
    ],
)
def test_the_narrowest_container_counts(
    own: str, tree: Tree, left: int | None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, texts in tree.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (tmp_path / folder / name).write_text(f'{text}\n')
    (tmp_path / 'own').write_text(f'{own}\n')
    monkeypatch.setattr(memory, 'CGROUP', tmp_path)
    monkeypatch.setattr(memory, 'OWN_CGROUP', tmp_path / 'own')
    monkeypatch.setattr(memory, '_free_on_this_machine', lambda: 1000 * MB)
    assert memory.available_memory() == (1000 if left is None else left) * MB


def test_memory_is_promised_only_to_images_that_stay(config: Config) -> None:
    config.data.cache, config.data.image_size, config.data.resize_size = 'auto', 16, 32
    full = program.build(config).cached_bytes
    assert full == 96 * 32 * 32 * 3
    paths = sorted(pathlib.Path(config.data.path).glob('train/*/*'))
    for path in paths[: len(paths) // 2]:  # real ones or fake ones
        PIL.Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(path)
    assert 0.2 * full < program.build(config).cached_bytes < 0.8 * full
    for path in paths:
        PIL.Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(path)
    assert program.build(config).cached_bytes == 0

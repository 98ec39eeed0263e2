"""What a recipe that chooses is told of the images."""

import pathlib

import pytest

from fakeimg.config import Config
from fakeimg.data.summary import summarise
from tests.support.files import write_tree
from tests.support.sets import image


def test_it_counts_what_is_learned_from_and_looks_at_sizes_and_formats(tmp_path: pathlib.Path, config: Config) -> None:
    tree = {f'train/real/{n}.jpg': image(n, 40, 60) for n in range(5)}
    tree |= {f'train/fake/{n}.png': image(9 + n, 70, 30, kind='PNG') for n in range(2)}
    tree |= {f'test/{kind}/a.jpg': image(20 + n, 300, 300) for n, kind in enumerate(('real', 'fake'))}
    tree |= {f'validation/{kind}/a.jpg': image(30 + n, 300, 300) for n, kind in enumerate(('real', 'fake'))}
    tree['train/real/broken.jpg'] = b'\xff\xd8nothing'
    config.data.path = write_tree(tmp_path / 'set', tree)
    found = summarise(config)
    assert (found.real, found.fake, found.count, found.side, found.formats) == (6, 2, 8, 40, ('jpeg', 'png'))
    assert str(found) == '8 images to learn from (6 real, 2 fake) of 40 px, jpeg and png'


@pytest.mark.parametrize('part', ['train[:50%]'])
def test_it_looks_at_the_part_that_is_learned_from(part: str, faces: pathlib.Path, config: Config) -> None:
    whole = summarise(config).count
    config.data.train_split, config.data.validation_split = part, 'train[50%:]'
    assert abs(summarise(config).count - whole / 2) < whole / 4

"""The page of explanations: closed, complete, and text where it shows names."""

import html
import pathlib
import re

import numpy as np
import PIL.Image
import pytest

from fakeimg.explaining import checks, page
from fakeimg.explaining.checks import Replaced
from fakeimg.explaining.maps import LINEAR, Explanation

EVIL = '<script>&"'


def explanations(count: int) -> list[tuple[Explanation, Replaced]]:
    rng, found = np.random.default_rng(0), []
    for number in range(count):
        cells = rng.normal(0, 1, (8, 8)).astype(np.float32)
        crop, total = rng.integers(0, 256, (32, 32, 3), np.uint8), float(cells.sum())
        one = Explanation(f'{EVIL}{number}.jpg', 0.5, total - 0.5, cells, -0.5, LINEAR, crop, 4, np.arange(32) // 4)
        found.append((one, Replaced(1.25, -0.001, 'other.jpg')))
    return found


def test_a_page_shows_every_image_its_map_and_its_drops(tmp_path: pathlib.Path) -> None:
    unreadable = Explanation('bad.jpg', error=f'bad.jpg cannot be read: {EVIL}'), Replaced(why='cannot be read')
    alone = explanations(3)[2][0], Replaced(why='there is no other image')
    check = checks.Randomisation(['head', 'conv1'], np.array([[0.5, 0.7], [-0.31, np.nan]]))
    found = [*explanations(2), unreadable, alone]
    assert page.write_page(tmp_path / 'out', found, about=[f'{EVIL}detector'], check=check) == 3
    text = (tmp_path / 'out/index.html').read_text()
    assert '<script' not in text and text.count('<img ') == 6 and "default-src 'none'" in text
    assert all(target.startswith(('data:image/', '#')) for target in re.findall(r'(?:src|href)="([^"]*)"', text))
    said = html.unescape(text)
    for words in (f'{EVIL}detector', f'{EVIL}0.jpg (0000.png)', '3 of 4 images could be read',
                  'drop +1.25; of a random fifth +0.00', '8 x 8 cells; a cell is 4 x 4 pixels', LINEAR,
                  'rest \u22120.50', 'no drop: there is no other image',
                  f'bad.jpg cannot be read: {EVIL}', 'look different', 'and conv1', '\u22120.31', 'strongest colour',
                  'log-odds of fake', 'it is no evidence that a region was edited'):  # fmt: skip
        assert words in said, words
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'index.html', '0000.png', '0001.png', '0003.png'}
    with PIL.Image.open(tmp_path / 'out/0003.png') as image:
        assert image.format == 'PNG'


def test_a_page_of_many_images_is_cut_and_says_so(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, 'SHOWN', 3)
    assert page.write_page(tmp_path, iter(explanations(5))) == 5
    text = (tmp_path / 'index.html').read_text()
    assert text.count('<img ') == 6 and len(list(tmp_path.glob('*.png'))) == 5
    assert 'The first 3 are shown here; the maps of all 5 are files in this folder.' in text


def test_a_page_of_200_images_can_be_sent(tmp_path: pathlib.Path) -> None:
    page.write_page(tmp_path, explanations(20))
    assert (tmp_path / 'index.html').stat().st_size < 20 * 45_000


def test_without_a_readable_image_there_is_a_page(tmp_path: pathlib.Path) -> None:
    assert page.write_page(tmp_path, [(Explanation('a', error='a cannot be read: empty'), Replaced(why='no'))]) == 0
    assert '0 of 1 images could be read' in (tmp_path / 'index.html').read_text()

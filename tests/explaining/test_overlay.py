"""What a map looks like: both signs at one scale, over what the network saw."""

import numpy as np
import PIL.Image
import pytest

from fakeimg.explaining import overlay
from fakeimg.explaining.maps import Explanation


def explanation(cells: np.ndarray, size: int = 32) -> Explanation:
    crop = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    rows = np.arange(size) * len(cells) // size
    total = float(cells.sum())
    return Explanation('a.png', 0.5, total + 0.25, cells, 0.25, 'exact', crop, size // len(cells), rows)


def test_orange_is_for_fake_and_blue_for_real_and_a_half_is_half_as_strong() -> None:
    cells = np.array([[2.0, -2.0], [1.0, 0.0]], np.float32)
    one = explanation(cells)
    plain = np.asarray(overlay.overlay(explanation(0 * cells)), float)
    found = np.asarray(overlay.overlay(one), float)
    assert found.shape == (128, 128, 3)
    change = (found - plain)[..., 0] - (found - plain)[..., 2]
    red_less_blue = change.reshape(2, 64, 2, 64).mean((1, 3))
    assert red_less_blue[0, 0] > 80 and red_less_blue[0, 1] < -60 and red_less_blue[1, 1] == 0
    assert red_less_blue[1, 0] == pytest.approx(red_less_blue[0, 0] / 2, rel=0.02)
    assert overlay.limit(one) == 2


@pytest.mark.parametrize('size', [32, 224, 300])
def test_a_cell_has_sharp_edges_where_its_pixels_end(size: int) -> None:
    cells = np.zeros((4, 4), np.float32)
    cells[1, 2] = 1
    one, none = explanation(cells, size), explanation(0 * cells, size)
    difference = np.abs(np.asarray(overlay.overlay(one), int) - np.asarray(overlay.overlay(none), int)).sum(-1) > 0
    rows, columns = np.nonzero(difference)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 63, 64, 95)


@pytest.mark.parametrize('size', [8, 32, 224, 300])
def test_a_sheet_holds_both_and_a_bar_of_colours(size: int) -> None:
    image = overlay.sheet(explanation(np.array([[1.0, -0.5], [0, 0]], np.float32), size))
    assert image.width >= 2 * 256 + 8 and image.height > image.width / 2
    assert image.mode == 'RGB' and isinstance(image, PIL.Image.Image)
    side = (image.width - 8) // 2
    bar = np.asarray(image)[side + 12]
    assert bar[0, 2] > bar[0, 0] and bar[-1, 0] > bar[-1, 2]  # blue, orange
    crop = np.asarray(image)[:: side // size, :: side // size][:size, :size]
    np.testing.assert_array_equal(crop, explanation(np.zeros((2, 2)), size).crop)

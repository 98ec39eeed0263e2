import io
import pathlib

import numpy as np
import PIL.Image
import pytest

from fakeimg import known
from fakeimg.known import Facts, Known


def encoded(pixels: np.ndarray, kind: str = 'JPEG') -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def images(count: int, side: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 180, (count, side, side, 3)).astype(np.uint8)


def features(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    spread = np.geomspace(3, 0.1, 40)
    return (random.normal(size=(count, 40)) * spread + np.arange(count)[:, None] % 2 * 2).astype(np.float32)


@pytest.fixture(scope='module')
def fitted() -> Known:
    pixels = images(800)
    facts = known.look([encoded(image) for image in pixels], pixels)
    found = known.fit(facts, features(800), np.arange(800) % 2, 'digest')
    assert found is not None
    return found


def reasons(fitted: Known, pixels: np.ndarray, kind: str = 'JPEG', far: float = 0.0) -> set[str]:
    square = np.asarray(PIL.Image.fromarray(pixels).resize((24, 24)))
    [facts] = known.look([encoded(pixels, kind)], square[None])
    return set(fitted.reasons(facts, far))


def test_facts(fitted: Known) -> None:
    pixels = images(2, side=30)
    pixels[1] = 200
    first, second = known.look([encoded(pixels[0, :20]), encoded(pixels[1], 'PNG')], pixels)
    assert (first.kind, first.values[:2]) == ('jpeg', (20, 1.5))
    green = pixels[0, ..., 1].astype(float)
    edges = green[:-2, 1:-1] + green[2:, 1:-1] + green[1:-1, :-2] + green[1:-1, 2:] - 4 * green[1:-1, 1:-1]
    assert first.values[2] == pytest.approx(edges.var(), rel=1e-4)
    assert first.values[3] == pytest.approx((pixels[0].max(-1) - pixels[0].min(-1)).mean())
    assert second == Facts('png', (30, 1.0, 0.0, 0.0, 200.0))
    [broken] = known.look([b'no image'], pixels[:1])
    assert broken.kind == '' and broken.values[:2] == (30, 1.0)


def test_images_of_the_same_kind_are_known(fitted: Known) -> None:
    pixels = images(1000, seed=1)
    facts = known.look([encoded(image) for image in pixels], pixels)
    distances = fitted.distances(features(1000, seed=1))
    unlike = [bool(fitted.unlike(one, far)) for one, far in zip(facts, distances.tolist(), strict=True)]
    assert 0.001 <= np.mean(unlike) <= 0.03


def test_each_fact_is_told(fitted: Known) -> None:
    usual = images(1, seed=2)[0]
    assert reasons(fitted, usual) == set()
    assert reasons(fitted, usual, 'PNG') == {'format'}
    assert 'size' in reasons(fitted, images(1, side=100)[0])
    assert 'aspect' in reasons(fitted, usual[:14])
    assert 'sharpness' in reasons(fitted, np.full_like(usual, 120))
    assert reasons(fitted, np.repeat(usual[..., :1], 3, axis=2)) == {'colour'}
    assert 'brightness' in reasons(fitted, usual // 8)
    assert reasons(fitted, usual, far=1.01) == {'features'}


def test_a_note_says_in_what(fitted: Known) -> None:
    note = fitted.unlike(Facts('png', (1000, 1.0, 900.0, 1.0, 120.0)), 2.5)
    assert note.startswith('unlike the training images: 1000 pixels, not 24, ')
    assert 'colourless' in note and 'png format, not jpeg' in note
    assert note.endswith('its features lie 2.5 times as far out as those of 99 of 100')


def test_features_far_from_both_classes_are_far(fitted: Known) -> None:
    inside = features(400, seed=3)
    assert np.mean(fitted.distances(inside) > 1) < 0.05
    shifted = inside.copy()
    shifted[:, -1] += 3  # in a direction in which nothing varies
    assert np.mean(fitted.distances(shifted) > 1) == 1


def test_written_and_read(fitted: Known, tmp_path: pathlib.Path) -> None:
    path = tmp_path / known.FILE
    assert known.read(path) is None
    fitted.write(path)
    read = known.read(path, 'digest')
    assert read is not None and known.read(path, 'other') is None
    some = features(50, seed=4)
    np.testing.assert_allclose(read.distances(some), fitted.distances(some), rtol=1e-4)
    assert (read.kinds, read.digest) == (fitted.kinds, 'digest')
    np.testing.assert_allclose(read.ranges, fitted.ranges, rtol=1e-6)
    path.write_bytes(path.read_bytes()[:100])
    assert known.read(path) is None


def test_few_images_and_narrow_features() -> None:
    pixels = images(60)
    facts = known.look([encoded(image) for image in pixels], pixels)
    assert known.fit(facts[:39], features(39), np.arange(39) % 2, '') is None
    flat = known.fit(facts, np.zeros((60, 3), np.float32), np.zeros(60, int), '')
    assert flat is not None and np.isfinite(flat.distances(np.ones((2, 3)))).all()

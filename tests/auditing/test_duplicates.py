import io

import numpy as np
import PIL.Image
import pytest

from fakeimg.auditing import copies, duplicates
from fakeimg.auditing.duplicates import clusters, exact_clusters, hash_pairs, near_pairs
from fakeimg.auditing.facts import FACTS, measure_image
from fakeimg.data.demo import DemoFaces
from tests.support.verbs import ROOT


def random_hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)


def plant_neighbours(hashes: np.ndarray, most_bits: int) -> np.ndarray:
    """Adds to each hash one with 0 to most_bits other bits."""
    rng = np.random.default_rng(1)
    flips = [rng.permutation(64)[: rng.integers(0, most_bits + 1)] for _ in hashes]
    masks = np.array([sum(1 << int(bit) for bit in bits) for bits in flips], np.uint64)
    return np.concatenate([hashes, hashes ^ masks])


def as_set(pairs: np.ndarray) -> set[tuple[int, int]]:
    return {(left, right) for left, right in np.sort(pairs, 1).tolist()}


def found(hashes: np.ndarray, radius: int) -> set[tuple[int, int]]:
    return set().union(*(as_set(block) for block in hash_pairs(hashes, radius)))


def all_pairs(hashes: np.ndarray, radius: int) -> set[tuple[int, int]]:
    left, right = np.triu_indices(len(hashes), 1)
    near = np.bitwise_count(hashes[left] ^ hashes[right]) <= radius
    return as_set(np.stack([left[near], right[near]], 1))


def noise_thumbnails(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16), np.uint8)


@pytest.mark.parametrize('radius', [0, 3, 7])
def test_search_finds_what_comparing_all_finds(radius: int) -> None:
    hashes = plant_neighbours(random_hashes(1500), 10)
    expected = all_pairs(hashes, radius)
    assert len(expected) > 100
    assert found(hashes, radius) == expected


def test_search_of_crowded_hashes_in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, 'BLOCK', 100)
    hashes = random_hashes(400) & np.uint64(0x0007_0000_0003_0003)  # 128 different ones at most, all close
    assert found(hashes, 2) == all_pairs(hashes, 2)


def test_a_radius_that_would_miss_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match='radius 8 is more than 7: four bands would miss pairs'):
        near_pairs(random_hashes(2), noise_thumbnails(2), radius=8)


def test_thumbnails_decide() -> None:
    thumbnails = noise_thumbnails(4)
    thumbnails[1] = np.clip(thumbnails[0].astype(int) * 0.8 + 30, 0, 255)  # darker and flatter, but the same
    hashes = np.full(4, 5, np.uint64)
    hashes[1] = 4
    assert near_pairs(hashes, thumbnails).tolist() == [[0, 1]]
    assert near_pairs(hashes, thumbnails, similarity=-1.0).tolist() == [[0, 1], [0, 2], [0, 3]]


def test_equal_hashes_are_tied_to_the_first_that_looks_alike() -> None:
    thumbnails = noise_thumbnails(2)[[0, 1, 0, 1, 1]]
    assert near_pairs(np.zeros(5, np.uint64), thumbnails).tolist() == [[0, 2], [1, 3], [1, 4]]


def test_many_copies_of_one_image_make_few_pairs() -> None:
    thumbnails = np.repeat(noise_thumbnails(1), 20_000, 0)
    pairs = near_pairs(np.zeros(20_000, np.uint64), thumbnails)
    assert len(pairs) == 19_999 and clusters(20_000, pairs).max() == 0


def test_crowds_are_thinned_to_what_connects_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, 'BLOCK', 1000)
    rng = np.random.default_rng(0)
    hashes = np.array([sum(1 << int(bit) for bit in rng.permutation(64)[:3]) for _ in range(300)], np.uint64)
    thumbnails = np.repeat(noise_thumbnails(1), 300, 0)
    every, thinned = near_pairs(hashes, thumbnails), near_pairs(hashes, thumbnails, most_pairs=500)
    assert len(every) > 40_000 and len(thinned) < 2_000
    assert clusters(300, every).max() == clusters(300, thinned).max() == 0


def test_flat_images_are_left_out() -> None:
    thumbnails = np.random.default_rng(0).integers(128, 132, (1, 16, 16)).astype(np.uint8)
    assert len(near_pairs(np.zeros(3, np.uint64), np.repeat(thumbnails, 3, 0))) == 0
    assert len(near_pairs(np.zeros(3, np.uint64), np.repeat(8 * (thumbnails - 120), 3, 0))) == 2


def test_nothing_to_compare_is_no_pairs() -> None:
    assert near_pairs(np.zeros(0, np.uint64), noise_thumbnails(0)).shape == (0, 2)
    assert near_pairs(random_hashes(1), noise_thumbnails(1)).shape == (0, 2)


def test_clusters_are_chains_of_pairs() -> None:
    cluster = clusters(6, np.array([[0, 3], [3, 5], [1, 2], [1, 2]]))
    assert cluster.tolist() == [0, 1, 1, 0, 2, 0]
    assert clusters(3, np.zeros((0, 2), np.int64)).tolist() == [0, 1, 2]


def test_exact_copies_share_a_number_and_broken_images_do_not() -> None:
    cluster = exact_clusters(np.array([b'a', b'', b'b', b'a', b''], 'S16'))
    assert cluster[0] == cluster[3]
    assert len(set(cluster.tolist())) == 4 and cluster.max() == 3


def test_copies_of_faces_are_found_and_nothing_else() -> None:
    faces = DemoFaces('train', size=64, num_examples=60)
    files = [faces[i] for i in range(60)]
    for data in files[:60]:
        image = PIL.Image.open(io.BytesIO(data))
        copies = [io.BytesIO() for _ in range(3)]
        image.save(copies[0], 'JPEG', quality=50)
        image.resize((96, 96), PIL.Image.Resampling.BICUBIC).save(copies[1], 'PNG')
        image.point([min(255, round(1.1 * level)) for level in range(256)] * 3).save(copies[2], 'WEBP')
        files += [copy.getvalue() for copy in copies]
    facts = np.stack([measure_image('', data) for data in files])
    cluster = clusters(240, near_pairs(facts['phash'], facts['thumbnail']))
    assert (cluster[60:].reshape(60, 3) == cluster[:60, None]).all()
    assert len(np.unique(cluster)) == 60


def noise_and_its_like(correlation: float) -> np.ndarray:
    """Two thumbnails of noise, uint8[2, 16, 16], of this correlation up to the rounding to whole numbers."""
    rng = np.random.default_rng(0)
    first, other = rng.permutation(np.linspace(-1.7, 1.7, 256)), rng.permutation(np.linspace(-1.7, 1.7, 256))
    other -= first * (first @ other) / (first @ first)
    other *= np.linalg.norm(first) / np.linalg.norm(other)
    second = correlation * first + np.sqrt(1 - correlation**2) * other
    return np.round(128 + 40 * np.stack([first, second])).astype(np.uint8).reshape(2, 16, 16)


def are_near(flips: int, correlation: float) -> bool:
    """Whether hashes that differ in the bits of `flips`, with thumbnails that correlate so, make near copies."""
    facts = np.zeros(2, FACTS)
    facts['bytes_hash'] = facts['pixels_hash'] = [b'one', b'two']
    facts['phash'] = 0, flips
    facts['thumbnail'] = noise_and_its_like(correlation)
    cluster = copies.find_near(facts, copies.find_exact(facts))
    return bool(cluster[0] == cluster[1])


def test_near_copies_are_hashes_at_most_7_bits_apart() -> None:
    assert are_near(0x0003_0003_0003_0001, 1.0)  # 7, spread as evenly as can be
    assert are_near(0x0000_007F_0000_0000, 1.0)
    assert not are_near(0x0003_0003_0003_0003, 1.0)  # 8
    assert not are_near(0x0000_00FF_0000_0000, 1.0)


@pytest.mark.parametrize('flips', [0, 0b1111111], ids=['equal hashes', 'near hashes'])
def test_near_copies_are_thumbnails_of_a_correlation_of_at_least_0_975(flips: int) -> None:
    for correlation in (0.9742, 0.9758):
        assert abs(np.corrcoef(noise_and_its_like(correlation).reshape(2, -1))[0, 1] - correlation) < 5e-4
    assert are_near(flips, 0.9758)
    assert not are_near(flips, 0.9742)


def test_docs_state_the_limits_of_near_copies() -> None:
    text = ' '.join((ROOT / 'docs/data.md').read_text().split())
    assert f'at most {duplicates.RADIUS} bits apart' in text
    assert f'thumbnails whose correlation is at least {duplicates.SIMILARITY}.' in text

import subprocess
import sys

import numpy as np
import pytest

from fakeimg.auditing.facts import FACTS, measure_image
from fakeimg.auditing.separability import (
    HEADER_FEATURES,
    PIXEL_FEATURES,
    SHIFT_FEATURES,
    Separability,
    cross_validated_auc,
    feature_matrix,
)
from fakeimg.data.demo import DemoFaces


def separate(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None, categorical: tuple[int, ...] = ()
) -> Separability:
    mask = np.isin(np.arange(features.shape[1]), categorical)
    names = [f'f{i}' for i in range(features.shape[1])]
    result = cross_validated_auc(features, labels, groups, mask, names)
    assert result is not None
    return result


def test_noise_is_near_one_half_and_not_above() -> None:
    rng = np.random.default_rng(0)
    results = [separate(rng.normal(size=(400, 4)), np.arange(400) % 2) for _ in range(4)]
    assert np.mean([result.auc for result in results]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([auc for result in results for _, auc in result.features]) == pytest.approx(0.5, abs=0.03)


def test_constant_features_are_exactly_chance() -> None:
    result = separate(np.ones((100, 2)), np.arange(100) % 2)
    assert result.auc == 0.5 and result.features == [('f0', 0.5), ('f1', 0.5)]


def test_a_planted_feature_is_found_and_named_first() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    features = rng.normal(size=(600, 5))
    features[:, 3] += 6 * labels
    result = separate(features, labels)
    assert result.auc > 0.99 and result.rows == 600
    assert result.features[0][0] == 'f3' and result.features[0][1] > 0.97
    assert result.features[1][1] < 0.65


def test_a_feature_between_two_values_and_a_missing_one_tell() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    middle = np.where(labels == 1, 85, rng.choice([75, 95], 600)).astype(float)
    missing = np.where(labels == 1, np.nan, rng.normal(size=600))
    result = separate(np.stack([middle, missing], 1), labels)
    assert result.features == [('f0', 1.0), ('f1', 1.0)] and result.auc > 0.99


def test_categories_have_no_order() -> None:
    rng = np.random.default_rng(0)
    category = rng.integers(0, 20, 2000)
    labels = np.isin(category, [1, 4, 5, 8, 10, 13, 17, 18]).astype(int)
    result = separate(category[:, None].astype(float), labels, categorical=(0,))
    assert result.auc == 1.0 and result.features == [('f0', 1.0)]


def test_near_copies_in_two_folds_would_flatter() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 10)
    labels = rng.permutation(np.arange(60) % 2)[groups]
    features = rng.normal(size=(60, 6))[groups]
    assert separate(features, labels).auc > 0.95
    assert separate(features, labels, groups).auc == pytest.approx(0.5, abs=0.2)


def test_too_few_of_a_class_are_not_judged() -> None:
    labels = np.zeros(500, int)
    labels[:29] = 1
    features, mask = np.random.default_rng(0).normal(size=(500, 1)), np.zeros(1, bool)
    assert cross_validated_auc(features, labels, None, mask, ['f']) is None
    labels[:40] = 1
    assert cross_validated_auc(features, labels, None, mask, ['f']) is not None
    assert cross_validated_auc(features, labels, labels, mask, ['f']) is None  # every copy of a class is one group


def test_rows_are_bounded_and_a_rare_class_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('fakeimg.auditing.separability.MOST_ROWS', 300)
    rng = np.random.default_rng(0)
    labels = (np.arange(5000) % 100 == 0).astype(int)
    features = rng.normal(size=(5000, 2)) + 6 * labels[:, None]
    result = separate(features, labels)
    assert result.rows == 300 and result.auc > 0.99


def test_equal_arguments_give_equal_results() -> None:
    features = np.random.default_rng(0).normal(size=(200, 3))
    assert separate(features, np.arange(200) % 2) == separate(features, np.arange(200) % 2)


def test_facts_become_a_matrix() -> None:
    faces = DemoFaces('train', size=32, num_examples=6)
    facts = np.stack([measure_image(name, faces[i]) for i, name in enumerate(faces.names)])
    for names in (HEADER_FEATURES, PIXEL_FEATURES, SHIFT_FEATURES):
        matrix, categorical = feature_matrix(facts, names)
        assert matrix.shape == (6, len(names)) and np.isfinite(matrix).all() and len(categorical) == len(names)
    matrix, categorical = feature_matrix(facts, ['mean_green', 'spectrum_9', 'format'])
    np.testing.assert_array_equal(matrix[:, :2], np.stack([facts['mean'][:, 1], facts['spectrum'][:, 9]], 1))
    assert categorical.tolist() == [False, False, True]


def test_categories_are_ranked_and_rare_ones_are_one() -> None:
    facts = np.zeros(100, FACTS)
    facts['format'] = [b'png'] * 60 + [b'jpeg'] * 25 + [b'gif'] * 10 + [b'bmp'] * 5
    matrix, _ = feature_matrix(facts, ['format'])
    assert matrix[:, 0].tolist() == [0.0] * 60 + [1.0] * 25 + [2.0] * 15
    facts = np.zeros(4000, FACTS)
    facts['jpeg_tables'] = np.arange(4000) % 100
    assert feature_matrix(facts, ['jpeg_tables'])[0].max() == 32


def test_unknown_feature_is_an_error() -> None:
    with pytest.raises(ValueError, match="no feature 'phash'; features: format, "):
        feature_matrix(np.zeros(1, FACTS), ['phash'])


def test_importing_is_cheap() -> None:
    code = (
        'import sys, fakeimg.auditing.facts, fakeimg.auditing.duplicates, fakeimg.auditing.separability\n'
        "assert not {'sklearn', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, '-c', code], check=True)

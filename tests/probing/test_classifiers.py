"""Classifiers find what is there and nothing else, and folds keep groups whole."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from fakeimg.errors import UserError
from fakeimg.probing import classifiers
from fakeimg.probing.classifiers import CLASSIFIERS, Classifier, Limits, assign_folds
from tests.support.console import Recorder

BY_NAME = pytest.mark.parametrize('classifier', CLASSIFIERS, ids=lambda classifier: classifier.name)


def easy_set(count: int = 200, seed: int = 0, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Features of very different scales, of which the smallest tells the classes apart; float32[n, 30], int32[n]."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) < share * count).astype(np.int32)
    features = random.standard_normal((count, 30))
    features[:, 0] += 5 * labels
    return (features * np.geomspace(1e-3, 1e3, 30) + 7).astype(np.float32), labels


@BY_NAME
def test_an_easy_set_is_separated_and_shuffled_labels_stay_at_chance(classifier: Classifier) -> None:
    features, labels = easy_set()
    said = Recorder()
    fold_of = assign_folds(labels, [''] * 200, 5, 0)
    found = classifiers.cross_validate(classifier, features, labels, fold_of, Limits(1000, 0), said)
    assert found.auc.shape == (len(classifier.grid), 5)
    assert found.auc[found.best].mean() > 0.97
    assert found.accuracy[found.best].mean() > 0.9
    assert len(said.lines) == 5
    assert re.fullmatch(rf'{classifier.name}: fold 2 of 5, \d+:\d\d, about \d+:\d\d left', said.lines[1])
    others, truths = easy_set(seed=1)
    decide = classifiers.fit_all(classifier, features, labels, classifier.grid[found.best], Limits(1000, 0))
    assert ((decide(others) >= 0) == truths).mean() > 0.9

    shuffled = np.random.default_rng(0).permutation(labels)
    fold_of = assign_folds(shuffled, [''] * 200, 5, 0)
    found = classifiers.cross_validate(classifier, features, shuffled, fold_of, Limits(1000, 0))
    assert 0.35 < found.auc.mean() < 0.65


def test_the_best_penalty_has_the_highest_mean_auc() -> None:
    def fit(features: np.ndarray, labels: np.ndarray, grid: Sequence[float]):
        for c in grid:
            yield lambda others, c=c: others[:, 0] if c == 2.0 else others[:, 1]

    features, labels = easy_set(100)
    fold_of = assign_folds(labels, [''] * 100, 2, 0)
    found = classifiers.cross_validate(
        Classifier('any', (1.0, 2.0, 3.0), fit), features, labels, fold_of, Limits(100, 0)
    )
    assert found.best == 1
    assert found.auc[1].mean() > 0.9


@BY_NAME
def test_decisions_are_equal_from_one_call_to_the_next(classifier: Classifier) -> None:
    features, labels = easy_set(60)
    first, second = (classifiers.fit_all(classifier, features, labels, 1.0, Limits(40, 0))(features) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_rbf_svm_is_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = easy_set(80)
    features[:, 5] = 3.0  # a constant feature lowers gamma's variance
    expected = make_pipeline(StandardScaler(), SVC(C=10.0, gamma='scale')).fit(features[:60], labels[:60])
    monkeypatch.setattr(classifiers, '_CHUNK', 7)
    decide = classifiers.fit_all(CLASSIFIERS[2], features[:60], labels[:60], 10.0, Limits(60, 0))
    np.testing.assert_allclose(decide(features), expected.decision_function(features), atol=2e-3)


def test_the_penalty_leaves_the_intercept_of_the_linear_svm_alone() -> None:
    """Where nine in ten images are real, decisions about none in particular are near -0.8, not near 0."""
    features, labels = easy_set(300, share=0.1)
    decide = classifiers.fit_all(CLASSIFIERS[1], features, labels, 1e-5, Limits(300, 0))
    assert -0.9 < decide(features).mean() < -0.7


@pytest.mark.parametrize('share', [0.5, 0.2])
def test_groups_never_straddle_folds(share: float) -> None:
    _, labels = easy_set(120, share=share)
    groups = [f'photo{row % 29}' if row % 3 else '' for row in range(120)]
    fold_of = assign_folds(labels, groups, 4, 0)
    for group in set(groups) - {''}:
        assert len({fold_of[row] for row in range(120) if groups[row] == group}) == 1
    alone = [fold_of[row] for row in range(120) if not groups[row]]
    assert len(set(alone)) == 4  # '' is no group
    for fold in range(4):
        assert abs(labels[fold_of == fold].mean() - share) < 0.12
    np.testing.assert_array_equal(fold_of, assign_folds(labels, groups, 4, 0))
    assert (fold_of != assign_folds(labels, groups, 4, 1)).any()


def test_folds_have_the_same_share_of_each_class() -> None:
    _, labels = easy_set(120, share=0.25)
    fold_of = assign_folds(labels, [''] * 120, 5, 0)
    assert np.bincount(2 * fold_of + labels).tolist() == [18, 6] * 5


@pytest.mark.parametrize(
    ('labels', 'groups', 'folds', 'message'),
    [
        ([0] * 20 + [1] * 4, [''] * 24, 5, 'folds is 5; it must be from 2 to the 4 images of the smaller class'),
        ([0] * 20 + [1] * 4, [''] * 24, 1, 'folds is 1; it must be from 2 to the 4 images'),
        ([0] * 20, [''] * 20, 5, 'the training split has 0 images of one class'),
        ([0, 1] * 12, ['a', 'a', 'b', 'b'] * 6, 5, 'folds is 5; train has no more than 2 groups'),
        ([0] * 12 + [1] * 12, [''] * 12 + ['a'] * 12, 3, '3 folds of whole groups cannot all hold both classes'),
    ],
)
def test_folds_that_cannot_be_made(labels: Sequence[int], groups: Sequence[str], folds: int, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        assign_folds(np.array(labels, np.int32), groups, folds, 0)


def test_draw_takes_the_same_share_of_each_class() -> None:
    labels = np.array([0] * 90 + [1] * 10, np.int32)
    rows = classifiers.draw(labels, 50, 0)
    assert len(set(rows.tolist())) == 50
    assert labels[rows].sum() == 5
    np.testing.assert_array_equal(rows, classifiers.draw(labels, 50, 0))
    assert (rows != classifiers.draw(labels, 50, 1)).any()
    assert labels[classifiers.draw(labels, 4, 0)].sum() == 1  # a rare class does not vanish
    np.testing.assert_array_equal(classifiers.draw(labels, 100, 0), np.arange(100))


def test_only_the_quadratic_classifier_is_limited() -> None:
    sizes: list[int] = []

    def fit(features: np.ndarray, labels: np.ndarray, grid: Sequence[float]):
        sizes.append(len(labels))
        yield lambda others: others[:, 0]

    features, labels = easy_set(100)
    fold_of = assign_folds(labels, [''] * 100, 2, 0)
    for is_quadratic in (True, False):
        classifier = Classifier('any', (1.0,), fit, is_quadratic)
        classifiers.cross_validate(classifier, features, labels, fold_of, Limits(30, 0))
        classifiers.fit_all(classifier, features, labels, 1.0, Limits(30, 0))
    assert sizes == [30, 30, 30, 50, 50, 100]

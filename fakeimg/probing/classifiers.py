"""Logistic regression and support vector machines on features: cross-validation in whole groups, then one final fit."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fakeimg.console import SILENT, Console, format_seconds
from fakeimg.data.folds import draw_rows, stratified_folds
from fakeimg.errors import UserError
from fakeimg.evaluation import metrics

# Features float[m, F] to decision values float64[m], at 0 and above fake.
Decide = Callable[[np.ndarray], np.ndarray]
# Features, labels and values of C to one Decide for each value.
Fit = Callable[[np.ndarray, np.ndarray, Sequence[float]], Iterator[Decide]]

_CHUNK = 2048  # images a kernel is computed for at a time: 160 MB against 10,000 others


@dataclasses.dataclass(frozen=True)
class Classifier:
    """One kind of classifier.

    Attributes:
        name: for the user.
        grid: the values of C, inverse strength of the L2 penalty on standardised features, ascending.
        fit: standardises features by their mean and deviation and fits them for each C.
        is_quadratic: time and memory grow with the square of the images.
    """

    name: str
    grid: tuple[float, ...]
    fit: Fit
    is_quadratic: bool = False


class Limits(NamedTuple):
    """What a quadratic classifier is fitted on: a draw of about `max_examples` images, by `seed`."""

    max_examples: int
    seed: int


@dataclasses.dataclass(frozen=True)
class CrossValidated:
    """The result of a cross-validation.

    Attributes:
        accuracy: float64[C, folds].
        auc: float64[C, folds].
        best: the row of the highest mean AUC; the first of equal ones, whose penalty is the strongest.
    """

    accuracy: np.ndarray
    auc: np.ndarray
    best: int


# scikit-learn takes a second to import, which a mistake on the command line should not have to wait for.


def _logistic_regression(features: np.ndarray, labels: np.ndarray, grid: Sequence[float]) -> Iterator[Decide]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for c in grid:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
        yield model.fit(features, labels).decision_function


def _linear_svm(features: np.ndarray, labels: np.ndarray, grid: Sequence[float]) -> Iterator[Decide]:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    for c in grid:
        # The primal (squared hinge) is linear in the images. LinearSVC penalises the intercept too, which would
        # move it where classes are unequal; scaled by 100, it costs next to nothing.
        model = make_pipeline(StandardScaler(), LinearSVC(C=c, dual=False, intercept_scaling=100))  # pyright: ignore[reportArgumentType]
        yield model.fit(features, labels).decision_function


def _rbf_svm(features: np.ndarray, labels: np.ndarray, grid: Sequence[float]) -> Iterator[Decide]:
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    scaler = StandardScaler().fit(features)
    scaled = np.asarray(scaler.transform(features))
    gamma = 1 / (scaled.shape[1] * (float(scaled.var(dtype=np.float64)) or 1.0))  # scikit-learn's gamma='scale'
    # As one matrix product, shared by all C: 15 times faster than libsvm's own rows (2,048 features).
    kernel = rbf_kernel(scaled, gamma=gamma)
    for c in grid:
        model = SVC(C=c, kernel='precomputed').fit(kernel, labels)

        def decide(others: np.ndarray, model: SVC = model) -> np.ndarray:
            chunks = np.split(others, range(_CHUNK, len(others), _CHUNK))
            vectors = scaled[model.support_]
            return np.concatenate(
                [
                    rbf_kernel(scaler.transform(chunk), vectors, gamma=gamma) @ model.dual_coef_[0]
                    + model.intercept_[0]
                    for chunk in chunks
                ]
            )

        yield decide


CLASSIFIERS = (
    Classifier('logistic regression', (1e-4, 1e-3, 1e-2, 1e-1), _logistic_regression),
    Classifier('linear SVM', (1e-5, 1e-4, 1e-3, 1e-2), _linear_svm),
    Classifier('RBF SVM', (0.1, 1.0, 10.0, 100.0), _rbf_svm, is_quadratic=True),
)


def assign_folds(labels: np.ndarray, groups: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """Assigns each image a fold, int64[n], stratified by label; whole groups stay together.

    Args:
        labels: int32[n], 0 or 1.
        groups: '' where an image stands for itself.
        folds: how many.
        seed: of the shuffle.

    Raises:
        UserError: too few images of a class, or too few groups, for every fold to hold both classes.
    """
    fewest = min(int((labels == 0).sum()), int((labels == 1).sum()))
    if not 2 <= folds <= fewest:
        raise UserError(
            f'folds is {folds}; it must be from 2 to the {fewest} images of the smaller class of train.'
            if fewest >= 2
            else f'the training split has {fewest} images of one class; a probe needs 2 or more of both.'
        )
    numbers = None
    if any(groups):
        codes: dict[str, int] = {}
        numbers = [codes.setdefault(group or f'\0{row}', len(codes)) for row, group in enumerate(groups)]
        if len(codes) < folds:
            raise UserError(f'folds is {folds}; train has no more than {len(codes)} groups, which stay whole.')
    fold_of = stratified_folds(labels, numbers, folds, seed)
    check_folds(fold_of, labels, folds)
    return fold_of


def check_folds(fold_of: np.ndarray, labels: np.ndarray, folds: int) -> None:
    """Raises UserError unless every fold holds both classes."""
    counts = np.bincount(2 * fold_of + labels, minlength=2 * folds)
    if not counts.all():
        raise UserError(
            f'{folds} folds of whole groups cannot all hold both classes; take fewer folds, or a larger split.'
        )


def draw(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Draws about `most` rows, the same share of each class; int64, ascending. All rows if they are no more."""
    if len(labels) <= most:
        return np.arange(len(labels))
    real, fake = (max(1, round(int((labels == label).sum()) * most / len(labels))) for label in (0, 1))
    return draw_rows(labels, (real, fake), seed)


def cross_validate(
    classifier: Classifier,
    features: np.ndarray,
    labels: np.ndarray,
    fold_of: np.ndarray,
    limits: Limits,
    console: Console = SILENT,
) -> CrossValidated:
    """Fits each C on all folds but one and scores that one, in turn.

    Args:
        classifier: the kind.
        features: float32[n, F].
        labels: int32[n], 0 or 1; both in every fold.
        fold_of: int64[n], see `assign_folds`.
        limits: of a quadratic classifier.
        console: gets a line of progress after each fold.
    """
    folds = int(fold_of.max()) + 1
    accuracy, auc = np.empty((len(classifier.grid), folds)), np.empty((len(classifier.grid), folds))
    start = time.monotonic()
    for fold in range(folds):
        fitted, held = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        if classifier.is_quadratic:
            fitted = fitted[draw(labels[fitted], *limits)]
        for row, decide in enumerate(classifier.fit(features[fitted], labels[fitted], classifier.grid)):
            decisions = decide(features[held])
            accuracy[row, fold] = ((decisions >= 0) == labels[held]).mean()
            auc[row, fold] = metrics.roc_auc(labels[held], decisions)
        elapsed = time.monotonic() - start
        left = elapsed / (fold + 1) * (folds - fold - 1)
        times = f'{format_seconds(elapsed)}, about {format_seconds(left)} left'
        console.say(f'{classifier.name}: fold {fold + 1} of {folds}, {times}')
    return CrossValidated(accuracy, auc, int(auc.mean(1).argmax()))


def fit_all(classifier: Classifier, features: np.ndarray, labels: np.ndarray, c: float, limits: Limits) -> Decide:
    """Fits one C on all images, or on the most that `limits` allows if the classifier is quadratic."""
    if classifier.is_quadratic:
        rows = draw(labels, *limits)
        features, labels = features[rows], labels[rows]
    return next(iter(classifier.fit(features, labels, (c,))))

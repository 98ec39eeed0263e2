"""How well facts tell two groups of images apart: real from fake (shortcuts), or split from split (shift)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fakeimg.auditing.pixels import BINS
from fakeimg.data.folds import draw_rows, stratified_folds

_COLOURS = ('red', 'green', 'blue')
_CATEGORICAL = ('format', 'mode', 'subsampling', 'jpeg_tables', 'name_pattern')
NAME_FEATURES = ['name_pattern', 'name_length']
FILE_FEATURES = [
    'format', 'mode', 'size', 'width', 'height', 'bytes_per_pixel', 'jpeg_quality', 'subsampling', 'jpeg_tables',
    'progressive', 'exif', 'icc', 'jfif',
]  # fmt: skip
HEADER_FEATURES = FILE_FEATURES + NAME_FEATURES
PIXEL_FEATURES = [
    *(f'{statistic}_{colour}' for statistic in ('mean', 'std') for colour in _COLOURS),
    *('saturation', 'greyness', 'sharpness', 'noise', 'blockiness', 'high_frequency'),
    *(f'spectrum_{ring}' for ring in range(BINS)),
]
SHIFT_FEATURES = FILE_FEATURES + PIXEL_FEATURES  # splits are often numbered apart, which does no harm

LEAST_PER_CLASS = 30  # with fewer, the standard error of an AUC exceeds 0.07
MOST_ROWS = 20_000  # standard error of an AUC of 0.5: 0.004
MOST_CATEGORIES = 32
LEAST_PER_CATEGORY = 20
_FOLDS = 5


class Separability(NamedTuple):
    """Out-of-fold areas under the ROC curve; 0.5: no better than chance (a little less is chance too)."""

    auc: float  # of a model of all features
    features: list[tuple[str, float]]  # of each alone, best first
    rows: int  # that were used


def feature_matrix(facts: NDArray[Any], names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.bool]]:
    """Turns an array of FACTS into numbers.

    A category becomes its rank by frequency, 0 the most frequent; those beyond MOST_CATEGORIES, and those of fewer
    than LEAST_PER_CATEGORY rows, become one.

    Args:
        facts: FACTS[n]. Rows of broken images have NaN where nothing is known; leave them out.
        names: of features, f of them.

    Returns:
        float64[n, f], and bool[f]: which are categories.

    Raises:
        ValueError: no such feature.
    """
    columns = [_column(facts, name) for name in names]
    matrix = np.stack(columns, 1) if columns else np.zeros((len(facts), 0))
    return matrix, np.array([name in _CATEGORICAL for name in names], bool)


def _column(facts: NDArray[Any], name: str) -> NDArray[np.float64]:
    if name in _CATEGORICAL:
        return _ranks(facts[name]).astype(np.float64)
    field, _, part = name.rpartition('_')
    if field in ('mean', 'std') and part in _COLOURS:
        return facts[field][:, _COLOURS.index(part)].astype(np.float64)
    if field == 'spectrum' and part.isdigit() and int(part) < BINS:
        return facts[field][:, int(part)].astype(np.float64)
    if name not in FILE_FEATURES + NAME_FEATURES + PIXEL_FEATURES:
        raise ValueError(f'no feature {name!r}; features: {", ".join(HEADER_FEATURES + PIXEL_FEATURES)}')
    return facts[name].astype(np.float64)


def _ranks(values: NDArray[Any]) -> NDArray[np.int64]:
    _, code, count = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.empty(len(count), np.int64)
    rank[np.argsort(-count, kind='stable')] = np.arange(len(count))
    common = np.minimum((count >= LEAST_PER_CATEGORY).sum(), MOST_CATEGORIES)
    return np.minimum(rank, common)[code]


def cross_validated_auc(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    groups: NDArray[np.integer] | None,
    categorical: NDArray[np.bool],
    names: Sequence[str],
    *,
    seed: int = 0,
) -> Separability | None:
    """Measures how well features tell label 1 from label 0, by five-fold cross-validation.

    The model is gradient boosting of 60 trees of 8 leaves. A single feature is scored, in up to 32 bins of equal
    counts (or by its categories), by the share of label 1 that its bin has in the other folds, so an AUC needs no
    direction, and stays near 0.5 where there is nothing to find. AUCs are taken within folds and averaged.

    At most MOST_ROWS rows are drawn, half of each label where there are enough; an AUC does not depend on balance.
    Equal arguments give equal results.

    Args:
        features: float[n, f]; NaN is a separate value.
        labels: int[n], 0 or 1.
        groups: int[n], near copies share a number and so a fold; None: every row alone.
        categorical: bool[f], columns whose numbers are names, at most 255 of them.
        names: of the columns.
        seed: of the draw and the folds.

    Returns:
        None with fewer than LEAST_PER_CLASS rows of a label, or where no fold holds both labels (too few groups).
    """
    fewer = int(min((labels == 0).sum(), (labels == 1).sum()))
    if fewer < LEAST_PER_CLASS:
        return None
    most = MOST_ROWS - min(fewer, MOST_ROWS // 2)
    rows = draw_rows(labels, (most, most), seed)
    features, labels = features[rows], labels[rows]
    folds = _folds(labels, None if groups is None else groups[rows], seed)
    if not folds:
        return None
    scores = np.stack([_bin_scores(features[:, i], bool(categorical[i]), labels, folds) for i in range(len(names))])
    alone = [_mean_auc(labels, score, folds) for score in scores]
    best_first = sorted(zip(names, alone, strict=True), key=lambda entry: -entry[1])
    together = _mean_auc(labels, _model_scores(features, categorical, labels, folds, seed), folds)
    return Separability(together, best_first, len(rows))


Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def _folds(labels: NDArray[np.integer], groups: NDArray[np.integer] | None, seed: int) -> Folds:
    """Rows to fit and rows to score, of those folds in which both have both labels."""
    if groups is not None and len(np.unique(groups)) < _FOLDS:
        return []
    fold_of = stratified_folds(labels, groups, _FOLDS, seed)
    parts = [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(_FOLDS)]
    return [fold for fold in parts if all(len(np.unique(labels[part])) == 2 for part in fold)]


def _mean_auc(labels: NDArray[np.integer], scores: NDArray[np.float64], folds: Folds) -> float:
    # Not of all folds together: a fold richer in a label has a model trained on less of it, which would bias it down.
    from sklearn.metrics import roc_auc_score

    return float(np.mean([roc_auc_score(labels[held], scores[held]) for _, held in folds]))


def _bin_scores(
    values: NDArray[np.floating], categorical: bool, labels: NDArray[np.integer], folds: Folds
) -> NDArray[np.float64]:
    if not categorical:
        bins = int(np.clip(len(values) // 50, 4, 32))
        known = values[~np.isnan(values)]
        edges = np.unique(np.quantile(known, np.arange(1, bins) / bins)) if len(known) else np.zeros(0)
        values = np.where(np.isnan(values), -1, np.searchsorted(edges, values, 'left'))
    _, code = np.unique(values, return_inverse=True)
    scores = np.zeros(len(labels))
    for fitted, held in folds:
        total = np.bincount(code[fitted], minlength=code.max() + 1)
        positive = np.bincount(code[fitted], labels[fitted], minlength=code.max() + 1)
        scores[held] = ((positive + labels[fitted].mean()) / (total + 1))[code[held]]
    return scores


def _model_scores(
    features: NDArray[np.floating],
    categorical: NDArray[np.bool],
    labels: NDArray[np.integer],
    folds: Folds,
    seed: int,
) -> NDArray[np.float64]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    scores = np.zeros(len(labels))
    varied = np.array([len(np.unique(column)) > 1 for column in features.T], bool)
    if not varied.any():
        return scores
    features, categorical = features[:, varied], categorical[varied]
    options: dict[str, Any] = {
        'max_iter': 60,
        'learning_rate': 0.15,
        'max_leaf_nodes': 8,
        'categorical_features': categorical,
        'early_stopping': False,
        'random_state': seed,
    }
    for fitted, held in folds:
        # Several threads on busy cores wait for each other, and are far slower than one.
        with threadpool_limits(1):
            model = HistGradientBoostingClassifier(**options).fit(features[fitted], labels[fitted])
            scores[held] = model.decision_function(features[held])
    return scores

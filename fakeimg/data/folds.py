"""Stratified folds in whole groups, and draws of fewer rows: what a cross-validation begins with."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def stratified_folds(
    labels: Int[np.ndarray, ' n'], groups: Sequence[int] | Int[np.ndarray, ' n'] | None, folds: int, seed: int
) -> Int[np.ndarray, ' n']:
    """Assigns each row a fold, stratified by label.

    Args:
        labels: 0 or 1, at least `folds` of each.
        groups: at least `folds` numbers; rows with the same number share a fold. None: every row alone.
        folds: how many.
        seed: of the shuffle.

    Returns:
        From 0 to folds - 1. With groups, a fold may lack a label.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # takes a second to import

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    fold_of = np.empty(len(labels), np.int64)
    for fold, (_, held) in enumerate(kind(folds, shuffle=True, random_state=seed).split(labels, labels, groups)):
        fold_of[held] = fold
    return fold_of


def draw_rows(labels: Int[np.ndarray, ' n'], counts: tuple[int, int], seed: int) -> Int[np.ndarray, ' m']:
    """Draws at most counts[0] rows of label 0 and counts[1] of label 1; ascending."""
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
    return np.sort(np.concatenate([rows[:count] for rows, count in zip(shuffled, counts, strict=True)]))

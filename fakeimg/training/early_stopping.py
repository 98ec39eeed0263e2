"""Smoothed validation scores, and when a run ends before its last step: once they have stopped improving.

The scores travel in the checkpoints, see `Meta.validations`: a run that was killed knows them again, and so does every
process, which all stop at the same step.
"""

import statistics
from collections.abc import Sequence
from typing import Any

from fakeimg.config import Config
from fakeimg.data.datasets import Split, class_counts
from fakeimg.errors import UserError

WINDOW = 3  # validations in a smoothed AUC


def check(config: Config, splits: dict[str, Split]) -> None:
    """Raises UserError where a run is to stop early and no validation can tell when."""
    if not config.early_stopping:
        return
    real, fake = class_counts(splits['validation']) if 'validation' in splits else (0, 0)
    if real and fake:
        return
    lacks = f'has no {"fake" if real else "real"} images' if real or fake else 'is not there'
    raise UserError(
        f'config.early_stopping={config.early_stopping} goes by the AUC of validation, and that split {lacks}; set '
        'config.data.validation_split, to a part of train for example, or leave config.early_stopping 0.'
    )


def smoothed(validations: Sequence[Sequence[Any]]) -> list[float]:
    """The mean of each validation's AUC and of the two before it; of fewer where there are no more.

    The best checkpoint and early stopping go by it: with some hundred images, one validation alone is lucky or not by
    more than a network gains between two.

    Args:
        validations: step and AUC of each, in order; an AUC of None, of one class alone, counts as -1.
    """
    scores = [-1.0 if auc is None else auc for _, auc in validations]
    # `statistics.mean` rounds once: the same scores in another order are no better.
    return [statistics.mean(scores[max(0, end - WINDOW) : end]) for end in range(1, len(scores) + 1)]


def stalled_for(validations: Sequence[Sequence[Any]]) -> int:
    """Validations since the smoothed AUC was at its highest; 0 if it is now, or if there are none."""
    means = smoothed(validations)
    return len(means) - 1 - means.index(max(means)) if means else 0


def is_over(config: Config, validations: Sequence[Sequence[Any]]) -> bool:
    """Whether a run with these validations has ended."""
    return 0 < config.early_stopping <= stalled_for(validations)


def reason(validations: Sequence[Sequence[Any]], best: int | None) -> str:
    """Why, with the step of the best checkpoint."""
    count = stalled_for(validations)
    named = f'{count} validations' if count > 1 else 'one validation'
    return f'validation AUC has not improved for {named}; the best is of step {best:,}'

"""The images of a probe's page: those that the best classifier got wrong, barely decided, and got right."""

import numpy as np

from fakeimg import pages
from fakeimg.data.datasets import Split
from fakeimg.data.labels import LABELS
from fakeimg.scoring import Predictions

PER_SHEET = 6  # images


def section(classifier: str, name: str, predictions: Predictions, split: Split) -> pages.Section:
    """Images of a split, by the decisions of a classifier, of which 0 and above is fake.

    Args:
        classifier: its name.
        name: of the split.
        predictions: whose `logits` are the decisions.
        split: the same images in the same order.
    """
    decisions, labels = predictions.logits, predictions.labels
    is_right = (decisions >= 0) == labels
    distance = np.abs(decisions)
    sheets = []
    for title, words, chosen, order in (
        ('Wrong', 'The surest mistakes first.', ~is_right, -distance),
        ('Borderline', 'Nearest to 0.', np.ones(len(labels), bool), distance),
        ('Right', 'The surest first.', is_right, -distance),
    ):
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(order[rows], kind='stable')][:PER_SHEET].tolist()
        sheets.append(
            pages.Sheet(title, [_thumbnail(predictions, split, row) for row in rows], words if rows else 'None.')
        )
    words = f'{classifier} has the best mean AUC over the folds; what it decides is fake from 0.'
    return pages.Section(f'Images of {name}', [words], sheets=sheets)


def _thumbnail(predictions: Predictions, split: Split, row: int) -> pages.Thumbnail:
    decision, (real, fake) = float(predictions.logits[row]), LABELS
    truth, called = (fake if is_fake else real for is_fake in (predictions.labels[row], decision >= 0))
    lines = [f'{truth}, called {called}: {decision:.3g}', predictions.names[row]]
    return pages.Thumbnail(pages.thumbnail_of(lambda: split[row]), lines)

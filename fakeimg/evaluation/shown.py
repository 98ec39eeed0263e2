"""Images that a run has seen in training, and the figures without them."""

from typing import Any

import numpy as np

from fakeimg.data import seen
from fakeimg.data.datasets import DataSet, Split
from fakeimg.detector import Detector
from fakeimg.evaluation import metrics as metrics_lib
from fakeimg.scoring import Predictions


def digests(detector: Detector, data: DataSet, split: str | None) -> np.ndarray:
    """Digests of the images that the run has learned from, or was chosen by, but for those of the `split` itself."""
    assert detector.run is not None
    parts = {'train': detector.config.data.train_split, 'validation': detector.config.data.validation_split}
    found = seen.read(detector.run)
    if not found and split is not None and data.is_prepared:  # a run of an early fakeimg
        splits = {name: spec for name, spec in parts.items() if spec != 'validation' or spec in data.splits}
        found = {name: seen.digests(data.get(spec)) for name, spec in splits.items()}
    others = [own for name, own in found.items() if parts[name] != split]
    return np.concatenate([np.zeros(0, seen.DTYPE), *others])


def without(known: np.ndarray, part: Split, predictions: Predictions, threshold: float) -> dict[str, Any] | None:
    """The metrics without `known` images; see `evaluate`."""
    if isinstance(part.files, seen.WatchedFiles):
        part.files.read_rest()  # what other processes scored, or an evaluation that was interrupted
    copied = np.isin(seen.digests(part), known)
    names = {part.names[row] for row in np.flatnonzero(copied)}
    kept = np.array([name not in names for name in predictions.names], bool)
    if kept.all():
        return None
    count = {'copies': int((~kept).sum())}
    return {**count, **metrics_lib.compute_metrics(predictions.take(kept), threshold)} if kept.any() else count

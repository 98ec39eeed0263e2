"""Scores a split: the one function behind validation while training and behind the separate evaluation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fakeimg.config import Config
from fakeimg.console import SILENT, Console
from fakeimg.data import pipeline
from fakeimg.data.datasets import Split
from fakeimg.errors import TrainingDiverged
from fakeimg.models import crop, normalize
from fakeimg.runtime import parallel


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The scores of one split, in the source's order.

    Attributes:
        names: of the n scored images.
        labels: int32[n], 0 = real, 1 = fake.
        logits: float32[n], log-odds of fake.
        skipped: images that could not be read and are not among the n.
    """

    names: list[str]
    labels: np.ndarray
    logits: np.ndarray
    skipped: int

    def take(self, rows: np.ndarray) -> 'Predictions':
        """Returns those of some rows, int[m] or bool[n]; none of them counts as skipped."""
        rows = np.arange(len(self.labels))[rows]
        return Predictions([self.names[row] for row in rows], self.labels[rows], self.logits[rows], 0)

    @property
    def probabilities(self) -> np.ndarray:
        """P(fake), float64[n]."""
        logits = self.logits.astype(np.float64)
        return np.where(logits >= 0, 1.0, np.exp(-np.abs(logits))) / (1 + np.exp(-np.abs(logits)))


class Stopped(Exception):
    """Scoring was given up because `stop` said so."""


def make_predict_step(
    model: nn.Module, config: Config, dtype: jnp.dtype, *, features: bool = False
) -> Callable[..., Any]:
    """Returns the per-device program `predict(variables, batch) -> (logits [B], weights [B])`, replicated.

    With `features`, the head's input [B, F] in place of the logits.
    """

    def predict(variables: dict[str, Any], batch: dict[str, jax.Array]):
        images = normalize(crop(batch, config.data.image_size), config.data.mean, config.data.std, dtype)
        outputs: Any = model.apply(variables, images, train=False, method='features' if features else None)
        return parallel.all_rows(outputs), parallel.all_rows(batch['weight'])

    return predict


def score_source(
    predict: Callable[..., Any],
    variables: dict[str, Any],
    source: Split,
    split: str,
    config: Config,
    devices: parallel.Devices,
    *,
    console: Console = SILENT,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Predictions, pipeline.UnreadableImages]:
    """Scores every image of a source once.

    Args:
        predict: `make_predict_step`, mapped over `devices`.
        variables: replicated `params` and `batch_stats`.
        source: the split's images.
        split: its name, for messages.
        config: the run's configuration.
        devices: where to compute.
        console: shows the progress.
        stop: is asked before each batch whether to give up.

    Returns:
        The predictions, and the images that could not be read.

    Raises:
        UserError: more than `config.data.max_bad_fraction` of the split is unreadable.
        TrainingDiverged: a score is not finite.
        Stopped: `stop` said so.
    """
    logits, kept, bad = predict_source(predict, variables, source, split, config, devices, console=console, stop=stop)
    if not np.isfinite(logits).all():
        raise TrainingDiverged(
            f'the scores of split {split} are not finite: these weights are ruined; take an earlier checkpoint, '
            'or train again with a lower --config.optimizer.base_learning_rate.'
        )
    predictions = Predictions(
        [source.names[index] for index in kept], source.labels[kept], logits, len(source) - len(kept)
    )
    return predictions, bad


def predict_source(
    predict: Callable[..., Any],
    variables: dict[str, Any],
    source: Split,
    split: str,
    config: Config,
    devices: parallel.Devices,
    *,
    console: Console = SILENT,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[np.ndarray, np.ndarray, pipeline.UnreadableImages]:
    """Runs `predict` on every image of a source once; the arguments are those of `score_source`.

    Returns:
        float32[m, ...], what it computed for the m images that could be read; int64[m], their places in the source,
        ascending; and the other images.

    Raises:
        UserError: more than `config.data.max_bad_fraction` of the split is unreadable.
    """
    bad = pipeline.UnreadableImages(split, len(source), config.data.max_bad_fraction)
    batches = pipeline.EvalBatches(source, config, bad, shard=parallel.shard())
    pending, parts = None, []
    dataset = pipeline.read_batches(batches, config.data.threads)
    for batch in console.track(dataset, f'scoring {split}', len(batches), config.batch_size):
        if stop():
            raise Stopped
        bad.check()
        outputs = predict(variables, devices.split(batch))
        if pending is not None:  # read the last batch's outputs while this one is computed
            parts.append(jax.device_get(pending))
        pending = outputs
    parts.append(jax.device_get(pending))
    bad.check()
    outputs, weights = (np.concatenate(arrays)[: len(source)] for arrays in zip(*parts, strict=True))
    kept = np.flatnonzero(weights)
    return outputs[kept], kept, bad

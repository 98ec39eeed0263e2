"""Scores a split: the one function behind validation while training, evaluation, prediction and probing."""

import copy
import csv
import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fakeimg import files
from fakeimg.config import Config
from fakeimg.console import SILENT, Console
from fakeimg.data import pipeline
from fakeimg.data.datasets import Split
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.errors import TrainingDiverged
from fakeimg.models import apply, crop, normalize
from fakeimg.models.folding import fold
from fakeimg.models.layers import runs_on_cpu
from fakeimg.partial_scores import PartialScores
from fakeimg.runtime import parallel, precision


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The scores of one split, in the split's order.

    Attributes:
        names: of the n scored images.
        labels: int32[n], 0 = real, 1 = fake.
        logits: float32[n], log-odds of fake.
        skipped: images that could not be read and are not among the n.
        sources: the generator or data set of each image; empty where none is known.
        groups: what each image was taken from, a video for example; empty where there is none.
    """

    names: list[str]
    labels: np.ndarray
    logits: np.ndarray
    skipped: int
    sources: Sequence[str] = ()
    groups: Sequence[str] = ()

    def take(self, rows: np.ndarray) -> 'Predictions':
        """Returns those of some rows, int[m] or bool[n]; none of them counts as skipped."""
        rows = np.arange(len(self.labels))[rows]
        names, sources, groups = (_taken(values, rows) for values in (self.names, self.sources, self.groups))
        return Predictions(names, self.labels[rows], self.logits[rows], 0, sources, groups)

    @property
    def probabilities(self) -> np.ndarray:
        """P(fake), float64[n]."""
        return probabilities(self.logits)

    def write_csv(self, path: pathlib.Path, *, are_log_odds: bool = True) -> None:
        """Writes one row per image: name, label (0 real, 1 fake), probability (P(fake)), logit.

        Without `are_log_odds`, decisions of a classifier, fake at 0 and above: name, label, decision. Sources
        follow where there are several, and groups where there are any.
        """
        columns: list[Iterable[Any]] = [self.names, map(int, self.labels)]
        if are_log_odds:
            columns.append(map('{:.6f}'.format, self.probabilities))
        columns.append(map('{:.6f}'.format, self.logits))
        header = ['name', 'label', *(('probability', 'logit') if are_log_odds else ('decision',))]
        more = {'source': self.sources} if len({*self.sources}) > 1 else {}  # one says nothing
        more |= {'group': self.groups} if any(self.groups) else {}
        with files.replacing(path, **files.TEXT) as file:
            rows = csv.writer(file)
            rows.writerow((*header, *more))
            columns += more.values()
            rows.writerows(zip(*columns, strict=True))


def _taken(values: Sequence[str], rows: np.ndarray) -> list[str]:
    return [values[int(row)] for row in rows] if values else []


def probabilities(logits: np.ndarray) -> np.ndarray:
    """P(fake), float64[n], of log-odds."""
    logits = logits.astype(np.float64)
    return np.where(logits >= 0, 1.0, np.exp(-np.abs(logits))) / (1 + np.exp(-np.abs(logits)))


class Stopped(Exception):
    """Scoring was given up because `stop` said so."""


def make_predict_step(model: nn.Module, config: Config, dtype: jnp.dtype, *, flip: bool = False) -> Callable[..., Any]:
    """Returns the per-device program `predict(variables, batch) -> (logits [B], features [B, F], weights [B])`.

    What it returns is replicated. Features are the head's input. One program for all that asks for one or the other, so
    that a logit has the same bits everywhere. With `flip`, means over the images and their mirror images.
    """

    def predict(variables: dict[str, Any], batch: dict[str, jax.Array]):
        images = normalize(crop(batch, config.data.image_size), config.data.mean, config.data.std, dtype)
        # For a GPU, which then writes activations once; a CPU gains nothing by it.
        network, variables = (model, variables) if runs_on_cpu() else fold(model, variables)
        outputs = apply(network, variables, images)
        if flip:
            mirrored = apply(network, variables, images[:, :, ::-1])
            outputs = jax.tree.map(lambda image, mirror: (image + mirror) / 2, outputs, mirrored)
        return jax.tree.map(parallel.all_rows, (*outputs, batch['weight']))

    return predict


def block_size(image_size: int) -> int:
    """Images that one CPU device scores at a time, whatever the batch size: a power of 2.

    XLA chooses its kernels by the shapes, so an image's logit would have other last bits in other batches. These sizes
    are also the fastest, or near it: 128 images of 32 px, 8 of 128 px, 4 of 224 px.
    """
    return min(128, max(4, 2 ** round(math.log2(2**17 / image_size**2))))


def in_blocks(config: Config, devices: parallel.Devices) -> Config:
    """The configuration with the batch size of scoring, see `block_size`; unchanged on GPUs."""
    if not runs_on_cpu():
        return config
    config = copy.deepcopy(config)
    config.batch_size = block_size(config.data.image_size) * devices.count
    return config


@dataclasses.dataclass(frozen=True)
class Scorer:
    """The predict step of a network, compiled for its devices.

    Attributes:
        predict: `(variables, batch) -> (logits [B], features [B, F], weights [B])` over all devices.
        config: the run's configuration, with the `batch_size` of scoring, see `block_size`.
        devices: where to compute.
        limit: what sets the share of images that may be unreadable, for messages.
        partial: keeps the scores of a split while they are made; None for what is scored in a moment.
    """

    predict: Callable[..., Any]
    config: Config
    devices: parallel.Devices
    limit: str = 'config.data.max_bad_fraction'
    partial: PartialScores | None = None

    @classmethod
    def create(
        cls,
        model: nn.Module,
        config: Config,
        devices: parallel.Devices,
        *,
        flip: bool = False,
    ) -> 'Scorer':
        """Compiles `make_predict_step` for `devices`."""
        step = make_predict_step(model, config, precision.resolve(config.precision), flip=flip)
        return cls(devices.map(step), in_blocks(config, devices), devices)

    def score(
        self,
        variables: dict[str, Any],
        split: Split,
        name: str,
        *,
        console: Console = SILENT,
        stop: Callable[[], bool] = lambda: False,
    ) -> tuple[Predictions, UnreadableImages]:
        """Scores every image of a split once.

        Args:
            variables: replicated `params` and `batch_stats`.
            split: the images.
            name: of the split, for messages.
            console: shows the progress.
            stop: is called before each batch; True gives up.

        Returns:
            The predictions, and the unreadable images.

        Raises:
            UserError: more than `config.data.max_bad_fraction` of the split is unreadable.
            TrainingDiverged: a score is not finite.
            Stopped: `stop` returned True.
        """
        logits, rows, unreadable = self.outputs(variables, split, name, console=console, stop=stop)
        if not np.isfinite(logits).all():
            raise TrainingDiverged(
                f'the scores of split {name} are not finite: these weights are ruined; take an earlier checkpoint, '
                'or train again with a lower config.optimizer.base_learning_rate.'
            )
        names, sources, groups = (
            [values[row] for row in rows] for values in (split.names, split.generators, split.groups)
        )
        return Predictions(names, split.labels[rows], logits, len(split) - len(rows), sources, groups), unreadable

    def outputs(
        self,
        variables: dict[str, Any],
        split: Split,
        name: str,
        *,
        console: Console = SILENT,
        stop: Callable[[], bool] = lambda: False,
        features: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, UnreadableImages]:
        """Runs `predict` on every image of a split once; arguments and errors are those of `score`.

        Returns:
            float32[m], the logits, or float32[m, F], the `features`, of the m readable images; int64[m], their places
            in the split, ascending; and the unreadable images.
        """
        config = self.config
        unreadable = UnreadableImages(name, len(split), config.data.max_bad_fraction, self.limit)
        parts = self._scored_before(split, unreadable, console)
        batches = pipeline.EvalBatches(split, config, unreadable, shard=parallel.shard(), left_out=parts.keys())
        pending = None

        def read(number: int, outputs: Any) -> None:
            logits, inputs, weights = outputs
            values, weights = parts[number] = jax.device_get((inputs if features else logits, weights))
            if self.partial is not None:
                self.partial.add(number, values, weights, unreadable)

        dataset = pipeline.read_batches(batches, config.data.threads)
        for item, batch in enumerate(console.track(dataset, f'scoring {name}', len(batches), config.batch_size)):
            if stop():
                raise Stopped
            unreadable.check()
            outputs = self.predict(variables, self.devices.split(batch))
            if pending is not None:  # read the last batch's outputs while this one is computed
                read(*pending)
            pending = batches.numbers[item], outputs
        if pending is not None:
            read(*pending)
        unreadable.check()
        ordered = [parts[number] for number in sorted(parts)]
        outputs, weights = (np.concatenate(arrays)[: len(split)] for arrays in zip(*ordered, strict=True))
        rows = np.flatnonzero(weights)
        return outputs[rows], rows, unreadable

    def _scored_before(self, split: Split, unreadable: UnreadableImages, console: Console) -> dict[int, Any]:
        """What `partial` holds: the outputs of some batches by their numbers."""
        if self.partial is None:
            return {}
        size = self.config.batch_size
        parts = self.partial.read(pipeline.num_batches(split, size), size, unreadable)
        if parts:
            count = sum(min(size, len(split) - number * size) for number in parts)
            console.say(f'{count:,} of {len(split):,} images were scored before; the others follow')
        return parts

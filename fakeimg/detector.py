"""The door to a trained network: `load` returns a Detector, which predicts, scores, and gives features.

Evaluation, probing and everything else that applies a network stand on it; nothing else rebuilds one from a checkpoint.
"""

import copy
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fakeimg import decision as decision_lib
from fakeimg import known as known_lib
from fakeimg import loading
from fakeimg.config import DEMO, Config
from fakeimg.console import SILENT, Console
from fakeimg.data.datasets import Split
from fakeimg.data.inputs import Input
from fakeimg.data.labels import LABELS
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.decision import Decision
from fakeimg.errors import UserError
from fakeimg.fields import to_plain
from fakeimg.leaves import backbone_digest, checksums
from fakeimg.meta import Meta
from fakeimg.operating import Operating
from fakeimg.partial_scores import PartialScores
from fakeimg.prediction import Prediction, conclude, is_one_image, read_inputs
from fakeimg.runtime import parallel, precision
from fakeimg.scoring import Predictions, Scorer
from fakeimg.streaming import Look, Measure, Scored, score_stream

_TOLERATED = 0.1  # share of a split that may be unreadable when nothing is trained on it
DRAWN = 'this detector was trained on faces drawn by code; its scores say nothing about other images'


@dataclasses.dataclass(frozen=True, eq=False)
class Detector:
    """A network with all that its inputs need; made by `load`, or by `untrained.from_recipe` with initial weights.

    Attributes:
        config: of the run, or the recipe.
        model: the network, for activations of the configured precision.
        variables: `params` and `batch_stats`, replicated over `devices`.
        devices: where to compute.
        meta: of the checkpoint; its `data_digest` is None for initial weights.
        origin: where the weights come from, in words.
        run: the run folder, or that of the portable detector; None for initial weights.
        step: of the checkpoint; None for initial weights.
        notes: warnings for the user.
        limit: what sets the share of images that may be unreadable, for messages.
        flip: whether a logit is the mean over an image and its mirror image.
        operating: what validation fixed, see `fakeimg.operating`; None if nothing did.
        decision: how a score becomes a verdict.
    """

    config: Config
    model: nn.Module
    variables: dict[str, Any]
    devices: parallel.Devices
    meta: Meta
    origin: str
    run: pathlib.Path | None = None
    step: int | None = None
    notes: tuple[str, ...] = ()
    limit: str = 'config.data.max_bad_fraction'
    flip: bool = False
    operating: Operating | None = None
    decision: Decision = Decision()

    def predict(self, images: Any, *, strict: bool = False) -> Any:
        """Scores an image, or several: paths, encoded bytes, PIL images or arrays uint8[H, W, 3] of RGB.

        A logit is the one that `evaluate` computes for the same file: on a CPU to the bit, alone or among others; on a
        GPU with the same batch size.

        Args:
            images: one image, or any iterable of them; empty gives an empty list.
            strict: an unreadable image raises UserError, instead of a prediction with an error.

        Returns:
            The Prediction of one image; a list of them for several, one for each, in order.

        Raises:
            UserError: an array of another shape or dtype, or something that is no image.
            TrainingDiverged: a score is not finite.
        """
        if is_one_image(images):
            return next(self.stream([images], strict=strict))
        return list(self.stream(images, strict=strict))

    def stream(self, images: Iterable[Any], *, strict: bool = False) -> Iterator[Prediction]:
        """Yields the predictions of several images in order, and reads no more than a few batches ahead."""
        if is_one_image(images):
            raise UserError('stream takes several images, not one; put it in brackets.')
        if self.config.data.path == DEMO:
            warnings.warn(DRAWN, stacklevel=3)  # of the line that calls predict
        for prediction, _ in self.predict_inputs(read_inputs(images)):
            if strict and prediction.error is not None:
                raise UserError(f'{prediction.error}; leave it out, or predict with strict=False.')
            yield prediction

    def predict_inputs(self, images: Iterable[Input], look: Look | None = None) -> Iterator[tuple[Prediction, Any]]:
        """Yields the predictions of named images in order, each with what `look` says, see `streaming.score_stream`."""
        known = self.known
        for scored in self.score_inputs(images, look=known_lib.beside(known, look), measure=known and known.distances):
            note, (facts, seen) = self.note, scored.seen or (None, None)
            if known is not None and facts is not None:
                note = '; '.join(filter(None, (note, known.unlike(facts, scored.measured))))
            yield conclude(scored, self.decision, note), seen

    def score_inputs(
        self, images: Iterable[Input], *, look: Look | None = None, measure: Measure | None = None
    ) -> Iterator[Scored]:
        """Yields the scores of named images in order, see `streaming.score_stream`."""
        return score_stream(self._scorer, self.variables, images, look=look, measure=measure)

    @functools.cached_property
    def known(self) -> known_lib.Known | None:
        """What it was trained on; None where no evaluation has looked."""
        return None if self.run is None else known_lib.read(self.run / known_lib.FILE, self.digest)

    @property
    def note(self) -> str:
        """What to know before any of its predictions is believed; or ''."""
        return DRAWN if self.config.data.path == DEMO else ''

    def predict_proba(self, images: Any) -> np.ndarray:
        """P(real) and P(fake) of several images, float64[n, 2], as classifiers of scikit-learn give them.

        Args:
            images: uint8[n, H, W, 3] of RGB, or any iterable that `predict` takes.

        Raises:
            UserError: as `predict` raises it, and for an unreadable image.
        """
        fake = np.array([prediction.probability for prediction in self.stream(images, strict=True)], np.float64)
        return np.stack([1 - fake, fake], axis=1)

    def score(
        self, split: Split, name: str, *, console: Console = SILENT, partial: PartialScores | None = None
    ) -> tuple[Predictions, UnreadableImages]:
        """Scores every image of a split once; see `Scorer.score` for what it returns and raises."""
        scorer = dataclasses.replace(self._scorer, partial=partial)
        return scorer.score(self.variables, split, name, console=console)

    @property
    def scoring_key(self) -> dict[str, Any]:
        """All that a score depends on to its last bit, but for the image; JSON."""
        now, config = describe(self.config, None), self.config
        return {
            'versions': [now.fakeimg, jax.__version__],
            'weights': checksums(self.variables),
            'model': now.config['model'],
            'preprocessing': now.preprocessing,
            'flip': self.flip,
            'batch': [self._scorer.config.batch_size, config.parallel, self.devices.count, jax.process_count()],
            'devices': [self.devices.local[0].device_kind, self.dtype.name],
        }

    def features(
        self, split: Split, name: str, *, console: Console = SILENT
    ) -> tuple[np.ndarray, np.ndarray, UnreadableImages]:
        """Computes the input of the head for every image of a split; see `Scorer.outputs`.

        Returns:
            float32[m, F], of the m readable images; int64[m], their places in the split; and the unreadable images.
        """
        return self._scorer.outputs(self.variables, split, name, console=console, features=True)

    @property
    def dtype(self) -> jnp.dtype:
        """Of activations."""
        return precision.resolve(self.config.precision)

    @functools.cached_property
    def digest(self) -> str:
        """Of the weights, a SHA-256."""
        return hashlib.sha256(json.dumps(checksums(self.variables), sort_keys=True).encode()).hexdigest()

    @functools.cached_property
    def backbone_digest(self) -> str:
        """Of the weights on which features depend, see `leaves.backbone_digest`."""
        return backbone_digest(self.variables)

    def tolerating(self, max_bad_fraction: float | None = None) -> 'Detector':
        """Returns this detector, that leaves out unreadable images up to this share of a split.

        None is a tenth, or what `config.data.max_bad_fraction` allows if that is more.

        Raises:
            UserError: no share.
        """
        if max_bad_fraction is None:
            max_bad_fraction = max(_TOLERATED, self.config.data.max_bad_fraction)
        if not 0 <= max_bad_fraction <= 1:
            raise UserError(f'max_bad_fraction is {max_bad_fraction}; it must be between 0 and 1.')
        config = copy.deepcopy(self.config)
        config.data.max_bad_fraction = max_bad_fraction
        return dataclasses.replace(self, config=config, limit='max_bad_fraction')

    @functools.cached_property
    def _scorer(self) -> Scorer:
        scorer = Scorer.create(self.model, self.config, self.devices, flip=self.flip)
        return dataclasses.replace(scorer, limit=self.limit)


def load(
    run: str | os.PathLike[str],
    step: str | int = 'best',
    *,
    batch_size: int = 0,
    threshold: str | float | None = None,
) -> Detector:
    """Loads a detector onto all devices; a process that has not used jax yet is set up for it.

    Args:
        run: a run folder, a portable detector or its `model.safetensors`, `hf://OWNER/NAME[@REVISION]` of the Hugging
            Face Hub, or the name of a detector in the package (`cifake`); a path that exists comes first.
        step: of a run's checkpoint: `best` (smoothed validation AUC), `latest`, or a number.
        batch_size: images per step over all GPUs; 0 takes the run's, or the next that the devices divide. A CPU takes
            blocks of its own, see `scoring.block_size`.
        threshold: of predictions: a number on P(fake), or a rule that an evaluation fitted on validation (`youden`);
            None takes `fpr=0.01`, or what comes nearest, see `decision.carried`.

    Raises:
        UserError: no such detector, no such or no readable checkpoint, one of a newer fakeimg or with other labels,
            no connection, a batch size that the devices do not divide, or a threshold that is not carried.
    """
    if batch_size < 0:
        raise UserError(f'batch_size is {batch_size}; it must be 0 (as in training) or more.')
    network = loading.read(run, step, batch_size)
    operating = decision_lib.of_run(network.folder, network.meta, network.step)
    return Detector(
        config=network.config,
        model=network.model,
        variables=network.variables,
        devices=network.devices,
        meta=network.meta,
        origin=network.origin,
        run=network.folder,
        step=network.step,
        notes=network.notes,
        operating=operating,
        decision=decision_lib.carried(operating, threshold),
    )


def describe(config: Config, data_digest: str | None) -> Meta:
    """What the checkpoints of a run say about themselves."""
    plain = to_plain(config)
    preprocessing = {name: plain['data'][name] for name in ('image_size', 'resize_size', 'mean', 'std')}
    preprocessing['version'] = config.data.resize_version
    return Meta(config=plain, labels=LABELS, preprocessing=preprocessing, data_digest=data_digest)

"""The door to a trained network: `load` turns a run folder into a Detector, which predicts, scores, and gives features.

Evaluation, probing and everything else that applies a network stand on it; nothing else rebuilds one from a checkpoint.
"""

import copy
import dataclasses
import functools
import itertools
import os
import pathlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from fakeimg.checkpoint import Checkpoints, Restored
from fakeimg.config import DEMO, Config, from_plain
from fakeimg.console import SILENT, Console
from fakeimg.data import pipeline
from fakeimg.data.datasets import Split
from fakeimg.data.inputs import Input, InputFiles, read_input
from fakeimg.data.labels import LABELS
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.errors import UserError
from fakeimg.fields import to_plain
from fakeimg.leaves import backbone_digest, checksums
from fakeimg.meta import Meta
from fakeimg.models import create_model, init_variables
from fakeimg.partial_scores import PartialScores
from fakeimg.pretrained import initial
from fakeimg.runtime import parallel, precision
from fakeimg.runtime.start import start
from fakeimg.scoring import Predictions, Scorer

_TOLERATED = 0.1  # share of a split that may be unreadable when nothing is trained on it
DRAWN = 'this detector was trained on faces drawn by code; its scores say nothing about other images'
THRESHOLD = 0.5  # on P(fake), from which a prediction is labelled fake


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a detector says about one image; of an unreadable one, `error` is a sentence and the figures are None.

    Attributes:
        name: its path, or `image N`, counted from 0, for one that was not a path.
        probability: P(fake); uncalibrated.
        logit: log-odds of fake.
        label: `real` or `fake`; fake where P(fake) is 0.5 or more.
        error: why the image could not be read, or None.
    """

    name: str
    probability: float | None = None
    logit: float | None = None
    label: str | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Detector:
    """A network with all that its inputs need; made by `load`, or by `from_recipe` with initial weights.

    Attributes:
        config: of the run, or the recipe.
        model: the network, for activations of the configured precision.
        variables: `params` and `batch_stats`, replicated over `devices`.
        devices: where to compute.
        meta: of the checkpoint; its `data_digest` is None for initial weights.
        origin: where the weights come from, in words.
        run: the run folder; None for initial weights.
        step: of the checkpoint; None for initial weights.
        notes: warnings for the user.
        limit: what sets the share of images that may be unreadable, for messages.
        flip: whether a logit is the mean over an image and its mirror image.
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

    def predict(self, images: Iterable[Any], *, strict: bool = False) -> list[Prediction]:
        """Scores images given as paths, encoded bytes, PIL images or arrays uint8[H, W, 3] of RGB; one row each.

        A logit is the one that `evaluate` computes for the same file with the same batch size, to the bit on a CPU;
        with other batch sizes, to within float32 rounding. Few images take as long as a whole batch: for these, load
        the detector with a small `batch_size`.

        Args:
            images: any iterable; empty gives an empty list.
            strict: an unreadable image raises UserError, instead of a prediction with an error.

        Raises:
            UserError: an array of another shape or dtype, something that is no image, or a single image, not a list.
            TrainingDiverged: a score is not finite.
        """
        return list(self.predict_each(images, strict=strict))

    def predict_each(self, images: Iterable[Any], *, strict: bool = False) -> Iterator[Prediction]:
        """Yields the predictions of `predict` in order, and reads no more than a batch a thread ahead."""
        if isinstance(images, str | bytes | os.PathLike | PIL.Image.Image):
            raise UserError('predict takes a list of images, not a single one; put the image in brackets.')
        if self.config.data.path == DEMO:
            warnings.warn(DRAWN, stacklevel=3)  # of the line that calls predict
        inputs = (read_input(image, place) for place, image in enumerate(images))
        threads = pipeline.num_threads(self.config.data.threads, self.config.data.resize_size)
        while part := list(itertools.islice(inputs, self.config.batch_size * threads)):
            for prediction in self._predict_part(part):
                if strict and prediction.error is not None:
                    raise UserError(f'{prediction.error}; leave it out, or predict with strict=False.')
                yield prediction

    def _predict_part(self, part: list[Input]) -> Iterator[Prediction]:
        count = len(part)
        split = Split(InputFiles(part), np.zeros(count, np.int32), [''] * count, [''] * count)
        scored, unreadable = self._tolerant_scorer.score(self.variables, split, 'images')
        rows = zip(scored.names, scored.probabilities.tolist(), scored.logits.tolist(), strict=True)
        figures = {int(place): (probability, logit) for place, probability, logit in rows}
        for place, image in enumerate(part):
            if place not in figures:
                reason = unreadable.reasons.get(str(place), 'another process could not read it')
                yield Prediction(image.name, error=f'{image.name} cannot be read: {reason}')
                continue
            probability, logit = figures[place]
            yield Prediction(image.name, probability, logit, 'fake' if probability >= THRESHOLD else 'real')

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
            'batch': [config.batch_size, config.parallel, self.devices.count, jax.process_count()],
            'devices': [self.devices.local[0].device_kind, self.dtype.name],
        }

    def features(
        self, split: Split, name: str, *, console: Console = SILENT
    ) -> tuple[np.ndarray, np.ndarray, UnreadableImages]:
        """Computes the input of the head for every image of a split; see `Scorer.outputs`.

        Returns:
            float32[m, F], of the m readable images; int64[m], their places in the split; and the unreadable images.
        """
        return self._extractor.outputs(self.variables, split, name, console=console)

    @property
    def dtype(self) -> jnp.dtype:
        """Of activations."""
        return precision.resolve(self.config.precision)

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
        return self._create_scorer(features=False)

    @functools.cached_property
    def _extractor(self) -> Scorer:
        return self._create_scorer(features=True)

    def _create_scorer(self, features: bool) -> Scorer:
        scorer = Scorer.create(self.model, self.config, self.devices, features=features, flip=self.flip)
        return dataclasses.replace(scorer, limit=self.limit)

    @functools.cached_property
    def _tolerant_scorer(self) -> Scorer:
        return dataclasses.replace(self._scorer, config=self.tolerating(1.0).config)


def load(run: str | os.PathLike[str], step: str | int = 'best', *, batch_size: int = 0) -> Detector:
    """Loads the detector of a run folder onto all devices; a process that has not used jax yet is set up for it.

    Args:
        run: the run folder.
        step: of the checkpoint: `best` (validation AUC), `latest`, or a number.
        batch_size: images per step over all devices; 0 takes the run's, or the next that the devices divide.

    Raises:
        UserError: no run folder, no such or no readable checkpoint, one of a newer fakeimg, or a batch size that the
            devices do not divide.
    """
    if batch_size < 0:
        raise UserError(f'batch_size is {batch_size}; it must be 0 (as in training) or more.')
    folder = pathlib.Path(run).expanduser()
    if not (folder / 'checkpoints').is_dir():
        raise UserError(f'{folder} is not a run folder (there are no checkpoints in it); check the path.')
    start()
    checkpoints = Checkpoints(folder / 'checkpoints', read_only=True)

    def read(number: int | None) -> tuple[Config, nn.Module, parallel.Devices, Restored]:
        config = from_plain(checkpoints.read_meta(number).config)
        config.batch_size = parallel.batch_size(batch_size, config.batch_size)
        config.data.path = config.data.path or DEMO  # what early runs left empty
        devices = parallel.Devices.create(config.parallel, config.batch_size)
        model = create_model(config, precision.resolve(config.precision))
        shapes = jax.eval_shape(lambda: init_variables(model, config.data.image_size, 0))
        return config, model, devices, _restore(checkpoints, devices.abstract(shapes), number)

    try:
        config, model, devices, restored = checkpoints.read_named(step, read)
    finally:
        checkpoints.close()
    return Detector(
        config=config,
        model=model,
        variables=restored.state,
        devices=devices,
        meta=restored.meta,
        origin=f'checkpoint {restored.step} of {folder}',
        run=folder,
        step=restored.step,
        notes=tuple(restored.notes),
    )


def _restore(checkpoints: Checkpoints, abstract_variables: Any, step: int | None) -> Restored:
    """Reads what a trained model is applied with: the average of the weights if the run has one, or the weights."""
    if not any(name.startswith('ema/') for name in checkpoints.read_meta(step).state_tree):
        return checkpoints.restore(abstract_variables, step)
    restored = checkpoints.restore({'ema': abstract_variables}, step)
    return dataclasses.replace(restored, state=restored.state['ema'])


def from_recipe(config: Config) -> Detector:
    """Builds a detector with the weights that a training with this configuration would start from.

    Raises:
        UserError: a configuration that cannot work, no such weights, or a batch size that the devices do not divide.
    """
    config = initial.complete(config)
    devices = parallel.Devices.create(config.parallel, config.batch_size)
    model = create_model(config, precision.resolve(config.precision))
    path = initial.find_weights(config)
    variables = init_variables(model, config.data.image_size, config.seed)
    origin, notes = f'weights {path}', ()
    if path is None:
        origin = f'random weights, seed {config.seed}'
        notes = (
            f'RANDOM WEIGHTS (config.init.weights={config.init.weights}): these are features of a network that has '
            'learned nothing',
        )
    else:
        variables = initial.load_weights(path, variables, config)
    variables = devices.replicate(variables)
    return Detector(config, model, variables, devices, describe(config, None), origin, notes=notes)


def describe(config: Config, data_digest: str | None) -> Meta:
    """What the checkpoints of a run say about themselves."""
    plain = to_plain(config)
    preprocessing = {name: plain['data'][name] for name in ('image_size', 'resize_size', 'mean', 'std')}
    preprocessing['version'] = config.data.resize_version
    return Meta(config=plain, labels=LABELS, preprocessing=preprocessing, data_digest=data_digest)

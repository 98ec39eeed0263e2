"""Maps that add up to a score: what each cell of the last feature maps adds to the log-odds of fake.

HiResCAM (Draelos and Carin 2021, arXiv:2011.08891): the gradient of the log-odds with respect to the last feature maps,
times these maps, summed over channels. Behind mean pooling and a linear layer this is the class activation map (Zhou et
al. 2016), of which the mean and the bias are the log-odds; its cells are divided by their number here, so that those of
every network are log-odds to be summed.
"""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import scipy.special
from jaxtyping import Array, Float, Int, UInt8

from fakeimg.data import pipeline
from fakeimg.data.datasets import Split
from fakeimg.data.inputs import Input, InputFiles, read_input
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.detector import Detector
from fakeimg.errors import TrainingDiverged, UserError
from fakeimg.models import crop, normalize
from fakeimg.models.airbench import AirBench
from fakeimg.models.cnn import SmallCNN
from fakeimg.models.folding import fold
from fakeimg.models.layers import runs_on_cpu
from fakeimg.models.resnet import ResNet
from fakeimg.runtime import parallel, precision
from fakeimg.scoring import in_blocks

LINEAR = (
    'What follows the last feature maps is linear, so this part of the network is explained exactly: the cells and the '
    'bias of the last layer add up to the log-odds.'
)
RELU = (
    'Layers with ReLU follow the last feature maps. The cells and the rest, what the biases of these layers add for '
    'this very image, add up to the log-odds exactly; for another image, other units are active.'
)
MAXIMA = (
    'Of each feature map only the largest value counts, so few cells add anything. These cells and the bias of the '
    'last layer add up to the log-odds exactly; other cells could hold anything smaller.'
)


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """What the score of one image rests on; of an unreadable one, `error` is a sentence and the rest is None.

    Attributes:
        name: the image's path, or `image N`.
        probability: P(fake); uncalibrated.
        logit: log-odds of fake: `cells.sum() + rest`.
        cells: float32[h, w], what each cell adds to the log-odds of fake; below 0 it speaks for real.
        rest: log-odds that no cell adds, see `exact`.
        exact: for which part of the network the map is exact, in words.
        crop: uint8[S, S, 3] of RGB, what the network saw.
        cell: pixels per side of a cell.
        rows: int[S], the row of cells to which each row of pixels belongs; columns alike.
        error: why the image could not be read, or None.
    """

    name: str
    probability: Any = None
    logit: Any = None
    cells: Any = None
    rest: Any = None
    exact: str = ''
    crop: Any = None
    cell: int = 0
    rows: Any = None
    error: str | None = None

    def on_pixels(self, cells: np.ndarray) -> np.ndarray:
        """Values of cells [h, w] as those of the pixels in them, [S, S]."""
        return cells[np.ix_(self.rows, self.rows)]


def make_explain_step(detector: Detector) -> Callable[..., Any]:
    """Returns the per-device program `explain(variables, batch)`.

    It returns, replicated: `logits` [B], `cells` [B, h, w], `crops` uint8[B, S, S, 3] and `weights` [B]. The logits are
    those of `scoring.make_predict_step`.
    """
    data, dtype = detector.config.data, precision.resolve(detector.config.precision)

    def explain(variables: dict[str, Any], batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        crops = crop(batch, data.image_size)
        images = normalize(crops, data.mean, data.std, dtype)
        network, variables = (detector.model, variables) if runs_on_cpu() else fold(detector.model, variables)
        logits, cells = attribute(network, variables, images)
        if detector.flip:
            mirrored_logits, mirrored = attribute(network, variables, images[:, :, ::-1])
            logits, cells = (logits + mirrored_logits) / 2, (cells + mirrored[:, :, ::-1]) / 2
        outputs = {'logits': logits, 'cells': cells, 'crops': crops, 'weights': batch['weight']}
        return {name: parallel.all_rows(value) for name, value in outputs.items()}

    return explain


def attribute(
    network: nn.Module, variables: dict[str, Any], images: Float[Array, 'b s s 3']
) -> tuple[Float[Array, ' b'], Float[Array, 'b h w']]:
    """The log-odds of each image, and what each cell of the last feature maps adds to them, float32.

    One forward pass; backwards it goes no further than the last feature maps.
    """

    def forward(added: jax.Array) -> tuple[jax.Array, jax.Array]:
        tapped = {**variables, 'perturbations': {'maps': added}}
        logits, state = cast(Any, network.apply(tapped, images, train=False, mutable='intermediates'))
        return logits, state['intermediates']['maps'][0]

    def maps() -> Any:
        return network.apply(variables, images, train=False, mutable='intermediates')[1]['intermediates']['maps'][0]

    # In float32, so that the gradient is, whatever the activations are.
    logits, pull_back, found = jax.vjp(forward, jnp.zeros(jax.eval_shape(maps).shape, jnp.float32), has_aux=True)
    (gradient,) = pull_back(jnp.ones_like(logits))  # an image's maps change no other image's log-odds
    return logits, (gradient * found.astype(jnp.float32)).sum(-1)


def exactness(model: nn.Module) -> str:
    """What the cells of a network's last feature maps explain exactly, in words."""
    if isinstance(model, AirBench):
        return MAXIMA
    is_linear = isinstance(model, ResNet) or (isinstance(model, SmallCNN) and model.dense_layers == 0)
    return LINEAR if is_linear else RELU


def rows_of_cells(model: Any, side: int, cells: int) -> Int[np.ndarray, ' {side}']:
    """The row of cells that each of `side` rows of pixels belongs to, of which there are `cells`.

    The strided windows of a ResNet are centred on every `stride`-th pixel, from the first; those of the others, pooled
    two by two, lie side by side.
    """
    shift = model.stride // 2 if isinstance(model, ResNet) else 0
    return np.minimum((np.arange(side) + shift) // model.stride, cells - 1)


@dataclasses.dataclass(frozen=True)
class Explainer:
    """The explain step of a detector, compiled for its devices; made by `create`.

    Attributes:
        detector: whose scores are explained; few images take as long as a batch of it.
        step: `make_explain_step`, over all devices.
    """

    detector: Detector
    step: Callable[..., Any]

    @classmethod
    def create(cls, detector: Detector) -> 'Explainer':
        detector = dataclasses.replace(detector, config=in_blocks(detector.config, detector.devices))
        return cls(detector, detector.devices.map(make_explain_step(detector)))

    def explain(self, images: Iterable[Any]) -> Iterator[Explanation]:
        """Yields an explanation for each image, in order; it reads no more than a batch a thread ahead.

        Args:
            images: paths, encoded bytes, PIL images, arrays uint8[H, W, 3] of RGB, or named inputs.

        Raises:
            UserError: an array of another shape or dtype, something that is no image, or a single image, not a list.
            TrainingDiverged: a score is not finite.
        """
        if isinstance(images, str | bytes | os.PathLike | PIL.Image.Image):
            raise UserError('explain takes a list of images, not a single one; put the image in brackets.')
        config = self.detector.config
        named = enumerate(images)
        inputs = (image if isinstance(image, Input) else read_input(image, place) for place, image in named)
        threads = pipeline.num_threads(config.data.threads, config.data.resize_size)
        while part := list(itertools.islice(inputs, config.batch_size * threads)):
            yield from self._explain_part(part)

    def run(
        self, crops: UInt8[np.ndarray, 'n s s 3'], variables: dict[str, Any] | None = None
    ) -> tuple[Float[np.ndarray, ' n'], Float[np.ndarray, 'n h w']]:
        """The log-odds and cells of crops that are made already.

        Args:
            crops: as `Explanation.crop`.
            variables: replicated; None for the detector's own.
        """
        config = self.detector.config
        size, side = config.batch_size, config.data.resize_size
        process, processes = parallel.shard()
        own = slice(process * (size // processes), (process + 1) * (size // processes))
        found = []
        for start in range(0, len(crops), size):
            part = crops[start : start + size]
            images = np.zeros((size, side, side, 3), np.uint8)  # as batches of files are, for the same program
            images[: len(part), : crops.shape[1], : crops.shape[2]] = part
            batch = {'image': images, 'label': np.zeros(size, np.int32), 'weight': np.ones(size, np.float32)}
            if side != config.data.image_size:
                batch['offset'] = np.zeros((size, 2), np.int32)
            outputs = self._dispatch({name: value[own] for name, value in batch.items()}, variables)
            found.append([np.asarray(outputs[name])[: len(part)] for name in ('logits', 'cells')])
        logits, cells = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return logits, cells

    def _dispatch(self, batch: dict[str, np.ndarray], variables: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.step(variables or self.detector.variables, self.detector.devices.split(batch))

    def _explain_part(self, part: list[Input]) -> Iterator[Explanation]:
        count, config = len(part), self.detector.config
        split = Split(InputFiles(part), np.zeros(count, np.int32), [''] * count, [''] * count)
        unreadable = UnreadableImages('images', count, 1.0)
        batches = pipeline.EvalBatches(split, config, unreadable, shard=parallel.shard())
        size, pending = config.batch_size, None
        for start, batch in zip(itertools.count(0, size), pipeline.read_batches(batches, config.data.threads)):
            outputs = part[start : start + size], start, self._dispatch(batch)
            if pending is not None:  # read the last batch's outputs while this one is computed
                yield from self._explanations(*pending, unreadable)
            pending = outputs
        if pending is not None:
            yield from self._explanations(*pending, unreadable)

    def _explanations(
        self, part: list[Input], start: int, outputs: dict[str, Any], unreadable: UnreadableImages
    ) -> Iterator[Explanation]:
        """Those of a batch, whose first image is that of number `start` in the split of `unreadable`."""
        found = {name: np.asarray(value) for name, value in jax.device_get(outputs).items()}
        logits, cells, crops = (found[name] for name in ('logits', 'cells', 'crops'))
        if not np.isfinite(logits[found['weights'] > 0]).all():
            raise TrainingDiverged('the scores of images are not finite: these weights are ruined; take others.')
        model = self.detector.model
        rows = rows_of_cells(model, crops.shape[1], cells.shape[1])
        exact = exactness(model)
        for row, image in enumerate(part):
            if not found['weights'][row]:
                reason = unreadable.reasons.get(str(start + row), 'another process could not read it')
                yield Explanation(image.name, error=f'{image.name} cannot be read: {reason}')
                continue
            logit = float(logits[row])
            yield Explanation(
                name=image.name,
                probability=float(scipy.special.expit(logit)),
                logit=logit,
                cells=cells[row],
                rest=logit - float(cells[row].sum(dtype=np.float64)),
                exact=exact,
                crop=crops[row],
                cell=int(model.stride),
                rows=rows,
            )

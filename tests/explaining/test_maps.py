"""Maps add up to the score of every network, and lie on what the score rests on."""

import dataclasses
import io
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from fakeimg.errors import TrainingDiverged, UserError
from fakeimg.explaining.maps import LINEAR, MAXIMA, RELU, Explainer, attribute, exactness, rows_of_cells
from fakeimg.models import normalize
from fakeimg.models.airbench import AirBench
from fakeimg.models.cnn import SmallCNN
from fakeimg.models.resnet import ResNet
from fakeimg.models.vgg import VGG19
from tests.support.explained import PATCH, detector_of, noise, planted, random_variables, trained

NETWORKS = {
    'cnn': (SmallCNN(4, 2, 8), 32, ('dense', 'head')),
    'cnn, two dense layers': (SmallCNN(4, 3, 8, 2), 37, ('dense', 'dense2', 'head')),
    'cnn, flat': (SmallCNN(4, 2, dense_layers=0), 32, ('head',)),
    'airbench': (AirBench(width=4, blocks=2), 48, ('head',)),
    'resnet': (ResNet((1, 1), width=4), 32, ('head',)),
    'resnet, small stem': (ResNet((1, 1), width=4, bottleneck=False, small_stem=True), 16, ('head',)),
    'vgg19': (VGG19(2, 8), 32, ('fc6', 'fc7', 'head')),
    'vgg19_bn': (VGG19(2, 8, batch_norm=True), 32, ('fc6', 'fc7', 'head')),
}

SLOW = ('resnet', 'vgg19', 'vgg19_bn')  # to compile


def by_biases(
    model: nn.Module, variables: dict[str, Any], images: jax.Array, after: tuple[str, ...]
) -> tuple[float, float]:
    """The log-odds of an image, and what the biases after the maps add: each times the gradient with respect to it."""
    params = variables['params']

    def logit(biases: dict[str, jax.Array]) -> jax.Array:
        tail = {name: {**params[name], 'bias': bias} for name, bias in biases.items()}
        return model.apply({**variables, 'params': {**params, **tail}}, images, train=False)[0]  # pyright: ignore

    biases = {name: params[name]['bias'] for name in after}
    value, gradient = jax.jit(jax.value_and_grad(logit))(biases)
    return float(value), sum(float((gradient[name] * biases[name]).sum()) for name in after)


@pytest.mark.parametrize('head', ['sigmoid', pytest.param('softmax', marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=pytest.mark.slow if name in SLOW else []) for name in NETWORKS]
)
def test_cells_and_what_biases_add_are_the_log_odds(name: str, head: str) -> None:
    network, size, after = NETWORKS[name]
    model: Any = network.clone(head=head)
    variables = random_variables(model, size)
    images = normalize(np.stack(noise(1, size)), [0.5] * 3, [0.3] * 3)
    logits, cells = jax.jit(lambda images: attribute(model, variables, images))(images)
    plain, rest = by_biases(model, variables, images, after)
    assert float(logits[0]) == pytest.approx(plain, abs=1e-5, rel=1e-5)
    assert np.abs(cells).sum() > 0.01
    assert float(cells.sum()) + rest == pytest.approx(plain, abs=1e-5, rel=1e-5)
    is_airbench = isinstance(model, AirBench)
    assert exactness(model) == (MAXIMA if is_airbench else LINEAR if after == ('head',) else RELU)
    if is_airbench:  # the cells of the maxima
        assert 0 < (np.asarray(cells) != 0).sum() <= 8
    elif after == ('head',):  # the mean of the class activation map, and the bias of the head
        bias = variables['params']['head']['bias']
        bias = float(bias[1] - bias[0] if head == 'softmax' else bias[0])
        assert rest == pytest.approx(bias, abs=1e-6)
        assert float((cells * cells.size).mean()) + bias == pytest.approx(plain, abs=1e-5, rel=1e-5)


def test_a_map_is_exact_in_half_precision_where_it_is_linear() -> None:
    model = ResNet((1, 1), width=4, bottleneck=False, small_stem=True, dtype=jnp.bfloat16)
    variables = random_variables(model, 16)
    images = normalize(np.stack(noise(2, 16)), [0.5] * 3, [0.3] * 3, jnp.bfloat16)
    logits, cells = jax.jit(lambda images: attribute(model, variables, images))(images)
    np.testing.assert_allclose(cells.sum((1, 2)) + variables['params']['head']['bias'], logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('flip', [False, True])
def test_explanations_are_of_the_scores_that_predict_gives(flip: bool, tmp_path: pathlib.Path) -> None:
    """Paths, bytes and PIL images; six of them in batches of four, two of which cannot be read."""
    detector = dataclasses.replace(detector_of(SmallCNN(4, 2, 8), 32, resize=40), flip=flip)
    detector.config.data.threads = 2  # both batches are read ahead
    pixels = noise(3, 50)
    PIL.Image.fromarray(pixels[0]).save(tmp_path / 'a.png')
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels[1]).save(buffer, 'PNG')
    images = [
        tmp_path / 'a.png',
        b'no image',
        buffer.getvalue(),
        PIL.Image.fromarray(pixels[2]),
        'no/such.png',
        pixels[0],
    ]
    explained = list(Explainer.create(detector).explain(images))
    predicted = detector.predict(images)
    assert [one.name for one in explained] == [one.name for one in predicted]
    assert [one.error for one in explained] == [one.error for one in predicted]
    assert [one.error is None for one in explained] == [True, False, True, True, False, True]
    for one, other in zip(explained, predicted, strict=True):
        if one.error is None:
            assert one.logit == pytest.approx(other.logit, abs=1e-6)
            assert one.probability == pytest.approx(other.probability)
            assert one.cells.sum() + one.rest == pytest.approx(one.logit, abs=1e-6)
            assert (one.cells.shape, one.cell, one.exact) == ((8, 8), 4, RELU)
    np.testing.assert_array_equal(explained[0].cells, explained[5].cells)
    assert not np.array_equal(explained[0].cells, explained[2].cells)


def test_the_map_of_the_mirror_image_is_turned_back() -> None:
    detector = detector_of(SmallCNN(4, 2, 8))
    (image,) = noise(1)
    one, mirrored = Explainer.create(detector).explain([image, image[:, ::-1].copy()])
    (both,) = Explainer.create(dataclasses.replace(detector, flip=True)).explain([image])
    np.testing.assert_allclose(both.cells, (one.cells + mirrored.cells[:, ::-1]) / 2, atol=1e-6)
    assert both.logit == pytest.approx((one.logit + mirrored.logit) / 2, abs=1e-6)


def test_the_crop_is_what_the_network_saw() -> None:
    """The middle 32 of 40 pixels; scored again as such it has the same map, for a batch of pixels and the last part."""
    detector = detector_of(SmallCNN(4, 2, 8), 32, resize=40)
    images, explainer = noise(6, 40), Explainer.create(detector)
    explained = list(explainer.explain(images))
    np.testing.assert_array_equal(explained[5].crop, images[5][4:36, 4:36])
    logits, cells = explainer.run(np.stack([one.crop for one in explained]))
    np.testing.assert_allclose(logits, [one.logit for one in explained], atol=1e-6)
    np.testing.assert_allclose(cells, np.stack([one.cells for one in explained]), atol=1e-6)


def test_cells_lie_where_their_windows_are_centred() -> None:
    """Of a cell the score's gradient is symmetric about its centre, in each of the two forms."""
    assert rows_of_cells(SmallCNN(4, 2, 8), 9, 2).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    model = ResNet((1, 1), width=4, bottleneck=False, small_stem=True)
    assert rows_of_cells(model, 7, 4).tolist() == [0, 1, 1, 2, 2, 3, 3]
    variables = random_variables(model, 32)

    def middle(images: jax.Array) -> jax.Array:
        return attribute(model, variables, images)[1][:, 8, 8].sum()

    reach = np.abs(jax.jit(jax.grad(middle))(jnp.asarray(np.stack(noise(4)) / 255, jnp.float32))).sum((0, 2, 3))
    seen = np.flatnonzero(reach)
    assert (seen[0] + seen[-1]) / 2 == np.flatnonzero(rows_of_cells(model, 32, 16) == 8)[1] == 16


def test_what_is_no_list_of_images_and_scores_that_are_not_finite_are_refused() -> None:
    detector = detector_of(SmallCNN(4, 1, 8), 8)
    with pytest.raises(UserError, match='explain takes a list of images, not a single one; put the image in brackets.'):
        next(Explainer.create(detector).explain('a.png'))
    variables = random_variables(detector.model, 8)
    variables['params']['head']['bias'] += np.nan
    with pytest.raises(TrainingDiverged, match='the scores of images are not finite'):
        next(Explainer.create(detector_of(detector.model, 8, variables)).explain(noise(1, 8)))
    assert list(Explainer.create(detector).explain([])) == []


def test_what_is_exact_is_said() -> None:
    (one,) = Explainer.create(detector_of(SmallCNN(4, 1, dense_layers=0), 8)).explain(noise(1, 8))
    assert one.exact == LINEAR


@pytest.mark.slow
@pytest.mark.parametrize(
    'model', [SmallCNN(16, 2, 32), ResNet((1, 1), width=8, bottleneck=False, small_stem=True)], ids=['cnn', 'resnet']
)
def test_the_maximum_lies_on_the_patch_that_decides(model: nn.Module) -> None:
    images, labels, places = planted(200, seed=5)
    fake = labels == 1
    explained = Explainer.create(detector_of(model, 32, trained(model), batch=50)).explain(list(images[fake]))
    hits = 0
    for one, place in zip(explained, places[fake], strict=True):
        row, column = np.argwhere(one.on_pixels(one.cells) == one.cells.max()).mean(0)
        hits += bool(place[0] <= row < place[0] + PATCH and place[1] <= column < place[1] + PATCH)
    assert hits >= 95, hits

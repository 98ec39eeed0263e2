"""The checks of maps: what replaced regions cost, and whether maps depend on the weights."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from fakeimg.config import override
from fakeimg.explaining import checks
from fakeimg.explaining.maps import Explainer, Explanation
from fakeimg.models import init_variables
from fakeimg.models.cnn import SmallCNN
from fakeimg.models.resnet import ResNet
from fakeimg.models.vgg import VGG19
from tests.support.explained import PATCH, detector_of, noise, planted, random_variables, trained


@pytest.fixture(scope='module')
def explainer() -> Explainer:
    return Explainer.create(detector_of(SmallCNN(4, 2, 8)))


@pytest.mark.parametrize('side', [1, -1])
def test_a_drop_is_that_of_the_image_with_the_neighbours_region(explainer: Explainer, side: int) -> None:
    """Of a batch's last image, the neighbour is its first; of one that is called real, the lowest cells count."""
    variables, images = jax.device_get(explainer.detector.variables), noise(3)
    variables['params']['head']['bias'] = np.array([10.0 * side], np.float32)
    detector = dataclasses.replace(explainer.detector, variables=explainer.detector.devices.replicate(variables))
    explainer = dataclasses.replace(explainer, detector=detector)
    found = list(checks.replaced(explainer, explainer.explain(images)))
    assert [replaced.neighbour for _, replaced in found] == ['image 1', 'image 2', 'image 0']
    assert [one.logit > 0 for one, _ in found] == 3 * [side > 0]
    for number, (one, replaced) in enumerate(found):
        order = np.argsort(-side * one.cells.ravel())[:13]  # a fifth of 64
        changed, other = images[number].copy(), images[(number + 1) % 3]
        for row, column in zip(*np.unravel_index(order, (8, 8)), strict=True):
            part = np.s_[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            changed[part] = other[part]
        (prediction,) = explainer.detector.predict([changed])
        assert prediction.logit is not None
        assert replaced.highest == pytest.approx(side * (one.logit - prediction.logit), abs=1e-5)
        assert replaced.random != pytest.approx(replaced.highest)


def test_random_cells_depend_on_the_seed_alone(explainer: Explainer) -> None:
    first, again, other = (
        [replaced.random for _, replaced in checks.replaced(explainer, explainer.explain(noise(3)), seed)]
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_of_a_single_image_there_is_no_neighbour(explainer: Explainer) -> None:
    ((one, replaced),) = checks.replaced(explainer, explainer.explain(noise(1)))
    assert one.error is None and replaced.highest is None and replaced.random is None
    assert replaced.why == 'there is no other image to take regions from'


def test_an_image_alone_in_the_last_batch_has_the_one_before_it(explainer: Explainer) -> None:
    config = override(explainer.detector.config, {'batch_size': 4})
    explainer = dataclasses.replace(explainer, detector=dataclasses.replace(explainer.detector, config=config))
    images = [*noise(3), b'no image', noise(1, seed=1)[0]]
    found = [replaced for _, replaced in checks.replaced(explainer, explainer.explain(images))]
    assert [replaced.neighbour for replaced in found] == ['image 1', 'image 2', 'image 0', '', 'image 2']
    assert found[3].why == 'the image cannot be read'


def test_a_map_of_one_cell_has_no_fifth() -> None:
    explainer = Explainer.create(detector_of(SmallCNN(4, 3, 8), 8))
    (_, replaced), _ = checks.replaced(explainer, explainer.explain(noise(2, 8)))
    assert replaced.highest is None and replaced.why == 'the map has too few cells'
    check = checks.randomisation(explainer, np.stack(noise(2, 8)))
    assert check.stages == ['head', 'dense', 'conv3', 'conv2', 'conv1']
    assert check.looks_same is None and 'cannot be compared' in check.verdict


def test_stages_have_the_name_that_their_layers_share() -> None:
    for model, expected in (
        (VGG19(2, 8, batch_norm=True), ['conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6, fc7', 'head']),
        (ResNet((2, 1), width=4), ['stem', 'stage1', 'stage2', 'head']),
    ):
        params = jax.eval_shape(
            lambda model=model: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
        )
        names = [checks.stage_name(model, params['params'], stage) for stage in range(len(model.stages))]
        assert names == expected


def test_the_highest_fifth() -> None:
    cells = np.array([[5.0, -9.0, 5.0, 1.0, 0.0], [7.0, 2.0, 3.0, 5.0, 4.0]], np.float32)
    assert np.argwhere(checks.highest(cells)).tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize('model', [SmallCNN(4, 2, 8), ResNet((1, 1), width=4, small_stem=True)], ids=['cnn', 'resnet'])
def test_one_stage_is_drawn_at_its_scale_and_the_others_stay(model: nn.Module) -> None:
    before = random_variables(model, 16)
    after = checks.drawn(model, before, 0, seed=0)
    first = 'conv1' if isinstance(model, SmallCNN) else 'stem_conv'
    for name, part in before['params'].items():
        is_same = all(jax.tree.leaves(jax.tree.map(np.array_equal, part, after['params'][name])))
        assert is_same == (not name.startswith(('conv1', 'stem'))), name
    kernels = [np.asarray(tree['params'][first]['kernel']) for tree in (before, after)]
    assert np.std(kernels[1]) == pytest.approx(float(np.std(kernels[0])), rel=0.2)
    assert abs(np.corrcoef(kernels[0].ravel(), kernels[1].ravel())[0, 1]) < 0.3
    other = checks.drawn(model, before, 0, seed=1)['params'][first]['kernel']
    assert not np.array_equal(other, kernels[1])
    if before['batch_stats']:
        statistics = [tree['batch_stats']['stem_bn']['var'] for tree in (before, after)]
        np.testing.assert_array_equal(np.sort(statistics[0]), np.sort(statistics[1]))
        jax.tree.map(np.testing.assert_array_equal, *(tree['batch_stats']['stage1_block1'] for tree in (before, after)))


def test_rank_correlations_are_those_of_scipy() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 5, 4, 4)).round(1)
    found = checks.rank_correlations(a, b)
    expected: list[Any] = [scipy.stats.spearmanr(x.ravel(), y.ravel())[0] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(found, expected)
    b[2] = 1
    assert np.isnan(checks.rank_correlations(a, b)).tolist() == [False, False, True, False, False]


def test_stages_are_drawn_one_after_the_other_from_the_head(explainer: Explainer) -> None:
    crops, detector = np.stack(noise(3)), explainer.detector
    check, own = checks.randomisation(explainer, crops, seed=1), np.abs(explainer.run(crops)[1])
    variables = jax.device_get(detector.variables)
    for row, stage in enumerate((3, 2, 1, 0)):
        variables = checks.drawn(detector.model, variables, stage, seed=1)
        cells = np.abs(explainer.run(crops, detector.devices.replicate(variables))[1])
        np.testing.assert_allclose(check.correlations[row], checks.rank_correlations(own, cells))
    assert np.abs(check.correlations).max() < 0.95


def test_maps_that_look_the_same_say_so() -> None:
    same = checks.Randomisation(['head', 'conv1'], np.array([[0.9, 0.9], [0.4, 0.2]]))
    assert same.looks_same and same.means == pytest.approx([0.9, 0.3])
    assert same.verdict.startswith('The maps of a network with drawn weights look the same (rank correlation 0.30')
    other = checks.Randomisation(['head', 'conv1'], np.array([[0.9, 0.9], [0.3, np.nan]]) - 0.01)
    assert other.looks_same is False and other.means[1] == pytest.approx(0.29)
    assert 'look different' in other.verdict


def on_even_ground(count: int) -> np.ndarray:
    """The patches of `planted` on ground of the mean colour, which networks without biases see as zeros."""
    images, _, places = planted(count)
    even = np.empty_like(images)
    even[...] = (124, 116, 104)
    for image, source, (row, column) in zip(even, images, places, strict=True):
        part = np.s_[row : row + PATCH, column : column + PATCH]
        image[part] = source[part]
    return even


def test_a_network_that_has_learned_nothing_fails_where_its_maps_only_follow_the_image() -> None:
    model = SmallCNN(8, 2, 16)
    explainer = Explainer.create(detector_of(model, variables=init_variables(model, 32, 0), batch=20))
    check = checks.randomisation(explainer, on_even_ground(40))
    assert check.stages == ['head', 'dense', 'conv2', 'conv1']
    assert (check.correlations < 0.999).all()
    assert check.looks_same and 'Do not read them as reasons' in check.verdict, check.means


@pytest.mark.slow
def test_the_maps_of_a_trained_network_depend_on_what_it_learned() -> None:
    model = ResNet((1, 1), width=8, bottleneck=False, small_stem=True)
    explainer = Explainer.create(detector_of(model, variables=trained(model), batch=50))  # pyright: ignore
    images, labels, _ = planted(100, seed=5)
    assert checks.randomisation(explainer, images).looks_same is False
    found: list[tuple[Explanation, checks.Replaced]] = list(checks.replaced(explainer, explainer.explain(list(images))))
    highest, random = (np.array([getattr(one, name) for _, one in found]) for name in ('highest', 'random'))
    assert highest.mean() > 2 * random.mean() > 0
    assert np.mean([(one.logit > 0) == label for (one, _), label in zip(found, labels, strict=True)]) > 0.95

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fakeimg.config import IMAGENET_MEAN, IMAGENET_STD, default_config
from fakeimg.data.decode import decode_rgb
from fakeimg.data.demo import DemoFaces
from fakeimg.errors import UserError
from fakeimg.models import create_model, init_variables, normalize
from fakeimg.models.airbench import AirBench, whitening_kernel
from fakeimg.models.folding import fold
from fakeimg.models.layers import global_max
from tests.support.variables import random_variables


def test_the_stem_makes_equal_channels_of_natural_images() -> None:
    """Drawn faces are smoother than photographs, so their differences come out smaller, but none larger."""
    basis = whitening_kernel().reshape(12, 12)
    directions = basis / np.linalg.norm(basis, axis=0)
    np.testing.assert_allclose(directions.T @ directions, np.eye(12), atol=1e-6)
    faces = DemoFaces('train', num_examples=20)
    images = normalize(np.stack([decode_rgb(faces.read(i)) for i in range(20)]), IMAGENET_MEAN, IMAGENET_STD)
    patches = jax.lax.conv_general_dilated_patches(
        images, (2, 2), (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    kernel = whitening_kernel().transpose(2, 0, 1, 3).reshape(12, 12)  # the order in which patches have their values
    found = np.square(patches @ kernel).mean((0, 1, 2))
    assert 0.1 < found[0] < 3 and (found < 3).all()


def test_nothing_of_the_stem_is_learned() -> None:
    params = init_variables(AirBench(width=4), 32, 0)['params']
    assert params.keys() == {'block1', 'block2', 'block3', 'head'}
    shapes = {name: params[name]['conv1']['kernel'].shape for name in ('block1', 'block2', 'block3')}
    assert shapes == {'block1': (3, 3, 24, 4), 'block2': (3, 3, 4, 8), 'block3': (3, 3, 8, 8)}
    assert params['block1'].keys() == {'conv1', 'bn1', 'conv2', 'bn2'} and params['block1']['bn1'].keys() == {'bias'}


@pytest.mark.parametrize('size', [32, 33])
def test_folded_it_computes_the_same(size: int) -> None:
    model: Any = AirBench(width=4)
    variables = random_variables(model, size)
    images = jax.random.normal(jax.random.key(0), (2, size, size, 3))
    folded, params = fold(model, variables)
    expected: Any = model.apply(variables, images, train=False)
    found: Any = folded.apply(params, images, train=False)
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_features_are_the_maxima_of_the_last_maps() -> None:
    model = AirBench(width=4, blocks=2)
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    outputs: Any = model.apply(random_variables(model, 32), images, method='features', mutable='intermediates')
    features, state = outputs
    (maps,) = state['intermediates']['maps']
    assert maps.shape == (2, 7, 7, 8) and model.stride == 4
    np.testing.assert_array_equal(features, maps.max((1, 2)))


def test_it_has_the_same_variables_and_results_with_either_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = AirBench(width=4, blocks=2), jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    variables = random_variables(model, 16)
    results = []
    for on_cpu in (True, False):
        monkeypatch.setattr('fakeimg.models.layers.runs_on_cpu', lambda on_cpu=on_cpu: on_cpu)
        apply = jax.jit(lambda variables: model.apply(variables, images, train=True, mutable=['batch_stats']))
        results.append(apply(variables))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), *results)


def test_blocks_must_leave_something_of_the_image() -> None:
    config = default_config()
    config.model.name, config.model.blocks, config.data.image_size = 'airbench', 5, 32
    with pytest.raises(UserError, match='config.model.blocks is 5; it must be 1 to 4, for every block halves the'):
        config.check()
    config.model.blocks = 4
    config.check()
    assert jax.eval_shape(lambda: init_variables(create_model(config), 32, 0))['params'].keys() > {'block4'}
    model: Any = AirBench(4, 4)
    logits = model.apply(random_variables(model, 32), jnp.ones((1, 32, 32, 3)), train=False)
    assert np.isfinite(np.asarray(logits)).all()


def test_the_gradient_of_the_maximum_goes_to_the_first_of_equals() -> None:
    x = jnp.zeros((2, 3, 4, 2)).at[0, 1, 2, 0].set(1).at[1, 2, 3].set(5).at[1, 0, 1, 1].set(5)
    gradient = jax.grad(lambda x: (global_max(x) * jnp.array([[1, 2], [3, 4]])).sum())(x)
    expected = np.zeros(x.shape)
    expected[0, 1, 2, 0], expected[0, 0, 0, 1], expected[1, 2, 3, 0], expected[1, 0, 1, 1] = 1, 2, 3, 4
    np.testing.assert_array_equal(gradient, expected)

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fakeimg.config import Config
from fakeimg.errors import UserError
from fakeimg.models import create_model, init_variables, normalize
from fakeimg.models.cnn import SmallCNN
from fakeimg.models.layers import max_pool_2x2
from fakeimg.models.resnet import ResNet, resnet50


def count(tree) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def test_resnet50_has_the_published_number_of_parameters() -> None:
    variables = jax.eval_shape(lambda: init_variables(resnet50(), 224, 0))
    # He et al.'s 25,557,032 with a head of one logit instead of 1,000 classes.
    assert count(variables['params']) == 25_557_032 - 2048 * 1000 - 1000 + 2048 + 1
    assert count(variables['batch_stats']) == 53_120


def test_small_cnn_has_the_papers_layers() -> None:
    params = init_variables(SmallCNN(), 32, 0)['params']
    shapes = {name: leaf['kernel'].shape for name, leaf in params.items()}
    assert shapes == {'conv1': (3, 3, 3, 32), 'conv2': (3, 3, 32, 32), 'dense': (8 * 8 * 32, 64), 'head': (64, 1)}


@pytest.mark.parametrize('size', [32, 33, 47])
@pytest.mark.parametrize('model', [SmallCNN(dtype=jnp.bfloat16), ResNet((1, 1, 1), width=4, dtype=jnp.bfloat16)])
def test_logits_are_float32_vectors_of_any_size(model: nn.Module, size: int) -> None:
    def logits() -> Any:
        variables = init_variables(model, size, 0)
        return model.apply(variables, jnp.ones((3, size, size, 3)), train=False)

    shape = jax.eval_shape(logits)
    assert (shape.shape, shape.dtype) == ((3,), jnp.float32)


def test_fast_max_pool_equals_flax() -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 7, 5)), jnp.float32)

    def reference(x):
        return nn.max_pool(x, (2, 2), (2, 2))

    np.testing.assert_array_equal(max_pool_2x2(x), reference(x))
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4, 3, 5)), jnp.float32)
    gradients = [jax.grad(lambda x, f=f: (f(x) * weights).sum())(x) for f in (max_pool_2x2, reference)]
    np.testing.assert_array_equal(*gradients)


def test_normalisation_matches_its_formula() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images / 255.0 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(normalize(images, mean, std), expected, atol=1e-6)
    assert normalize(images, mean, std, jnp.float16).dtype == jnp.float16


def test_unknown_model_lists_the_known(config: Config) -> None:
    config.model.name = 'resnet51'
    with pytest.raises(UserError, match="config.model.name is 'resnet51'; it must be one of cnn, .*resnet50"):
        create_model(config)

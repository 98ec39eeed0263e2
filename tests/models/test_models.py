import functools
import pathlib
import runpy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from fakeimg.config import Config, default_config, from_plain, override
from fakeimg.errors import UserError
from fakeimg.fields import to_plain
from fakeimg.models import MODELS, create_model, init_variables, normalize
from fakeimg.models.cnn import PooledConv, SmallCNN
from fakeimg.models.resnet import ResNet
from fakeimg.models.vgg import VGG19
from fakeimg.networks import NETWORKS, Model
from tests.support.variables import abstract_variables, random_variables
from tests.support.verbs import ROOT


def count(tree) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


# As torchvision publishes them, with a head of one logit instead of 1,000 classes.
@pytest.mark.parametrize(
    ('name', 'published', 'width'),
    [
        ('resnet18', 11_689_512, 512),
        ('resnet34', 21_797_672, 512),
        ('resnet50', 25_557_032, 2048),
        ('resnet101', 44_549_160, 2048),
        ('vgg19', 143_667_240, 4096),
        ('vgg19_bn', 143_678_248, 4096),
    ],
)
def test_networks_have_the_published_number_of_parameters(name: str, published: int, width: int) -> None:
    config = default_config()
    config.model.name = name
    model = create_model(config)
    variables = abstract_variables(model, 224)
    assert count(variables['params']) == published - 1000 * (width + 1) + (width + 1)
    if name == 'resnet50':
        assert count(variables['batch_stats']) == 53_120


def test_small_cnn_has_the_papers_layers() -> None:
    params = abstract_variables(SmallCNN(), 32)['params']
    kernels = {name: leaf['kernel'].shape for name, leaf in params.items()}
    assert kernels == {'conv1': (3, 3, 3, 32), 'conv2': (3, 3, 32, 32), 'dense': (8 * 8 * 32, 64), 'head': (64, 1)}


@pytest.mark.parametrize('size', [32, 33, 47])
@pytest.mark.parametrize(
    'model',
    [
        SmallCNN(dtype=jnp.bfloat16),
        ResNet((1, 1, 1), width=4, dtype=jnp.bfloat16),
        ResNet((1, 1), width=4, bottleneck=False, small_stem=True, head='softmax', dtype=jnp.bfloat16),
        VGG19(width=2, dense=8, batch_norm=True, dtype=jnp.bfloat16),
    ],
)
def test_logits_are_float32_vectors_of_any_size(model: nn.Module, size: int) -> None:
    def outputs() -> Any:
        variables = init_variables(model, size, 0)
        images = jnp.ones((3, size, size, 3))
        return model.apply(variables, images, train=False), model.apply(variables, images, method='features')

    logits, features = jax.eval_shape(outputs)
    assert (logits.shape, logits.dtype) == ((3,), jnp.float32)
    assert (features.ndim, features.shape[0], features.dtype) == (2, 3, jnp.float32)


@pytest.mark.parametrize(
    'model', [SmallCNN(filters=2, dense=3), ResNet((1,), width=2, small_stem=True), VGG19(width=1, dense=2)]
)
def test_last_maps_are_returned_on_request_only(model: nn.Module) -> None:
    def outputs() -> Any:
        variables = init_variables(model, 32, 0)
        images = jnp.ones((3, 32, 32, 3))
        return variables, *model.apply(variables, images, train=False, mutable='intermediates')

    variables, _, state = jax.eval_shape(outputs)
    assert variables.keys() == {'params', 'batch_stats'}
    (maps,) = state['intermediates']['maps']
    assert maps.shape[0] == 3 and maps.ndim == 4 and maps.shape[1] == maps.shape[2]


def test_mean_of_the_last_maps_is_the_resnets_features() -> None:
    model = ResNet((1,), width=2, small_stem=True)
    variables, images = random_variables(model, 8), jnp.ones((3, 8, 8, 3))
    outputs: Any = model.apply(variables, images, method='features', mutable='intermediates')
    features, state = outputs
    np.testing.assert_allclose(features, state['intermediates']['maps'][0].mean((1, 2)), rtol=1e-6)


def test_networks_have_the_same_variables_with_either_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ResNet((1, 1), width=4, bottleneck=False, small_stem=True)
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    variables = random_variables(model, 16)
    results = []
    for on_cpu in (True, False):
        monkeypatch.setattr('fakeimg.models.layers.runs_on_cpu', lambda on_cpu=on_cpu: on_cpu)
        # A function of its own each time, which jit has not compiled before.
        apply = jax.jit(lambda variables: model.apply(variables, images, train=True, mutable=['batch_stats']))
        results.append(apply(variables))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), *results)


def test_pooled_convolution_equals_one_with_bias_and_relu_before_pooling() -> None:
    x = jax.random.normal(jax.random.key(0), (3, 10, 9, 4))
    conv: Any = nn.Conv(6, (3, 3))
    pooled: Any = PooledConv(6)
    params = conv.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, params, pooled.init(jax.random.key(1), x))
    params['params']['bias'] = jnp.linspace(-1, 1, 6)

    def reference(params: Any, x: jax.Array):
        return nn.max_pool(nn.relu(conv.apply(params, x)), (2, 2), (2, 2))

    def ours(params: Any, x: jax.Array):
        return nn.relu(pooled.apply(params, x))

    outputs = []
    for form in (ours, reference):
        value, pullback = jax.vjp(form, params, x)
        outputs.append((value, pullback(jnp.cos(value))))
    np.testing.assert_array_equal(outputs[0][0], outputs[1][0])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), *outputs)


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


def test_cifake_family_follows_its_fields(config: Config) -> None:
    config.model = Model('cnn', filters=16, layers=3, dense=128, dense_layers=2)
    params = abstract_variables(create_model(config), 32)['params']
    kernels = {name: leaf['kernel'].shape for name, leaf in params.items()}
    assert kernels == {
        'conv1': (3, 3, 3, 16), 'conv2': (3, 3, 16, 16), 'conv3': (3, 3, 16, 16),
        'dense': (4 * 4 * 16, 128), 'dense2': (128, 128), 'head': (128, 1),
    }  # fmt: skip


def test_small_stem_keeps_the_resolution() -> None:
    model = ResNet((1,), width=4, small_stem=True)
    variables = abstract_variables(model, 32)
    assert variables['params']['stem_conv']['kernel'].shape == (3, 3, 3, 4)
    _, state = jax.eval_shape(
        lambda v: model.apply(v, jnp.ones((1, 32, 32, 3)), train=False, capture_intermediates=True, mutable=True),
        variables,
    )
    assert state['intermediates']['stage1_block1']['__call__'][0].shape == (1, 32, 32, 16)


def test_both_heads_give_the_same_decisions() -> None:
    """A softmax over (0, z), or (a, a + z) for any a, is the sigmoid of z, and so are loss and gradient."""
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    one, two = SmallCNN(filters=2, dense=3), SmallCNN(filters=2, dense=3, head='softmax')
    variables = random_variables(one, 16)
    head = variables['params']['head']
    shift = np.random.default_rng(1).standard_normal((3, 1), np.float32)
    kernel = np.concatenate([shift, shift + head['kernel']], 1)
    twin = {**variables['params'], 'head': {'kernel': kernel, 'bias': np.array([0.5, 0.5 + head['bias'][0]])}}
    networks = ((one, variables['params']), (two, twin))
    logits: list[Any] = [model.apply({'params': params}, images, train=False) for model, params in networks]
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-5)
    features = two.apply({'params': twin}, images, method='features')
    pairs = features @ twin['head']['kernel'] + twin['head']['bias']
    np.testing.assert_allclose(jax.nn.sigmoid(logits[1]), jax.nn.softmax(pairs)[:, 1], atol=1e-6)  # fake is class 1
    labels = np.array([0, 1, 1, 0])
    np.testing.assert_allclose(
        optax.sigmoid_binary_cross_entropy(logits[1], labels.astype(np.float32)),
        optax.softmax_cross_entropy_with_integer_labels(pairs, labels),
        atol=1e-6,
    )


@pytest.mark.parametrize('model', [ResNet((1,), width=2), VGG19(width=1, dense=2, batch_norm=True, dropout=0.0)])
def test_frozen_batch_norm_computes_in_training_what_it_does_in_evaluation(model: Any) -> None:
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    variables = random_variables(model, 32)
    frozen = model.clone(freeze_batch_norm=True)

    @jax.jit
    def outputs(variables: Any):
        trained, updates = frozen.apply(variables, images, train=True, mutable=['batch_stats'])
        return trained, updates['batch_stats'], frozen.apply(variables, images, train=False)

    trained, statistics, evaluated = outputs(variables)
    np.testing.assert_allclose(trained, evaluated, rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, statistics, variables['batch_stats'])


def test_dropout_silences_units_in_training_only() -> None:
    model = VGG19(width=1, dense=64, dropout=0.5)
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    variables = random_variables(model, 32)

    @functools.partial(jax.jit, static_argnums=0)
    def silent(train: bool, seed: int = 0) -> jax.Array:
        rngs = {'dropout': jax.random.key(seed)}
        return jnp.asarray(model.apply(variables, images, train, rngs=rngs, method='features')) == 0

    extra = silent(True) & ~silent(False)
    assert 0.2 < extra.mean() / (~silent(False)).mean() < 0.8
    assert (silent(True, 1) != silent(True, 2)).any()


@pytest.mark.parametrize(
    ('field', 'value', 'sentence'),
    [
        ('model.head', 'tanh', "config.model.head is 'tanh'; it must be sigmoid or softmax"),
        ('model.dropout', 1.0, 'config.model.dropout is 1.0'),
        ('model.layers', 6, 'config.model.layers is 6; it must be 1 to 5'),
        ('model.filters', 0, 'config.model.filters is 0; it must be at least 1'),
        ('model.dense_layers', -1, 'config.model.dense_layers is -1; it must be at least 0'),
        ('model.freeze_batch_norm', True, 'freeze_batch_norm is True; it must be False unless config.init'),
    ],
)
def test_fields_of_the_model_are_checked(config: Config, field: str, value: Any, sentence: str) -> None:
    config.model.name = 'cnn' if field.removeprefix('model.') in NETWORKS['cnn'] else 'vgg19_bn'
    config = override(config, {field: value})
    with pytest.raises(UserError, match=sentence):
        config.check()


def test_vgg_wants_images_that_survive_five_poolings(config: Config) -> None:
    config.model.name = 'vgg19_bn'
    config.data.image_size = 31
    with pytest.raises(UserError, match='config.data.image_size is 31; it must be at least 32 for vgg19_bn'):
        config.check()


def test_a_checkpoint_from_before_these_fields_still_builds_its_model() -> None:
    plain = to_plain(default_config())
    plain['model'] = {'name': 'cnn', 'sync_batch_norm': False}
    assert create_model(from_plain(plain)) == SmallCNN()


def test_every_registered_model_builds_from_the_defaults() -> None:
    config = default_config()
    for name in MODELS:
        config.model.name = name
        assert isinstance(create_model(config), nn.Module)


@pytest.mark.parametrize('recipe', sorted((ROOT / 'configs').glob('*.py')), ids=lambda path: path.stem)
def test_every_recipe_is_a_valid_configuration(recipe: pathlib.Path) -> None:
    config = runpy.run_path(str(recipe))['get_config']()
    config.check()
    assert isinstance(create_model(config), nn.Module)

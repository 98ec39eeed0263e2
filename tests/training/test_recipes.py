"""What of a network learns when and how fast, averaged weights, and steps in parts."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fakeimg.checkpoint import Checkpoints
from fakeimg.config import IMAGENET_MEAN, IMAGENET_STD, Config, Model, default_config, override
from fakeimg.data import pipeline
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.detector import load
from fakeimg.errors import UserError
from fakeimg.evaluation import evaluator
from fakeimg.evaluation.metrics import compute_metrics
from fakeimg.models import create_model, stage_of
from fakeimg.models.resnet import ResNet
from fakeimg.models.vgg import VGG19
from fakeimg.training import loop, optimizer, program, progress, resume
from fakeimg.training.schedule import Schedule
from fakeimg.training.state import TrainState
from tests.support.console import Recorder
from tests.support.steps import BATCH, random_batch, take_step
from tests.support.variables import abstract_variables, random_variables


@pytest.fixture
def config() -> Config:
    """The smallest cnn on demo faces of 16 px, six steps of 8, with something to do in every one."""
    config = default_config()
    config.batch_size = BATCH
    config.steps = 6
    config.data.path, config.data.demo_examples = 'demo', 32  # four steps an epoch
    config.data.image_size = config.data.resize_size = 16
    config.data.mean, config.data.std = IMAGENET_MEAN, IMAGENET_STD
    config.model.name = 'cnn'
    config.model.filters = config.model.dense = 4
    config.init.weights = 'auto'
    config.log_every_steps = 1
    return config


def changed(before: dict, after: dict) -> set[str]:
    """Names of the top-level parts in which a bit differs."""
    return {
        name
        for name in before
        if any(np.asarray(a).tobytes() != np.asarray(b).tobytes()
               for a, b in zip(jax.tree.leaves(before[name]), jax.tree.leaves(after[name]), strict=True))
    }  # fmt: skip


def test_every_part_of_every_network_has_its_stage() -> None:
    stages = {}
    for model in (ResNet((1, 1), width=4), VGG19(width=1, dense=4, batch_norm=True), create_model(cnn_of(3, 2))):
        names = abstract_variables(model, 32)['params']
        stages[type(model).__name__] = [
            {name for name in names if stage_of(model, name) == stage} for stage in range(len(model.stages))
        ]
    assert stages['ResNet'] == [{'stem_conv', 'stem_bn'}, {'stage1_block1'}, {'stage2_block1'}, {'head'}]
    assert stages['SmallCNN'] == [{'conv1'}, {'conv2'}, {'conv3'}, {'dense'}, {'dense2'}, {'head'}]
    assert [len(names) for names in stages['VGG19']] == [4, 4, 8, 8, 8, 2, 1]
    assert stages['VGG19'][5:] == [{'fc6', 'fc7'}, {'head'}]


def cnn_of(layers: int, dense_layers: int) -> Config:
    config = default_config()
    config.model = Model('cnn', layers=layers, dense_layers=dense_layers)
    return config


def test_frozen_stages_keep_every_bit(config: Config) -> None:
    """The stem and the first stage of three, with their statistics, under weight decay."""
    config.optimizer.weight_decay = 0.1
    before, after, _ = take_step(config, ResNet((1, 1), width=4, bottleneck=False, small_stem=True, frozen_stages=2))
    assert changed(before.params, after.params) == {'stage2_block1', 'head'}
    assert changed(before.batch_stats, after.batch_stats) == {'stage2_block1'}
    moments = jax.tree_util.tree_leaves_with_path(before.opt_state)
    assert not any('stem' in jax.tree_util.keystr(path) for path, _ in moments)


def test_a_frozen_stage_normalises_with_its_running_statistics(config: Config) -> None:
    config.augment.flip = False
    for model in (ResNet((1,), width=4, small_stem=True), VGG19(width=1, dense=4, batch_norm=True, dropout=0.0)):
        model = model.clone(frozen_stages=len(model.stages) - 1)
        side = 32 if isinstance(model, VGG19) else 16
        variables = random_variables(model, side)
        images = jnp.asarray(random_batch(side=side)['image'], jnp.float32)
        features, updates = model.apply(variables, images, train=True, method='features', mutable=['batch_stats'])
        np.testing.assert_array_equal(features, model.apply(variables, images, method='features'))
        assert not changed(variables['batch_stats'], dict(updates['batch_stats']))


def test_each_stage_learns_at_its_rate(config: Config) -> None:
    model = create_model(config)
    params = random_variables(model, 16)['params']
    grads = jax.tree.map(jnp.ones_like, params)
    updates = {}
    for decay in (1.0, 0.5):
        config.finetune.layer_decay = decay
        tx = optimizer.create_optimizer(config, optax.constant_schedule(1.0), model)
        updates[decay], _ = tx.update(grads, tx.init(params), params)
    for name, factor in {'conv1': 1 / 8, 'conv2': 1 / 4, 'dense': 1 / 2, 'head': 1.0}.items():
        slowed = jax.tree.map(lambda update, f=factor: update * f, updates[1.0][name])
        jax.tree.map(np.testing.assert_array_equal, updates[0.5][name], slowed)


def test_phases_have_their_own_warm_up_and_the_last_decays_to_zero(config: Config) -> None:
    config.steps = 24
    config.optimizer.warmup_epochs = 1.0  # four steps
    config.finetune.head_epochs = 2.0
    schedule = Schedule.create(config, 32)
    rates = [float(np.asarray(schedule.learning_rate()(step))) / schedule.peak_learning_rate for step in range(25)]
    np.testing.assert_allclose(rates[:13], [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 0, 0.25, 0.5, 0.75, 1], atol=1e-6)
    assert 0 < rates[23] < rates[13] < 1
    assert rates[24] == 0


def states_of(workdir: pathlib.Path, built: program.Program) -> dict[int, TrainState]:
    checkpoints = Checkpoints(workdir / 'checkpoints', read_only=True)
    return {step: checkpoints.restore(built.abstract_state(), step).state for step in checkpoints.steps()}


@pytest.mark.slow
def test_a_run_in_two_phases_resumes_to_the_same_bits_also_at_the_border(
    config: Config, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With everything on. Two of six steps are the head's; the run is stopped before, at, and after the border."""
    config.finetune.head_epochs = 0.5
    config.finetune.last_stages = 2  # conv1 never learns
    config.finetune.layer_decay = 0.5
    config.optimizer.ema_decay = 0.9
    config.optimizer.warmup_epochs = 0.0
    config.microbatches = 2
    config.data.balanced_sampling = True
    config.checkpoint_every_steps = 1
    built = program.build(config)
    monkeypatch.setattr(loop, 'build', lambda _, continues: built)  # compiled once
    loop.train(config, tmp_path / 'whole')
    expected = states_of(tmp_path / 'whole', built)[6]
    start = jax.device_get(built.initial_state()[0].params)
    for stop in (1, 2, 3):  # each call takes one step
        loop.train(config, tmp_path / 'stopped', Recorder(interrupt_at='  first step'))
        state = states_of(tmp_path / 'stopped', built)[stop]
        assert changed(start, state.params) == ({'head'} if stop <= 2 else {'conv2', 'dense', 'head'})
    loop.train(config, tmp_path / 'stopped')
    assert not changed(
        *({'all': jax.device_get(state)} for state in (expected, states_of(tmp_path / 'stopped', built)[6]))
    )
    counts = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(expected.opt_state)
              if jax.tree_util.keystr(path).endswith('count')]  # fmt: skip
    assert [int(count) for count in counts] == [4, 4]  # Adam's and the schedule's began again with the second phase

    scored = evaluator.evaluate(load(tmp_path / 'whole', 6), 'validation')[0]
    averaged = jax.device_get(expected.variables)
    assert changed(averaged['params'], jax.device_get(expected.params)) == {'conv2', 'dense', 'head'}
    variables = built.devices.replicate(averaged)
    predictions, _ = built.scorer.score(variables, built.splits['validation'], 'validation')
    assert scored['loss'] == pytest.approx(compute_metrics(predictions)['loss'], abs=1e-7)
    lines = '\n'.join(progress.preflight(built, tmp_path, resume.Start(expected, '')))
    assert (
        'options    the head alone for the first 2 steps, the first 1 of 4 stages frozen, layer decay 0.5, '
        'weights averaged with decay 0.9, 2 microbatches, balanced sampling' in lines
    )


def test_the_average_is_what_a_hand_computes(config: Config) -> None:
    config.optimizer.ema_decay = 0.05  # below the warm-up's 1 / 10
    before, after, _ = take_step(config, ResNet((1,), width=4, small_stem=True))
    for name, new in {'params': after.params, 'batch_stats': after.batch_stats}.items():
        expected = jax.tree.map(lambda a, b: 0.05 * a + 0.95 * b, getattr(before, name), new)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.ema[name], expected)
    config.optimizer.ema_decay = 0.999
    before, after, _ = take_step(config, create_model(config))
    expected = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, before.params, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.variables['params'], expected)


def test_a_step_that_overflows_leaves_the_average_alone(config: Config) -> None:
    config.optimizer.ema_decay = 0.9
    config.microbatches = 2
    dtype = jnp.dtype('float16')
    for scale, skipped in ((2.0**127, 1), (1024.0, 0)):
        before, after, outputs = take_step(config, create_model(config, dtype), scale=scale)
        assert outputs['skipped'] == skipped
        assert float(outputs['loss_scale']) == (scale / 2 if skipped else scale)
        assert bool(changed(before.ema, after.ema)) == (not skipped)


@pytest.mark.slow
@pytest.mark.parametrize(('devices', 'mixup'), [(1, 0.0), (2, 1.0)])
def test_parts_of_a_step_add_up_to_it(config: Config, devices: int, mixup: float) -> None:
    config.augment.mixup = mixup
    batch = random_batch(side=16)
    batch['weight'][5:7] = 0
    tx = optax.sgd(1.0)
    _, whole, outputs = take_step(config, create_model(config), batch, devices=devices, tx=tx)
    config.microbatches = 4 // devices
    _, parts, outputs_of_parts = take_step(config, create_model(config), batch, devices=devices, tx=tx)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), parts.params, whole.params)
    np.testing.assert_allclose(outputs_of_parts['logits'], outputs['logits'], atol=1e-6)
    np.testing.assert_allclose(outputs_of_parts['grad_norm'], outputs['grad_norm'], rtol=1e-5)


def test_float16_parts_add_up_too(config: Config) -> None:
    dtype, tx = jnp.dtype('float16'), optax.sgd(1.0)
    _, whole, _ = take_step(config, create_model(config, dtype), tx=tx, scale=1024.0)
    config.microbatches = 2
    before, parts, _ = take_step(config, create_model(config, dtype), tx=tx, scale=1024.0)
    moved = max(float(jnp.abs(a - b).max()) for a, b in
                zip(jax.tree.leaves(before.params), jax.tree.leaves(parts.params), strict=True))  # fmt: skip
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.02 * moved), parts.params, whole.params)


@pytest.mark.slow
def test_each_part_silences_units_of_its_own(config: Config) -> None:
    config.augment.flip = False
    config.microbatches = 2
    config.data.image_size = config.data.resize_size = 32
    half = {name: np.concatenate([value[: BATCH // 2]] * 2) for name, value in random_batch(side=32).items()}
    _, _, outputs = take_step(config, VGG19(width=1, dense=16), half)
    first, second = np.split(np.asarray(outputs['logits']), 2)
    assert (first != second).any()


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'finetune.layer_decay': 1.5}, 'config.finetune.layer_decay is 1.5; it must be above 0'),
        ({'finetune.last_stages': -2}, 'config.finetune.last_stages is -2; it must be -1'),
        ({'finetune.last_stages': 4}, 'last_stages is 4; cnn has 3 before its head, so it must be -1 .* to 3'),
        ({'finetune.head_epochs': 1.0, 'finetune.last_stages': 0}, 'nothing that config.finetune.head_epochs'),
        ({'finetune.head_epochs': 2.0}, 'are 8 steps, and the run has 6, which leaves none'),
        (
            {'finetune.head_epochs': 1.0, 'init.weights': 'none'},
            'hold; set config.init.weights, or leave',
        ),
        ({'optimizer.ema_decay': 1.0}, 'config.optimizer.ema_decay is 1.0; it must be 0'),
        ({'microbatches': 0}, 'config.microbatches is 0; it must be at least 1'),
        ({'microbatches': 3}, 'leaves 4 images to each device, which config.microbatches=3 does not divide'),
        ({'data.balanced_sampling': True, 'loss.class_weights': 'balanced'}, 'use one of them'),
    ],
)
def test_recipes_that_cannot_work(config: Config, fields: dict[str, object], message: str) -> None:
    config = override(config, fields)
    with pytest.raises(UserError, match=message):
        program.build(config)


@dataclasses.dataclass
class LabelsOnly:
    """A source of labels, whose images nobody asks for."""

    labels: np.ndarray
    files: None = None
    cache: None = None

    def __len__(self) -> int:
        return len(self.labels)


def test_balanced_batches_have_half_of_each_and_every_image_in_turn(config: Config) -> None:
    """7 real and 25 fake images: in 25 batches of 8 the real ones come 14 times and more, the fake ones 4 times."""
    config.check()
    config.data.balanced_sampling = True
    labels = np.arange(32) % 5 > 0
    source = LabelsOnly(labels.astype(np.int32))
    bad = UnreadableImages('train', 32, 0.0)
    batches = pipeline.TrainBatches(source, config, bad, 25)  # pyright: ignore[reportArgumentType]
    drawn = [batches.indices(step) for step in range(25)]
    assert {int(labels[indices].sum()) for indices in drawn} == {4}
    counts = np.bincount(np.concatenate(drawn), minlength=32)
    assert set(counts[~labels]) == {14, 15} and set(counts[labels]) == {4}
    assert len({tuple(labels[indices]) for indices in drawn}) > 5  # the classes have no fixed rows
    np.testing.assert_array_equal(batches.indices(3), drawn[3])
    assert (drawn[0] != drawn[1]).any()

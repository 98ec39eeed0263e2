"""One training step as one device sees it; `parallel.Devices.map` runs it on all of them."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from fakeimg.augment import mixing
from fakeimg.augment.augment import augment
from fakeimg.config import Config
from fakeimg.models import crop, is_frozen, normalize
from fakeimg.models.layers import runs_on_cpu
from fakeimg.runtime import parallel
from fakeimg.training.gradients import value_and_grad
from fakeimg.training.state import TrainState, update_average

Rows = tuple[
    jax.Array, jax.Array, jax.Array
]  # images [b, H, W, 3] in the model's dtype, targets and weights float32[b]
Step = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]


def train_step(
    state: TrainState,
    batch: dict[str, jax.Array],
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    config: Config,
    class_weights: tuple[float, float] = (1.0, 1.0),
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one step; with all but `state` and `batch` bound it is a per-device program.

    The loss is binary cross-entropy on the logit, times the class weight (real, fake), averaged with the batch's
    weights over all devices. Stages that `model` freezes are not differentiated and keep their bits. `learning_rate`
    is only logged: `tx` has its own.

    Returns:
        The next state, and outputs, replicated: `loss_sum`, `correct` and `count`, over images of weight 1;
        `grad_norm`, `update_norm`, `learning_rate`, `loss_scale`; `skipped` (1.0 if the float16 gradients overflowed
        and nothing but the loss scale and the step changed); `logits`, `labels` and `weights` of the global batch,
        each [B]. Of a mixed image, the label is the class that it has more of.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    rows, labels = _prepare(key, batch, model, config)
    weights = batch['weight']
    # Mean weight per device: the mean over devices of the losses below is then the weighted mean over the global
    # batch, however the padding is spread.
    mean_weight = jnp.maximum(parallel.mean(weights.sum()), 1e-6)

    def loss_fn(params: Any, batch_stats: Any, rows: Rows, dropout_key: jax.Array):
        images, targets, weights = rows
        variables = {'params': state.params | params, 'batch_stats': batch_stats}
        logits, updates = model.apply(
            variables, images, train=True, mutable=['batch_stats'], rngs={'dropout': dropout_key}
        )
        losses = optax.sigmoid_binary_cross_entropy(logits, smooth_labels(targets, config.loss.label_smoothing))
        if class_weights != (1.0, 1.0):
            losses *= class_weights[0] * (1 - targets) + class_weights[1] * targets
        return (losses * weights).sum() / mean_weight, (losses, logits, updates.get('batch_stats', {}))

    # What is frozen is no argument of the loss: nothing is differentiated or averaged over devices for it.
    learned = {name: part for name, part in state.params.items() if not is_frozen(model, name)}
    keys = _dropout_keys(key, config.microbatches)
    (losses, logits, batch_stats), grads, dynamic_scale, finite = value_and_grad(
        loss_fn, learned, state.batch_stats, rows, keys, state.dynamic_scale
    )
    updated, updates = _update(state, grads, parallel.mean(batch_stats), tx, config.optimizer.ema_decay)
    if dynamic_scale is not None:
        # An overflow must leave no trace, in the statistics of batch and optimizer as little as in the weights.
        updated = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
    updated = updated.replace(step=state.step + 1, dynamic_scale=dynamic_scale)
    counted = {'loss_sum': losses, 'correct': (logits >= 0) == labels, 'count': jnp.ones_like(labels)}
    return updated, {
        **{name: parallel.total(jnp.where(weights > 0, rows, 0).sum()) for name, rows in counted.items()},
        'grad_norm': optax.tree.norm(grads),
        'update_norm': optax.tree.norm(updates),
        'learning_rate': jnp.asarray(learning_rate(state.step), jnp.float32),
        'skipped': 1.0 - finite.astype(jnp.float32),
        'loss_scale': jnp.asarray(1.0 if dynamic_scale is None else dynamic_scale.scale, jnp.float32),
        'logits': parallel.all_rows(logits),
        'labels': parallel.all_rows(labels),
        'weights': parallel.all_rows(weights),
    }


def take_steps(
    state: TrainState, batch: dict[str, jax.Array], *, step: Step
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one step, or k in turn where every row of `batch` has k images, [b, k, ...]; then outputs are [k, ...].

    Where `batch` has `index`, int32, the images are taken from its `images`, uint8[n, s, s, 3], of which rows are no
    part. A per-device program once `step`, a `train_step`, is bound. On a CPU the loop is unrolled: there XLA computes
    convolutions inside loops 50 times as slowly, and in another order. The barriers keep each step's arithmetic apart
    from its neighbours', so that k steps have the bits of k calls.
    """
    rows = {name: values for name, values in batch.items() if name != 'images'}

    def take(state: TrainState, rows: dict[str, jax.Array]) -> tuple[TrainState, dict[str, jax.Array]]:
        if 'images' in batch:
            rows = {**rows, 'image': jnp.take(batch['images'], rows['index'], axis=0, mode='clip')}
        return step(state, rows)

    def take_one_of_several(state: TrainState, number: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        of_step = {name: values[:, number] for name, values in rows.items()}
        return jax.lax.optimization_barrier(take(*jax.lax.optimization_barrier((state, of_step))))

    if rows['label'].ndim == 1:
        return take(state, rows)
    return jax.lax.scan(take_one_of_several, state, jnp.arange(rows['label'].shape[1]), unroll=runs_on_cpu())


def _prepare(key: jax.Array, batch: dict[str, jax.Array], model: nn.Module, config: Config) -> tuple[Rows, jax.Array]:
    """Crops, augments, mixes and normalises this device's images; returns the rows and their labels, int[b]."""
    labels, weights = batch['label'], batch['weight']
    flip = batch['flip'] if config.augment.alternating_flip else None
    images = augment(key, crop(batch, config.data.image_size), config, flip)
    targets = labels.astype(jnp.float32)
    mixup, cutmix = config.augment.mixup, config.augment.cutmix
    if mixup or cutmix:
        images, targets = mixing.mix(jax.random.fold_in(key, 2), images, labels, weights, mixup, cutmix)
        labels = (targets >= 0.5).astype(labels.dtype)
    images = normalize(images, config.data.mean, config.data.std, model.dtype)
    return (images, targets, weights), labels


def _dropout_keys(key: jax.Array, microbatches: int) -> jax.Array:
    """A key for each microbatch, so that dropout silences other units in each, and on each device."""
    key = jax.random.fold_in(jax.random.fold_in(key, 3), parallel.device_index())
    return key[None] if microbatches == 1 else jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(microbatches))


def _update(
    state: TrainState, grads: Any, batch_stats: Any, tx: optax.GradientTransformation, ema_decay: float
) -> tuple[TrainState, Any]:
    """Applies the gradients of the parameters that learn; returns the state and the updates of these parameters."""
    frozen = {name: jax.tree.map(jnp.zeros_like, state.params[name]) for name in state.params.keys() - grads}
    all_updates: Any
    all_updates, opt_state = tx.update(grads | frozen, state.opt_state, state.params)
    updates = {name: all_updates[name] for name in grads}  # without weight decay of what is frozen
    params = state.params | optax.apply_updates({name: state.params[name] for name in grads}, updates)
    ema = state.ema
    if ema is not None:
        ema = update_average(ema, {'params': params, 'batch_stats': batch_stats}, state.step, ema_decay)
    return state.replace(params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema), updates


def smooth_labels(labels: jax.Array, amount: float) -> jax.Array:
    """Labels in 0..1, moved by `amount` of the way to 1/2 (Szegedy et al. 2016, section 7)."""
    return labels + amount * (0.5 - labels) if amount else labels


def balanced_weights(real: int, fake: int) -> tuple[float, float]:
    """Weights (real, fake) of mean 1 over the images that give both classes the same sum."""
    return (real + fake) / (2 * real), (real + fake) / (2 * fake)

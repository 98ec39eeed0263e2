"""One training step as one device sees it; `parallel.Devices.map` runs it on all of them."""

import functools
from collections.abc import Callable
from typing import Any

import clu.metrics
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from fakeimg.augment import mixing
from fakeimg.augment.augment import augment
from fakeimg.config import Config
from fakeimg.models import crop, is_frozen, normalize
from fakeimg.runtime import parallel
from fakeimg.training.gradients import accumulated_loss
from fakeimg.training.state import TrainState, update_average

Step = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]


@flax.struct.dataclass
class TrainMetrics(clu.metrics.Collection):
    """Sums and counts over images of weight 1; merging them over steps keeps the means exact."""

    loss: clu.metrics.Average.from_output('loss')  # pyright: ignore[reportInvalidTypeForm]
    accuracy: clu.metrics.Average.from_output('correct')  # pyright: ignore[reportInvalidTypeForm]


def make_train_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    schedule: optax.Schedule,
    config: Config,
    dtype: jnp.dtype,
    class_weights: tuple[float, float] = (1.0, 1.0),
) -> Step:
    """Returns the per-device program `step(state, batch) -> (state, outputs)`.

    The loss is binary cross-entropy on the logit, times the class weight (real, fake), averaged with the batch's
    weights over all devices. Accuracy and `labels` are about the class that a mixed image has more of. Stages that
    `model` freezes are not differentiated and keep their bits.
    `outputs`, replicated: `metrics` (TrainMetrics), `grad_norm`, `update_norm`, `learning_rate`, `loss_scale`,
    `skipped` (1.0 if the float16 gradients overflowed and nothing but the loss scale and the step changed);
    `logits`, `labels` and `weights` of the global batch, each [B].
    """

    def step(state: TrainState, batch: dict[str, jax.Array]):
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        dropout_key = jax.random.fold_in(jax.random.fold_in(key, 3), parallel.device_index())  # other units on each
        labels, weights = batch['label'], batch['weight']
        images = augment(key, crop(batch, config.data.image_size), config)
        targets = labels.astype(jnp.float32)
        if config.augment.mixup or config.augment.cutmix:
            images, targets = mixing.mix(jax.random.fold_in(key, 2), images, labels, weights, config)
            labels = (targets >= 0.5).astype(labels.dtype)
        images = normalize(images, config.data.mean, config.data.std, dtype)
        # Mean weight per device: the mean over devices of the losses below is then the weighted mean over the
        # global batch, however the padding is spread.
        mean_weight = jnp.maximum(parallel.mean(weights.sum()), 1e-6)

        def loss_fn(params: Any, batch_stats: Any, rows: tuple[jax.Array, ...], dropout_key: jax.Array):
            images, targets, weights = rows
            logits, updates = model.apply(
                {'params': state.params | params, 'batch_stats': batch_stats},
                images,
                train=True,
                mutable=['batch_stats'],
                rngs={'dropout': dropout_key},
            )
            losses = optax.sigmoid_binary_cross_entropy(logits, smooth_labels(targets, config.loss.label_smoothing))
            if class_weights != (1.0, 1.0):
                losses *= class_weights[0] * (1 - targets) + class_weights[1] * targets
            return (losses * weights).sum() / mean_weight, (losses, logits, updates.get('batch_stats', {}))

        # What is frozen is no argument of the loss: nothing is differentiated or averaged over devices for it.
        learned = {name: part for name, part in state.params.items() if not is_frozen(model, name)}
        rows = (images, targets, weights)
        loss = functools.partial(loss_fn, batch_stats=state.batch_stats, rows=rows, dropout_key=dropout_key)
        if config.microbatches > 1:
            scale = 1.0 if state.dynamic_scale is None else state.dynamic_scale.scale
            loss = accumulated_loss(loss_fn, learned, state.batch_stats, rows, dropout_key, config.microbatches, scale)
        if state.dynamic_scale is None:
            (_, (losses, logits, batch_stats)), grads = jax.value_and_grad(loss, has_aux=True)(learned)
            grads = parallel.mean(grads)
            dynamic_scale, finite = None, jnp.array(True)
        else:
            dynamic_scale, finite, (_, (losses, logits, batch_stats)), grads = state.dynamic_scale.value_and_grad(
                loss, has_aux=True, axis_name=parallel.AXIS
            )(learned)
        frozen = {name: jax.tree.map(jnp.zeros_like, state.params[name]) for name in state.params.keys() - learned}
        all_updates: Any
        all_updates, opt_state = tx.update(grads | frozen, state.opt_state, state.params)
        updates = {name: all_updates[name] for name in learned}  # without weight decay of what is frozen
        updated = state.replace(
            params=state.params | optax.apply_updates(learned, updates),
            batch_stats=parallel.mean(batch_stats),
            opt_state=opt_state,
        )
        if state.ema is not None:
            variables = {'params': updated.params, 'batch_stats': updated.batch_stats}
            ema = update_average(state.ema, variables, state.step, config.optimizer.ema_decay)
            updated = updated.replace(ema=ema)
        if dynamic_scale is not None:
            # An overflow must leave no trace, in the statistics of batch and optimizer as little as in the weights.
            updated = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
        updated = updated.replace(step=state.step + 1, dynamic_scale=dynamic_scale)
        outputs = {
            'metrics': TrainMetrics.gather_from_model_output(
                parallel.AXIS, loss=losses, correct=(logits >= 0) == labels, mask=weights
            ),
            'grad_norm': optax.tree.norm(grads),
            'update_norm': optax.tree.norm(updates),
            'learning_rate': jnp.asarray(schedule(state.step), jnp.float32),
            'skipped': 1.0 - finite.astype(jnp.float32),
            'loss_scale': jnp.asarray(1.0 if dynamic_scale is None else dynamic_scale.scale, jnp.float32),
            'logits': parallel.all_rows(logits),
            'labels': parallel.all_rows(labels),
            'weights': parallel.all_rows(weights),
        }
        return updated, outputs

    return step


def smooth_labels(labels: jax.Array, amount: float) -> jax.Array:
    """Labels in 0..1, moved by `amount` of the way to 1/2 (Szegedy et al. 2016, section 7)."""
    return labels + amount * (0.5 - labels) if amount else labels


def balanced_weights(real: int, fake: int) -> tuple[float, float]:
    """Weights (real, fake) of mean 1 over the images that give both classes the same sum."""
    return (real + fake) / (2 * real), (real + fake) / (2 * fake)

"""Whether a device computes what the CPU does: outputs and gradients of one training step, compared."""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fakeimg import initial
from fakeimg.config import Config, override
from fakeimg.models import create_model, init_variables, layers
from fakeimg.runtime import parallel
from fakeimg.training.state import create_state
from fakeimg.training.step import train_step

BATCH = 16
LOSS_SCALE = 1024.0  # of float16: large enough for small gradients, and no overflow that would skip the step


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to compute the step, and the one that it is compared with."""

    name: str
    reference: str
    precision: str = 'float32'
    parallel: str = 'pmap'
    platform: str | None = None  # None: the default device
    matmul: str | None = 'highest'  # None: as jax does it, which is TF32 for float32 on recent GPUs
    least_cosine: float = 0.999


CASES = (
    Case('cpu', '', platform='cpu'),
    Case('float32', 'cpu'),
    Case('float32, default products', 'cpu', matmul=None, least_cosine=0.95),
    Case('float32, shard_map', 'float32', parallel='shard_map'),
    Case('bfloat16', 'float32', 'bfloat16', matmul=None, least_cosine=0.9),
    Case('float16', 'float32', 'float16', matmul=None, least_cosine=0.95),
)


def compare(configs: dict[str, Config], record: Callable[[dict[str, Any]], None], dry: bool) -> None:
    """Takes the step of each network in every way, several compiled at once, and compares.

    Raises:
        SystemExit: gradients point elsewhere than the reference's (see `Case.least_cosine`); all figures are recorded.
    """
    figures: dict[str, Any] = {'batch_size': BATCH, 'networks': {}}
    wrong = []
    for network, config in configs.items():
        rows = figures['networks'].setdefault(network, {})
        variables = first_variables(config)
        cases = CASES[:2] if dry and network != 'cnn' else CASES  # a ResNet takes a CPU long to compile
        with layers.traced_for('cpu'):  # for every thread, so the first case is alone
            results = {cases[0].name: take_step(cases[0], config, variables)}
        with concurrent.futures.ThreadPoolExecutor(1 if dry else len(cases)) as pool:
            taken = pool.map(functools.partial(take_step, config=config, variables=variables), cases[1:])
            for case, results[case.name] in zip(cases[1:], taken, strict=True):
                row = difference(results[case.name], results[case.reference])
                rows[case.name] = {'reference': case.reference, **row, 'least_cosine': case.least_cosine}
                if not row['gradient_cosine'] >= case.least_cosine:
                    wrong.append(
                        f'{network}, {case.name} ({row["gradient_cosine"]:.4f} of at least {case.least_cosine})'
                    )
                record(figures)
    if wrong:
        raise SystemExit(f'gradients differ in direction from their reference: {"; ".join(wrong)}.')


def first_variables(config: Config) -> dict[str, Any]:
    """Initial weights, and noise where they are constant: behind a head of zeros, no other gradient would count."""
    random = np.random.default_rng(0)
    variables = jax.device_get(init_variables(create_model(config), config.data.image_size, config.seed))

    def disturb(array: np.ndarray) -> np.ndarray:
        noise = random.normal(0, 0.1, array.shape).astype(array.dtype)
        return array + noise if np.ptp(array) == 0 else array

    return {**variables, 'params': jax.tree.map(disturb, variables['params'])}


def take_step(case: Case, config: Config, variables: dict[str, Any]) -> dict[str, Any]:
    """Logits, loss and gradients of one step in training mode, from the same weights and images in every case."""
    fields = {'batch_size': BATCH, 'precision': case.precision, 'parallel': case.parallel}
    config = initial.complete(override(config, fields))
    dtype = jnp.dtype(case.precision)
    devices = parallel.Devices.create(case.parallel, BATCH, jax.devices(case.platform)[:1])
    model, tx = create_model(config, dtype, parallel.AXIS), keep_gradients()
    state = create_state(variables, tx, dtype)
    if state.dynamic_scale is not None:
        state = state.replace(dynamic_scale=state.dynamic_scale.replace(scale=jnp.float32(LOSS_SCALE)))

    def step(state: Any, batch: Any) -> Any:
        return train_step(state, batch, model=model, tx=tx, learning_rate=lambda _: 0.0, config=config)

    with jax.default_matmul_precision(case.matmul or 'default'):
        batch = random_batch(config.data.image_size)
        state, outputs = jax.device_get(devices.map(step)(devices.replicate(state), devices.split(batch)))
    return {'logits': outputs['logits'], 'loss': outputs['loss_sum'] / BATCH, 'gradients': state.opt_state}


def random_batch(side: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        'image': random.integers(0, 256, (BATCH, side, side, 3), np.uint8),
        'label': random.integers(0, 2, BATCH, np.int32),
        'weight': np.ones(BATCH, np.float32),
    }


def keep_gradients() -> optax.GradientTransformation:
    """An optimizer that changes nothing and keeps the gradients as its state."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del state, params
        return jax.tree.map(jnp.zeros_like, updates), updates

    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), update)


def difference(result: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
    """How far a result is from its reference.

    Returns:
        `logits`, the largest difference; `loss`, relative; `gradient`, norm of the difference over the norm, of all
        parameters, and `worst_gradient` of one array among them; `gradient_cosine`, between both as vectors.
    """
    ours, other = (list(map(to_vector, jax.tree.leaves(side['gradients']))) for side in (result, reference))
    whole, whole_other = np.concatenate(ours), np.concatenate(other)
    norm, norm_other = np.linalg.norm(whole), np.linalg.norm(whole_other)
    # Arrays with next to no gradient, such as a bias before BatchNorm, have a relative error of nothing but rounding.
    parts = [(np.linalg.norm(a - b), np.linalg.norm(b)) for a, b in zip(ours, other, strict=True)]
    return {
        'logits': float(np.abs(to_vector(result['logits']) - to_vector(reference['logits'])).max()),
        'loss': float(abs(result['loss'] - reference['loss']) / abs(reference['loss'])),
        'gradient': float(np.linalg.norm(whole - whole_other) / norm_other),
        'worst_gradient': float(max(a / b for a, b in parts if b > 1e-3 * norm_other)),
        'gradient_cosine': float(whole @ whole_other / (norm * norm_other)),
    }


def to_vector(array: Any) -> np.ndarray:
    return np.asarray(array, np.float64).ravel()

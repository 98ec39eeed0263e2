"""Which float type activations have. Parameters, batch statistics, loss and optimizer stay float32."""

import jax
import jax.numpy as jnp


def resolve(precision: str) -> jnp.dtype:
    """Turns `config.precision` into a dtype; `auto` follows from the first device.

    A GPU below compute capability 8.0 (T4: 7.5) has float16 tensor cores and computes bfloat16 as float32.
    """
    if precision != 'auto':
        return jnp.dtype(precision)
    device = jax.devices()[0]
    if device.platform == 'cpu':
        return jnp.dtype('float32')
    if device.platform == 'gpu' and float(getattr(device, 'compute_capability', 8)) < 8:
        return jnp.dtype('float16')
    return jnp.dtype('bfloat16')

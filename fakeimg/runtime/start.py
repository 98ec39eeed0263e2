"""What every process does before it uses jax."""

import functools
import os

import jax

from fakeimg.runtime import parallel, xla


@functools.cache
def start() -> None:
    """Sets XLA and malloc up, finds the compilation cache, and joins the processes of a run that has several, once.

    To be called before any other use of jax.

    Raises:
        UserError: jax has no devices of the kind that JAX_PLATFORMS names.
    """
    if os.environ.get('JAX_ENABLE_X64'):
        jax.config.update('jax_enable_x64', False)  # every dtype of ours is meant: float64 would be slow, and another
    xla.choose_cpu_kernels()
    xla.keep_memory()
    xla.keep_compiled()
    parallel.join_processes()
    parallel.find_devices()

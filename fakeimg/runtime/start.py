"""What every process does before it uses jax."""

import functools

from fakeimg.runtime import parallel, xla


@functools.cache
def start() -> None:
    """Sets XLA and malloc up, finds the compilation cache, and joins the processes of a run that has several, once.

    To be called before any other use of jax.
    """
    xla.choose_cpu_kernels()
    xla.keep_memory()
    xla.keep_compiled()
    parallel.join_processes()

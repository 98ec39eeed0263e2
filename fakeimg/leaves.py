"""The leaves of a state by name: dtypes and shapes, sums, in what two states differ, and reads that fail quietly."""

import contextlib
import hashlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from fakeimg.errors import UserError


def describe(tree: Any) -> dict[str, str]:
    """Names every leaf with dtype and shape: `{'params/conv1/kernel': 'float32[3,3,3,32]'}`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): f'{leaf.dtype}[{",".join(map(str, leaf.shape))}]'
        for path, leaf in leaves
    }


def checksums(tree: Any) -> dict[str, int]:
    """Returns a 32-bit sum over the bits of every leaf, by name, that any single changed bit changes.

    Neither zarr nor tensorstore notices a flipped bit in what they read back.
    """
    sums = jax.device_get(_bit_sums(jax.tree.leaves(tree)))
    return {name: int(value) for name, value in zip(describe(tree), sums, strict=True)}


def backbone_digest(variables: Any) -> str:
    """A SHA-256 over names and values of all weights but the head's, on which features do not depend."""
    state = hashlib.sha256()
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(dict(variables), sep='/')  # pyright: ignore
    for name in sorted(flat):
        if '/head/' not in name:
            value = np.ascontiguousarray(jax.device_get(flat[name]))
            state.update(f'{name} {value.dtype} {value.shape}\n'.encode())
            state.update(value.data)
    return state.hexdigest()


@jax.jit
def _bit_sums(leaves: list[jax.Array]) -> list[jax.Array]:
    def bit_sum(leaf: jax.Array) -> jax.Array:
        words = jnp.ravel(leaf).view(jnp.uint32 if leaf.dtype.itemsize % 4 == 0 else jnp.uint8).astype(jnp.uint32)
        # Odd weights, so that no change of one bit can vanish modulo 2^32, and swapped values show too.
        return jnp.sum(words * (2 * jnp.arange(words.size, dtype=jnp.uint32) + 1), dtype=jnp.uint32)

    return [bit_sum(leaf) for leaf in leaves]


def check_intact(saved: dict[str, int], found: dict[str, int]) -> None:
    """Raises ValueError unless all sums that were found are those that were saved."""
    changed = [name for name, value in found.items() if saved[name] != value]
    if changed:
        raise ValueError(f'{len(changed)} leaves are not what was saved, first {changed[0]}')


def check_same_tree(saved: dict[str, str], wanted: dict[str, str], where: str) -> None:
    """Raises UserError naming the leaves in which a checkpoint and the model differ.

    Top-level parts of the checkpoint that are not wanted at all (the optimizer's, in evaluation) may be there.
    """
    parts = {name.split('/')[0] for name in wanted}
    saved = {name: leaf for name, leaf in saved.items() if name.split('/')[0] in parts}
    differing = [name for name in sorted(saved.keys() | wanted.keys()) if saved.get(name) != wanted.get(name)]
    if differing:
        # Optimizer leaves mirror the parameters; naming the parameters says more.
        shown = ([name for name in differing if name.startswith('params')] or differing)[:4]
        lines = ', '.join(f'{name} ({saved.get(name, "absent")} there, {wanted.get(name, "absent")} here)'
                          for name in shown)  # fmt: skip
        raise UserError(
            f'{where} is a checkpoint of another model or optimizer: {len(differing)} leaves differ, among them '
            f'{lines}; choose another run folder, or the configuration it was trained with.'
        )


@contextlib.contextmanager
def late_reads_unreported() -> Iterator[None]:
    """Keeps tensorstore's other reads quiet once one has failed.

    Orbax closes its event loop at the first error; every read that ends later then prints a traceback of its own, and
    every read that had not begun a warning. Some do after this ends, so the silence lasts when there was an error.
    """
    previous = sys.unraisablehook
    quiet_closed_loops()
    try:
        yield
    except BaseException:
        warnings.filterwarnings('ignore', 'coroutine .* was never awaited', RuntimeWarning)
        raise
    sys.unraisablehook = previous


def quiet_closed_loops() -> None:
    """Leaves out, of the exceptions that nobody can catch, those about an event loop that Orbax has closed."""
    previous = sys.unraisablehook
    if getattr(previous, 'leaves_out_closed_loops', False):
        return

    def report(event: 'sys.UnraisableHookArgs') -> None:
        if str(event.exc_value) != 'Event loop is closed':
            previous(event)

    report.leaves_out_closed_loops = True  # pyright: ignore[reportFunctionMemberAccess]
    sys.unraisablehook = report

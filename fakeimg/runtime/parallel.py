"""Devices: the only place that names a mapping, a mesh or a sharding.

A step is written for one device as `step(state, batch) -> replicated outputs`, with collectives over
`AXIS`; `Devices.map` runs it on every device by pmap or shard_map. State and outputs are replicated and carry no
device axis; batches are split along their first axis.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fakeimg.errors import UserError

AXIS = 'batch'
_REPLICATED, _SPLIT = PartitionSpec(), PartitionSpec(AXIS)


def join_processes() -> None:
    """Joins the processes of one run, if there are several.

    jax reads Slurm's variables itself; elsewhere set JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID.
    """
    address = os.environ.get('JAX_COORDINATOR_ADDRESS')
    if has_other_processes():
        return
    if not address and int(os.environ.get('SLURM_STEP_NUM_TASKS', '1')) <= 1:
        return
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    if address and 'JAX_NUM_PROCESSES' in os.environ:
        count, rank = int(os.environ['JAX_NUM_PROCESSES']), int(os.environ['JAX_PROCESS_ID'])
        jax.distributed.initialize(address, count, rank)
    else:
        jax.distributed.initialize()


def find_devices() -> None:
    """Raises UserError, in a sentence, when jax finds no devices of the kind it is told to use."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        platforms = os.environ.get('JAX_PLATFORMS')
        reason = (str(error).strip().splitlines() or ['its plugin is not installed'])[0].rstrip('.')
        if not platforms:
            raise UserError(
                f'jax cannot use the devices of this machine ({reason}); see to its installation.'
            ) from None
        raise UserError(
            f'JAX_PLATFORMS is {platforms}, and jax cannot use that here ({reason}); install it, with '
            'pip install "jax[cuda12]" for a GPU, or unset JAX_PLATFORMS.'
        ) from None


def has_other_processes() -> bool:
    """Whether this process has joined a run of several; unlike jax.process_count, it touches no device."""
    return jax.distributed.is_initialized()


@dataclasses.dataclass(frozen=True)
class Devices:
    """All devices of all processes, and the mapping of a per-device step over them."""

    mode: str
    mesh: Mesh

    @classmethod
    def create(
        cls, mode: str, batch_size: int, devices: Sequence[Any] | None = None, *, continues: bool = False
    ) -> 'Devices':
        """Uses `devices`, or every device of the run.

        A run that `continues` cannot choose another batch size; one process then leaves some of its devices out.

        Raises:
            UserError: the devices do not divide the global `batch_size`.
        """
        # Process by process, as pmap orders them, so that both modes give row i to the same device.
        devices = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
        if continues and batch_size % len(devices):
            count = max(number for number in range(1, len(devices)) if batch_size % number == 0)
            if jax.process_count() > 1:
                raise UserError(
                    f'this run was started with config.batch_size={batch_size}, which cannot be split over '
                    f'{len(devices)} devices; start it on {count} of them.'
                )
            devices = devices[:count]
        _check_divides(len(devices), batch_size, 'config.batch_size')
        return cls(mode, Mesh(np.array(devices), (AXIS,)))

    @property
    def count(self) -> int:
        return self.mesh.size

    @property
    def local(self) -> list[Any]:
        """The devices of this process."""
        return list(self.mesh.local_devices)

    def map(self, step: Callable[..., Any], *, donate_state: bool = False) -> Callable[..., Any]:
        """Compiles `step(state, batch)` for all devices; everything it returns must be replicated."""
        donated = (0,) if donate_state else ()
        if self.mode == 'pmap':
            return jax.pmap(
                step, AXIS, in_axes=(None, 0), out_axes=None, devices=list(self.mesh.devices), donate_argnums=donated
            )
        # check_vma would sum the gradients of replicated parameters by itself; the step does that, as under pmap.
        mapped = jax.shard_map(
            step, mesh=self.mesh, in_specs=(_REPLICATED, _SPLIT), out_specs=_REPLICATED, check_vma=False
        )
        return jax.jit(mapped, donate_argnums=donated)

    def split(self, batch: Any) -> Any:
        """Puts this process's rows of a batch (host arrays) on its devices, in the form `map` takes."""
        if self.mode == 'shard_map':
            sharding = NamedSharding(self.mesh, _SPLIT)
            return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
        local = self.mesh.local_mesh
        rows = jax.tree.map(lambda x: x.reshape(local.size, -1, *x.shape[1:]), batch)
        return jax.device_put(rows, NamedSharding(local, _SPLIT))

    def on_each(self, array: np.ndarray) -> jax.Array:
        """Puts all of a host array on each device of this process, in the form in which `map` takes it in a batch."""
        mesh, part = (self.mesh, array) if self.mode == 'shard_map' else (self.mesh.local_mesh, array[None])
        shape = (mesh.size * part.shape[0], *part.shape[1:])
        return jax.make_array_from_callback(shape, NamedSharding(mesh, _SPLIT), lambda _: part)

    def replicate(self, tree: Any) -> Any:
        """Copies arrays, the same in every process, to every device."""
        sharding = NamedSharding(self.mesh, _REPLICATED)
        return jax.tree.map(
            lambda x: jax.make_array_from_callback(np.shape(x), sharding, lambda i: np.asarray(x)[i]),
            jax.device_get(tree),
        )

    def abstract(self, tree: Any, *, split: bool = False) -> Any:
        """Describes a replicated or split tree by shape, dtype and sharding, for restoring onto these devices."""
        sharding = NamedSharding(self.mesh, _SPLIT if split else _REPLICATED)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    def to_global(self, tree: Any) -> Any:
        """Describes replicated arrays as one over all processes, which is how they are saved; copies nothing."""
        if jax.process_count() == 1 or self.mode == 'shard_map':
            return tree
        return multihost_utils.host_local_array_to_global_array(tree, self.mesh, _REPLICATED)


def batch_size(chosen: int, trained: int) -> int:
    """Images per step for scoring, which may be any number that the devices divide.

    Args:
        chosen: by the user; 0 for none, and then that of training, rounded up.
        trained: images per step in training.

    Raises:
        UserError: the devices do not divide `chosen`.
    """
    count = jax.device_count()
    _check_divides(count, chosen, 'batch_size')
    return chosen or -(-trained // count) * count


def _check_divides(devices: int, batch_size: int, name: str) -> None:
    if batch_size % devices:
        below = batch_size // devices * devices
        choices = ' or '.join(str(size) for size in (below, below + devices) if size)
        raise UserError(f'{name}={batch_size} cannot be split over {devices} devices; use {choices}.')


def is_first_process() -> bool:
    """Whether this is the main process, which writes files and prints."""
    return jax.process_index() == 0


def shard() -> tuple[int, int]:
    """The part of every global batch that this process loads: (index, count)."""
    return jax.process_index(), jax.process_count()


def any_process(flag: bool) -> bool:
    """True in every process if `flag` is in one. All processes must call it at the same step."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def every_process(flags: np.ndarray) -> np.ndarray:
    """Where `flags`, bool[n], is true in each process; bool[n]. All processes must call it at the same time."""
    if jax.process_count() == 1:
        return flags
    return np.logical_and.reduce(multihost_utils.process_allgather(flags))


def global_size(array: jax.Array) -> int:
    """Inside a step: the rows of a split array over all devices."""
    return array.shape[0] * jax.lax.axis_size(AXIS)


def device_index() -> jax.Array:
    """Inside a step: which of all devices this is."""
    return jax.lax.axis_index(AXIS)


def mean(tree: Any) -> Any:
    """Inside a step: the mean over all devices."""
    return jax.lax.pmean(tree, AXIS)


def total(tree: Any) -> Any:
    """Inside a step: the sum over all devices."""
    return jax.lax.psum(tree, AXIS)


def local_rows(array: jax.Array) -> jax.Array:
    """Inside a step: the rows of a replicated [B, ...] array that belong to this device, [B / devices, ...]."""
    size = array.shape[0] // jax.lax.axis_size(AXIS)
    return jax.lax.dynamic_slice_in_dim(array, jax.lax.axis_index(AXIS) * size, size)


def all_rows(array: jax.Array) -> jax.Array:
    """Inside a step: the rows of all devices, [B / devices, ...] to [B, ...], replicated."""
    return jax.lax.all_gather(array, AXIS, tiled=True)

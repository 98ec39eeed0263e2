"""How Orbax is set up for checkpoints: what it keeps, in which parts, and without its own words."""

import pathlib
from collections.abc import Callable
from typing import Any

import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers


def open_manager(
    folder: pathlib.Path, score: Callable[[dict[str, Any]], float], *, read_only: bool
) -> ocp.CheckpointManager:
    """Opens the checkpoints of a folder, of which the last two and the one of the highest `score` are kept.

    Args:
        folder: absolute.
        score: of the metrics that a checkpoint was saved with.
        read_only: whether nothing is to be saved or removed.
    """
    policy = checkpoint_managers.AnyPreservationPolicy(
        [
            checkpoint_managers.LatestN(2),  # the one before the last is what a damaged last falls back to
            checkpoint_managers.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False),
        ]
    )
    handlers = {
        'state': ocp.PyTreeCheckpointHandler(),
        'data': ocp.JsonCheckpointHandler(),
        'meta': ocp.JsonCheckpointHandler(),
    }
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # Orbax warns about each option that read_only implies
    try:
        options = ocp.CheckpointManagerOptions(
            best_fn=score, preservation_policy=policy, read_only=read_only, cleanup_tmp_directories=not read_only
        )
        return ocp.CheckpointManager(folder, options=options, item_handlers=handlers)
    finally:
        logging.set_verbosity(verbosity)

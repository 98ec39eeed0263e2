"""What a run left behind, for comparing it with another."""

import json
import pathlib
import re
from typing import Any

import jax
import numpy as np

from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config
from fakeimg.training.program import build
from tests.support.console import Recorder

RATES = ('train/images_per_second_per_device', 'train/input_wait_share')


def written(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Rows of metrics, without what depends on the clock."""
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in RATES} for row in lines]


def progress(console: Recorder) -> list[str]:
    """Lines about steps and validations, without rates."""
    lines = [line for line in console.lines if line.startswith(('step ', 'validation at '))]
    return [re.sub(r'  [\d,]+ images/s/device.*|ETA \S+', '', line) for line in lines]


def assert_same_state(config: Config, workdir: pathlib.Path, expected: pathlib.Path) -> None:
    """Every leaf of the last checkpoint, bit for bit."""
    shapes = build(config).abstract_state()
    first, second = (
        Checkpoints(folder / 'checkpoints', read_only=True).restore(shapes) for folder in (workdir, expected)
    )
    assert first.step == second.step == config.steps
    assert len(jax.tree.leaves(first.state)) > 20
    jax.tree.map(np.testing.assert_array_equal, first.state, second.state)

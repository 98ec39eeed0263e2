"""What validation fixed for later use, `operating.json` of a run folder: calibration, thresholds, unsure band."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import numpy as np

from fakeimg import files
from fakeimg.errors import UserError
from fakeimg.meta import Meta

FILE = 'operating.json'
Operating = dict[str, Any]  # as `evaluation.fitting.fit` returns it


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A straight line on the logit scale.

    Attributes:
        method: `temperature` (intercept 0), `platt` or `none`.
        slope: above 0; 1 / temperature.
        intercept: added afterwards, log-odds.
    """

    method: str = 'none'
    slope: float = 1.0
    intercept: float = 0.0

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated log-odds, float64[n], in the order of the logits."""
        return self.slope * np.asarray(logits, np.float64) + self.intercept


def calibration_of(operating: Operating) -> Calibration:
    """The calibration that `fit` found."""
    found = operating['calibration']
    return Calibration(found['method'], found['slope'], found['intercept'])


def key(meta: Meta, step: int, split: str, digest: str) -> dict[str, Any]:
    """What ties a fit to a checkpoint and to images: `step`, `checkpoint` (its checksums), `split`, `digest`.

    Args:
        meta, step: of the checkpoint.
        split: the images' part of the set.
        digest: of the set, `seen.content_digest`.
    """
    sums = json.dumps(meta.checksums, sort_keys=True).encode()
    return {'step': step, 'checkpoint': hashlib.sha256(sums).hexdigest(), 'split': split, 'digest': digest}


def write(run: pathlib.Path, operating: Operating, tied_to: dict[str, Any]) -> Operating:
    """Writes the file of a run folder; further rules and error rates of the same fit stay in it.

    Args:
        run: the run folder.
        operating: as `fit` returns it.
        tied_to: see `key`.

    Returns:
        What was written.
    """
    path = run / FILE
    before = load(path) if path.exists() else {}
    operating = {**tied_to, **operating}
    if all(before.get(name) == value for name, value in tied_to.items()):
        for part in ('thresholds', 'unsure'):
            operating[part] = {**before[part], **operating[part]}
    files.write_json(path, operating)
    return operating


def read(run: pathlib.Path, tied_to: dict[str, Any]) -> Operating | None:
    """What was fitted for a checkpoint; None where nothing was, or for another checkpoint of this run.

    Raises:
        UserError: the file is damaged, of another run, or was fitted on other images.
    """
    path = run / FILE
    if not path.exists():
        return None
    found = load(path)
    if found['step'] != tied_to['step']:
        return None
    for name, words in (
        ('checkpoint', 'for another run'),
        ('split', 'on another split'),
        ('digest', 'on other images'),
    ):
        if found[name] != tied_to[name]:
            raise UserError(
                f'{files.shown(path)} was fitted {words}; delete it, and the next evaluation fits it again.'
            )
    return found


def load(path: pathlib.Path) -> Operating:
    try:
        found = json.loads(path.read_text())
        for name in ('step', 'checkpoint', 'split', 'digest', 'calibration'):
            found[name]
        for part in ('thresholds', 'unsure'):
            dict(found[part])
        calibration_of(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{files.shown(path)} cannot be read ({error}); delete it, and the next evaluation fits it again.'
        ) from error
    return found

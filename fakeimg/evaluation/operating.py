"""What validation fixes for later use, `operating.json` of a run folder: calibration, thresholds, unsure band.

Nothing here ever sees another split: `evaluate` scores validation, calls `fit`, and applies what comes back elsewhere.
"""

import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special

from fakeimg import files
from fakeimg.errors import UserError
from fakeimg.evaluation import abstention, recalibration, thresholds
from fakeimg.evaluation.bounds import effective_number, unit_numbers
from fakeimg.evaluation.calibration import log_loss
from fakeimg.evaluation.recalibration import Calibration
from fakeimg.meta import Meta

FILE = 'operating.json'
Operating = dict[str, Any]


def fit(
    labels: np.ndarray,
    logits: np.ndarray,
    groups: Sequence[str] | None = None,
    error_rate: float = 0.05,
    rules: Sequence[str] = (),
) -> Operating:
    """Fits calibration first, and thresholds and the unsure band on calibrated P(fake). Only for validation.

    Args:
        labels: int[n], 0 real, 1 fake.
        logits: float64[n], log-odds of fake as the network gives them.
        groups: of the images, '' for none.
        error_rate: of decided images, which the unsure band promises.
        rules: further ones than `thresholds.RULES`, as `thresholds.parse` reads them.

    Returns:
        `n`, `real`, `fake`; `independent`, images that count where groups hold several; `calibration` (`method`,
        `slope`, `intercept`, `log_loss_before`, `log_loss_after`); `thresholds`, of each rule `threshold` on
        calibrated P(fake) or `why` it has none; `unsure`, of the error rate as a string, `low` and `high` or `why`.

    Raises:
        UserError: the error rate or a rule is none.
    """
    if not 0 < error_rate < 1:
        raise UserError(f'error rate is {error_rate:g}; it must lie between 0 and 1, as in 0.05.')
    parsed = {rule.name: rule for rule in map(thresholds.parse, [*thresholds.RULES, *rules]) if not rule.is_fixed}
    labels, logits = np.asarray(labels), np.asarray(logits, np.float64)
    calibration = recalibration.choose(labels, logits, groups)
    scores = scipy.special.expit(calibration.apply(logits))
    fakes = int(labels.sum())
    return {
        'n': len(labels),
        'real': len(labels) - fakes,
        'fake': fakes,
        'independent': effective_number(unit_numbers(labels, groups)),
        'calibration': {
            'method': calibration.method,
            'slope': calibration.slope,
            'intercept': calibration.intercept,
            'log_loss_before': _number(log_loss(labels, logits)),
            'log_loss_after': _number(log_loss(labels, calibration.apply(logits))),
        },
        'thresholds': {name: thresholds.fit(rule, labels, scores, groups) for name, rule in parsed.items()},
        'unsure': {f'{error_rate:g}': abstention.unsure_band(labels, scores, error_rate, groups)},
    }


def calibration_of(operating: Operating) -> Calibration:
    """The calibration that `fit` found."""
    found = operating['calibration']
    return Calibration(found['method'], found['slope'], found['intercept'])


def covers(operating: Operating, rule: str | float, error_rate: float) -> bool:
    """Whether `fit` was asked for this rule and this error rate; a plain number needs no fit."""
    parsed = thresholds.parse(rule)
    return (parsed.is_fixed or parsed.name in operating['thresholds']) and f'{error_rate:g}' in operating['unsure']


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
    before = _load(path) if path.exists() else {}
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
    found = _load(path)
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


def _load(path: pathlib.Path) -> Operating:
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


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)

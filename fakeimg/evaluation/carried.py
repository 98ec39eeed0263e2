"""What evaluation takes from a run's validation split: read from the run folder, or fitted once and kept there."""

import contextlib
import os

from fakeimg import known as known_lib
from fakeimg import operating, portable
from fakeimg.config import DEMO
from fakeimg.console import Console
from fakeimg.data import datasets, seen
from fakeimg.data.datasets import DataSet
from fakeimg.detector import Detector
from fakeimg.errors import UserError
from fakeimg.evaluation import fitting, unlike
from fakeimg.operating import Operating
from fakeimg.runtime import parallel


def of_run(
    detector: Detector, data: DataSet | None, threshold: str | float, error_rate: float, console: Console
) -> Operating | None:
    """Returns what validation fixed for this checkpoint; None, with a warning, where its images cannot be had.

    `sources` are the generators or data sets that the images of train come from.

    Args:
        detector: of a run.
        data: the set that the run was trained on, if it is open already.
        threshold: a number, or a rule to fit as well.
        error_rate: of the unsure band.
        console: gets warnings and progress.

    Raises:
        UserError: the run folder's file is damaged, or was fitted for another run or on other images.
    """
    assert detector.run is not None and detector.step is not None
    meta, split = detector.meta, detector.config.data.validation_split
    try:
        digest = meta.content_digest
        if digest is None:
            data = data or _open(detector)
            digest = seen.content_digest(data)
        key = operating.key(meta, detector.step, split, digest)
        # Scores of mirrored images too are others, and are fitted anew each time.
        found = None if detector.flip else operating.read(detector.run, key)
        if found is not None and fitting.covers(found, threshold, error_rate):
            return found
        data = data or _open(detector)
        if seen.content_digest(data) != digest:
            raise _NoImages('are not the ones this run was validated with')
        part = data.get(split)
    except _NoImages as error:
        console.warn(f'no threshold, calibration or unsure band is carried: the images of validation {error}')
        return None
    predictions, _ = detector.score(part, split, console=console)
    rules = [threshold] if isinstance(threshold, str) else []
    fitted = fitting.fit(predictions.labels, predictions.logits, predictions.groups, error_rate, rules)
    fitted['sources'] = sorted({*data.get(detector.config.data.train_split).generators} - {''})
    if parallel.is_first_process() and not detector.flip and not portable.is_portable(detector.run):
        with contextlib.suppress(OSError):  # a run folder that is attached read-only
            return operating.write(detector.run, fitted, key)
    return {**key, **fitted}


def learn_known(detector: Detector, data: DataSet | None, console: Console) -> None:
    """Learns what the images of validation are like, unless it is known; see `fakeimg.known`.

    Afterwards the detector knows it, where the images can be had and the run folder can be written to.

    Args:
        detector: of a run.
        data: the set that the run was trained on, if it is open already.
        console: shows the progress.
    """
    assert detector.run is not None
    # All processes look or none, for they compute together.
    if detector.flip or portable.is_portable(detector.run) or not parallel.any_process(detector.known is None):
        return
    try:
        data = data or _open(detector)
    except _NoImages:
        return
    if detector.meta.content_digest not in (None, seen.content_digest(data)):
        return  # other images than those that it was validated with
    part = data.get(detector.config.data.validation_split)
    facts, features, labels = unlike.look_at(detector, part, known_lib.MOST, 'looking at validation', console)
    known = known_lib.fit(facts, features, labels, detector.digest)
    if known is not None and parallel.is_first_process():
        with contextlib.suppress(OSError):  # a run folder that is attached read-only
            known.write(detector.run / known_lib.FILE)
    parallel.any_process(True)  # waits for the file
    detector.__dict__.pop('known')  # it is read again, and the compiled step stays


class _NoImages(Exception):
    pass


def _open(detector: Detector) -> DataSet:
    path = detector.config.data.path
    if path != DEMO and not os.path.exists(path):
        raise _NoImages(f'are not at {path}')
    try:
        return datasets.open_data(detector.config)
    except UserError as error:
        raise _NoImages(f'cannot be read ({error})') from None

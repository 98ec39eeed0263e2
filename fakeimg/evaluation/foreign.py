"""Scores of a detector that is a Python function of somebody else's: run in a process, perhaps a Python, of its own.

The function takes a list of paths and returns P(fake) for each. Its process imports neither JAX nor fakeimg.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import PIL.Image

from fakeimg.console import SILENT, Console
from fakeimg.data.datasets import Split
from fakeimg.data.decode import BadImage
from fakeimg.data.files import FolderFiles
from fakeimg.data.formats import START, image_format
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.errors import UserError
from fakeimg.evaluation.degraded import DegradedFiles
from fakeimg.evaluation.foreign_process import DetectorProcess, ForeignDetector
from fakeimg.evaluation.referee import ForeignScores, warnings_about
from fakeimg.evaluation.score_table import SCALES, to_log_odds
from fakeimg.scoring import Predictions


def find(
    spec: str, *, python: str | None = None, scale: str | None = None, timeout: float = 600.0, batch: int = 64
) -> ForeignDetector:
    """Finds a detector, without running it.

    Args:
        spec: `FILE.py:FUNCTION`.
        python: an interpreter, or the folder of an environment that has one; None is this process's.
        scale: what the function returns, one of `score_table.SCALES`; None is probability.
        timeout: seconds that the import, and each call, may take.
        batch: images in one call.

    Raises:
        UserError: no such file or interpreter, or a setting that makes no sense.
    """
    file, _, function = spec.rpartition(':')
    if not file.endswith('.py') or not function.isidentifier():
        raise UserError(f'detector is {spec!r}; it must be FILE.py:FUNCTION, for example my.py:predict.')
    path = os.path.abspath(os.path.expanduser(file))
    if not os.path.isfile(path):
        raise UserError(f'detector {spec}: there is no file {path}; check its path.')
    scale = scale or SCALES[0]
    if scale not in SCALES:
        raise UserError(f'scores_are is {scale!r}; it must be {", ".join(SCALES[:-1])} or {SCALES[-1]}.')
    if not timeout > 0:
        raise UserError(f'timeout is {timeout:g}; it must be a number of seconds above 0.')
    if batch < 1:
        raise UserError(f'batch_size is {batch}; it must be at least 1.')
    return ForeignDetector(spec, path, function, _interpreter(python), scale, timeout, batch)


@contextlib.contextmanager
def running(detector: ForeignDetector, max_missing: float = 0.1) -> Iterator['Scorer']:
    """Yields what scores images with a detector; its process ends with the block.

    Args:
        detector: as `find` returns it.
        max_missing: share of a split that may have no score: what cannot be read, and what the function returns None
            for.

    Raises:
        UserError: the function cannot be imported.
    """
    with DetectorProcess(detector) as process:
        yield Scorer(detector, process, max_missing)


@dataclasses.dataclass(frozen=True)
class Scorer:
    """A detector whose process runs, see `running`."""

    detector: ForeignDetector
    process: DetectorProcess
    max_missing: float

    def judged(self, split: Split, name: str, *, console: Console = SILENT) -> ForeignScores:
        """Scores every image of a split once; see `score`. Those without a score are named."""
        predictions, unreadable = self.score(split, name, console=console)
        place = {name: row for row, name in enumerate(split.names)}
        part = split.take(np.array([place[name] for name in predictions.names], int))
        return ForeignScores(predictions, part, list(unreadable.reasons.items()), {}, warnings_about(predictions))

    def score(self, split: Split, name: str, *, console: Console = SILENT) -> tuple[Predictions, UnreadableImages]:
        """Scores every image of a split once.

        Images of a folder are given by their own paths; those of archives and prepared sets, and degraded ones, are
        written, batch by batch, to a temporary folder.

        Args:
            split: the images.
            name: of the split, for messages.
            console: shows the progress.

        Returns:
            The scores, in the order of the split, and the images without one, each with the reason.

        Raises:
            UserError: the function raises, takes too long, dies, or returns something else than a score for each path;
                or too many images have no score.
        """
        batch, spec = self.detector.batch, self.detector.spec
        unreadable = UnreadableImages(name, len(split), self.max_missing, 'max_bad_fraction')
        starts = range(0, len(split), batch)
        scores = np.full(len(split), np.nan)
        title = f'scoring {name} with {os.path.basename(spec)}'
        for start in console.track(starts, title, len(starts), batch):
            rows = range(start, min(start + batch, len(split)))
            with _as_files(split, rows, unreadable) as paths:
                found = self.process.predict(list(paths.values())) if paths else []
            for row, value in zip(paths, found, strict=True):
                if value is None:
                    unreadable.add(split.names[row], f'no score by {spec}')
                else:
                    scores[row] = value
            unreadable.check()
        scored = np.flatnonzero(~np.isnan(scores))
        part = split.take(scored)
        logits = to_log_odds(scores[scored], self.detector.scale, lambda row: part.names[row], spec)
        skipped = len(split) - len(scored)
        return Predictions(part.names, part.labels, logits, skipped, part.generators, part.groups), unreadable


def _interpreter(python: str | None) -> str:
    if python is None:
        return sys.executable
    path = os.path.expanduser(python)
    if os.path.isdir(path):
        path = os.path.join(path, 'bin', 'python')
    found = shutil.which(path)
    if found is None:
        raise UserError(f'python is {python}, where no program is; give a Python, or the folder of an environment.')
    return os.path.abspath(found)  # not resolved: the link is what makes an environment


def _usual(image: bytes) -> tuple[bytes, str]:
    """An image in a format that every program reads, and the suffix of its name."""
    kind = image_format(image[:START])
    if kind != 'other':
        return image, f'.{kind.replace("jpeg", "jpg")}'
    buffer = io.BytesIO()
    PIL.Image.open(io.BytesIO(image)).save(buffer, 'PNG', compress_level=1)
    return buffer.getvalue(), '.png'


@contextlib.contextmanager
def _as_files(split: Split, rows: range, unreadable: UnreadableImages) -> Iterator[dict[int, str]]:
    """The paths of images by their number, for as long as the block runs; those that cannot be read are left out."""
    if isinstance(split.files, FolderFiles):
        paths = {row: os.path.abspath(os.path.join(split.files.root, split.names[row])) for row in rows}
        for row, path in list(paths.items()):
            if not os.access(path, os.R_OK):
                unreadable.add(split.names[row], 'gone, or not readable')
                del paths[row]
        yield paths
        return
    with tempfile.TemporaryDirectory(prefix='fakeimg-') as folder:
        paths = {}
        for row in rows:
            try:
                image = split[row]
            except (OSError, BadImage) as error:
                unreadable.add(split.names[row], str(error))
                continue
            suffix = os.path.splitext(split.names[row])[1]
            if isinstance(split.files, DegradedFiles):  # whose names end with the degradation
                image, suffix = _usual(image)
            # Names of a set may be too long or too odd for a file, and hold the class.
            path = pathlib.Path(folder, f'{row:07}{suffix}')
            path.write_bytes(image)
            paths[row] = str(path)
        yield paths

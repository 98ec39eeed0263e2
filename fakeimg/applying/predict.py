"""Images in, rows out: what `fakeimg predict` does once it knows the detector, the images and the sink."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fakeimg.applying import stability
from fakeimg.applying.inputs import Images
from fakeimg.applying.rows import Row
from fakeimg.applying.sinks import Sink
from fakeimg.applying.subjects import NO_FACE, FaceFinder, Subject
from fakeimg.console import Console
from fakeimg.data.inputs import Input
from fakeimg.detector import Detector
from fakeimg.prediction import Prediction

_BATCH = 64  # rows that are written at a time


class Counts(NamedTuple):
    """Images that were scored, and those that could not be."""

    scored: int = 0
    failed: int = 0


@dataclasses.dataclass(frozen=True)
class Applied:
    """A detector with what is asked of it for each image.

    Attributes:
        detector: the network.
        stability: whether mildly re-encoded variants of each image are scored too, which takes five times as long.
        provenance: what a file says of itself, by its bytes; None leaves the column empty.
        faces: finds the faces of an image, which are scored in its place; None scores whole images.
        shows_faces: whether each face has a row of its own, before that of its image.
    """

    detector: Detector
    stability: bool = False
    provenance: Callable[[bytes], str] | None = None
    faces: FaceFinder | None = None
    shows_faces: bool = False

    @functools.cached_property
    def model(self) -> str:
        """Name and digest of the weights, for every row."""
        return f'{self.detector.config.model.name}@{self.detector.digest[:12]}'

    def rows(self, images: Iterable[Input]) -> Iterator[Row]:
        """Yields the rows of each image in order, its own last."""
        if self.faces is None:
            yield from self._scored(images, self.provenance)
            return
        subjects: collections.deque[Subject] = collections.deque()
        rows = self._scored(self.faces.inputs(images, subjects), None)
        while first := next(rows, None):
            subject = subjects.popleft()
            several = [first, *itertools.islice(rows, subject.number - 1)]
            found = subject.faces or []
            if self.shows_faces:
                for number, (row, face) in enumerate(zip(several, found, strict=False), 1):
                    place = ' '.join(f'{side:.0f}' for side in face.box)
                    yield row._replace(faces=f'{number} of {len(found)}: {place}')
            row = max(several, key=lambda row: row.probability or 0.0)
            notes = [row.note, NO_FACE if subject.faces == [] else None]
            yield row._replace(
                faces=None if subject.faces is None else str(len(found)),
                provenance=subject.provenance or None,
                note='; '.join(filter(None, notes)) or None,
            )

    def _scored(self, images: Iterable[Input], provenance: Callable[[bytes], str] | None) -> Iterator[Row]:
        """Yields a row for each image, as it is."""
        if not self.stability:
            for prediction, seen in self._predict(images, provenance):
                yield self._row(prediction, seen)
            return
        predictions = self._predict(stability.variants(images), provenance)
        while group := list(itertools.islice(predictions, stability.COUNT)):
            several = [prediction for prediction, _ in group]
            row = self._row(*group[0])
            if stability.flips(several) and row.verdict is not None:
                row = row._replace(verdict='unsure', note='; '.join(filter(None, (row.note, stability.FLIPS))))
            yield row._replace(stability=stability.of(several))

    def _predict(
        self, images: Iterable[Input], read: Callable[[bytes], str] | None
    ) -> Iterator[tuple[Prediction, str | None]]:
        look = None if read is None else lambda contents, _: [read(data) for data in contents]
        return self.detector.predict_inputs(images, look)

    def _row(self, prediction: Prediction, provenance: str | None) -> Row:
        return Row(
            path=prediction.name,
            label=prediction.label,
            probability=prediction.probability,
            logit=prediction.logit,
            threshold=prediction.threshold,
            verdict=prediction.verdict,
            provenance=provenance or None,
            note=prediction.error or prediction.note or None,
            model=self.model,
        )


def write_rows(applied: Applied, images: Images, sink: Sink, console: Console, *, done: int = 0) -> Counts:
    """Writes a row for each image as they are scored, and shows the progress.

    Args:
        applied: the detector.
        images: those that have no rows yet.
        sink: gets the rows.
        console: shows how many are done, and when all will be.
        done: images that have rows already.
    """
    scored = failed = 0
    with console.progress('scoring', images.total, done) as progress:
        rows = applied.rows(images.inputs)
        while batch := list(itertools.islice(rows, _BATCH)):
            sink.write(batch)
            images_done = [row for row in batch if not row.is_face]
            failed += sum(row.verdict is None for row in images_done)
            scored += len(images_done)
            progress.update(done + scored)
    return Counts(scored - failed, failed)

"""Images in, rows out: what `fakeimg predict` does once it knows the detector, the images and the sink."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fakeimg.applying.inputs import Images
from fakeimg.applying.rows import Row
from fakeimg.applying.sinks import Sink
from fakeimg.console import Console
from fakeimg.data.inputs import Input
from fakeimg.detector import Detector
from fakeimg.prediction import Prediction

_BATCH = 64  # rows that are written at a time, or what one batch of the network gives


class Counts(NamedTuple):
    """Images that were scored, and those that could not be."""

    scored: int = 0
    failed: int = 0


@dataclasses.dataclass(frozen=True)
class Applied:
    """A detector with what is asked of it for each image.

    Attributes:
        detector: the network.
        provenance: what a file says of itself, by its bytes; None leaves the column empty.
    """

    detector: Detector
    provenance: Callable[[bytes], str] | None = None

    @property
    def model(self) -> str:
        """Name and digest of the weights, for every row."""
        return f'{self.detector.config.model.name}@{self.detector.digest[:12]}'

    def rows(self, images: Iterable[Input]) -> Iterator[tuple[Prediction, Row]]:
        """Yields the prediction and the row of each image, in order."""
        model, provenance = self.model, self.provenance
        look = None if provenance is None else lambda data, _: provenance(data)
        for prediction, seen in self.detector.predict_inputs(images, look):
            row = Row(
                path=prediction.name,
                label=prediction.label,
                probability=prediction.probability,
                logit=prediction.logit,
                threshold=prediction.threshold,
                verdict=prediction.verdict,
                provenance=seen or None,
                note=prediction.error or prediction.note or None,
                model=model,
            )
            yield prediction, row


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
            sink.write([row for _, row in batch])
            failed += sum(prediction.error is not None for prediction, _ in batch)
            scored += len(batch)
            progress.update(done + scored)
    return Counts(scored - failed, failed)

"""The images that the page of an audit shows: those in question side by side, and a sheet of both classes."""

from collections.abc import Sequence

import numpy as np

from fakeimg import pages
from fakeimg.auditing.finding import Evidence
from fakeimg.data import decode
from fakeimg.data.datasets import DataSet

PER_CLASS = 12


def of_rows(evidence: Evidence, data: DataSet, rows: Sequence[int]) -> pages.Thumbnail:
    """Some images of the evidence side by side, with split, class and name of each."""
    images = evidence.images
    uris, lines = [], []
    for row in rows:
        name = images.splits[images.split[row]]
        split = data.splits[name]
        place = row - int(np.argmax(images.split == images.split[row]))  # splits follow one another
        line = f'{name}, {("real", "fake")[evidence.labels[row]]}: {images.names[row]}'
        try:
            uris.append(pages.thumbnail(split[place]))
        except (OSError, decode.BadImage):
            line = f'(unreadable) {line}'
        lines.append(line)
    return pages.Thumbnail(uris, lines)


def section(evidence: Evidence, data: DataSet) -> pages.Section | None:
    """Images of both classes, evenly over the set."""
    sheets = []
    for label, title in ((0, 'Real'), (1, 'Fake')):
        rows = np.flatnonzero((evidence.labels == label) & (evidence.images.facts['problem'] == b''))
        if len(rows):
            chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(PER_CLASS, len(rows))).astype(int))]
            sheets.append(pages.Sheet(title, [of_rows(evidence, data, [int(row)]) for row in chosen]))
    return pages.Section('What the set looks like', sheets=sheets) if sheets else None

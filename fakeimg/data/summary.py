"""What a set of images to learn from is like, at a glance: for recipes that choose by it."""

import dataclasses

import numpy as np

from fakeimg.config import Config
from fakeimg.data import datasets, partition
from fakeimg.data.decode import identify
from fakeimg.data.pillow_formats import BadImage

_LOOKED_AT = 200  # images whose headers are read


@dataclasses.dataclass(frozen=True)
class Summary:
    """The training images of a run, before anything is decoded.

    Attributes:
        real: real images to learn from.
        fake: fake images to learn from.
        side: median of the short sides of up to 200 of them, pixels.
        formats: of these, in lower case, the most frequent first.
    """

    real: int
    fake: int
    side: int
    formats: tuple[str, ...]

    @property
    def count(self) -> int:
        """Images to learn from."""
        return self.real + self.fake

    def __str__(self) -> str:
        kinds = ' and '.join(self.formats)
        return (
            f'{self.count:,} images to learn from ({self.real:,} real, {self.fake:,} fake) of {self.side} px, {kinds}'
        )


def summarise(config: Config) -> Summary:
    """Looks at the images that a run of `config` would learn from.

    Raises:
        UserError: the data cannot be opened, or none of the images that are looked at can be read.
    """
    train = partition.training_splits(datasets.open_data(config), config)['train']
    sides, formats = [], []
    for index in np.unique(np.linspace(0, len(train) - 1, _LOOKED_AT).astype(int)):
        try:
            kind, width, height = identify(train[int(index)])
        except (OSError, BadImage):
            continue  # a training says how many there are
        sides.append(min(width, height))
        formats.append(kind)
    if not sides:
        sides, formats = [config.data.image_size], []
    real, fake = datasets.class_counts(train)
    order = sorted(set(formats), key=formats.count, reverse=True)
    return Summary(real, fake, round(float(np.median(sides))), tuple(order))

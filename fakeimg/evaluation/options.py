"""What an evaluation is asked for."""

import dataclasses
from typing import Any

from fakeimg.errors import UserError
from fakeimg.evaluation import thresholds


@dataclasses.dataclass(frozen=True)
class Options:
    """What an evaluation is asked for.

    Attributes:
        threshold: on P(fake), from which an image is called fake; or a rule that validation fixed, see `thresholds`.
        prevalence: share of fakes where the detector will be used, to which scores are corrected; None: as they are.
        flip: scores are means over each image and its mirror image.
        error_rate: of the images that are not called unsure.
        slices: columns of a table, for figures of each of their values.
        robustness: degraded images are scored too; needs the images.
        robustness_images: at most so many for the curves.
        explain: maps of what scores rest on, and checks of them; needs a detector of a run.
        images: whether the report shows images.
        command: that the user typed, for the report.
    """

    threshold: float | str = 0.5
    prevalence: float | None = None
    flip: bool = False
    error_rate: float = 0.05
    slices: tuple[str, ...] = ()
    robustness: bool = False
    robustness_images: int = 2000
    explain: bool = False
    images: bool = True
    command: str = ''

    def __post_init__(self) -> None:
        for name, value in (('prevalence', self.prevalence), ('error_rate', self.error_rate)):
            if value is not None and not 0 < value < 1:
                raise UserError(f'{name} is {value:g}; it must be between 0 and 1.')
        thresholds.parse(self.threshold)

    @property
    def key(self) -> dict[str, Any]:
        """What makes the figures of one evaluation differ from those of another."""
        rule = thresholds.parse(self.threshold)
        threshold = {'threshold': rule.number if rule.is_fixed else None}
        threshold |= {'threshold_rule': None if rule.is_fixed else rule.name}
        return {**threshold, 'prevalence': self.prevalence, 'flip': self.flip}


DEFAULTS = Options()

"""What a checkpoint says about itself, so that others can rebuild its network and trust it."""

import dataclasses
from typing import Any

import fakeimg
from fakeimg.errors import UserError

FORMAT = 1  # raised when an older fakeimg would misread what a newer one writes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Meta:
    """All of a checkpoint but its arrays and its data iterator; JSON on disk.

    Attributes:
        fakeimg: version that wrote it.
        format: layout of the checkpoint; those without the number are of layout 1.
        config: the run's configuration as plain values, see `fields.to_plain`.
        labels: class name -> label.
        preprocessing: `image_size`, `resize_size` (pixels), `mean`, `std` (of channels in [0, 1]), `version` (of the
            resize; checkpoints without it have version 1).
        data_digest: identifies the data set that the weights were trained on; None where they were not trained here.
        state_tree: leaf -> dtype and shape, see `checkpoint.describe`.
        checksums: leaf -> sum over its bits, see `checkpoint.checksums`.
        content_digest: of the same set, by what some of its files hold, see `seen.content_digest`; None in early ones.
        validations: step and AUC of each validation so far; of those alone that early stopping goes by.
        ranked_since: validation scores of earlier steps are of another validation, and are not compared with its own.
    """

    fakeimg: str = fakeimg.__version__
    format: int = FORMAT
    config: dict[str, Any]
    labels: dict[str, int]
    preprocessing: dict[str, Any]
    data_digest: str | None
    state_tree: dict[str, str] = dataclasses.field(default_factory=dict)
    checksums: dict[str, int] = dataclasses.field(default_factory=dict)
    ranked_since: int = 0
    validations: list[list[Any]] = dataclasses.field(default_factory=list)
    content_digest: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the plain values that `from_json` takes."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any], where: str) -> 'Meta':
        """Inverse of `to_json`; `where` names the checkpoint in messages. Unknown fields are ignored.

        Raises:
            UserError: a newer fakeimg wrote it in another layout.
            TypeError: fields are missing.
        """
        if values.get('format', FORMAT) > FORMAT:
            raise UserError(f'{where} was written by a newer fakeimg ({values.get("fakeimg")}); update fakeimg.')
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

"""What enters a comparison: a run folder, an evaluation of one, or a table of scores; and its scores on a data set."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fakeimg import files
from fakeimg.config import from_plain
from fakeimg.console import Console
from fakeimg.data import datasets, layouts, seen
from fakeimg.data.labels import CLASS_NAMES, class_names, for_other_data
from fakeimg.data.splits import file_part
from fakeimg.data.tables import columns_of
from fakeimg.detector import Detector, load
from fakeimg.errors import UserError
from fakeimg.evaluation import evaluator, matching, score_table
from fakeimg.fields import to_plain

# Fields that two seeds of one recipe need not share: the images are told by their digest, and the rest is how a machine
# did the same work.
_OF_THE_MACHINE = (
    *('seed', 'parallel', 'steps_per_call', 'log_every_steps', 'checkpoint_every_steps'),
    *('data.path', 'data.cache', 'data.threads', 'data.max_bad_fraction'),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Entrant:
    """One trained network, or the scores of one.

    Attributes:
        path: that was given.
        name: of the run folder or the table.
        seed: of the run; None where the run is not known.
        recipe: what the seeds of one recipe share; None where the run is not known.
        model: the network's name; '' where the run is not known.
        detector: of a run folder.
        metrics: of an evaluation.
        labels: NAME=real or NAME=fake, of a table of scores.
    """

    path: pathlib.Path
    name: str
    seed: int | None = None
    recipe: str | None = None
    model: str = ''
    detector: Detector | None = None
    metrics: dict[str, Any] | None = None
    labels: Sequence[str] = ()

    @property
    def step(self) -> int | None:
        return self.detector.step if self.detector else (self.metrics or {}).get('step')


@dataclasses.dataclass(frozen=True, eq=False)
class EntrantScores:
    """The scores of an entrant on one data set.

    Attributes:
        names: of the n images.
        labels: int32[n], 1 = fake; int32[0] where the table has none.
        logits: float64[n], log-odds of fake.
        groups: of the n images; empty where none is known.
        metrics: of the evaluation they come from; None for a table.
        folder: of that evaluation.
        is_new: whether it was made now.
        notes: warnings for the user.
        digests: S16[n], of the files, see `seen.digests`; S16[0] where none are kept.
    """

    names: list[str]
    labels: np.ndarray
    logits: np.ndarray
    groups: list[str]
    metrics: dict[str, Any] | None = None
    folder: pathlib.Path | None = None
    is_new: bool = False
    notes: list[str] = dataclasses.field(default_factory=list)
    digests: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, seen.DTYPE))

    @property
    def content_digest(self) -> str | None:
        """Of the set, see `seen.content_digest`; None where it is not known."""
        return (self.metrics or {}).get('content_digest')


def read(source: str, step: str = 'best', labels: Sequence[str] = ()) -> Entrant:
    """Reads what was given.

    Args:
        source: a run folder, a folder with `metrics.json` and `predictions.csv`, or a table of scores.
        step: the checkpoint of a run folder: `best`, `latest` or a number.
        labels: what names in a table of scores mean.

    Raises:
        UserError: it is none of these, or a run folder without a checkpoint.
    """
    path = pathlib.Path(source).expanduser()
    if path.name == 'predictions.csv' and (path.parent / 'metrics.json').is_file():
        path = path.parent
    if path.is_file():
        return Entrant(path, path.stem, labels=labels)
    if not path.is_dir():
        raise UserError(f'{source} does not exist; give a run folder, an evaluation of one, or a table of scores.')
    if (path / 'checkpoints').is_dir():
        detector = load(path, step).tolerating()
        trained_on = detector.meta.content_digest or detector.meta.data_digest
        return _of_run(path, path.resolve().name, to_plain(detector.config), trained_on, detector=detector)
    if not (path / 'metrics.json').is_file() or not (path / 'predictions.csv').is_file():
        raise UserError(
            f'{source} has neither checkpoints nor metrics.json with predictions.csv in it; give a run folder, an '
            'evaluation of one, or a table of scores.'
        )
    metrics = json.loads((path / 'metrics.json').read_text())
    run = path.resolve().parents[1]
    is_in_run = path.resolve().parent.name == 'evaluations' and (run / 'config.json').is_file()
    config = json.loads((run / 'config.json').read_text()) if is_in_run else metrics.get('detector', {}).get('config')
    if config is None:
        return Entrant(path, path.resolve().name, metrics=metrics)
    name = run.name if is_in_run else pathlib.Path(metrics['detector'].get('run') or path.resolve()).name
    return _of_run(path, name, to_plain(from_plain(config)), config.get('data', {}).get('path'), metrics=metrics)


def _of_run(path: pathlib.Path, name: str, config: dict[str, Any], trained_on: str | None, **more: Any) -> Entrant:
    shared = json.loads(json.dumps(config))
    for field in _OF_THE_MACHINE:
        section, _, last = field.rpartition('.')
        (shared[section] if section else shared).pop(last, None)
    recipe = json.dumps([shared, trained_on], sort_keys=True)
    return Entrant(path, name, config['seed'], recipe, config['model']['name'], **more)


@dataclasses.dataclass(frozen=True)
class Images:
    """A data set that was named for the comparison, opened once.

    Attributes:
        path, name: of the set.
        digest: of its content, see `seen.content_digest`.
        names, labels, groups: of the images of the split.
    """

    path: str
    name: str
    digest: str
    names: list[str]
    labels: np.ndarray
    groups: list[str]


def open_all(
    paths: Sequence[str], split: str, entrants: Sequence[Entrant], labels: Sequence[str], columns: Sequence[str]
) -> list[Images]:
    """Opens the data sets that were named, which all run folders then read alike.

    Args:
        paths: of the sets.
        split: of their images.
        entrants: the first run folder among them says what words in the sets mean.
        labels, columns: what the user says about names in the sets, and wins.

    Raises:
        UserError: no such data, split or labels.
    """
    if not paths:
        return []
    configs = [entrant.detector.config.data for entrant in entrants if entrant.detector]
    labels = for_other_data(configs[0].labels if configs else (), labels)
    for config in configs:
        config.labels, config.columns = labels, tuple(columns)
    return [_open_images(path, split, labels, columns) for path in paths]


def _open_images(path: str, split: str, labels: Sequence[str], columns: Sequence[str]) -> Images:
    data = datasets.open_path(
        path,
        unsorted_split=split.split('[')[0],
        class_names=class_names(labels),
        columns=columns_of(columns),
    )
    part = data.get(split)
    images = [name.strip() for name in part.names]  # as tables are read
    return Images(path, layouts.set_name(path), seen.content_digest(data), images, part.labels, part.groups)


def score(
    entrant: Entrant, split: str, images: Images | None, out: pathlib.Path, console: Console
) -> EntrantScores | None:
    """The scores of an entrant on a set, or on its own where `images` is None; None where it has none of these.

    A run folder's network is applied unless an evaluation of the same checkpoint, split and content exists, in its
    folder or in `out`.

    Raises:
        UserError: see `evaluator.evaluate` and `score_table.read`.
    """
    if entrant.detector is not None:
        folder, is_new = _evaluation(entrant, split, images, out, console)
        return _read_evaluation(folder, is_new)
    if entrant.metrics is not None:
        other = images is not None and entrant.metrics.get('content_digest') not in (None, images.digest)
        return None if other else _read_evaluation(entrant.path)
    table = score_table.read(str(entrant.path), {}, class_names(entrant.labels), None, has_labels=True)
    if not table.names:
        raise table.lacks('path')
    matching.refuse_doubles(table.names, table.name)
    if images is not None and not set(table.names) & set(images.names):
        try:
            matching.match(table.names, images.names, table.name)
        except UserError:
            return None
    groups = table.others.get('group', [])
    return EntrantScores(table.names, np.array(table.labels, np.int32), table.logits, groups, notes=table.notes)


def _evaluation(
    entrant: Entrant, split: str, images: Images | None, out: pathlib.Path, console: Console
) -> tuple[pathlib.Path, bool]:
    """The folder of an evaluation, and whether it had to be made."""
    detector = entrant.detector
    assert detector is not None and detector.run is not None
    digest = images.digest if images else detector.meta.content_digest
    if digest is None:  # a run of an early fakeimg
        digest = seen.content_digest(datasets.open_data(detector.config))
    places = [detector.run / 'evaluations', out / 'evaluations']
    for path in sorted(path for place in places for path in place.glob('*/metrics.json')):
        found = json.loads(path.read_text())
        is_same = (found.get('step'), found.get('split'), found.get('content_digest')) == (detector.step, split, digest)
        is_of_run = path.is_relative_to(detector.run) or path.parent.name.startswith(f'{entrant.name}-')
        is_plain = not found.get('flip') and found.get('prevalence') is None
        if is_same and is_of_run and is_plain and (path.parent / 'predictions.csv').is_file():
            return path.parent, False
    elsewhere = None
    try:
        files.require_writable(detector.run / 'evaluations')
    except UserError:  # attached read-only, for example
        elsewhere = out / 'evaluations' / f'{entrant.name}-{file_part(split)}-{digest[:8]}'
    path = images.path if images else None
    return evaluator.evaluate(detector, split, data_path=path, out=elsewhere, console=console)[1], True


def _read_evaluation(folder: pathlib.Path, is_new: bool = False) -> EntrantScores:
    metrics = json.loads((folder / 'metrics.json').read_text())
    table = score_table.read(str(folder / 'predictions.csv'), {}, CLASS_NAMES, None, has_labels=False)
    labels = np.array(table.labels, np.int32)
    digests = seen.read_scored(folder)
    return EntrantScores(
        names=table.names,
        labels=labels,
        logits=table.logits,
        groups=table.others.get('group', []),
        metrics=metrics,
        folder=folder,
        is_new=is_new,
        digests=digests if len(digests) == len(labels) else digests[:0],
    )

"""The probe: features of a frozen network, and simple classifiers on them.

As in E. Rezende, G. Ruppert and T. Carvalho, Detecting Computer Generated Images with Deep Convolutional Neural
Networks, SIBGRAPI 2017, where ResNet50 knows ImageNet and an SVM does the rest.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

import fakeimg
from fakeimg import files
from fakeimg.config import Config
from fakeimg.console import SILENT, Console
from fakeimg.data import datasets as datasets_lib
from fakeimg.data import labels as labels_lib
from fakeimg.data import partition
from fakeimg.data.splits import file_part
from fakeimg.detector import Detector
from fakeimg.errors import UserError
from fakeimg.evaluation import metrics as metrics_lib
from fakeimg.probing import classifiers, report, sheets
from fakeimg.probing.features import Features, read_features
from fakeimg.runtime import parallel
from fakeimg.scoring import Predictions


@dataclasses.dataclass(frozen=True)
class Options:
    """How to probe.

    Attributes:
        split: scored once after everything else; the validation split is too, where there is one.
        folds: of the cross-validation on the training split.
        max_examples: the RBF SVM, quadratic in images, is fitted on no more than this many.
    """

    split: str = 'test'
    folds: int = 5
    max_examples: int = 10_000

    def __post_init__(self):
        if self.max_examples < 2:
            raise UserError(f'max_examples is {self.max_examples}; it must be 2 or more.')


def probe(
    detector: Detector,
    out: pathlib.Path,
    options: Options = Options(),
    console: Console = SILENT,  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Probes the network of a recipe, or of a run on the data it was trained on, and writes the folder `out`.

    Args:
        detector: the network.
        out: gets `features-SPLIT.npz`, `metrics.json`, `report.html`, `predictions-SPLIT-CLASSIFIER.csv`.
        options: how to probe.
        console: gets warnings and progress.

    Returns:
        What is written to `metrics.json`; an empty dict in all processes but the first.

    Raises:
        UserError: data or options that cannot work.
    """
    config = detector.config
    data = datasets_lib.open_data(config)
    splits, fold_of = _open_splits(data, config, options)
    notes = [*data.notes, *detector.notes, *_provenance(detector, data)]
    for note in notes:
        console.warn(note)
    with files.hold_folder(out, 'probe', parallel.shard()[0]):
        parts = {name: read_features(detector, data, name, out, console) for name in splits}
        if not parallel.is_first_process():
            return {}
        train = parts[config.data.train_split]
        fold_of = fold_of[train.rows]
        classifiers.check_folds(fold_of, train.split.labels, options.folds)
        limits = classifiers.Limits(options.max_examples, config.seed)
        fitted, decided = {}, {}
        for classifier in classifiers.CLASSIFIERS:
            fitted[classifier.name], predictions = _classify(classifier, parts, fold_of, limits, console)
            decided[classifier.name] = predictions[options.split]
            for name, predicted in predictions.items():
                stem = f'predictions-{file_part(name)}-{classifier.name.replace(" ", "_").lower()}'
                predicted.write_csv(out / f'{stem}.csv', are_log_odds=False)
        results = {
            'fakeimg': fakeimg.__version__,
            'model': config.model.name,
            'weights': detector.origin,
            'weights_sha256': detector.backbone_digest,
            'features': train.values.shape[1],
            'image_size': config.data.image_size,
            'train_split': config.data.train_split,
            'n': {name: len(part.split) for name, part in parts.items()},
            'skipped': {name: part.skipped for name, part in parts.items()},
            'folds': options.folds,
            'whole_groups': any(train.split.groups),
            'max_examples': options.max_examples,
            'seed': config.seed,
            'classifiers': fitted,
            'labels': labels_lib.LABELS,
            'data_path': config.data.path,
            'data_digest': data.digest,
            'notes': notes,
        }
        files.write_json(out / 'metrics.json', results)
        best = max(fitted, key=lambda name: fitted[name]['cross_validation']['auc']['mean'])
        shown = sheets.section(best, options.split, decided[best], parts[options.split].split)
        report.write_report(out / 'report.html', results, shown)
        return results


def _classify(
    classifier: classifiers.Classifier,
    parts: dict[str, Features],
    fold_of: np.ndarray,
    limits: classifiers.Limits,
    console: Console,
) -> tuple[dict[str, Any], dict[str, Predictions]]:
    """Cross-validates on the first split, fits all of it, and scores the others once each."""
    name, *others = parts
    values, labels = parts[name].values, parts[name].split.labels
    if classifier.is_quadratic and len(labels) > limits.max_examples:
        console.warn(
            f'{classifier.name}: every fit uses at most {limits.max_examples:,} images, drawn from the '
            f'{len(labels):,} of {name} with the same share of each class (max_examples)'
        )
    result = classifiers.cross_validate(classifier, values, labels, fold_of, limits, console)
    c = classifier.grid[result.best]
    decide = classifiers.fit_all(classifier, values, labels, c, limits)
    scored, predictions = {}, {}
    for other in others:
        part = parts[other]
        # Not log-odds, but ranked and cut at 0 like them; the loss would need log-odds and is left out.
        predictions[other] = Predictions(part.split.names, part.split.labels, decide(part.values), part.skipped)
        metrics = metrics_lib.compute_metrics(predictions[other])
        scored[other] = {key: value for key, value in metrics.items() if key not in ('loss', 'threshold')}
    return {
        'c': c,
        'c_by_mean_auc': {
            f'{c:g}': round(float(auc), 6) for c, auc in zip(classifier.grid, result.auc.mean(1), strict=True)
        },
        'cross_validation': {
            'accuracy': _over_folds(result.accuracy[result.best]),
            'auc': _over_folds(result.auc[result.best]),
        },
        'splits': scored,
    }, predictions


def _over_folds(figures: np.ndarray) -> dict[str, Any]:
    """Mean, sample deviation and the figures themselves."""
    return {
        'mean': round(float(figures.mean()), 6),
        'deviation': round(float(figures.std(ddof=1)), 6),
        'folds': [round(float(figure), 6) for figure in figures],
    }


def _provenance(detector: Detector, data: datasets_lib.DataSet) -> list[str]:
    trained_on = detector.meta.data_digest
    if trained_on is None:
        return []
    if trained_on == data.digest:
        return [
            'this checkpoint was trained on the training split, so its features fit those images too well and '
            'cross-validation on them flatters; other splits do not'
        ]
    return ['the images are not the ones this run was trained on; some may have been trained on since']


def _open_splits(
    data: datasets_lib.DataSet, config: Config, options: Options
) -> tuple[dict[str, datasets_lib.Split], np.ndarray]:
    """The splits that are used, train first, and the fold of each image of train."""
    train = config.data.train_split
    if options.split == train:
        raise UserError(f'split is {train}, which the classifiers are fitted on; score another one.')
    names = [train, options.split]
    if config.data.validation_split != 'validation' or 'validation' in data.splits:
        names.insert(1, config.data.validation_split)
    splits = {name: data.get(name) for name in dict.fromkeys(names)}
    partition.check_disjoint(splits)
    labels, groups = splits[train].labels, splits[train].groups
    return splits, classifiers.assign_folds(labels, groups, options.folds, config.seed)

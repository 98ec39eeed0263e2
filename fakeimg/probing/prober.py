"""The probe: features of a frozen network, simple classifiers on them, and what these reach.

As in E. Rezende, G. Ruppert and T. Carvalho, Detecting Computer Generated Images with Deep Convolutional Neural
Networks, SIBGRAPI 2017, where ResNet50 knows ImageNet and an SVM does the rest.
"""

import pathlib
from typing import Any

import numpy as np

import fakeimg
from fakeimg import config as config_lib
from fakeimg import files
from fakeimg.config import Config
from fakeimg.console import SILENT, Console
from fakeimg.data import datasets as datasets_lib
from fakeimg.data import labels as labels_lib
from fakeimg.data.splits import file_part
from fakeimg.errors import UserError
from fakeimg.evaluation import metrics as metrics_lib
from fakeimg.probing import backbone as backbone_lib
from fakeimg.probing import classifiers, report
from fakeimg.probing.backbone import Backbone
from fakeimg.probing.features import read_features
from fakeimg.runtime import parallel
from fakeimg.scoring import Predictions


def probe(
    recipe: Config | None,
    out: pathlib.Path,
    *,
    workdir: pathlib.Path | None = None,
    step: str = 'best',
    batch_size: int = 0,
    split: str = 'test',
    folds: int = 5,
    max_examples: int = 10_000,
    console: Console = SILENT,
) -> dict[str, Any]:
    """Probes the network of a recipe or of a run, and writes the folder `out`.

    Args:
        recipe: the configuration; None with `workdir`.
        out: gets `features-SPLIT.npz`, `metrics.json`, `report.html`, `predictions-SPLIT-CLASSIFIER.csv`.
        workdir: a run folder, whose checkpoint is probed on the data it was trained on.
        step: of the checkpoint: `best` (validation AUC), `latest`, or a number.
        batch_size: for a checkpoint, images per step over all devices; 0 takes the run's.
        split: scored once after everything else; the validation split is too, where there is one.
        folds: of the cross-validation on the training split.
        max_examples: the RBF SVM, quadratic in images, is fitted on no more than so many.
        console: is told warnings and progress.

    Returns:
        What is written to `metrics.json`; an empty dict in all processes but the first.

    Raises:
        UserError: data, weights, run or arguments that cannot work.
    """
    if max_examples < 2:
        raise UserError(f'--max_examples is {max_examples}; it must be 2 or more.')
    if workdir is None:
        assert recipe is not None
        config_lib.check_config(recipe)
        data = datasets_lib.open_data(recipe)
        sources, fold_of = _open_splits(data, recipe, split, folds)  # mistakes in the data show before weights load
        network = backbone_lib.from_recipe(recipe)
    else:
        network = backbone_lib.from_checkpoint(workdir, step, batch_size)
        data = datasets_lib.open_data(network.config)
        sources, fold_of = _open_splits(data, network.config, split, folds)
    config = network.config
    notes = [*data.notes, *network.notes, *_provenance(network, data)]
    for note in notes:
        console.warn(note)
    with files.hold_folder(out, 'probe', parallel.shard()[0]):
        features = {
            name: read_features(network, source, name, data.digest, out, console=console)
            for name, source in sources.items()
        }
        if not parallel.is_first_process():
            return {}
        read = {name: source.take(features[name].rows) for name, source in sources.items()}
        skipped = {name: len(source) - len(read[name]) for name, source in sources.items()}
        fold_of = fold_of[features[config.data.train_split].rows]
        classifiers.check_folds(fold_of, read[config.data.train_split].labels, folds)
        values = {name: own.values for name, own in features.items()}
        found = {}
        for classifier in classifiers.CLASSIFIERS:
            found[classifier.name], predictions = _classify(
                classifier, values, read, skipped, fold_of, max_examples, config.seed, console
            )
            for name, predicted in predictions.items():
                part = f'{file_part(name)}-{classifier.name.replace(" ", "_").lower()}'
                report.write_predictions(out / f'predictions-{part}.csv', predicted)
        results = {
            'fakeimg': fakeimg.__version__,
            'model': config.model.name,
            'weights': network.weights,
            'weights_sha256': network.sha256,
            'features': values[config.data.train_split].shape[1],
            'image_size': config.data.image_size,
            'train_split': config.data.train_split,
            'n': {name: len(source) for name, source in read.items()},
            'skipped': skipped,
            'folds': folds,
            'whole_groups': any(read[config.data.train_split].groups),
            'max_examples': max_examples,
            'seed': config.seed,
            'classifiers': found,
            'labels': labels_lib.LABELS,
            'data_path': config.data.path,
            'data_digest': data.digest,
            'notes': notes,
        }
        files.write_json(out / 'metrics.json', results)
        report.write_report(out / 'report.html', results)
        return results


def _classify(
    classifier: classifiers.Classifier,
    values: dict[str, np.ndarray],
    sources: dict[str, datasets_lib.Split],
    skipped: dict[str, int],
    fold_of: np.ndarray,
    max_examples: int,
    seed: int,
    console: Console,
) -> tuple[dict[str, Any], dict[str, Predictions]]:
    """Cross-validates on the first split, fits all of it, and scores the others once each."""
    train, *others = sources
    labels = sources[train].labels
    if classifier.is_quadratic and len(labels) > max_examples:
        console.warn(
            f'{classifier.name}: every fit takes {max_examples:,} images at the most, drawn from the '
            f'{len(labels):,} of {train} with the same share of each class (max_examples)'
        )
    limits = (max_examples, seed)
    found = classifiers.cross_validate(classifier, values[train], labels, fold_of, *limits, console=console)
    c = classifier.grid[found.best]
    decide = classifiers.fit_all(classifier, values[train], labels, c, *limits)
    scored, predictions = {}, {}
    for name in others:
        # Not log-odds, but ranked and cut at 0 like them; the loss would need log-odds and is left out.
        predictions[name] = Predictions(sources[name].names, sources[name].labels, decide(values[name]), skipped[name])
        metrics = metrics_lib.compute_metrics(predictions[name])
        scored[name] = {key: value for key, value in metrics.items() if key not in ('loss', 'threshold')}
    return {
        'c': c,
        'c_by_mean_auc': {
            f'{c:g}': round(float(auc), 6) for c, auc in zip(classifier.grid, found.auc.mean(1), strict=True)
        },
        'cross_validation': {
            'accuracy': _over_folds(found.accuracy[found.best]),
            'auc': _over_folds(found.auc[found.best]),
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


def _provenance(network: Backbone, data: datasets_lib.DataSet) -> list[str]:
    if network.trained_on is None:
        return []
    if network.trained_on == data.digest:
        return [
            'this checkpoint was trained on the training split, so its features fit those images too well and '
            'cross-validation on them flatters; other splits do not'
        ]
    return ['the images are not the ones this run was trained on; some may have been trained on since']


def _open_splits(
    data: datasets_lib.DataSet, config: Config, split: str, folds: int
) -> tuple[dict[str, datasets_lib.Split], np.ndarray]:
    """The splits that are used, train first, and the fold of each image of train."""
    if split == config.data.train_split:
        raise UserError(f'--split is {split}, which the classifiers are fitted on; score another one.')
    wanted = [config.data.train_split, split]
    if config.data.validation_split != 'validation' or 'validation' in data.splits:
        wanted.insert(1, config.data.validation_split)
    sources = {name: data.get(name) for name in dict.fromkeys(wanted)}
    train = sources[config.data.train_split]
    datasets_lib.check_disjoint(sources)
    return sources, classifiers.assign_folds(train.labels, train.groups, folds, config.seed)

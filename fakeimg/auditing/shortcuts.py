"""What tells images apart without looking at faces: real from fake (shortcuts), and split from split (shift)."""

from collections.abc import Iterator

import numpy as np

from fakeimg.auditing import separability
from fakeimg.auditing.finding import AUDIT_AGAIN, Command, Evidence, Finding
from fakeimg.data.labels import LABELS

AUC_LINES = (0.6, 0.8)  # warn, fail: how well facts that have nothing to do with faces tell groups apart
SHOWN_STATISTICS = ('saturation', 'greyness', 'sharpness', 'high_frequency', 'noise', 'jpeg_quality', 'width', 'size')
_WORTH_NAMING = 0.55  # AUC of a feature alone
_NO_SHIFT = 'nothing to do: a shift is a difference between train and another split.'
_USUAL_SIDE = 256  # pixels: to what short side images are brought, if most have as much
DEGRADED = Command('train', (('config.augment.degradation_probability', '0.1'),))


def check_shortcuts(evidence: Evidence, clusters: np.ndarray) -> Iterator[Finding]:
    """How well header facts, and plain pixel statistics, tell real from fake in each split's images together."""
    header = _separate(evidence.images.facts, evidence.labels, clusters, separability.FILE_FEATURES)
    if header is None:
        yield Finding('shortcuts', 'note', f'fewer than {separability.LEAST_PER_CLASS} images of a class: '
                      'too few to look for shortcuts',
                      'nothing can be said from so few: add images, and audit again.',
                      commands=[AUDIT_AGAIN])  # fmt: skip
        return
    level = _auc_level(header.auc)
    yield Finding(
        'shortcuts',
        level,
        f'header facts alone tell real from fake with AUC {header.auc:.3f}' + _best_alone(header),
        ''
        if level == 'ok'
        else 'a detector may learn these instead of faces; prepare with encode and to_size puts both classes through '
        'one encoder and size.',
        {'auc': header.auc, 'features': dict(header.features), 'images': header.rows},
        commands=[] if level == 'ok' else [_alike(evidence)],
    )
    named = _separate(evidence.images.facts, evidence.labels, clusters, separability.NAME_FEATURES)
    if named is not None:
        yield Finding(
            'file names',
            'note',
            f'patterns and lengths of file names tell real from fake with AUC {named.auc:.3f}; no network sees a name',
            'nothing to do: it says only that the classes come from different places; whatever else these leave in '
            'files is among the header facts.',
            {'auc': named.auc, 'features': dict(named.features), 'images': named.rows},
        )
    pixel = _separate(evidence.images.facts, evidence.labels, clusters, separability.PIXEL_FEATURES)
    if pixel is not None:
        yield Finding(
            'pixel statistics',
            'note',
            f'colour moments, sharpness and spectrum tell real from fake with AUC {pixel.auc:.3f}'
            + _best_alone(pixel)
            + '; a detector has to beat that to be worth its parameters',
            'nothing to do: generators leave such traces; compare a detector with this figure.',
            {'auc': pixel.auc, 'features': dict(pixel.features), 'images': pixel.rows},
        )


def check_shift(evidence: Evidence, clusters: np.ndarray) -> Iterator[Finding]:
    """How well a classifier tells training images from those of each other split, class by class."""
    images = evidence.images
    statistics = _statistics(evidence)
    if 'train' not in images.splits or len(images.splits) < 2:
        yield Finding('shift', 'note', 'one split only: no shift to look for', _NO_SHIFT, {'statistics': statistics})
        return
    train = images.splits.index('train')
    for other, split in enumerate(images.splits):
        if other == train:
            continue
        results = {}
        for name, label in LABELS.items():
            rows = np.flatnonzero(evidence.rows(train, label) | evidence.rows(other, label))
            result = _separate(images.facts[rows], (images.split[rows] == other).astype(int), clusters[rows],
                               separability.SHIFT_FEATURES)  # fmt: skip
            if result is not None:
                results[name] = result
        if not results:
            yield Finding(f'shift of {split}', 'note', f'too few images to compare {split} with train',
                          'nothing can be said from so few: add images, and audit again.',
                          commands=[AUDIT_AGAIN])  # fmt: skip
            continue
        worst = max(results, key=lambda name: results[name].auc)
        level = _auc_level(results[worst].auc)
        listed = ', '.join(f'{name} {result.auc:.3f}' for name, result in results.items())
        yield Finding(
            f'shift of {split}',
            level,
            f'images of {split} can be told from those of train with AUC {listed}' + _best_alone(results[worst]),
            ''
            if level == 'ok'
            else f'expect other figures on {split} than in training; '
            'train with augmentation that covers the difference.',
            {
                'auc': {name: result.auc for name, result in results.items()},
                'features': {name: dict(result.features) for name, result in results.items()},
                'statistics': statistics,
            },
            commands=[] if level == 'ok' else [DEGRADED],
        )


def _statistics(evidence: Evidence) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Quartiles of the plainest statistics: statistic -> split -> class -> (25 %, 50 %, 75 %)."""
    table: dict[str, dict[str, dict[str, list[float]]]] = {}
    for statistic in SHOWN_STATISTICS:
        table[statistic] = {}
        for index, split in enumerate(evidence.images.splits):
            table[statistic][split] = {}
            for name, label in LABELS.items():
                values = evidence.images.facts[statistic][evidence.rows(index, label)].astype(float)
                values = values[~np.isnan(values)]
                if len(values):
                    table[statistic][split][name] = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return table


def _separate(
    rows: np.ndarray, labels: np.ndarray, clusters: np.ndarray, names: list[str]
) -> separability.Separability | None:
    readable = np.flatnonzero(rows['problem'] == b'')
    matrix, categorical = separability.feature_matrix(rows[readable], names)
    return separability.cross_validated_auc(matrix, labels[readable], clusters[readable], categorical, names)


def _alike(evidence: Evidence) -> Command:
    """Both classes encoded alike, at a size to which few images have to be enlarged."""
    facts = evidence.images.facts
    sides = np.minimum(facts['width'], facts['height'])[facts['problem'] == b'']
    side = int(np.clip(np.quantile(sides, 0.1), 8, _USUAL_SIDE))
    return Command('prepare', (('encode', 'jpeg:90'), ('to_size', str(side))))


def _auc_level(auc: float) -> str:
    warn, fail = AUC_LINES
    return 'fail' if auc > fail else 'warn' if auc > warn else 'ok'


def _best_alone(result: separability.Separability) -> str:
    """Names the features that do it, or says nothing."""
    best = [f'{_words(name)} {auc:.2f}' for name, auc in result.features[:3] if auc > _WORTH_NAMING]
    return f' (alone: {", ".join(best)})' if best else ''


def _words(feature: str) -> str:
    return {'jpeg_tables': 'quantisation tables', 'exif': 'EXIF', 'icc': 'ICC', 'jfif': 'JFIF'}.get(
        feature, feature.replace('_', ' ').replace('jpeg', 'JPEG')
    )

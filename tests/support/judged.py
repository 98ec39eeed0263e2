"""Metrics of evaluations that never took place, for pages and cards: one with every key, one with the fewest."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn.metrics

from fakeimg.data import demo
from fakeimg.data.datasets import Split
from fakeimg.evaluation import intervals
from fakeimg.meta import Meta
from fakeimg.scoring import Predictions

GENERATORS = ('biggan', 'stylegan2', 'stable diffusion 1.4', 'midjourney', 'dall-e 3')


class Faces:
    """Demo faces by names of anybody's choice."""

    def __init__(self, names: Sequence[str], size: int = 16):
        self.names = list(names)
        self._faces = demo.DemoFaces('train', size=size, num_examples=len(self.names))

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        return self._faces[index]

    def take(self, indices: Sequence[int] | np.ndarray) -> 'Faces':
        return Faces([self.names[index] for index in indices])


def source(*names: str, size: int = 16) -> Split:
    """A split of drawn faces, real and fake by turns."""
    labels = np.arange(len(names), dtype=np.int32) % 2
    return Split(Faces(names, size), labels, generators=[''] * len(names), groups=[''] * len(names))


def predictions_of(split: Split, seed: int = 0, skipped: int = 0) -> Predictions:
    """Scores of a fairly good detector."""
    noise = np.random.default_rng(seed).normal(0, 2, len(split))
    logits = (4.0 * split.labels - 2 + noise).astype(np.float32)
    return Predictions(split.names, split.labels, logits, skipped)


def meta(model: str = 'cnn') -> Meta:
    return Meta(
        config={'model': {'name': model}}, labels={'real': 0, 'fake': 1}, preprocessing={}, data_digest='1' * 64
    )


def share(value: float, n: int) -> dict[str, Any]:
    return intervals.proportion(round(value * n), n)


def near(value: float, n: int, method: str = 'stratified bootstrap', width: float = 1.0, **more: Any) -> dict[str, Any]:
    half = width / math.sqrt(n)
    return {'value': value, 'low': value - half, 'high': value + half, 'n': n, 'method': method, **more}


def least(predictions: Predictions, threshold: float = 0.5) -> dict[str, Any]:
    """What `metrics.json` has held from the beginning."""
    labels, fake = predictions.labels, predictions.probabilities >= threshold
    tn, fp, fn, tp = (int(count) for count in np.bincount(2 * labels + fake, minlength=4))
    both = 0 < labels.sum() < len(labels)
    auc = float(sklearn.metrics.roc_auc_score(labels, predictions.logits)) if both else None
    return {
        'split': 'test', 'step': 1234, 'n': len(labels), 'skipped': predictions.skipped, 'loss': 0.31,
        'threshold': threshold, 'accuracy': (tp + tn) / max(len(labels), 1), 'precision': 0.9, 'recall': 0.9, 'f1': 0.9,
        'auc': auc, 'average_precision': None if auc is None else 0.9,
        'confusion': {'tp': tp, 'fp': fp, 'tn': tn, 'fn': fn}, 'labels': {'real': 0, 'fake': 1},
        'data_path': '/data/faces', 'data_digest': '0' * 64, 'content_digest': '2' * 64, 'without_copies': None,
    }  # fmt: skip


def full(predictions: Predictions, threshold: float = 0.5) -> dict[str, Any]:
    """Every key that an evaluation can have."""
    n, labels, scores = len(predictions.labels), predictions.labels, predictions.probabilities
    fpr, tpr, _ = sklearn.metrics.roc_curve(labels, predictions.logits)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(labels, predictions.logits)
    metrics = least(predictions, threshold)
    edges = [place / 40 for place in range(41)]
    rates = {'accuracy': 0.91, 'balanced_accuracy': 0.9, 'precision': 0.93, 'recall': 0.92, 'specificity': 0.9,
             'f1': 0.91, 'f1_real': 0.9, 'mcc': 0.8, 'fpr': 0.1}  # fmt: skip
    figures = {name: share(value, n) for name, value in rates.items()}
    point = {'name': '0.5', 'threshold': threshold, 'source': 'fixed', 'achievable': True,
             'confusion': metrics['confusion'], 'figures': figures}  # fmt: skip
    carried = {**point, 'name': 'fpr=0.01', 'threshold': 0.83, 'source': 'validation', 'digest': '3' * 64, 'n': 5000}
    best = {**point, 'name': 'best on this set', 'threshold': 0.44, 'source': 'this set', 'achievable': False}
    spread = np.linspace(0.02, 0.98, 15)
    rows = [
        {'value': name, 'n': 40, 'real': 0, 'fake': 40, 'seen': place != 1, 'against': 'all real images',
         'accuracy': share(0.6 + 0.08 * place, 40), 'auc': near(0.7 + 0.06 * place, 400, 'DeLong'),
         'recall': share(0.6 + 0.08 * place, 40), 'specificity': None}
        for place, name in enumerate(GENERATORS)
    ]  # fmt: skip
    sizes = [{**row, 'value': f'{64 << place} px', 'real': 20, 'fake': 20, 'seen': True, 'specificity': share(0.9, 20)}
             for place, row in enumerate(rows)]  # fmt: skip
    for row in sizes:
        del row['against']
    videos = [{**row, 'value': f'video {place:04}.mp4'} for place in range(30) for row in sizes[:1]]
    tier = {'auc': near(0.93, n), 'accuracy': share(0.9, n), 'auc_drop': near(0.02, n, 'paired', 0.4),
            'accuracy_drop': near(0.03, n, 'paired', 0.4)}  # fmt: skip

    def curve(unit: str, severities: Sequence[Any]) -> dict[str, Any]:
        return {'unit': unit, 'rows': [
            {**tier, 'severity': severity, 'auc': near(0.95 - 0.06 * place, n),
             'accuracy': share(0.92 - 0.07 * place, n)}
            for place, severity in enumerate(severities)]}  # fmt: skip

    return {
        **metrics,
        'date': '2026-11-27', 'fakeimg': '0.1.0', 'command': 'fakeimg evaluate --workdir runs/x --split test',
        'detector': {'model': 'cnn', 'trained_on': 'CIFAKE', 'run': 'runs/x', 'step': 1234,
                     'config': {'model': {'name': 'cnn', 'filters': 32}, 'batch_size': 128},
                     'environment': {'python': '3.11.7', 'git_commit': 'a' * 40, 'devices': ['cpu'],
                                     'platform': 'Linux',
                                     'versions': {'jax': '0.10.0', 'flax': '0.12.1', 'numpy': '2.4.6'},
                                     'command': 'fakeimg train --config cifake'}},
        'data': {'name': 'CIFAKE', 'n': n, 'real': n - int(labels.sum()), 'fake': int(labels.sum()), 'skipped': 2,
                 'groups': 30, 'sources': dict.fromkeys(GENERATORS, 40), 'layout': 'split/class folders',
                 'unreadable': [['test/real/a.jpg', 'truncated or damaged JPEG'], ['b.png', 'not an image']]},
        'prevalence': 0.1, 'flip': True, 'skipped': 2,
        'figures': {
            'auc': intervals.auc(labels, predictions.logits), 'partial_auc': near(0.82, n),
            'average_precision': {**near(0.94, n), 'prevalence': 0.5}, 'eer': near(0.1, n, groups=30),
            'tpr_at_fpr_5': near(0.8, n), 'tpr_at_fpr_1': near(0.55, n),
            'tpr_at_fpr_0.1': {'value': None, 'why': 'too few real images', 'needs': 2995},
            'log_loss': near(0.27, n), 'brier': near(0.08, n), 'cllr': near(0.4, n), 'cllr_min': near(0.35, n),
            'ece': near(0.03, n), 'ece_perfect': {'value': 0.045, 'n': n, 'method': 'simulated'},
            'smooth_ece': near(0.03, n), 'augrc': near(0.02, n)},
        'operating_points': [point, carried, best],
        'transfer_gap': near(0.012, n),
        'calibration': {'method': 'temperature', 'slope': 0.7, 'intercept': 0.0, 'log_loss_before': 0.31,
                        'log_loss_after': 0.27, 'fitted_on': {'split': 'validation', 'n': 5000, 'digest': '3' * 64}},
        'reliability': [{'p': p, 'share_fake': p**1.2, 'low': max(p**1.2 - 0.08, 0), 'high': min(p**1.2 + 0.08, 1),
                         'n': n // 15} for p in map(float, spread)],
        'curves': {'roc': [[float(x), float(y)] for x, y in zip(fpr, tpr, strict=True)],
                   'det': [[float(x), float(y)] for x, y in zip(fpr, tpr, strict=True)],
                   'pr': [[float(x), float(y)] for x, y in zip(recall, precision, strict=True)]},
        'histogram': {'edges': edges, **{name: np.histogram(scores[labels == label], edges)[0].tolist()
                                         for label, name in enumerate(('real', 'fake'))}},
        'risk_coverage': [[place / 200, 0.1 * (place / 200) ** 2] for place in range(1, 201)],
        'unsure': {'error_rate': 0.05, 'low': 0.31, 'high': 0.74, 'source': 'validation', 'digest': '3' * 64, 'n': 5000,
                   'coverage': share(0.85, n), 'error': share(0.04, n)},
        'slices': {'source': rows, 'size': sizes, 'group': videos},
        'macro': {'source': {'accuracy': near(0.76, 30), 'auc': near(0.82, 30)}},
        'held_out': rows[1:2],
        'videos': {'n': 30, 'auc': near(0.97, 30, width=0.2), 'accuracy': share(0.93, 30),
                   'rule': "mean of the frames' log-odds"},
        'explanations': {
            'n': 200, 'seed': 0, 'cells': [8, 8], 'cell': 4, 'exact': 'The cells and the rest add up.',
            'drops': {'highest': near(3.4, 200), 'random': near(2.1, 200), 'difference': near(1.3, 200)},
            'randomisation': {'limit': 0.3, 'looks_same': False, 'verdict': 'The maps look different.',
                              'rows': [{'drawn': name, 'correlation': near(0.2 - 0.1 * place, 200)}
                                       for place, name in enumerate(('head', 'dense', 'conv1'))]}},
        'robustness': {
            'seed': 0, 'n': n,
            'tiers': [{**tier, 'name': name, 'what': what} for name, what in
                      (('clean', ''), ('web', '768 px, JPEG 60'), ('hard', '512 px, JPEG 40'))],
            'curves': {**{name: curve('quality', (90, 70, 50, 30, 10)) for name in ('jpeg', 'webp')},
                       **{f'resize_{kernel}': curve('scale', (0.75, 0.5, 0.25)) for kernel in
                          ('nearest', 'bilinear', 'bicubic', 'lanczos')},
                       'blur': curve('sigma, px', (0.5, 1, 2, 3)), 'noise': curve('sigma, grey levels', (2, 5, 10, 20)),
                       'gamma': curve('gamma', (0.7, 0.9, 1.1, 1.5)), 'grey': curve('', (1,)),
                       'crop': curve('share kept', (0.9, 0.7, 0.5)), 'screenshot': curve('times', (1, 2, 3))}},
    }  # fmt: skip


def write_run(folder: pathlib.Path) -> pathlib.Path:
    """A run folder's `metrics.jsonl`, the last line of which was cut off."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f'{{"step": {step}, "train/loss": {1 / step}, "validation/loss": {1.2 / step}, "train/auc": {1 - 0.3 / step}}}'
        for step in range(1, 60)
    ]
    (folder / 'metrics.jsonl').write_text('\n'.join(lines) + '\n{"step": 60, "tra')
    return folder

"""Figures in words: the digits an interval supports, one sentence for everyone, and what a detector cannot tell."""

import math
from collections.abc import Sequence
from typing import Any

from fakeimg.config import DEMO
from fakeimg.evaluation import intervals
from fakeimg.pages import Cell

Figure = dict[str, Any]
# What is a share of images, and is shown in percent.
PERCENT = {
    'accuracy', 'balanced_accuracy', 'precision', 'recall', 'specificity', 'fpr', 'eer', 'tpr_at_fpr_5', 'tpr_at_fpr_1',
    'tpr_at_fpr_0.1', 'coverage', 'error', 'accuracy_drop', 'transfer_gap',
}  # fmt: skip
_RARE = 0.01  # share of fake images for the sentence about where fakes are rare
_REASONS = 3  # in which images are unlike others
_FEW = 100  # images: below, counts are said and not shares


def decimals(figure: Figure, scale: float = 1) -> int:
    """Digits after the point that the interval supports: two of its width's; without an interval three of a share."""
    low, high = figure.get('low'), figure.get('high')
    if low is None or high is None or high <= low:
        return 3 if scale == 1 else 1
    return min(max(math.ceil(-math.log10((high - low) * scale)) + 1, 0 if scale > 1 else 2), 4)


def value(figure: Figure | None, name: str = '') -> str:
    """`93.1 %` or `0.931`; an undefined figure says so."""
    if not figure or figure.get('value') is None:
        return 'undefined'
    scale = 100 if name in PERCENT else 1
    return f'{scale * figure["value"]:.{decimals(figure, scale)}f}{" %" if scale > 1 else ""}'.replace('-', '\u2212')


def interval(figure: Figure | None, name: str = '') -> str:
    """`91.8 to 94.2`, or nothing where there is no interval."""
    if not figure or figure.get('value') is None or figure.get('low') is None or figure.get('high') is None:
        return ''
    scale = 100 if name in PERCENT else 1
    digits = decimals(figure, scale)
    return ' to '.join(f'{scale * figure[end]:.{digits}f}'.replace('-', '\u2212') for end in ('low', 'high'))


def why(figure: Figure | None) -> str:
    """Why a figure is undefined, or how many images it would need."""
    if not figure:
        return 'not computed'
    needed = f'needs {figure["needs"]:,} real images' if figure.get('needs') else ''
    return needed or str(figure.get('why') or 'undefined')


def text(figure: Figure | None, name: str = '') -> str:
    """`93.1 % (91.8 to 94.2)`."""
    if not figure or figure.get('value') is None:
        return f'undefined: {why(figure)}'
    ends = interval(figure, name)
    return value(figure, name) + (f' ({ends})' if ends else '')


def cell(figure: Figure | None, name: str = '') -> Cell:
    """A figure in a table; one that is undefined or not supported is grey and says why."""
    if not figure or figure.get('value') is None:
        return Cell(why(figure), 'grey')
    return Cell(value(figure, name), '', interval(figure, name))


def plural(count: int, noun: str) -> str:
    return f'{count:,} {noun}{"" if count == 1 else "s"}'


def decision(metrics: dict[str, Any]) -> dict[str, Any]:
    """The operating point that was asked for; of early metrics, which have none, made from their counts."""
    for point in metrics.get('operating_points') or ():
        return point
    counts = metrics['confusion']
    real, fake = counts['fp'] + counts['tn'], counts['tp'] + counts['fn']
    shares = {
        'accuracy': (counts['tp'] + counts['tn'], real + fake),
        'recall': (counts['tp'], fake),
        'specificity': (counts['tn'], real),
        'fpr': (counts['fp'], real),
        'precision': (counts['tp'], counts['tp'] + counts['fp']),
    }
    figures = {name: intervals.proportion(*share, why='no such images') for name, share in shares.items()}
    if metrics.get('f1') is not None:
        figures['f1'] = {'value': metrics['f1']}
    return {'name': f'{metrics["threshold"]:g}', 'threshold': metrics['threshold'], 'source': 'fixed',
            'achievable': True, 'confusion': counts, 'figures': figures}  # fmt: skip


def figures(metrics: dict[str, Any]) -> dict[str, Figure]:
    """The figures that need no threshold; of early metrics without intervals."""
    if metrics.get('figures'):
        return metrics['figures']
    names = {'auc': 'auc', 'average_precision': 'average_precision', 'loss': 'log_loss'}
    return {new: {'value': metrics.get(old), 'n': metrics['n'], 'why': 'only one class'} for old, new in names.items()}


def sentence(point: dict[str, Any]) -> str:
    """`Of 100 real images it wrongly calls 3 fake (2 to 4); of 100 fake ones it misses 5 (4 to 6).`"""
    counts, figures = point['confusion'], point.get('figures') or {}
    false, found = figures.get('fpr') or {}, figures.get('recall') or {}
    missed = (1 - found['high'], 1 - found['low']) if 'low' in found else None
    parts = [
        _mistakes(counts['fp'], counts['fp'] + counts['tn'], 'real', 'wrongly calls {} fake', _ends(false)),
        _mistakes(counts['fn'], counts['fn'] + counts['tp'], 'fake', 'misses {}', missed),
    ]
    said = [part for part in parts if part]
    if not said:
        return 'No image was scored.'
    both = '; '.join(said)
    missing = '' if len(said) == 2 else f' There are no {"real" if not parts[0] else "fake"} images in this set.'
    return f'{both[0].upper()}{both[1:]}.{missing}'


def _ends(figure: Figure) -> tuple[float, float] | None:
    return (figure['low'], figure['high']) if 'low' in figure else None


def _mistakes(wrong: int, n: int, noun: str, verb: str, ends: tuple[float, float] | None) -> str:
    if not n:
        return ''
    low, high = ends or intervals.wilson(wrong, n)  # early metrics have no intervals
    share = wrong / n
    if n < _FEW:
        count = 'none' if not wrong else f'{wrong:,}'
        said = f'95 % interval {100 * low:.0f} to {100 * high:.0f} of 100'
        return f'of the {plural(n, f"{noun} image")} it {verb.format(count)} ({said})'
    # Round numbers that people can imagine, large enough for the interval to have two ends.
    bases = (100, 1000, 10_000)
    base = next(
        (base for base in bases if n < 10 * base or (share * base >= 2 and (high - low) * base >= 1)), bases[-1]
    )
    count = 'none' if not wrong else 'fewer than 1' if share * base < 0.5 else f'{share * base:.0f}'
    return f'of {base:,} {noun} images it {verb.format(count)} ({low * base:.0f} to {high * base:.0f})'


def rare(point: dict[str, Any]) -> str:
    """What the same rates mean where few images are fake."""
    counts = point['confusion']
    real, fake = counts['fp'] + counts['tn'], counts['tp'] + counts['fn']
    if not real or not fake:
        return ''
    found, accused = _RARE * counts['tp'] / fake, (1 - _RARE) * counts['fp'] / real
    if not found + accused:
        return ''
    return (
        f'This set is {fake / (real + fake):.0%} fake. Where 1 image in 100 is fake, '
        f'{100 * found / (found + accused):.0f} of 100 images that it calls fake would be fake.'
    )


def trained_on(metrics: dict[str, Any]) -> str:
    """On what the detector was trained, in words."""
    name = metrics.get('detector', {}).get('trained_on')
    if not name:
        return 'unknown' if 'name' in metrics.get('detector', {}) else 'see the run folder'
    return 'faces drawn by code, which stand for nothing real' if name == DEMO else str(name)


def limits(metrics: dict[str, Any]) -> list[str]:
    """What the detector cannot tell."""
    detector = metrics.get('detector', {})
    name = detector.get('trained_on')
    lines = []
    if name == DEMO:
        lines.append('It was trained on faces drawn by code. Its scores say nothing about other images.')
    elif name:
        lines.append(
            f'It learned from {name} alone. How it does on other generators, cameras and kinds of forgery is unknown.'
        )
    else:
        lines.append('What it learned from is not known here. How it does on other images is unknown.')
    held_out = metrics.get('held_out') or []
    if held_out:
        lines.append(f'Training did not hold {plural(len(held_out), "source")} of this set; see how it does there.')
    lines.append(
        'A score is no proof. It says how an image compares with those of the training, not how or when it was made.'
    )
    lines += [line for line in [rare(decision(metrics))] if line]
    if metrics.get('n', 0) < 2 * _FEW:
        lines.append(f'{plural(metrics["n"], "image")} are few: read the intervals, not the figures.')
    return lines


def conditions(metrics: dict[str, Any]) -> list[str]:
    """What was done to the scores before they were judged, and what else a reader must know of the set."""
    lines = []
    if metrics.get('prevalence') is not None:
        lines.append(f'Scores are corrected to a stated prior: {100 * metrics["prevalence"]:g} % of images are fake.')
    if metrics.get('flip'):
        lines.append('Each score is the mean of the image and its mirror image.')
    found = metrics.get('unlike')
    if found and found['images']:
        # By the quantiles in `known`, about 2 of 100 of the same kind are too.
        most = ', '.join(f'{name} {count:,}' for name, count in list(found['reasons'].items())[:_REASONS])
        lines.append(
            f'{found["unlike"]:,} of {found["images"]:,} images that were compared are unlike the training images'
            + (f' (in {most}).' if most else '.')
        )
    others = metrics.get('without_copies')
    if others:
        rest = (
            f'without these, accuracy is {100 * others["accuracy"]:.1f} %' if 'n' in others else 'there are no others'
        )
        lines.append(
            f'{others["copies"]:,} of {metrics["n"]:,} images were in train or validation too, byte for byte; {rest}.'
        )
    return lines


def one_of(values: Sequence[str]) -> str:
    return ', '.join(values[:-1]) + (' and ' if len(values) > 1 else '') + values[-1] if values else ''

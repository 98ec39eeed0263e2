"""The tables of an evaluation's report: figures with their intervals, decisions, slices, tiers."""

from collections.abc import Sequence
from typing import Any

from fakeimg.evaluation import thresholds, words
from fakeimg.pages import Cell, Table

SLICES_SHOWN = 10
# Name in words, and what it means.
FIGURES = {
    'auc': ('ROC AUC', 'how often a fake image scores above a real one; 0.5 is chance'),
    'partial_auc': ('partial AUC, FPR ≤ 10 %', 'the same where few real images are called fake, standardised'),
    'average_precision': ('average precision', 'mean precision over recall; depends on the share of fake images'),
    'eer': ('equal error rate', 'where as many fake images are missed as real ones called fake'),
    'tpr_at_fpr_5': ('TPR at FPR 5 %', 'fake images found while 5 % of real ones are called fake'),
    'tpr_at_fpr_1': ('TPR at FPR 1 %', 'fake images found while 1 % of real ones are called fake'),
    'tpr_at_fpr_0.1': ('TPR at FPR 0.1 %', 'fake images found while 0.1 % of real ones are called fake'),
    'log_loss': ('log loss', 'nats; lower is better'),
    'brier': ('Brier score', 'mean squared error of P(fake); lower is better'),
    'cllr': ('Cllr', 'bits lost by the scores as evidence; 0 is perfect, 1 says nothing'),
    'cllr_min': ('Cllr, best calibration', 'what is left of Cllr after the best possible calibration'),
    'ece': ('calibration error', 'ECE, 15 equal-mass bins, debiased'),
    'ece_perfect': ('ECE of a perfect model', 'what a perfectly calibrated model would show at this n'),
    'smooth_ece': ('smooth ECE', 'calibration error without bins'),
    'augrc': ('AUGRC', 'wrong and yet decided, over all coverages; lower is better'),
}
DECISIONS = {
    'accuracy': 'accuracy',
    'balanced_accuracy': 'balanced accuracy',
    'precision': 'precision',
    'recall': 'recall (TPR)',
    'specificity': 'specificity',
    'fpr': 'FPR',
    'f1': 'F1 of fake',
    'f1_real': 'F1 of real',
    'mcc': 'MCC',
}


def title(name: str) -> str:
    """The name of a figure in words."""
    return FIGURES[name][0] if name in FIGURES else DECISIONS.get(name, name.replace('_', ' '))


def figures(found: dict[str, Any]) -> Table:
    """Figures that need no threshold."""
    known = [name for name in FIGURES if name in found]
    rows = []
    for name in [*known, *(name for name in found if name not in FIGURES)]:
        meaning = FIGURES[name][1] if name in FIGURES else ''
        rows.append([Cell(title(name), '', meaning), words.cell(found[name], name), *_method(found[name])])
    return Table(['figure', 'value', 'n', 'method'], rows, kinds='wnnw')


def _method(figure: dict[str, Any] | None) -> tuple[str, str]:
    figure = figure or {}
    n = f'{figure["n"]:,}' if isinstance(figure.get('n'), int) else ''
    groups = f', {figure["groups"]:,} whole groups' if figure.get('groups') else ''
    return n, f'{figure.get("method") or ""}{groups}'.removeprefix(', ')


def decisions(points: Sequence[dict[str, Any]]) -> list[Table]:
    """Figures at each operating point, and the counts behind them."""
    head = ['', *(point['name'] for point in points)]
    names = [name for name in DECISIONS if any(name in point['figures'] for point in points)]
    rows: list[Sequence[str | Cell]] = [
        ['threshold on P(fake)', *(thresholds.text(point['threshold'], 4) for point in points)]
    ]
    rows += [[DECISIONS[name], *(words.cell(point['figures'].get(name), name) for point in points)] for name in names]
    wrong = {'tp': 'fake, called fake', 'fn': 'fake, called real', 'fp': 'real, called fake', 'tn': 'real, called real'}
    rows += [[words_, *(f'{point["confusion"][key]:,}' for point in points)] for key, words_ in wrong.items()]
    return [Table(head, rows)]


def sources(point: dict[str, Any]) -> str:
    """Where a threshold comes from, in words."""
    name = point['name']
    if not point.get('achievable', True):
        return f'{name}: chosen on these very images, so nobody can achieve it; it shows what there is to gain.'
    if point.get('source') == 'validation':
        n = f' of {words.plural(point["n"], "image")}' if point.get('n') else ''
        return f'{name}: fixed on validation{n} before these images were scored.'
    return f'{name}: a fixed threshold.'


def slice_rows(name: str, rows: Sequence[dict[str, Any]], macro: dict[str, Any] | None) -> Table:
    """One row a slice, worst first, and the mean over slices."""
    keys = [key for key in ('accuracy', 'auc', 'recall', 'specificity') if any(row.get(key) for row in rows)]
    shown = []
    for row in rows[:SLICES_SHOWN]:
        notes = ['not in training'] if row.get('seen') is False else []
        notes += [f'AUC against {row["against"]}'] if row.get('against') else []
        counts = f'{row["n"]:,}'
        both = f'{row["real"]:,} real, {row["fake"]:,} fake' if 'real' in row and 'fake' in row else ''
        figures = [words.cell(row[key], key) if row.get(key) else Cell('', '') for key in keys]
        shown.append([Cell(_name(row['value']), '', ', '.join(notes)), Cell(counts, '', both), *figures])
    if macro:
        means = [words.cell(macro[key], key) if macro.get(key) else Cell('', '') for key in keys]
        shown.append([Cell('mean over slices', '', 'each counts once'), '', *means])
    left = len(rows) - SLICES_SHOWN
    note = f'The worst {SLICES_SHOWN} of {len(rows):,}; metrics.json has all of them.' if left > 0 else ''
    return Table([name.replace('_', ' '), 'n', *(('AUC' if key == 'auc' else key) for key in keys)], shown, note=note)


def _name(value: Any) -> str:
    return str(value) if str(value) else '(none)'


def tiers(rows: Sequence[dict[str, Any]]) -> Table:
    """The tiers of a robustness test."""
    keys = ('auc', 'auc_drop', 'accuracy', 'accuracy_drop')
    titles = ('AUC', 'drop of AUC', 'accuracy', 'drop of accuracy')
    shown = [
        [
            Cell(row['name'], '', row.get('what') or ''),
            *(words.cell(row[key], key) if row.get(key) else '' for key in keys),
        ]
        for row in rows
    ]
    return Table(['tier', *titles], shown)


def drops(found: dict[str, Any]) -> Table:
    """What the score loses when cells are replaced, log-odds."""
    titles = {'highest': 'highest fifth', 'random': 'random fifth', 'difference': 'difference'}
    rows = [[titles[name], words.cell(figure)] for name, figure in found.items()]
    return Table(['cells replaced', 'drop, log-odds'], rows, 'What the score loses')


def correlations(rows: Sequence[dict[str, Any]]) -> Table:
    """How alike the maps are to those of drawn weights, stage after stage."""
    shown = [
        [row['drawn'] if not number else f'and {row["drawn"]}', words.cell(row['correlation'])]
        for number, row in enumerate(rows)
    ]
    return Table(['weights drawn', 'rank correlation'], shown, 'Maps of drawn weights')

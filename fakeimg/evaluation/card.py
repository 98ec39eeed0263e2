"""The model card of an evaluation, for the Hugging Face Hub: the figures of its report, and a header for machines."""

import dataclasses
import pathlib
import re
from typing import Any

from fakeimg import files, pages
from fakeimg.evaluation import provenance, tables, thresholds, words

_TASK = 'image-classification'
# Names under which the Hub knows our metrics.
_HUB_FIGURES = {
    'auc': 'roc_auc',
    'average_precision': 'average_precision',
    'log_loss': 'log_loss',
    'brier': 'brier_score',
}
_HUB_DECISIONS = {'accuracy': 'accuracy', 'precision': 'precision', 'recall': 'recall', 'f1': 'f1'}


@dataclasses.dataclass(frozen=True)
class Published:
    """What the card of a detector that others load says besides.

    Attributes:
        source: what `fakeimg.load` takes: `hf://OWNER/NAME`, or a name in the package.
        license: of the weights, as the Hub spells it (`apache-2.0`); '' if none is stated.
        about: Markdown, what its author says about it; or ''.
        threshold: on P(fake), and its rule, where the user gives none; or ''.
    """

    source: str
    license: str = ''
    about: str = ''
    threshold: str = ''


def write_card(path: pathlib.Path, metrics: dict[str, Any], published: Published | None = None) -> None:
    """Writes `model_card.md`; the keys of `metrics` are those of `metrics.json`, the new ones optional."""
    import huggingface_hub  # takes half a second to import

    title, data = _title(metrics), _data(metrics)
    point = words.decision(metrics)
    found = [*_measured(words.figures(metrics), _HUB_FIGURES), *_measured(point['figures'], _HUB_DECISIONS)]
    results = [
        huggingface_hub.EvalResult(
            task_type=_TASK,
            dataset_type=re.sub(r'[^a-z0-9]+', '-', data.lower()).strip('-') or 'images',
            dataset_name=data,
            dataset_split=_clean(metrics['split']),
            metric_type=kind,
            metric_name=tables.title(name),
            metric_value=figure['value'],
            metric_args={key: figure[key] for key in ('low', 'high', 'n', 'method') if figure.get(key) is not None},
        )
        for name, kind, figure in found
    ]
    header = huggingface_hub.ModelCardData(
        library_name='fakeimg',
        license=(published and published.license) or None,
        pipeline_tag=_TASK,
        tags=['deepfake-detection', 'image-forensics'],
        model_name=title,
        eval_results=results or None,
    )
    text = pages.render_text('model_card.md.j2', published=published, **_context(metrics, point, title))
    with files.replacing(path, 'wb') as file:
        file.write(f'---\n{header.to_yaml()}\n---\n\n{text}'.encode('utf-8', 'replace'))


def _measured(figures: dict[str, Any], names: dict[str, str]) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, the Hub's name and figure of those that are defined."""
    return [(name, kind, figures[name]) for name, kind in names.items()
            if (figures.get(name) or {}).get('value') is not None]  # fmt: skip


def _context(metrics: dict[str, Any], point: dict[str, Any], title: str) -> dict[str, Any]:
    detector = metrics.get('detector') or {}
    counts = point['confusion']
    rows = [_row(name, figure) for name, figure in words.figures(metrics).items()]
    rows += [_row(name, figure) for name, figure in point['figures'].items()]
    return {
        'title': title,
        'sentence': words.sentence(point),
        'about': f'{title} says how likely an image is generated or forged: P(fake), from 0 to 1. '
        f'It calls an image fake from {thresholds.text(metrics["threshold"])}.',
        'limits': words.limits(metrics),
        'training': [
            ('trained on', words.trained_on(metrics)),
            *([('checkpoint', metrics['step'])] if metrics.get('step') is not None else []),
            *([('network', detector['model'])] if detector.get('model') else []),
        ],
        'judged': [
            f'{_data(metrics)}, split {metrics["split"]}: {counts["fp"] + counts["tn"]:,} real and '
            f'{counts["tp"] + counts["fn"]:,} fake images, {metrics.get("skipped") or 0:,} unreadable'
            + (f'; {metrics["date"]}.' if metrics.get('date') else '.'),
            f'Decisions are at the threshold {thresholds.text(metrics["threshold"])}: {tables.sources(point)}',
        ],
        'figures': rows,
        'conditions': words.conditions(metrics),
        'command': _clean(metrics.get('command') or ''),
        'reproduce': provenance.identifiers(metrics, None),
    }


def _row(name: str, figure: dict[str, Any] | None) -> list[str]:
    figure = figure or {}
    shown = words.value(figure, name) if figure.get('value') is not None else f'undefined: {words.why(figure)}'
    n = f'{figure["n"]:,}' if isinstance(figure.get('n'), int) else ''
    return [tables.title(name), shown, words.interval(figure, name), n, str(figure.get('method') or '')]


def _title(metrics: dict[str, Any]) -> str:
    detector = metrics.get('detector') or {}
    name = detector.get('model') or detector.get('name') or 'fakeimg detector'
    trained = detector.get('trained_on')
    return _clean(f'{name} trained on {trained}' if trained else str(name))


def _data(metrics: dict[str, Any]) -> str:
    name = (metrics.get('data') or {}).get('name') or pathlib.Path(str(metrics.get('data_path') or 'scores')).name
    return _clean(str(name)) or 'images'


def _clean(text: str) -> str:
    """Text on one line that can be encoded."""
    return re.sub(r'\s+', ' ', text).encode('utf-8', 'replace').decode().strip()

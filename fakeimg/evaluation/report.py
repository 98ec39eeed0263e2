"""The report of an evaluation: one page for a journalist's first look and a reviewer's last, from `metrics.json`."""

import pathlib
from typing import Any

from fakeimg import pages
from fakeimg.data.datasets import Split
from fakeimg.evaluation import gallery, parts, provenance, thresholds, words
from fakeimg.evaluation.gallery import NO_MAPS, Maps
from fakeimg.meta import Meta
from fakeimg.pages import Section
from fakeimg.scoring import Predictions

_SOURCES_SHOWN = 6
_EMBEDDED_SLICES = 50  # of a dimension


def write_report(
    folder: pathlib.Path,
    metrics: dict[str, Any],
    predictions: Predictions,
    split: Split | None,
    meta: Meta | None,
    *,
    run: pathlib.Path | None = None,
    no_images: bool = False,
    maps: Maps = NO_MAPS,
) -> None:
    """Writes `report.html`, one self-contained page, and its charts as `figures/NAME.svg` and `.png`.

    Args:
        folder: of the evaluation.
        metrics: as in `metrics.json`; a section whose numbers are missing or None is left out.
        predictions: what the metrics were computed from.
        split: the images that were scored; None where only their scores are known.
        meta: of the checkpoint; None for a detector that is not ours.
        run: the run folder, whose learning curves and audit are shown.
        no_images: leaves the thumbnails out.
        maps: explanations of images in the gallery, by name.
    """
    drawn = folder / 'figures'
    point, data = words.decision(metrics), metrics.get('data', {})
    name = data.get('name') or pathlib.Path(str(metrics.get('data_path') or 'scores')).name
    sections = [
        parts.figures(metrics),
        parts.decisions(metrics),
        parts.curves(metrics, drawn),
        parts.calibration(metrics, drawn),
        parts.scores(metrics, drawn),
        parts.abstention(metrics, drawn),
        *parts.slices(metrics, drawn),
        parts.videos(metrics),
        parts.robustness(metrics, drawn),
        parts.explanations(metrics, has_maps=bool(maps)),
        Section(
            'Images',
            ['Thumbnails are left out.'] if no_images else [],
            sheets=gallery.sheets(metrics, predictions, split, no_images, maps),
        ),
        provenance.learning(run, drawn),
        provenance.audit(metrics, run),
        provenance.unreadable(metrics),
        provenance.reproduce(metrics, meta),
    ]
    pages.write_page(
        folder / 'report.html',
        f'{name}, {metrics["split"]} split',
        [section for section in sections if section is not None],
        template='report.html.j2',
        data=_embedded(metrics),
        what=_what(metrics, meta),
        sentence=words.sentence(point),
        headline=_headline(metrics, point),
        facts=_facts(metrics, meta),
        limits=words.limits(metrics),
        conditions=words.conditions(metrics),
        small='Intervals are 95 % intervals. This page loads nothing and runs no script.',
    )


def _detector(metrics: dict[str, Any], meta: Meta | None) -> str:
    found = metrics.get('detector', {})
    return str(found.get('model') or found.get('name') or (meta.config['model']['name'] if meta else 'a detector'))


def _what(metrics: dict[str, Any], meta: Meta | None) -> str:
    day = f', {metrics["date"]}' if metrics.get('date') else ''
    return f'Evaluation of {_detector(metrics, meta)} on {words.plural(metrics["n"], "image")}{day}'


def _headline(metrics: dict[str, Any], point: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Name, value, interval and a remark of the figures on the first screen."""
    auc = words.figures(metrics).get('auc')
    shown = [('ROC AUC', auc, 'auc', f'n = {metrics["n"]:,}; 0.5 is chance')]
    for name, title in (('accuracy', 'Accuracy'), ('balanced_accuracy', 'Balanced accuracy')):
        if name in point['figures']:
            shown.append(
                (title, point['figures'][name], name, f'at the threshold {thresholds.text(metrics["threshold"])}')
            )
    return [
        (title, words.value(figure, name), words.interval(figure, name),
         remark if figure and figure.get('value') is not None else words.why(figure))
        for title, figure, name, remark in shown
    ]  # fmt: skip


def _facts(metrics: dict[str, Any], meta: Meta | None) -> list[tuple[str, str]]:
    data, found = metrics.get('data', {}), metrics.get('detector', {})
    labels = metrics.get('labels') or {}
    fake = [name for name, label in labels.items() if label == 1]
    counts = metrics['confusion']
    classes = f'{counts["fp"] + counts["tn"]:,} real, {counts["tp"] + counts["fn"]:,} fake'
    facts = [
        ('detector', _detector(metrics, meta) + (f', checkpoint {metrics["step"]}' if metrics.get('step') else '')),
        ('trained on', words.trained_on(metrics)),
        ('to detect', f'images of the class {words.one_of(fake)}' if fake else 'generated or forged images'),
        ('judged on', f'{data.get("name") or metrics.get("data_path")}, split {metrics["split"]}: {classes}'),
    ]
    skipped = metrics.get('skipped') or 0
    sources = data.get('sources') or {}
    if len(sources) > 1:
        more = f' and {len(sources) - _SOURCES_SHOWN:,} more' if len(sources) > _SOURCES_SHOWN else ''
        facts.append(('sources', ', '.join(list(sources)[:_SOURCES_SHOWN]) + more))
    if skipped:
        facts.append(('not scored', f'{words.plural(skipped, "unreadable image")}, listed below'))
    facts.append(('calls fake', f'from P(fake) {thresholds.text(metrics["threshold"])}'))
    return [*facts, *([('run', str(found['run']))] if found.get('run') else [])]


def _embedded(metrics: dict[str, Any]) -> dict[str, Any]:
    """All numbers of the page; of slices the worst, for there may be thousands of videos."""
    data = dict(metrics)
    if metrics.get('slices'):
        data['slices'] = {name: (rows or [])[:_EMBEDDED_SLICES] for name, rows in metrics['slices'].items()}
    if metrics.get('curves'):
        data['curves'] = {name: points for name, points in metrics['curves'].items() if name != 'det'}  # roc's points
    return data

"""The sections of an evaluation's report, each made of the part of `metrics.json` that it shows."""

import pathlib
from typing import Any

from fakeimg.evaluation import charts, tables, words
from fakeimg.explaining import overlay, page
from fakeimg.pages import Section, Table


def figures(metrics: dict[str, Any]) -> Section:
    return Section(
        'Figures',
        ['95 % intervals stand below each figure. Grey: undefined, or the set is too small for it.'],
        tables=[tables.figures(words.figures(metrics))],
    )


def decisions(metrics: dict[str, Any]) -> Section:
    points = metrics.get('operating_points') or [words.decision(metrics)]
    said = [tables.sources(point) for point in points]
    counts = words.decision(metrics)['confusion']
    said.append(
        f'At the first threshold: true positive rate {_rate(counts["tp"], counts["fn"])} of fake images, '
        f'false positive rate {_rate(counts["fp"], counts["tn"])} of real images.'
    )
    gap = metrics.get('transfer_gap')
    if gap and gap.get('value') is not None:
        said.append(
            'The best threshold of these images would have gained '
            f'{words.text(gap, "transfer_gap").replace(" %", " percentage points")} of balanced accuracy'
            + (f' over that named {gap["at"]}.' if gap.get('at') else '.')
        )
    return Section('Decisions', said, tables=tables.decisions(points))


def _rate(part: int, rest: int) -> str:
    """`94.2% (471 of 500)`."""
    whole = part + rest
    return f'{part / whole:.1%} ({part:,} of {whole:,})' if whole else 'undefined (0 of 0)'


def curves(metrics: dict[str, Any], drawn: pathlib.Path) -> Section | None:
    curves = metrics.get('curves') or {}
    found = [charts.roc(metrics, drawn), charts.det(metrics, drawn)] if curves.get('roc') else []
    if curves.get('pr'):
        found.append(charts.precision_recall(metrics, drawn))
    return Section('ROC and DET', charts=found) if found else None


def calibration(metrics: dict[str, Any], drawn: pathlib.Path) -> Section | None:
    if not metrics.get('reliability'):
        return None
    said, found = [], metrics.get('calibration')
    if found and found.get('method') not in (None, 'none'):
        fitted = found.get('fitted_on') or {}
        n = f'{words.plural(fitted["n"], "image")} of ' if fitted.get('n') else ''
        said.append(
            f'{found["method"].capitalize()} scaling, fitted on {n}{fitted.get("split", "validation")}, '
            f'takes the log loss there from {found["log_loss_before"]:.4f} to {found["log_loss_after"]:.4f}: '
            f'slope {found["slope"]:.3f}, intercept {found["intercept"]:.3f} on the log-odds.'
        )
    if metrics.get('prevalence') is not None:
        said.append(f'All figures are of calibrated scores, for a share of fakes of {100 * metrics["prevalence"]:g} %.')
    elif after := metrics.get('calibrated'):
        said.append(
            'All figures are of the scores as the network gives them. After this calibration, log loss here is '
            f'{words.text(after["log_loss"])} and ECE {words.text(after["ece"])}.'
        )
    else:
        said.append('All figures are of the scores as the detector gives them.')
    figures = words.figures(metrics)
    if 'ece' in figures and 'ece_perfect' in figures:
        said.append(
            f'The calibration error (ECE) is {words.text(figures["ece"])}; a perfect model would show '
            f'{words.value(figures["ece_perfect"])} at this number of images.'
        )
    return Section('Reliability', said, charts=[charts.reliability(metrics, drawn)])


def scores(metrics: dict[str, Any], drawn: pathlib.Path) -> Section | None:
    return Section('Scores by class', charts=[charts.scores(metrics, drawn)]) if metrics.get('histogram') else None


def abstention(metrics: dict[str, Any], drawn: pathlib.Path) -> Section | None:
    unsure, said = metrics.get('unsure'), []
    if unsure and unsure.get('low') is not None:
        source, rate = unsure.get('source', 'validation'), f'at most {100 * unsure["error_rate"]:g} %'
        wrong = words.text(unsure.get('error'), 'error')
        if unsure['low'] == unsure['high']:
            said.append(
                f'No image need be called unsure: on {source}, {rate} of all decisions at P(fake) {unsure["low"]:.3f} '
                f'are wrong. Here, {wrong} are.'
            )
        else:
            said.append(
                f'Images with P(fake) between {unsure["low"]:.3f} and {unsure["high"]:.3f} are called unsure. The band '
                f'was chosen on {source} so that {rate} of the decided images are wrong. Here it decides '
                f'{words.text(unsure.get("coverage"), "coverage")} of all, and {wrong} of these decisions are wrong.'
            )
    elif unsure and unsure.get('why'):
        said.append(f'There is no unsure band: {unsure["why"]}.')
    drawings = [charts.risk_coverage(metrics, drawn)] if metrics.get('risk_coverage') else []
    return Section('When it may say unsure', said, charts=drawings) if said or drawings else None


def slices(metrics: dict[str, Any], drawn: pathlib.Path) -> list[Section]:
    found = {name: rows for name, rows in (metrics.get('slices') or {}).items() if rows}
    drawings, shown = [], []
    for name, rows in found.items():
        chart = charts.slices(name, rows, metrics, drawn)
        drawings += [chart] if chart else []
        shown.append(tables.slice_rows(name, rows, (metrics.get('macro') or {}).get(name)))
    sections = []
    if metrics.get('held_out'):
        rows = metrics['held_out']
        said = ['Sources that training did not hold: nearest to what the next generator will do.']
        sections.append(Section('Sources not in training', said, tables=[tables.slice_rows('source', rows, None)]))
    if shown:
        said = ['The worst first. A slice of one class is judged against all images of the other where it says so.']
        sections.append(Section('Slices', said, charts=drawings, tables=shown))
    return sections


def videos(metrics: dict[str, Any]) -> Section | None:
    videos = metrics.get('videos')
    if not videos:
        return None
    said = f'Each of {words.plural(videos["n"], "video")} is judged as a whole, by the {videos.get("rule", "frames")}.'
    rows = [[title, words.cell(videos.get(key), key)] for key, title in (('auc', 'ROC AUC'), ('accuracy', 'accuracy'))]
    return Section('Videos', [said], tables=[Table(['figure', 'value'], rows)])


def robustness(metrics: dict[str, Any], drawn: pathlib.Path) -> Section | None:
    found = metrics.get('robustness')
    if not found:
        return None
    said = [
        f'{words.plural(found["n"], "image")} of both classes were degraded alike before they were scored, seed '
        f'{found.get("seed", 0)}. Accuracy is at the first threshold. '
        'Drops are paired: the same images before and after.'
    ]
    drawings = [charts.severity(name, curve, drawn) for name, curve in (found.get('curves') or {}).items()]
    shown = [tables.tiers(found['tiers'])] if found.get('tiers') else []
    return Section('Robustness', said, tables=shown, charts=[chart for chart in drawings if chart])


def explanations(metrics: dict[str, Any], *, has_maps: bool) -> Section | None:
    """What maps are worth for this detector; the maps themselves stand beside the images."""
    found = metrics.get('explanations')
    if not found:
        return None
    check = found['randomisation']
    said = [*page.notes(found['cells'], found['cell'], found['exact']), _drops(found), check['verdict']]
    if has_maps:
        said.append(
            'Below, the map of each image stands beside it, with the drops of its own score: one image says little.'
        )
    shown = [tables.drops(found['drops']), tables.correlations(check['rows'])]
    return Section('Explanations', said, charts=[overlay.legend()] if has_maps else [], tables=shown)


def _drops(found: dict[str, Any]) -> str:
    """What the score loses with the cells that a map names, and whether that is more than with others."""
    drops = found['drops']
    highest, random, difference = (drops[name] for name in ('highest', 'random', 'difference'))
    if difference['value'] is None:
        return f'What the score loses without the cells that a map names is undefined: {difference["why"]}.'
    is_more = difference['low'] > 0
    return (
        'The fifth of the cells that speaks most for the class called was replaced by the same region of another '
        f'image, in {words.plural(difference["n"], "image")}: the log-odds moved by {words.text(highest)} towards '
        f'the other class, and by {words.text(random)} where the fifth was a random one. '
        + ('The score rests more on what the maps name than on the rest.' if is_more else
           'That is not clearly more, so these maps do not say where the score rests.')
    )  # fmt: skip

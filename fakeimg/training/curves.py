"""The curves of a run as an image: loss and AUC of training and validation, from its `metrics.jsonl`."""

import json
import pathlib

import matplotlib
import matplotlib.figure

from fakeimg import pages


def draw(workdir: pathlib.Path) -> pathlib.Path | None:
    """Writes `figures/curves.png` in the run folder, and returns its path; None where there are no metrics yet."""
    path = workdir / 'metrics.jsonl'
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if not rows:
        return None
    with matplotlib.rc_context(pages.PLOT_STYLE):
        figure = matplotlib.figure.Figure(figsize=(10, 3.8), layout='constrained', dpi=110)
        for axis, name in zip(figure.subplots(1, 2), ('loss', 'auc'), strict=True):
            for split, style in (('train', '-'), ('validation', 'o-')):
                points = [(row['step'], row[f'{split}/{name}']) for row in rows if f'{split}/{name}' in row]
                if points:
                    axis.plot(*zip(*points, strict=True), style, markersize=3, linewidth=1, label=split)
                    axis.legend(frameon=False)
            axis.set(xlabel='step', title=name)
    out = workdir / 'figures' / 'curves.png'
    out.parent.mkdir(exist_ok=True)
    figure.savefig(out)
    return out

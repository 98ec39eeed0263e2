"""Writes the portable detector of a run, see `fakeimg.portable`: weights, thresholds, figures and a model card.

Of the machine that it was made on, names of folders and files stay, and no paths.
"""

import dataclasses
import pathlib
import re
import shlex
import shutil
import tempfile
from typing import Any

import jax

from fakeimg import decision, files, operating, portable
from fakeimg.applying import words
from fakeimg.config import DEMO
from fakeimg.console import Console
from fakeimg.data import layouts
from fakeimg.detector import Detector
from fakeimg.errors import UserError
from fakeimg.evaluation import card, carried, evaluator
from fakeimg.evaluation.card import Published
from fakeimg.evaluation.options import Options
from fakeimg.operating import Operating
from fakeimg.portable import Weights

DTYPES = ('float32', 'float16')
# The last part of an absolute path: of one in quotes, which may hold spaces, and of a bare one.
_PATHS = (
    re.compile(r"""(?<=['"])~?/(?:[^/'"]+/)*([^/'"]+)/?(?=['"])"""),
    re.compile(r"""(?<![\w:/.~])~?/(?:[^/\s'",=]+/)*([^/\s'",=]+)/?"""),
)


def write(out: pathlib.Path, detector: Detector, dtype: str, published: Published, console: Console) -> None:
    """Writes the folder, whole or not at all.

    float32 is the detector as it is, with the figures that its run has. float16 is another detector by rounding:
    thresholds and calibration are fitted anew on validation, and the figures are those of a new evaluation.

    Args:
        out: a folder that is empty or does not exist.
        detector: of a run that was evaluated on its test set, or a portable one.
        dtype: of the weights in the file, one of DTYPES.
        published: for the card.
        console: gets warnings and progress.

    Raises:
        UserError: the folder holds something, there is no evaluation, the images for a new one are not there, or a
            weight is too large for the dtype.
    """
    assert detector.run is not None and detector.step is not None
    metrics = portable.metrics_on_test(detector.run, detector.step)
    if not metrics:
        raise UserError(
            f'checkpoint {detector.step} of {files.shown(detector.run)} was not evaluated on its test set; evaluate it '
            'first, for its thresholds and the figures of its card.'
        )
    require_free(out)
    weights = portable.rounded(Weights(jax.device_get(detector.variables), _named(detector), detector.step), dtype)
    files.require_writable(out.parent)
    with tempfile.TemporaryDirectory(prefix=f'.{out.name}-', dir=out.parent) as work:
        folder = pathlib.Path(work, out.name)
        folder.mkdir()
        portable.write_weights(folder / portable.WEIGHTS, weights, dtype)
        run, fitted, judged = detector.run, detector.operating, detector
        if dtype != 'float32':
            run = pathlib.Path(work, 'judged', detector.run.name)
            fitted, metrics, judged = _judged_anew(detector, weights, run, published, console)
        for name in portable.BESIDE:
            if (run / name).exists():
                shutil.copyfile(run / name, folder / name)
        if fitted is None:
            (folder / operating.FILE).unlink(missing_ok=True)
            console.warn('no thresholds are published: validation fixed none for this checkpoint')
        else:
            tied = operating.key(weights.meta, weights.step, fitted['split'], fitted['digest'])
            files.write_json(folder / operating.FILE, {**fitted, **tied})
        decided = decision.carried(fitted)
        counts = words.of_test(dataclasses.replace(judged, decision=decided))
        metrics = {**names_only(metrics), 'verdicts': {'decision': words.bounds(decided), 'counts': counts}}
        files.write_json(folder / portable.METRICS, metrics)
        published = dataclasses.replace(published, threshold=f'{decided.threshold:.3g} ({decided.rule})')
        card.write_card(folder / portable.CARD, metrics, published)
        folder.rename(out)  # also onto an empty folder


def require_free(out: pathlib.Path) -> None:
    """Raises UserError for a folder that holds something, or a file."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f'{out} exists; name another folder, or remove it first.')


def names_only(value: Any) -> Any:
    """JSON in which every absolute path is the name at its end."""
    if isinstance(value, dict):
        return {key: names_only(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [names_only(item) for item in value]
    if not isinstance(value, str):
        return value
    if re.match('~?/', value):  # a path whole, whatever it holds
        return pathlib.PurePath(value).name
    for pattern in _PATHS:
        value = pattern.sub(r'\1', value)
    return value


def _named(detector: Detector) -> Any:
    """The meta of a detector whose images have a name and no path."""
    config, path = names_only(detector.meta.config), detector.config.data.path
    config['data']['path'] = path if path == DEMO else layouts.set_name(path)
    return dataclasses.replace(detector.meta, config=config)


def _command(published: Published, weights: Weights, rule: str | float) -> str:
    path = weights.meta.config['data']['path']
    place = [] if path == DEMO else ['--moved_to', path]
    return shlex.join(['fakeimg', 'evaluate', '--model', published.source, *place, '--threshold', str(rule)])


def _judged_anew(
    detector: Detector, weights: Weights, run: pathlib.Path, published: Published, console: Console
) -> tuple[Operating, dict[str, Any], Detector]:
    """What validation fixes for these weights, their evaluation on test, and the detector that was evaluated.

    Args:
        detector: of the run, with other weights.
        weights: to be judged.
        run: a folder to be made, which stands for the run folder.
        published: names the detector.
        console: gets warnings and progress.
    """
    assert detector.run is not None
    run.mkdir(parents=True)
    for path in detector.run.glob('seen_images*.npz'):
        shutil.copyfile(path, run / path.name)
    variables = portable.complete(weights.variables, detector.variables)
    variables = detector.devices.replicate(variables)
    judged = dataclasses.replace(detector, variables=variables, meta=weights.meta, run=run)
    judged = judged.tolerating()
    rule = detector.decision.rule if detector.decision.rule in decision.CARRIED else 0.5
    console.say('float16 weights are judged anew: thresholds on validation, figures on test')
    fitted = carried.of_run(judged, None, rule, 0.05, console)
    if fitted is None:
        raise UserError(
            'the thresholds of float16 weights are fitted on the images of validation, which are not there; say where '
            'they are now (moved_to), or write the weights in float32.'
        )
    options = Options(threshold=rule, images=False, command=_command(published, weights, rule))
    metrics, _ = evaluator.evaluate(judged, 'test', options=options, console=console)
    return fitted, metrics, judged

"""Scores images with a trained detector: fakeimg predict --workdir runs/resnet50 INPUT...

--model takes a detector that others have published: hf://OWNER/NAME, a file, or cifake, which is in the package.
INPUT is an image, a folder with images at any depth, a pattern, a zip or tar archive, a prepared set, or - for one
image on standard input. Each image has one row, in order, also one that cannot be read. At a terminal, a few images get
a table with a sentence each; otherwise rows are CSV, on standard output or in the file --out.
Exit code 0: all images were scored; 1: some could not be; 2: a mistake in the command; 130: interrupted.
"""

import functools
import itertools
import os
import pathlib
import sys
from collections.abc import Sequence

import rich.box
import rich.table
import rich.text
from absl import flags

from fakeimg import detector, files
from fakeimg.applying import faces, inputs, predict, provenance, rows, sinks, words
from fakeimg.applying.inputs import Images
from fakeimg.applying.predict import Applied, Counts
from fakeimg.applying.subjects import FaceFinder
from fakeimg.cli import models, verb
from fakeimg.console import Console
from fakeimg.data.inputs import Input
from fakeimg.errors import UserError
from fakeimg.runtime import parallel

_WORKDIR = flags.DEFINE_string('workdir', None, 'Run folder.')
_STEP = flags.DEFINE_string('step', 'best', 'Checkpoint of the run: best (by validation), latest, or its step.')
_FILES_FROM = flags.DEFINE_string(
    'files_from', None, 'File with one name of an image, folder or archive a line; - for stdin.'
)
_NUL = flags.DEFINE_bool('0', False, 'The names in that file end with NUL, as find -print0 writes them.')
_OUT = flags.DEFINE_string('out', None, 'File for the rows: .csv, .jsonl or .parquet; default: standard output.')
_FORMAT = flags.DEFINE_string(
    'format', None, 'csv, jsonl, parquet, or a template: %p path, %v verdict, %s P(fake), %l label, %g logit, '
    '%t threshold, %b stability, %f faces, %x provenance, %n note, %m model. Default: by the name of --out, or csv.'
)  # fmt: skip
_RESUME = flags.DEFINE_bool('resume', False, 'Go on with the file --out where an earlier command stopped.')
_OVERWRITE = flags.DEFINE_bool('overwrite', False, 'Replace the file --out if it exists.')
_THRESHOLD = flags.DEFINE_string(
    'threshold', None, 'P(fake) from which an image is called fake, or a rule that an evaluation fitted on validation '
    '(youden); default: fpr=0.01 if validation supports it.'
)  # fmt: skip
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 0, 'Images per step over all GPUs; 0: as in training.')

_STABILITY = flags.DEFINE_bool(
    'stability', False, 'Score mildly re-encoded variants too, and call an image unsure where its verdict changes.'
)  # fmt: skip

_FACES = flags.DEFINE_enum(
    'faces', 'auto', ['auto', 'off', 'all'], 'Score the faces in photos: auto where the detector was trained on crops '
    'that fakeimg made, one row an image; all: always, with a row for each face as well.'
)  # fmt: skip
_FACE_WEIGHTS = flags.DEFINE_string('face_weights', '', 'File of the network that finds faces; default: from the Hub.')
_PROVENANCE = flags.DEFINE_bool('provenance', True, 'Read what files declare of themselves; no part of the score.')
_TRUSTED = flags.DEFINE_string('trusted', '', 'PEM file of certificates whose signed manifests are trusted.')

_EXPLAIN = flags.DEFINE_string(
    'explain', None, 'Folder for a page with maps of what the scores of the first 200 images rest on.'
)  # fmt: skip

_FEW = 20  # images, of which a terminal shows a table


def main(argv: Sequence[str]) -> int:
    console = verb.console(stream=sys.stderr)
    images = _images(argv[1:])
    out = pathlib.Path(_OUT.value).expanduser() if _OUT.value else None
    form = _FORMAT.value or (out.suffix[1:].lower() if out and out.suffix[1:].lower() in rows.FORMATS else 'csv')
    rows.require_format(form)
    for name, value in (('resume', _RESUME.value), ('overwrite', _OVERWRITE.value)):
        verb.require(not value or out is not None, name, str(value).lower(), 'given with --out FILE')
    if form == 'parquet' and out is None:
        raise UserError('parquet is no text; pass --out FILE.parquet.')
    verb.require(not (_RESUME.value and _OVERWRITE.value), 'overwrite', 'true', 'left out with --resume')
    if out is not None and not (_RESUME.value or _OVERWRITE.value):
        sinks.require_new(out)
    folder = pathlib.Path(_EXPLAIN.value).expanduser() if _EXPLAIN.value else None
    if folder is not None:
        files.require_writable(folder)
    applied = _applied(_detector(), console)
    if parallel.has_other_processes():
        raise UserError('predict is for one process; start it alone, or give each process a part of the list.')
    if out is None and _FORMAT.value is None and sys.stdout.isatty() and images.total and images.total <= _FEW:
        _warn(applied, console)
        counts = _show(applied, images)
    elif out is None:
        _warn(applied, console)
        counts = _print(applied, images, form, console)
    else:
        counts = _write(applied, images, out, form, console)
    if folder is not None and applied.kept is not None:
        _explain(applied.detector, applied.kept, folder, console)
    return 1 if counts.failed else 0


def _warn(applied: Applied, console: Console) -> None:
    for note in filter(None, (*applied.detector.notes, applied.detector.decision.note)):
        console.warn(note)


def _images(arguments: Sequence[str]) -> Images:
    if _FILES_FROM.value is None:
        verb.require(not _NUL.value, '0', 'true', 'given with --files_from')
        if not arguments:
            raise UserError('no image given; name files, folders or archives, or pass --files_from LIST.')
        return inputs.find(arguments, sys.stdin.buffer)
    if arguments:
        raise UserError(f'--files_from is given, and {arguments[0]!r} as well; put all names in the list.')
    separator = b'\0' if _NUL.value else b'\n'
    try:
        file = sys.stdin.buffer if _FILES_FROM.value == '-' else open(os.path.expanduser(_FILES_FROM.value), 'rb')
    except OSError as error:
        raise UserError(f'the list {_FILES_FROM.value} cannot be read ({error.strerror}).') from None
    listed = inputs.listed(file, separator)
    first = next(listed, None)
    if first is None:
        raise UserError(f'the list {_FILES_FROM.value} names no image.')
    return Images(itertools.chain([first], listed), None)


def _detector() -> detector.Detector:
    return detector.load(
        models.chosen(_WORKDIR.value), _STEP.value, batch_size=_BATCH_SIZE.value, threshold=_THRESHOLD.value
    )


def _applied(network: detector.Detector, console: Console) -> Applied:
    read = None
    if _PROVENANCE.value:
        certificates = provenance.read_certificates(_TRUSTED.value) if _TRUSTED.value else ''
        read = functools.partial(_provenance, certificates)
    finder, margin = None, None if network.run is None else faces.margin_of(network.run)
    if _FACES.value == 'all' or (_FACES.value == 'auto' and margin is not None):
        try:
            faces.require_opencv()  # before its weights are looked for
            found = faces.load_detector(faces.face_weights(_FACE_WEIGHTS.value))
            finder = FaceFinder(found, margin or faces.MARGIN, read)
        except UserError as error:
            if _FACES.value == 'all':
                raise
            console.warn(f'whole images are scored, no faces are looked for: {str(error).rstrip(".")}')
    kept: list[Input] | None = [] if _EXPLAIN.value else None
    return Applied(network, _STABILITY.value, read, finder, shows_faces=_FACES.value == 'all', kept=kept)


def _provenance(certificates: str, data: bytes) -> str:
    return provenance.read(data, certificates).text


def _print(applied: Applied, images: Images, form: str, console: Console) -> Counts:
    """Rows on standard output. Who reads it may stop: that is no error."""
    # Not sys.stdout, which goes on without a word when nobody reads.
    with open(os.dup(1), 'w', **files.TEXT) as stream:
        try:
            return predict.write_rows(applied, images, sinks.TextSink(stream, form), console)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what the stream still holds
            return Counts()


def _write(applied: Applied, images: Images, out: pathlib.Path, form: str, console: Console) -> Counts:
    done = 0
    if _RESUME.value and out.exists():
        now = rows.Row(
            '',
            threshold=applied.detector.decision.threshold,
            model=applied.model,
            stability=1.0 if applied.stability else None,
            faces='' if applied.faces else None,
        )
        sink, done = sinks.continue_file(out, form, images.inputs, now)
    else:
        sink = sinks.open_file(out, form, overwrite=_OVERWRITE.value)
    _warn(applied, console)
    if done:
        console.say(f'{out} has rows of {done:,} images; the others follow')
    try:
        counts = predict.write_rows(applied, images, sink, console, done=done)
    except BaseException:
        sink.close(is_whole=False)
        if form in sinks.RESUMABLE:
            console.say(f'{out} keeps the rows so far; the same command with --resume goes on')
        raise
    sink.close()
    failed = f', {counts.failed:,} of which could not be scored' if counts.failed else ''
    count = counts.scored + counts.failed
    console.say(f'{count:,} image{"s" * (count != 1)}{failed}: {out}')
    return counts


def _show(applied: Applied, images: Images) -> Counts:
    """A table for a person."""
    counts, failed, total = words.of_test(applied.detector), 0, 0
    table = rich.table.Table(
        rich.table.Column('image', overflow='fold'),
        'verdict',
        rich.table.Column('P(fake)', justify='right'),
        rich.table.Column('what that means', ratio=1),
        box=rich.box.SIMPLE,
    )
    for row in applied.rows(images.inputs):
        if not row.is_face:
            failed, total = failed + (row.verdict is None), total + 1
        score = '' if row.probability is None else f'{row.probability:.2f}'
        cells = (row.path, row.verdict or '-', score, words.sentence(row, counts))
        table.add_row(*map(rich.text.Text, cells))
    Console(sys.stdout).table(table)
    return Counts(total - failed, failed)


def _explain(network: detector.Detector, images: Sequence[Input], folder: pathlib.Path, console: Console) -> None:
    from fakeimg.explaining import checks, maps, page  # matplotlib, which scoring alone does without

    explainer = maps.Explainer.create(network)
    explained = checks.replaced(explainer, explainer.explain(images))
    tracked = console.track(explained, 'explaining', len(images))
    page.write_page(folder, tracked, title='What the scores rest on', about=[network.origin, network.note])
    console.say(f'explanations: {folder / "index.html"}')

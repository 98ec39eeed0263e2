"""An evaluation that is killed goes on from the scores that it had, and takes up no others."""

import fcntl
import itertools
import pathlib
import shutil
import subprocess
import time

import jax
import pytest

from fakeimg.config import default_config
from fakeimg.data import seen
from fakeimg.detector import load
from fakeimg.evaluation.evaluator import evaluate
from fakeimg.partial_scores import PartialScores
from fakeimg.training import loop
from tests.support.console import Recorder
from tests.support.verbs import verb_command, verb_environment

BATCH, DONE = 4, 6  # images; batches before the kill, of the ten that 40 images fill


class Killed(BaseException):
    pass


@pytest.fixture(scope='module')
def trained(faces_once: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder, config = tmp_path_factory.mktemp('trained'), default_config()
    config.data.path, config.data.image_size, config.data.resize_size = str(faces_once), 16, 16
    config.model.name, config.model.filters, config.batch_size, config.steps = 'cnn', 4, 16, 2
    config.data.validation_fraction, config.checkpoint_every_steps = 0.25, 1
    loop.train(config, folder)
    return folder


@pytest.fixture
def workdir(trained: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(trained, tmp_path / 'run'))


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch, no_page: None) -> list[int]:
    """Numbers of the batches that were scored; the process dies after DONE of them, once."""
    numbers: list[int] = []
    add = PartialScores.add

    def dying(self: PartialScores, number: int, *rest) -> None:
        add(self, number, *rest)
        numbers.append(number)
        if len(numbers) == DONE:
            raise Killed

    monkeypatch.setattr(PartialScores, 'add', dying)
    monkeypatch.setattr('fakeimg.scoring.block_size', lambda _: BATCH // jax.device_count())
    return numbers


def killed(workdir: pathlib.Path, images: pathlib.Path | None = None) -> None:
    with pytest.raises(Killed):
        evaluate(load(workdir, batch_size=BATCH).tolerating(), data_path=images and str(images))


def predictions(folder: pathlib.Path) -> bytes:
    assert not list(folder.glob('*.partial'))
    return (folder / 'predictions.csv').read_bytes()


def test_a_killed_evaluation_ends_with_the_same_bytes(
    workdir: pathlib.Path, faces: pathlib.Path, tmp_path: pathlib.Path, scored: list[int]
) -> None:
    shutil.copy(faces / 'train/real/000000.jpg', faces / 'test/real/copy.jpg')  # of one that validation or train showed
    (faces / 'test/real/000006.jpg').write_bytes(b'not an image')
    images = faces / 'test'
    killed(workdir, images)
    said = Recorder()
    metrics, folder = evaluate(load(workdir, batch_size=BATCH).tolerating(), data_path=str(images), console=said)
    assert '24 of 41 images were scored before; the others follow' in said.lines
    assert scored == [*range(DONE), *range(DONE, 11)]
    whole, other = evaluate(load(workdir, batch_size=BATCH).tolerating(), data_path=str(images), out=tmp_path / 'whole')
    assert scored[11:] == list(range(11))
    assert metrics == whole and (metrics['n'], metrics['skipped']) == (40, 1)
    assert predictions(folder) == predictions(other)
    assert (folder / 'bad_pictures.csv').read_bytes() == (other / 'bad_pictures.csv').read_bytes()


@pytest.mark.parametrize(
    'change',
    ['step', 'images', 'weights', *(pytest.param(name, marks=pytest.mark.slow) for name in ('batch_size', 'split'))],
)
def test_scores_of_something_else_are_not_taken_up(
    change: str, workdir: pathlib.Path, faces: pathlib.Path, scored: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, detector = workdir / 'out', load(workdir, 2, batch_size=BATCH)
    with pytest.raises(Killed):
        evaluate(detector, out=out)
    split, path = 'test', None
    if change == 'step':
        detector = load(workdir, 1, batch_size=BATCH)
    elif change == 'batch_size':
        monkeypatch.setattr('fakeimg.scoring.block_size', lambda _: 8 // jax.device_count())
        detector = load(workdir, 2)
    elif change == 'split':
        split = 'test[:39]'
    elif change == 'images':
        path = str(faces / 'test')
    else:  # another run's checkpoint of the same step
        detector.variables['params'] = load(workdir, 1).variables['params']
    evaluate(detector, split, data_path=path, out=out)
    assert scored[DONE:] == list(range(5 if change == 'batch_size' else 10))
    predictions(out)


def test_images_that_changed_since_the_kill_are_scored_again(
    workdir: pathlib.Path, faces: pathlib.Path, scored: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, 'SAMPLED', 1)  # the digest of a large set does not show one image
    images, names = faces / 'test', sorted(path.relative_to(faces / 'test') for path in faces.glob('test/*/*.jpg'))
    good = (images / names[5]).read_bytes()
    (images / names[5]).write_bytes(b'truncated')
    killed(workdir, images)
    (images / names[5]).write_bytes(good)  # repaired
    shutil.copy(images / names[30], images / names[9])
    metrics, folder = evaluate(load(workdir, batch_size=BATCH), data_path=str(images))
    assert scored[DONE:] == [1, 2, *range(DONE, 10)]
    assert (metrics['n'], metrics['skipped']) == (40, 0)
    found = predictions(folder)
    evaluate(load(workdir, batch_size=BATCH), data_path=str(images))
    assert predictions(folder) == found


def test_a_line_that_was_cut_short_is_scored_again(workdir: pathlib.Path, scored: list[int]) -> None:
    killed(workdir)
    (partial,) = (workdir / 'evaluations/test').glob('*.partial')
    partial.write_bytes(partial.read_bytes()[:-20])
    _, folder = evaluate(load(workdir, batch_size=BATCH))
    assert scored[DONE:] == list(range(DONE - 1, 10))
    predictions(folder)


def test_two_evaluations_at_once_do_not_share_scores(workdir: pathlib.Path, scored: list[int]) -> None:
    killed(workdir)
    (partial,) = (workdir / 'evaluations/test').glob('*.partial')
    with open(partial) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        evaluate(load(workdir, batch_size=BATCH))
    assert scored[DONE:] == list(range(10))
    assert list((workdir / 'evaluations/test').glob('*.partial'))  # not its own


@pytest.mark.slow
def test_a_killed_command_goes_on(workdir: pathlib.Path, faces: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for number, path in itertools.product(range(80), sorted(faces.glob('test/*/*.jpg'))):
        path.with_name(f'{path.stem}-{number}.jpg').symlink_to(path)
    command = verb_command('evaluate', '--workdir', workdir, '--batch_size=1', '--data_path', faces / 'test')
    environment = verb_environment(1)
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE)
    with process:
        deadline, lines = time.monotonic() + 60, 0
        while lines < 8 and time.monotonic() < deadline:
            lines = sum(path.read_bytes().count(b'\n') for path in workdir.glob('evaluations/*/*.partial'))
            time.sleep(0.01)
        process.kill()
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and 'of 3,240 images were scored before; the others follow' in done.stdout
    (folder,) = workdir.glob('evaluations/*')
    found = predictions(folder)
    assert subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True).returncode == 0
    assert predictions(folder) == found

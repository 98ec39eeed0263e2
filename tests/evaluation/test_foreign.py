"""Detectors of others, each in a process of its own: what they may return, print and start, and how they fail."""

import contextlib
import io
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fakeimg import console
from fakeimg.console import SILENT, Console
from fakeimg.data.datasets import Split, open_path
from fakeimg.data.files import FolderFiles
from fakeimg.errors import UserError
from fakeimg.evaluation import foreign, foreign_process
from fakeimg.evaluation.evaluator import judge_scores
from fakeimg.evaluation.foreign_process import ForeignDetector
from fakeimg.evaluation.options import Options
from fakeimg.evaluation.referee import ForeignScores, with_validation
from tests.support.files import write_tree, write_zip
from tests.support.verbs import ROOT, Command, assert_refused

if TYPE_CHECKING:
    from tests.support.sets import Sets

NAMES = ['real/a b.jpg', os.fsdecode(b'real/caf\xe9.jpg'), 'fake/лицо 人.png', 'fake/"q".jpg', 'fake/last']
SCORES = [0.0, 0.125, 0.5, 0.875, 1.0]
IMAGES = {name: f'{score}'.encode() for name, score in zip(NAMES, SCORES, strict=True)}
READ = 'def predict(paths):\n    return [float(open(path).read()) for path in paths]\n'


@pytest.fixture(autouse=True)
def temporary(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """The folder of temporary files, with nothing in it after the test but logs that a sentence named."""
    folder = tmp_path / 'temporary files'
    folder.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(folder))
    yield folder
    assert [path for path in folder.iterdir() if path.suffix != '.log'] == []


@pytest.fixture
def split(tmp_path: pathlib.Path) -> Split:
    """Five files; the score of each is what it holds."""
    write_tree(tmp_path / 'images', IMAGES)
    return Split(FolderFiles(str(tmp_path / 'images'), NAMES), np.array([0, 0, 1, 1, 1]), list('abcde'), [''] * 5)


def score(tmp_path: pathlib.Path, split: Split, code: str, **options: Any) -> ForeignScores:
    (tmp_path / 'my code').mkdir(exist_ok=True)
    (tmp_path / 'my code' / 'my.py').write_text(code)
    options = {'timeout': 20.0, 'batch': 2} | options
    return judged(foreign.find(f'{tmp_path}/my code/my.py:predict', **options), split)


def judged(detector: ForeignDetector, split: Split, max_missing: float = 0.1, said: Console = SILENT) -> ForeignScores:
    with foreign.running(detector, max_missing) as scorer:
        return scorer.judged(split, 'test', console=said)


def refusal(tmp_path: pathlib.Path, split: Split, code: str, **options) -> str:
    with pytest.raises(UserError) as caught:
        score(tmp_path, split, code, **options)
    sentence = str(caught.value)
    assert caught.value.exit_code == 2 and '\n' not in sentence and sentence.endswith('.')
    return sentence.replace(f'{tmp_path}/', '')


def logged(sentence: str, tmp_path: pathlib.Path) -> str:
    return (tmp_path / re.findall(r'in (\S+ files/\S+\.log)\.$', sentence)[0]).read_text()


def test_images_of_a_folder_are_scored_where_they_are(tmp_path: pathlib.Path, split: Split) -> None:
    scores = score(tmp_path, split, READ)
    assert scores.predictions.names == NAMES
    np.testing.assert_allclose(scores.predictions.probabilities, SCORES, atol=1e-11)
    assert scores.predictions.labels.tolist() == [0, 0, 1, 1, 1] and scores.predictions.sources == list('abcde')
    assert scores.predictions.skipped == 0 and scores.missing == [] and scores.columns == {} and scores.notes == []


def test_images_of_an_archive_are_written_with_their_bytes(tmp_path: pathlib.Path) -> None:
    tree = {f'test/{name}.JPG': data for name, data in IMAGES.items() if 'caf' not in name}
    archive = open_path(write_zip(tmp_path / 'set.zip', tree)).splits['test']
    code = READ.replace(
        '    return', '    assert all(p.endswith(".JPG") and "fake" not in p[-20:] for p in paths)\n    return'
    )
    scores = score(tmp_path, archive, code)
    expected = [float(tree[name]) for name in archive.names]
    np.testing.assert_allclose(scores.predictions.probabilities, expected, atol=1e-11)


@pytest.mark.slow  # TFDS takes seconds to write one
def test_images_of_a_prepared_set(tmp_path: pathlib.Path, sets: 'Sets') -> None:
    prepared = open_path(str(sets.prepared)).splits['test']
    code = 'import zlib\ndef predict(paths):\n    return [zlib.crc32(open(p, "rb").read()) / 2**32 for p in paths]\n'
    expected = [zlib.crc32(prepared[index]) / 2**32 for index in range(len(prepared))]
    scores = score(tmp_path, prepared, code, batch=16)
    np.testing.assert_allclose(scores.predictions.probabilities, expected, atol=1e-11)


@pytest.mark.parametrize(
    'result',
    [
        'numpy.array(scores, "float16")',
        'numpy.array(scores)[:, None]',
        '[numpy.float32(s) for s in scores]',
        '[[s] for s in scores]',
        '(s for s in scores)',
        'Tensor(scores)',
    ],
)
def test_every_kind_of_result(tmp_path: pathlib.Path, split: Split, result: str) -> None:
    tensor = (
        'class Tensor(list):\n    detach = cpu = lambda self: self\n    shape = (2,)\n    tolist = lambda self: self\n'
    )
    code = READ.replace('return', 'scores =') + f'    return {result}\n'
    scores = score(tmp_path, split, f'import numpy\n{tensor}{code}' if 'numpy' in result else tensor + code)
    np.testing.assert_allclose(scores.predictions.probabilities, SCORES, atol=1e-11)


def test_a_detector_may_print_read_stdin_and_look_beside_its_file(tmp_path: pathlib.Path, split: Split) -> None:
    (tmp_path / 'my code').mkdir()
    (tmp_path / 'my code' / 'beside.py').write_text('name = "weights.txt"')
    (tmp_path / 'my code' / 'weights.txt').write_text('1')
    code = """
import beside, os, sys
print('[0.1, 0.2]')
weight = float(open(beside.name).read())
assert 'jax' not in sys.modules and 'numpy' not in sys.modules and 'fakeimg' not in sys.modules
assert sys.stdin.read() == ''
def predict(paths):
    print('{"scores": [0, 0]}', paths)
    print('no end', end='')
    os.system('echo from a shell; echo again >&2')
    for descriptor in (1, 2):
        os.write(descriptor, b'x' * 100000 + bytes([10, 255, 10]))
    return [weight * float(open(path).read()) for path in paths]
"""
    np.testing.assert_allclose(score(tmp_path, split, code).predictions.probabilities, SCORES, atol=1e-11)


def test_a_detector_may_fork(tmp_path: pathlib.Path, split: Split) -> None:
    code = """
import os, time, multiprocessing
def one(path):
    return float(open(path).read())
def predict(paths):
    if os.fork() == 0:
        time.sleep(60)
    if os.fork() == 0:
        return [0.3] * len(paths)
    if os.fork() == 0:
        raise ValueError
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.map(one, paths)
"""
    before = time.monotonic()
    np.testing.assert_allclose(score(tmp_path, split, code, batch=5).predictions.probabilities, SCORES, atol=1e-11)
    assert time.monotonic() - before < 15
    assert not living(tmp_path)
    scores = score(tmp_path, split, 'import os\nos.fork()\n' + READ)
    np.testing.assert_allclose(scores.predictions.probabilities, SCORES, atol=1e-11)


def living(tmp_path: pathlib.Path) -> list[str]:
    """Processes of detectors of this test, but for those that are about to end."""
    until = time.monotonic() + 3
    while (commands := _commands(tmp_path)) and time.monotonic() < until:
        time.sleep(0.05)
    return commands


def _commands(tmp_path: pathlib.Path) -> list[str]:
    commands = []
    for process in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
        with contextlib.suppress(OSError):
            commands.append(process.read_bytes())
    return [str(command) for command in commands if os.fsencode(tmp_path / 'my code') in command]


@pytest.mark.parametrize(
    ('code', 'words'),
    [
        (READ.replace('float(', 'len(5)+float('), "raised TypeError: object of type 'int' has no len() for a batch"),
        ('def predict(paths):\n    raise ValueError("a\\nb")', 'raised ValueError: a b for a batch of 2 images (first'),
        ('import no_such_thing', "raised ModuleNotFoundError: No module named 'no_such_thing' while it was imported"),
        ('import no_such_thing', 'or name a Python that has it (python)'),
        ('def predict(paths:', 'raised SyntaxError: '),
        ('import sys\nsys.exit(3)', 'called sys.exit(3) while it was imported; put'),
        ('import sys\ndef predict(paths):\n    sys.exit()', 'called sys.exit() for a batch of 2'),
        ('import os\nos._exit(0)', 'ended its process (exit code 0) while it was imported'),
        ('import os\ndef predict(paths):\n    os._exit(7)', 'ended its process (exit code 7) for a batch of 2'),
        ('import os\ndef predict(paths):\n    os.kill(os.getpid(), 11)', 'was ended by SIGSEGV for a batch of 2'),
        ('import os\ndef predict(paths):\n    os.kill(os.getpid(), 9)', 'was ended by SIGKILL, as where memory'),
        ('raise KeyboardInterrupt', 'raised KeyboardInterrupt while it was imported'),
    ],
)  # fmt: skip
def test_failures_name_the_log(tmp_path: pathlib.Path, split: Split, code: str, words: str) -> None:
    sentence = refusal(tmp_path, split, 'print("loading")\n' + code)
    assert words in sentence
    assert 'SyntaxError' in sentence or 'loading' in logged(sentence, tmp_path)
    if 'raised' in words:
        assert 'Error' in logged(sentence, tmp_path) or 'Interrupt' in logged(sentence, tmp_path)
    assert not living(tmp_path)


def test_one_that_closes_all_files_is_ended(
    tmp_path: pathlib.Path, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_process, '_GOODBYE', 0.3)
    code = 'import os, time\nos.closerange(3, 99)\ntime.sleep(60)'
    assert 'closed its connection while it was imported' in refusal(tmp_path, split, code)
    assert not living(tmp_path)


@pytest.mark.parametrize(
    ('result', 'words'),
    [
        ('[0.5]', 'my.py:predict returned 1 scores for 2 paths'),
        ('[0.5] * 3', 'returned 3 scores for 2 paths'),
        ('[0.5, float("nan")]', 'returned NaN for images/real/caf'),
        ('[0.5, 1.5]', 'has 1 of 2 scores outside 0 to 1 (first: 1.5 for images/real/caf'),
        ('[-2.5, 1.5]', 'define that with scores_are logit'),
        ('None', 'returned None; it must return a list'),
        ('0.5', "returned 'float' object is not iterable; it must"),
        ('["real", "fake"]', "returned 'real' among the scores"),
        ('[[0.1, 0.9], [0.2, 0.8]]', 'returned [0.1, 0.9] among the scores'),
        ('dict.fromkeys(paths, 0.5)', 'among the scores'),
    ],
)  # fmt: skip
def test_bad_results(tmp_path: pathlib.Path, temporary: pathlib.Path, split: Split, result: str, words: str) -> None:
    assert words in refusal(tmp_path, split, f'def predict(paths):\n    return {result}')
    assert list(temporary.iterdir()) == []


def test_arrays_of_two_columns_are_refused(tmp_path: pathlib.Path, split: Split) -> None:
    code = 'import numpy\ndef predict(paths):\n    return numpy.zeros((len(paths), 2))'
    assert 'returned an array of shape [2, 2]; it must' in refusal(tmp_path, split, code)


def test_a_function_that_is_not_there(tmp_path: pathlib.Path, split: Split) -> None:
    code = 'from os.path import join\npredict = 3\nclass Net: pass\ndef score(paths): pass'
    assert refusal(tmp_path, split, code) == 'my.py has no function predict; it has Net, score.'


@pytest.mark.parametrize('code', ['while True: pass', 'def predict(paths):\n    while True: pass'])
def test_one_that_hangs_is_ended(tmp_path: pathlib.Path, split: Split, code: str) -> None:
    code = 'import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.fork()\n' + code
    assert 'my.py:predict gave no answer within 0.5 s' in refusal(tmp_path, split, code, timeout=0.5)
    assert not living(tmp_path)


def test_long_requests_to_one_that_does_not_read_end_too(tmp_path: pathlib.Path, split: Split) -> None:
    many = split.take(np.zeros(20000, int))
    code = 'import os\nmine = os.getpid()\ndef predict(paths):\n    os.kill(mine, 19)'
    assert 'no answer within 0.5 s' in refusal(tmp_path, many, code, timeout=0.5, batch=1000)
    scores = score(tmp_path, many, 'def predict(paths):\n    return [0.25] * len(paths)', batch=10000)
    assert len(scores.predictions.names) == 20000
    assert 'all scores are the same' in scores.notes[0]


def test_ctrl_c_ends_the_process(tmp_path: pathlib.Path, split: Split) -> None:
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    code = f'import time\ndef predict(paths):\n    open({str(tmp_path / "began")!r}, "w")\n    time.sleep(60)\n'
    (tmp_path / 'my code').mkdir()
    main = threading.get_ident()

    def interrupt() -> None:
        while not (tmp_path / 'began').exists():
            time.sleep(0.02)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            score(tmp_path, split, code)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert not living(tmp_path)


def test_it_does_not_outlive_its_parent(tmp_path: pathlib.Path, split: Split) -> None:
    (tmp_path / 'my code').mkdir()
    (tmp_path / 'my code' / 'my.py').write_text('print("x")\nwhile True: pass')
    code = (
        'import sys; from fakeimg.evaluation.foreign_process import *\n'
        'with DetectorProcess(ForeignDetector("s", sys.argv[1], "predict", sys.executable, "probability", 60, 1)): pass'
    )
    with subprocess.Popen(
        [sys.executable, '-c', code, f'{tmp_path}/my code/my.py'], env={**os.environ, 'TMPDIR': str(tmp_path)}
    ) as parent:
        until = time.monotonic() + 30
        while not any('foreign_runner' in command for command in _commands(tmp_path)) and time.monotonic() < until:
            time.sleep(0.05)
        parent.kill()
    assert not living(tmp_path)


def test_images_without_a_score_are_skipped_up_to_a_share(tmp_path: pathlib.Path, split: Split) -> None:
    (tmp_path / 'images' / NAMES[0]).unlink()
    code = (
        READ.replace('float(', '"1.0" not in open(path).read() and float(')
        .replace('paths]', 'paths]\n')
        .replace('return [', 'return [None if float(open(path).read()) == 0.5 else ')
    )
    with pytest.raises(UserError, match='max_bad_fraction=0.1 allows'):
        score(tmp_path, split, code)
    detector = foreign.find(f'{tmp_path}/my code/my.py:predict', batch=1)
    scores = judged(detector, split, 0.5)
    assert scores.predictions.names == [NAMES[1], *NAMES[3:]] and scores.predictions.skipped == 2
    assert [name for name, _ in scores.missing] == [NAMES[0], NAMES[2]]
    assert scores.split is not None and scores.split.names == scores.predictions.names


def test_log_odds_and_scores_of_the_other_class(tmp_path: pathlib.Path, split: Split) -> None:
    code = 'def predict(paths):\n    return [30 * float(open(path).read()) for path in paths]\n'
    scores = score(tmp_path, split, code, scale='logit_of_real')
    np.testing.assert_allclose(scores.predictions.logits, -30 * np.array(SCORES))


def test_bad_settings(tmp_path: pathlib.Path) -> None:
    for spec in ('my.py', 'my:predict', 'my.py:', 'my.py:a b', ''):
        with pytest.raises(UserError, match='it must be FILE.py:FUNCTION'):
            foreign.find(spec)
    with pytest.raises(UserError, match='there is no file .*/no/my.py'):
        foreign.find('no/my.py:predict')
    (tmp_path / 'my.py').write_text(READ)
    spec = f'{tmp_path}/my.py:predict'
    bad: list[tuple[dict[str, Any], str]] = [
        ({'python': 'no-such-python'}, 'where no program is'),
        ({'python': str(tmp_path)}, 'where no program is'),
        ({'timeout': 0.0}, 'timeout is 0'),
        ({'timeout': float('nan')}, 'timeout is nan'),
        ({'batch': 0}, 'batch_size is 0'),
        ({'scale': 'percent'}, 'scores_are is'),
    ]
    for options, words in bad:
        with pytest.raises(UserError, match=words):
            foreign.find(spec, **options)


def test_another_python(tmp_path: pathlib.Path, split: Split) -> None:
    environment = tmp_path / 'an environment' / 'bin'
    environment.mkdir(parents=True)
    python = environment / 'python'
    python.write_text(f'#!/bin/sh\nFROM=here exec {sys.executable} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    code = 'import os\nassert os.environ["FROM"] == "here"\n' + READ
    for given in (environment.parent, python):
        score(tmp_path, split, code, python=str(given))
    python.write_text('no program at all')
    assert 'cannot be started (Exec format error)' in refusal(tmp_path, split, READ, python=str(python))
    assert 'ended its process (exit code 0)' in refusal(tmp_path, split, READ, python='/bin/true')


def test_progress_is_shown(tmp_path: pathlib.Path, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, 'LINE_EVERY', 0.5)
    (tmp_path / 'my code').mkdir()
    (tmp_path / 'my code' / 'my.py').write_text(READ)
    stream = io.StringIO()
    detector = foreign.find(f'{tmp_path}/my code/my.py:predict', batch=2)
    judged(detector, split, said=Console(stream))
    assert 'scoring test with my.py:predict: 2 of 6' in stream.getvalue()
    assert ' left' in stream.getvalue()


def test_the_example_in_pytorch_is_judged(faces_once: pathlib.Path) -> None:
    pytest.importorskip('torch')
    split = open_path(str(faces_once)).splits['test']
    detector = foreign.find(f'{ROOT}/examples/torch_detector.py:predict', batch=16)
    scores = judged(detector, split)
    assert scores.predictions.names == split.names and len(set(scores.predictions.logits.tolist())) > 20


BRIGHTNESS = """
import os, PIL.Image
SUFFIXES = {'JPEG': '.jpg', 'PNG': '.png', 'WEBP': '.webp'}
def brightness(path):
    image = PIL.Image.open(path)
    assert path.endswith(SUFFIXES[image.format]) and (os.path.isdir(os.path.dirname(path) + '/../real') or
                                                      os.path.basename(path)[0] == '0'), path
    return sum(image.convert('L').resize((4, 4), PIL.Image.BOX).tobytes()) / 16 / 255
def predict(paths):
    return [brightness(path) for path in paths]
"""


def test_degraded_images_and_other_splits_are_scored_too(tmp_path: pathlib.Path, faces_once: pathlib.Path) -> None:
    (tmp_path / 'my.py').write_text(BRIGHTNESS)
    splits = open_path(str(faces_once)).splits
    with foreign.running(foreign.find(f'{tmp_path}/my.py:predict')) as scorer:
        scores = scorer.judged(splits['test'], 'test')
        validation, _ = scorer.score(splits['train'], 'train')
        scores = with_validation(scores, validation)
        options = Options(threshold='youden', robustness=True, robustness_images=4, images=False)
        about = {'referee': 'my.py', 'data_path': str(faces_once), 'split': 'test'}
        found = judge_scores(scores, about, tmp_path, options, scorer)
    first = found['operating_points'][0]
    assert (first['name'], first['source'], first['n']) == ('youden', 'validation', 96)
    assert found['calibration']['log_loss_after'] <= found['calibration']['log_loss_before']
    tiers, curves = found['robustness']['tiers'], found['robustness']['curves']
    assert tiers[0]['auc'] == found['figures']['auc']  # as stored
    assert tiers[0]['accuracy']['value'] == pytest.approx(first['figures']['accuracy']['value'])
    assert found['robustness']['n'] == 4 and curves['webp']['rows'][0]['auc']['n'] == 4


def test_what_a_detector_will_not_allow_is_said_before_it_runs(
    tmp_path: pathlib.Path, faces_once: pathlib.Path, command: Command
) -> None:
    (tmp_path / 'my.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")\n{READ}')
    judge = ('evaluate', '--detector', tmp_path / 'my.py:predict', '--data_path', faces_once)
    for more, words in (
        (['--threshold=youden'], 'threshold youden is a rule for scores of validation images'),
        (['--prevalence=0.1'], 'prevalence corrects calibrated scores'),
        (['--flip'], 'flip needs a detector of a run'),
        (['--validation=test[:50%]'], '--validation is test[:50%]; it must be another split than test'),
        (['--validation=dev'], "no split 'dev'"),
    ):
        assert_refused(command(*judge, *more), words)
    for flag in ('--validation=validation', '--timeout=5', '--score_columns=path=a'):
        assert_refused(command('evaluate', '--workdir', tmp_path, flag), 'is for detectors of others, --predictions')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.slow
def test_the_verb_judges_a_function_and_its_own_table_of_scores(
    tmp_path: pathlib.Path, faces_once: pathlib.Path, command: Command
) -> None:
    spec = f'{ROOT}/examples/torch_detector.py:predict'
    made = command('evaluate', '--detector', spec, '--data_path', faces_once, '--out', tmp_path / 'a')
    assert made.returncode == 0 and 'n = 40' in made.stdout, made.stderr
    read = command('evaluate', '--predictions', tmp_path / 'a' / 'predictions.csv', '--data_path', faces_once)
    assert re.findall('auc .*', read.stdout) == re.findall('auc .*', made.stdout) != []
    for mistake in (['--detector', 'no.py:predict', '--data_path', faces_once], ['--predictions', 'no.csv']):
        failed = command('evaluate', *mistake)
        assert (failed.returncode, failed.stderr.count('\n')) == (2, 1)

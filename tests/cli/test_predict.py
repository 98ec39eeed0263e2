"""`fakeimg predict` as a person starts it: every input has a row, and the scores are those of the evaluation."""

import csv
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

from fakeimg.detector import load
from fakeimg.evaluation.evaluator import evaluate
from fakeimg.training import loop
from tests.support.small import small_config
from tests.support.verbs import ROOT, assert_refused, run_module, verb_environment


@pytest.fixture(scope='module')
def run(faces_once: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of the small CNN that has been evaluated."""
    root = tmp_path_factory.mktemp('predict')
    shutil.copytree(faces_once, root / 'faces')
    config = small_config(root / 'faces')
    config.data.validation_fraction = 0.45  # enough to know what they are like
    config.optimizer.base_learning_rate = 0.03
    loop.train(config, root / 'run')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('fakeimg.evaluation.report.write_report', lambda *_args, **_more: None)
        evaluate(load(root / 'run'))
    return root / 'run'


def predict(*arguments: object, run: pathlib.Path, devices: int = 1) -> subprocess.CompletedProcess[str]:
    return run_module(
        'fakeimg.predict', ['--workdir', run, *arguments], folder=run.parent, environment=verb_environment(devices),
        timeout=120,
    )  # fmt: skip


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline='')))


def test_scores_are_those_of_the_evaluation_at_any_batch_size(run: pathlib.Path) -> None:
    with open(run / 'evaluations/test/predictions.csv', newline='') as file:
        expected = {row['name']: (row['probability'], row['logit']) for row in csv.DictReader(file)}
    for arguments, devices in (([], 1), (['--batch_size', '7'], 1), (['--batch_size', '2'], 2)):
        found = predict('faces/test', *arguments, run=run, devices=devices)
        assert found.returncode == 0, found.stderr
        scores = {
            row['path'].removeprefix('faces/'): (row['probability'], row['logit']) for row in rows_of(found.stdout)
        }
        assert scores == expected
    path = next(iter(expected))
    alone = rows_of(predict(f'faces/{path}', run=run).stdout)
    assert [(row['probability'], row['logit']) for row in alone] == [expected[path]]


def test_every_input_has_a_row(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    odd = tmp_path / 'odd'
    odd.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    good = {'plain.jpg': {}, 'line\nend.png': {}, '=cmd().png': {}, 'noextension': {'format': 'WEBP'}}
    for name, options in good.items():
        PIL.Image.fromarray(pixels).save(odd / name, **options)
    PIL.Image.new('RGB', (1, 1)).save(odd / 'dot.png')
    PIL.Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(odd / 'deep.png')
    PIL.Image.fromarray(pixels).save(
        odd / 'moves.gif', save_all=True, append_images=[PIL.Image.fromarray(pixels[::-1])], loop=0
    )
    broken = {'empty.jpg': b'', 'notes.txt': b'some words', 'film.mp4': b'\0\0\0\x18ftypmp42' + bytes(2000)}
    broken['cut.jpg'] = (odd / 'plain.jpg').read_bytes()[:-200]
    for name, data in broken.items():
        (odd / name).write_bytes(data)
    (odd / 'circle').symlink_to(odd)
    found = predict(odd, 'nowhere.jpg', run=run)
    assert found.returncode == 1  # some could not be scored
    rows = rows_of(found.stdout)
    names = sorted([*good, *broken, 'dot.png', 'deep.png', 'moves.gif'])
    assert [row['path'] for row in rows] == [*(f'{odd}/{name}' for name in names), 'nowhere.jpg']
    failed = {pathlib.Path(row['path']).name for row in rows if not row['verdict']}
    assert failed == {*broken, 'nowhere.jpg'}
    for row in rows:
        assert bool(row['probability']) == bool(row['label']) == bool(row['verdict'])
        assert row['verdict'] or 'cannot be read: ' in row['note']
    assert 'Traceback' not in found.stderr
    same = {row['logit'] for row in rows if pathlib.Path(row['path']).name in ('line\nend.png', '=cmd().png')}
    assert len(same) == 1


def test_other_images_are_called_unlike_the_training_images(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    PIL.Image.new('RGB', (640, 400), (0, 200, 0)).save(tmp_path / 'big.png')
    own, other = rows_of(predict('faces/test/real/000000.jpg', tmp_path / 'big.png', run=run).stdout)
    assert own['note'] == ''
    assert other['note'].startswith('unlike the training images: 400 pixels, not 32, ')
    assert 'png format, not jpeg' in other['note']


@pytest.mark.slow
def test_formats_and_standard_input(run: pathlib.Path) -> None:
    image = 'faces/test/fake/000001.jpg'
    [row] = rows_of(predict(image, run=run).stdout)
    line = predict(image, '--format', '%p %v %s', run=run).stdout
    assert line == f'{image} {row["verdict"]} {row["probability"]}\n'
    cells = json.loads(predict(image, '--format', 'jsonl', run=run).stdout)
    assert f'{cells["logit"]:.6f}' == row['logit'] and cells['model'] == row['model']
    piped = start(run, '-')
    out, _ = piped.communicate((run.parent / image).read_bytes(), timeout=120)
    assert rows_of(out.decode())[0]['logit'] == row['logit']
    listed = start(run, '--files_from', '-')
    out, _ = listed.communicate(f'{image}\n\n{image}\n'.encode(), timeout=120)
    assert [found['logit'] for found in rows_of(out.decode())] == [row['logit']] * 2


def start(run: pathlib.Path, *arguments: object, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, '-m', 'fakeimg.predict', '--workdir', run, *arguments]
    environment = {**verb_environment(1), 'PYTHONPATH': str(ROOT)}
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
    return subprocess.Popen([*map(str, command)], cwd=run.parent, env=environment, **{**pipes, **options})  # type: ignore


def test_stability_moves_a_flipping_verdict_to_unsure(run: pathlib.Path) -> None:
    found = predict('faces/test', '--stability', run=run)
    rows = rows_of(found.stdout)
    plain = rows_of(predict('faces/test', run=run).stdout)
    assert [row['logit'] for row in rows] == [row['logit'] for row in plain]
    assert all(0 <= float(row['stability']) <= 1 for row in rows)
    changed = [row for row, before in zip(rows, plain, strict=True) if row['verdict'] != before['verdict']]
    assert all(
        row['verdict'] == 'unsure' and 'a mild re-encoding changes the verdict' in row['note'] for row in changed
    )
    moved = {row['stability'] for row in rows}
    assert len(moved) > 5


def test_a_file_is_not_replaced_and_is_resumed(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / 'rows.csv'
    first = predict('faces/test', '--out', out, run=run)
    assert first.returncode == 0 and '40 images: ' in first.stderr and first.stdout == ''
    whole = out.read_bytes()
    assert_refused(predict('faces/test', '--out', out, run=run), 'rows.csv exists; go on with it (resume)')
    out.write_bytes(whole[:2000])
    again = predict('faces/test', '--out', out, '--resume', run=run)
    assert again.returncode == 0 and 'the others follow' in again.stderr
    assert out.read_bytes() == whole
    other = predict('faces/train', '--out', out, '--resume', run=run)
    assert_refused(other, 'has rows of other images')
    moved = predict('faces/test', '--out', out, '--resume', '--threshold', '0.9', run=run)
    assert_refused(moved, 'has rows with the threshold')
    assert predict('faces/test', '--out', out, '--overwrite', run=run).returncode == 0
    assert out.read_bytes() == whole


@pytest.mark.slow
def test_a_killed_command_is_resumed_with_every_row_once(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    many = tmp_path / 'many'
    many.mkdir()
    for index in range(6000):
        os.link(run.parent / 'faces/test/fake/000001.jpg', many / f'{index:05d}.jpg')
    whole, out = tmp_path / 'whole.csv', tmp_path / 'out.csv'
    assert predict(many, '--out', whole, run=run).returncode == 0
    for least in (1_000, 60_000, 120_000):
        with start(run, many, '--out', out, '--resume') as process:
            while process.poll() is None and not (out.exists() and out.stat().st_size > least):
                time.sleep(0.01)
            process.kill()
            process.communicate()
    assert out.exists() and out.stat().st_size < whole.stat().st_size
    assert predict(many, '--out', out, '--resume', run=run).returncode == 0
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error_and_an_interrupt_is(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    many = tmp_path / 'list'
    many.write_text('faces/test/fake/000001.jpg\n' * 200_000)
    with start(run, '--files_from', many) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(b'path,')
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert b'Traceback' not in process.stderr.read()
    with start(run, '--files_from', many) as process:
        assert process.stdout is not None
        assert process.stdout.readline() and process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and b'interrupted' in said and b'Traceback' not in said


def test_a_mistake_is_one_sentence(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / 'blank').write_text('\n \n')
    (tmp_path / 'empty').mkdir()
    image = 'faces/test/fake/000001.jpg'
    for arguments, sentence in (
        ([], 'no image given; name files, folders or archives, or pass --files_from LIST.'),
        (['--files_from', tmp_path / 'blank'], 'names no image'),
        (['--files_from', tmp_path / 'none'], 'cannot be read (No such file or directory)'),
        (['--files_from', tmp_path / 'blank', image], 'put all names in the list'),
        ([tmp_path / 'empty'], 'holds no files; check the path'),
        ([image, '--format', 'xml'], 'format is '),
        ([image, '--resume'], '--resume is true; it must be given with --out FILE'),
        ([image, '--format', 'parquet'], 'parquet is no text; pass --out FILE.parquet'),
        ([image, '--threshold', 'maybe'], 'maybe was not fitted'),
        ([image, '--threshold', '2'], 'it must be a probability'),
        ([image, '--batch_size', '-1'], 'batch_size is -1'),
    ):
        assert_refused(predict(*arguments, run=run), sentence)
    missing = run_module(
        'fakeimg.predict', [image], folder=run.parent, environment=verb_environment(1), timeout=60
    )  # fmt: skip
    assert_refused(missing, 'no detector given')


def test_a_person_gets_a_table_with_a_sentence(run: pathlib.Path) -> None:
    master, terminal = os.openpty()
    # No pipe: nobody would read what comes while the process is waited for, and there is little.
    with start(run, 'faces/test/fake/000001.jpg', 'nowhere.jpg', stdin=subprocess.DEVNULL, stdout=terminal) as process:
        os.close(terminal)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert 'what that means' in shown and 'there is no such file' in ' '.join(shown.split())
    assert 'path,label' not in shown

"""benchmarks/gpu.py: every part leaves its figures, whatever happens to the others; tried in small, on a CPU."""

import json
import pathlib
import subprocess
import sys
import time

import pytest

from tests.support.verbs import ROOT, assert_refused, verb_environment

PARTS = ('device', 'parity', 'steps', 'train', 'small', 'state')


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / 'benchmarks/gpu.py'), *map(str, arguments)]


def run(folder: pathlib.Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**verb_environment(), **variables}
    return subprocess.run(command(*arguments), cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def figures(folder: pathlib.Path, part: str) -> dict:
    return json.loads((folder / f'{part}.json').read_text())


@pytest.mark.slow
def test_every_part_has_its_figures(tmp_path: pathlib.Path) -> None:
    done = run(tmp_path, '--dry', '--seconds=0.05')
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / 'runs/gpu'
    parts = {part: figures(out, part) for part in PARTS}
    assert [part['error'] for part in parts.values()] == [None] * len(PARTS)
    assert parts['device']['ceilings']['float32']['copy_bytes_per_second'] > 1e8
    assert parts['parity']['networks']['cnn']['float32']['gradient'] < 1e-5
    (row,) = parts['steps']['rows']
    assert row['train']['fakeimg'] > 0 and row['eval']['fakeimg'] > 0
    assert 0 <= parts['train']['memory']['input_wait_share'] < 1
    assert parts['train']['start']['warm'] < parts['train']['start']['cold']
    assert parts['train']['save']['stall_ms'] > 0
    assert [row['data.cache'] for row in parts['small']['rows']] == ['host', 'device']
    table = run(tmp_path, '--table', 'runs/gpu').stdout
    assert table.startswith('Machine: cpu, ')
    assert '| resnet18 training step, bfloat16, batch 2 | ' in table
    assert '| ResNet50 training step, bfloat16, batch 256 |  |  |  |  |  |' in table


@pytest.mark.slow
def test_a_killed_run_keeps_what_it_had_and_leaves_no_process(tmp_path: pathlib.Path) -> None:
    with subprocess.Popen(
        command('--dry', '--parts=device,small,state', '--out', tmp_path), env=verb_environment()
    ) as process:
        end = time.monotonic() + 120
        while not (tmp_path / 'small.json').exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.kill()
    assert figures(tmp_path, 'device')['error'] is None
    assert figures(tmp_path, 'device')['ceilings']
    assert figures(tmp_path, 'small')['error'] == 'it was cut off before it had finished.'
    assert len(figures(tmp_path, 'small')['rows']) == 1  # of two
    end = time.monotonic() + 10
    while running(tmp_path) and time.monotonic() < end:
        time.sleep(0.1)
    assert running(tmp_path) == []
    assert {path.stem for path in tmp_path.glob('*.json')} == {'device', 'small'}


def running(folder: pathlib.Path) -> list[str]:
    """The command lines that name a folder."""
    lines = []
    for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
        try:
            lines.append(path.read_text(errors='replace'))
        except OSError:
            continue
    return [line for line in lines if str(folder) in line]


@pytest.mark.slow
def test_a_part_that_fails_or_takes_too_long_says_so_and_the_next_one_goes_on(tmp_path: pathlib.Path) -> None:
    failed = run(tmp_path, '--dry', '--parts=device,state', '--out=failed', XLA_FLAGS='--xla_no_such_flag=1')
    assert failed.returncode == 1
    for part in ('device', 'state'):
        assert '--xla_no_such_flag=1' in figures(tmp_path / 'failed', part)['error']
    stopped = run(tmp_path, '--dry', '--parts=device,state', '--out=stopped', '--limit=0.02')
    assert stopped.returncode == 1
    assert figures(tmp_path / 'stopped', 'device')['error'] == 'it was stopped after 1 s, before it had finished.'
    assert figures(tmp_path / 'stopped', 'state')['error']
    assert '0 of 2 parts are complete' in stopped.stdout


def test_figures_become_rows_and_what_is_missing_empty_cells(tmp_path: pathlib.Path) -> None:
    row = {
        'precision': 'bfloat16',
        'batch_size': 256,
        'model': 'resnet50',
        'train': {'fakeimg': 5478.4, 'eager': 3950.1, 'over_eager': 1.387},
        'serial_fraction': 0.893,
    }
    failed = {'part': 'train', 'error': 'it was stopped after 9 s, before it had finished.'}
    (tmp_path / 'steps.json').write_text(json.dumps({'rows': [row], 'error': None}))
    (tmp_path / 'train.json').write_text(json.dumps(failed))
    rates = {kind: {'images_per_second_at_best': rate} for kind, rate in (('train', 6000.0), ('eval', 9000.0))}
    for name, batch in (('plan', 256), ('plan_other', 64)):
        plan = {'precision': 'bfloat16', 'batch_size': batch, **rates}
        (tmp_path / f'{name}.json').write_text(json.dumps(plan))
    lines = run(tmp_path, '--table', tmp_path).stdout.splitlines()
    assert '| ResNet50 training step, bfloat16, batch 256 | 5,478 | 3,950 (ratio 1.39) |  | 0.89 | 6,000 |' in lines
    assert '| ResNet50 evaluation step, bfloat16, batch 256 |  |  |  |  | 9,000 |' in lines
    assert '| a checkpoint of ResNet50 stops the loop for |  |' in lines
    assert f'train: {failed["error"]}' in lines


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (
            ['--parts=device,speed'],
            "there is no part 'speed'; the parts are device, parity, steps, train, small, state.",
        ),
        (['--seconds=0'], '--seconds is 0; it must be more than 0.'),
        (['--limit=nan'], '--limit is nan; it must be more than 0.'),
        (['--table', '.'], '. holds no figures; run benchmarks/gpu.py --out . first.'),
        (['--fast'], 'unrecognized arguments: --fast; see --help.'),
    ],
)
def test_bad_arguments_are_refused(tmp_path: pathlib.Path, arguments: list[str], sentence: str) -> None:
    assert_refused(run(tmp_path, *arguments), sentence)
    assert list(tmp_path.iterdir()) == []

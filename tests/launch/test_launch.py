"""The launchers, started for real: the notebook, processes on this machine, a Slurm job with a stand-in for srun."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import nbclient
import nbclient.exceptions
import nbformat
import numpy as np
import pytest
from ipykernel.kernelspec import write_kernel_spec

from fakeimg.checkpoint import Checkpoints
from fakeimg.config import from_plain
from fakeimg.training.program import build
from fakeimg.training.state import TrainState
from tests.support.verbs import ROOT, verb_command, verb_environment

pytestmark = pytest.mark.slow  # several processes each
LAUNCH = ROOT / 'launch'
NOTEBOOK = LAUNCH / 'kaggle_t4x2.ipynb'
SMALL_CNN = (
    '--config.model.name=cnn',
    '--config.data.image_size=16',
    '--config.data.resize_size=16',
    '--config.data.path=demo',
    '--config.data.demo_examples=88',  # 22 to validate and 22 to test: neither is a multiple of the batch size
    '--config.batch_size=16',
)
FLAGS = (
    *('--config', str(ROOT / 'configs/demo.py'), *SMALL_CNN),
    '--config.log_every_steps=1',
    '--config.validate_every_epochs=0.4',  # 2 steps
)
STEPS = '--config.steps=5'


def environment(devices: int = 1, **variables: str) -> dict[str, str]:
    return verb_environment(devices, PYTHON=sys.executable, **variables)


def run(command: list[str], env: dict[str, str]) -> str:
    process = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def local_processes(*arguments: object) -> list[str]:
    return [str(LAUNCH / 'local_processes.sh'), '2', *map(str, arguments)]


def rows(workdir: pathlib.Path) -> list[dict[str, float]]:
    """What was logged, without what depends on the clock."""
    lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    timed = ('train/images_per_second_per_device', 'train/input_wait_share')
    return [{name: value for name, value in json.loads(line).items() if name not in timed} for line in lines]


def last_state(workdir: pathlib.Path) -> TrainState:
    """The last checkpoint, on the two devices of this process."""
    checkpoints = Checkpoints(workdir / 'checkpoints', read_only=True)
    restored = checkpoints.restore(build(from_plain(checkpoints.read_meta().config)).abstract_state())
    checkpoints.close()
    return jax.device_get(restored.state)


def assert_same_run(workdir: pathlib.Path, expected: pathlib.Path) -> None:
    assert len(rows(expected)) == 8  # 5 steps, validations at 2, 4 and 5
    assert rows(workdir) == [pytest.approx(row, abs=1e-6) for row in rows(expected)]
    assert sum(leaf.size for leaf in jax.tree.leaves(last_state(expected).params)) > 10_000
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), last_state(workdir), last_state(expected))


@pytest.fixture(scope='module')
def one_process(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The run folder of one process with two devices."""
    workdir = tmp_path_factory.mktemp('one') / 'run'
    run(verb_command('main', *FLAGS, STEPS, '--workdir', workdir), environment(devices=2))
    return workdir


def test_two_local_processes_train_like_one(one_process: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run(local_processes('-m', 'fakeimg.main', *FLAGS, STEPS, '--workdir', tmp_path), environment())
    assert json.loads((tmp_path / 'environment.json').read_text())['processes'] == 2
    assert_same_run(tmp_path, one_process)


def test_two_local_processes_evaluate_like_one(one_process: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def evaluate(command: list[str], devices: int) -> dict[str, Any]:
        run(command, environment(devices))
        results = workdir / 'evaluations' / 'test'
        assert len((results / 'predictions.csv').read_text().splitlines()) == 1 + 22
        metrics = json.loads((results / 'metrics.json').read_text())
        shutil.rmtree(results)
        return metrics

    workdir = pathlib.Path(shutil.copytree(one_process, tmp_path / 'run'))
    one = evaluate(verb_command('evaluate', '--workdir', workdir), 2)
    two = evaluate(local_processes('-m', 'fakeimg.evaluate', '--workdir', workdir), 1)
    assert one['n'] == 22
    assert two == one


def test_sigterm_reaches_every_process_and_the_run_continues(tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / 'run'
    command = local_processes('-m', 'fakeimg.main', *FLAGS, '--config.steps=5000', '--workdir', workdir)
    process = subprocess.Popen(command, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    logged = workdir / 'metrics.jsonl'
    while process.poll() is None and time.monotonic() < deadline and not (logged.exists() and logged.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert 'stopped by SIGTERM after step' in output
    step = int(last_state(workdir).step)
    assert 1 <= step < 5000

    steps = f'--config.steps={step + 1}'
    output = run(verb_command('main', *FLAGS, steps, '--workdir', workdir), environment())
    assert f'continues  at step {step} of {step + 1}' in output
    assert int(last_state(workdir).step) == step + 1


def test_one_failing_process_ends_the_others(tmp_path: pathlib.Path) -> None:
    program = f"""
import os, pathlib, sys, time
rank = os.environ['JAX_PROCESS_ID']
pathlib.Path({str(tmp_path)!r}, rank).write_text(str(os.getpid()))
while len(os.listdir({str(tmp_path)!r})) < 2:
    time.sleep(0.05)
if rank == '1':
    sys.exit(7)
time.sleep(60)
"""
    start = time.monotonic()
    process = subprocess.run(local_processes('-c', program), env=environment(), timeout=50)
    assert process.returncode == 7
    assert time.monotonic() - start < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / '0').read_text()), 0)


@pytest.mark.parametrize('arguments', [[], ['2'], ['two', '-m', 'fakeimg.main'], ['0', '-m', 'fakeimg.main']])
def test_local_processes_says_how_it_is_used(arguments: list[str]) -> None:
    process = subprocess.run([LAUNCH / 'local_processes.sh', *arguments], capture_output=True, text=True)
    assert process.returncode == 2
    assert 'usage: ' in process.stderr


# What srun tells its tasks, for a step of two tasks on this machine.
SRUN = """#!/usr/bin/env bash
[[ $1 == --kill-on-bad-exit=0 ]] || exit 1
shift
export SLURM_STEP_NODELIST=127.0.0.1 SLURM_NTASKS=2 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NUM_NODES=1
for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=$task "$@" & done
wait %1 && wait %2
"""


def slurm_environment(folder: pathlib.Path, srun: str) -> dict[str, str]:
    """Stand-ins for srun and scontrol, first on the PATH; scontrol writes down what it was asked."""
    for name, text in {'srun': srun, 'scontrol': f'#!/bin/sh\necho "$@" >> {folder}/asked\n'}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return environment(SLURM_JOB_ID='4711', PATH=f'{folder}:{os.environ["PATH"]}')


def test_slurm_job_trains_like_one_process(one_process: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    env = slurm_environment(tmp_path, SRUN) | {'JAX_COORDINATOR_PORT': str(port)}
    workdir = tmp_path / 'run'
    command = ['bash', str(LAUNCH / 'slurm.sbatch'), *FLAGS, STEPS, '--workdir', str(workdir)]
    run([*command, '--config.parallel=shard_map'], env)
    assert json.loads((workdir / 'environment.json').read_text())['processes'] == 2
    assert_same_run(workdir, one_process)


@pytest.mark.parametrize(('status', 'asked'), [(143, 'requeue 4711\n'), (138, 'requeue 4711\n'), (2, None), (0, None)])
def test_slurm_job_queues_itself_again_only_after_its_time_limit(
    status: int, asked: str | None, tmp_path: pathlib.Path
) -> None:
    env = slurm_environment(tmp_path, f'#!/bin/sh\nexit {status}\n')
    process = subprocess.run(['bash', LAUNCH / 'slurm.sbatch'], env=env, capture_output=True)
    assert process.returncode == status
    assert ((tmp_path / 'asked').read_text() if (tmp_path / 'asked').exists() else None) == asked


@pytest.mark.parametrize('script', [*LAUNCH.glob('*.sh'), *LAUNCH.glob('*.sbatch')], ids=lambda path: path.name)
def test_shell_scripts_parse(script: pathlib.Path) -> None:
    subprocess.run(['bash', '-n', script], check=True)


def execute_notebook(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, **settings: str) -> nbformat.NotebookNode:
    """Runs the notebook as it is, in a kernel of this interpreter and without anybody's own Jupyter settings."""
    write_kernel_spec(folder / 'jupyter' / 'kernels' / 'python3')
    for name in ('JUPYTER_PATH', 'JUPYTER_DATA_DIR', 'JUPYTER_RUNTIME_DIR', 'JUPYTER_CONFIG_DIR', 'IPYTHONDIR'):
        monkeypatch.setenv(name, str(folder / 'jupyter'))
    for name, value in environment(devices=2).items():
        monkeypatch.setenv(name, value)
    for name, value in {'WEIGHTS': 'none', **settings}.items():
        monkeypatch.setenv(f'FAKEIMG_{name}', value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=120, resources={'metadata': {'path': str(folder)}})
    return client.execute()


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    return ''.join(output['text'] for output in outputs if output['output_type'] == 'stream')


def test_notebook_trains_evaluates_and_continues(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(name: str, steps: int, **settings: str) -> tuple[nbformat.NotebookNode, str, dict[str, Any]]:
        extra = ' '.join((*SMALL_CNN, f'--config.steps={steps}', '--config.log_every_steps=3'))
        workdir = tmp_path / name / 'runs' / 'resnet50'
        (tmp_path / name).mkdir()
        notebook = execute_notebook(tmp_path / name, monkeypatch, WORKDIR=str(workdir), EXTRA_FLAGS=extra, **settings)
        metrics = (workdir / 'evaluations' / 'test' / 'metrics.json').read_text()
        return notebook, printed(notebook), json.loads(metrics)

    notebook, text, metrics = execute('first', 6, DATA_PATH='demo')
    assert (metrics['n'], metrics['step']) == (22, 6)
    assert 'devices    2 x cpu, 1 process(es)' in text
    assert 'step 3/6  ETA' in text  # lines, not the frames of a progress bar
    assert '\x1b[' not in text
    assert '!! DEMO FACES' in text
    assert '!! NO IMAGENET WEIGHTS' in text
    shown = [output for cell in notebook.cells for output in cell.get('outputs', []) if 'data' in output]
    assert any('image/png' in output['data'] for output in shown)
    assert any('<iframe' in output['data'].get('text/html', '') for output in shown)

    before = str(tmp_path / 'first' / 'runs' / 'resnet50')
    _, text, metrics = execute('second', 8, DATA_PATH='demo', PREVIOUS_RUN=before)
    assert 'continues  at step 6 of 8' in text
    assert '!! NO IMAGENET WEIGHTS' not in text
    assert metrics['n'] == 22


def test_notebook_stops_without_its_images(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(nbclient.exceptions.CellExecutionError, match='DATA_PATH: there are no images at'):
        execute_notebook(tmp_path, monkeypatch, WORKDIR=str(tmp_path / 'run'), DATA_PATH=str(tmp_path / 'absent'))
    assert not (tmp_path / 'run').exists()


@pytest.fixture
def run_in_notebook() -> Callable[..., None]:
    """The function `run` of the notebook."""
    names: dict[str, Any] = {'os': os}
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    exec(next(cell.source for cell in cells if cell.id == 'run'), names)
    return names['run']


def test_notebook_commands_show_what_they_print_and_raise_when_they_fail(
    run_in_notebook: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_notebook('python', '-c', 'import sys; print("out"); print("err", file=sys.stderr)')
    assert {'out', 'err'} <= set(capsys.readouterr().out.splitlines())
    for hours in (None, 1):
        with pytest.raises(subprocess.CalledProcessError, match='returned non-zero exit status 3'):
            run_in_notebook('python', '-c', 'raise SystemExit(3)', hours=hours)


SAVES_ON_A_SIGNAL = """
import os, signal, time
received = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: received.append(number))
{ready}
while not received:
    time.sleep(0.01)
time.sleep(0.5)
print('saved', len(received))
raise SystemExit(128 + received[0])
"""


def test_notebook_commands_save_when_their_time_is_up(
    run_in_notebook: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_notebook('python', '-c', SAVES_ON_A_SIGNAL.format(ready=''), hours=4 / 3600)
    output = capsys.readouterr().out
    assert 'saved 1' in output
    assert '!! TIME IS UP' in output


def test_notebook_commands_save_when_the_stop_button_is_pressed(
    run_in_notebook: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        press = 'time.sleep(1); os.kill(os.getppid(), signal.SIGINT)'  # by then it is reading what this prints
        run_in_notebook('python', '-c', SAVES_ON_A_SIGNAL.format(ready=press))
    assert 'saved 1' in capsys.readouterr().out


def test_notebook_is_clean() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert 'OWNER' not in NOTEBOOK.read_text()  # nothing is left to fill in, and the hub is tried without being told
    assert "WEIGHTS = setting('WEIGHTS', 'imagenet')" in next(cell.source for cell in code if cell.id == 'settings')

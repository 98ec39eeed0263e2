"""The launchers, started for real: processes on this machine, a Slurm job with a stand-in for srun."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np
import pytest

from fakeimg.checkpoint import Checkpoints
from fakeimg.config import from_plain
from fakeimg.training.program import build
from fakeimg.training.state import TrainState
from tests.support.verbs import ROOT, verb_command, verb_environment

pytestmark = pytest.mark.slow  # several processes each
LAUNCH = ROOT / 'launch'
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

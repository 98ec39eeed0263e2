"""The notebook for Kaggle: whole, on demo faces and a small network, and its cells one by one."""

import csv
import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import nbclient
import nbclient.exceptions
import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec

from fakeimg.data import demo
from tests.support.verbs import ROOT, verb_environment

NOTEBOOK = ROOT / 'launch' / 'kaggle_t4x2.ipynb'
SMALL_CNN = (
    '--config.model.name=cnn',
    '--config.data.image_size=16',
    '--config.data.resize_size=16',
    '--config.data.demo_examples=88',  # 22 to validate and 22 to test: neither is a multiple of the batch size
    '--config.batch_size=16',
)


def write_faces(folder: pathlib.Path, number: int) -> None:
    folder.mkdir(parents=True)
    source = demo.DemoFaces('test', size=32, num_examples=number)
    for index in range(number):
        (folder / f'{index}.jpg').write_bytes(source[index])


def execute_notebook(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, notebook: nbformat.NotebookNode, **settings: str
) -> None:
    """Runs the notebook as it is, in a kernel of this interpreter and without anybody's own Jupyter settings."""
    write_kernel_spec(folder / 'jupyter' / 'kernels' / 'python3')
    for name in ('JUPYTER_PATH', 'JUPYTER_DATA_DIR', 'JUPYTER_RUNTIME_DIR', 'JUPYTER_CONFIG_DIR', 'IPYTHONDIR'):
        monkeypatch.setenv(name, str(folder / 'jupyter'))
    for name, value in verb_environment(2).items():
        monkeypatch.setenv(name, value)
    for name, value in {'WEIGHTS': 'none', **settings}.items():
        monkeypatch.setenv(f'FAKEIMG_{name}', value)
    client = nbclient.NotebookClient(notebook, timeout=120, resources={'metadata': {'path': str(folder)}})
    client.execute()


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    return ''.join(output['text'] for output in outputs if output['output_type'] == 'stream')


def displayed(notebook: nbformat.NotebookNode, cell: str) -> list[str]:
    """The kind of everything that a cell displays, richest first."""
    outputs = next(found for found in notebook.cells if found.id == cell).outputs
    kinds = ('image/png', 'text/html')
    return [kind for output in outputs for kind in kinds if kind in output.get('data', {})]


def rows_of(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_notebook_trains_evaluates_and_continues(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(name: str, steps: int, **settings: str) -> tuple[nbformat.NotebookNode, str, dict[str, Any]]:
        extra = ' '.join((*SMALL_CNN, f'--config.steps={steps}', '--config.log_every_steps=3'))
        workdir = tmp_path / name / 'runs' / 'resnet50'
        (tmp_path / name).mkdir()
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell("print('JAX here:', 'jax' in sys.modules)"))
        settings |= {'WORKDIR': str(workdir), 'EXTRA_FLAGS': extra}
        execute_notebook(tmp_path / name, monkeypatch, notebook, **settings)
        metrics = (workdir / 'evaluations' / 'test' / 'metrics.json').read_text()
        return notebook, printed(notebook), json.loads(metrics)

    unlabelled = tmp_path / 'unlabelled'
    write_faces(unlabelled, 12)
    (unlabelled / 'broken.jpg').write_text('no image')
    notebook, text, metrics = execute('first', 6, DATA_PATH='demo', UNLABELLED=str(unlabelled))
    assert (metrics['n'], metrics['step']) == (22, 6)
    assert 'devices    2 x cpu, 1 process(es)' in text
    assert 'step 3/6  ETA' in text  # lines, not the frames of a progress bar
    assert '\x1b[' not in text
    assert '!! DEMO FACES' in text
    assert '!! NO IMAGENET WEIGHTS' in text
    assert 'JAX here: False' in text  # it would keep the memory of the GPUs from the commands
    run = tmp_path / 'first' / 'runs' / 'resnet50'
    assert displayed(notebook, 'curves') == ['image/png']
    figures = len(list((run / 'evaluations/test/figures').glob('*.png')))
    assert figures > 3
    assert displayed(notebook, 'report') == ['text/html', *['image/png'] * figures]
    assert displayed(notebook, 'samples') == ['image/png', 'text/html']
    assert displayed(notebook, 'maps') == ['image/png'] * 4
    assert displayed(notebook, 'unlabelled') == ['text/html']

    # The same scores as in the evaluation, and a row for each image without a label.
    samples = rows_of(run / 'samples.csv')
    names = [pathlib.Path(row['path']).name for row in samples]
    assert names == [f'{truth}-{number}.jpg' for truth in ('fake', 'real') for number in range(4)]
    evaluated = {float(row['probability']) for row in rows_of(run / 'evaluations/test/predictions.csv')}
    assert all(any(abs(float(row['probability']) - score) < 2e-6 for score in evaluated) for row in samples)
    assert '13 images, 1 of which could not be scored: predictions.csv' in text
    rows = rows_of(tmp_path / 'first' / 'predictions.csv')
    assert sorted(bool(row['verdict']) for row in rows) == [False] + [True] * 12

    _, text, metrics = execute('second', 8, DATA_PATH='demo', UNLABELLED='', PREVIOUS_RUN=str(run))
    assert 'UNLABELLED is empty: no images without labels are scored.' in text
    assert 'continues  at step 6 of 8' in text
    assert '!! NO IMAGENET WEIGHTS' not in text
    assert metrics['n'] == 22


def run_cell(name: str, **names: Any) -> dict[str, Any]:
    """Runs one cell in this process, with `names` defined before it, and returns the names after it."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    names = {'pathlib': pathlib, 'shutil': shutil, 'os': os, **names}
    exec(next(cell.source for cell in cells if cell.id == name), names)
    return names


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the first cell sets where nothing is chosen."""
    for name in list(os.environ):
        if name.startswith('FAKEIMG_'):
            monkeypatch.delenv(name)
    return {name: value for name, value in run_cell('settings').items() if name.isupper()}


def test_notebook_takes_its_images_from_kaggle_and_its_weights_from_the_hub(settings: dict[str, Any]) -> None:
    assert settings['DATA_PATH'] == '/kaggle/input/deepfake-and-real-images/Dataset'
    assert settings['WEIGHTS'] == 'imagenet'
    assert settings['REPO'] == settings['PREVIOUS_RUN'] == settings['UNLABELLED'] == ''


@pytest.fixture
def install(
    settings: dict[str, Any], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Runs the install cell where fakeimg is not installed; what it would run last."""
    monkeypatch.setattr('importlib.util.find_spec', lambda _: None)
    monkeypatch.setattr('shutil.which', lambda _: None)
    working = tmp_path / 'working' / 'run'
    working.mkdir(parents=True)
    monkeypatch.chdir(working)

    def run(**chosen: str) -> list[str]:
        commands: list[tuple[str, ...]] = []
        inputs = {'INPUTS': str(tmp_path / 'input')}
        run_cell('install', **{**settings, **inputs, **chosen}, run=lambda *command: commands.append(command))
        (command,) = commands
        return list(command)

    return run


@pytest.mark.parametrize('place', ['code', 'code/fakeimg-main', 'datasets/owner/code/fakeimg-main'])
def test_notebook_installs_code_that_is_attached_as_a_data_set(
    place: str, install: Callable[..., list[str]], tmp_path: pathlib.Path
) -> None:
    code, other = tmp_path / 'input' / place, tmp_path / 'input' / 'another-project'
    for folder in (code / 'fakeimg', other):
        folder.mkdir(parents=True)
    for folder in (code, other):
        (folder / 'pyproject.toml').touch()
    assert install() == ['python', '-m', 'pip', 'install', '--quiet', f'{code}[cuda12]']


def test_notebook_installs_from_an_address_only_where_one_is_given(install: Callable[..., list[str]]) -> None:
    address = 'https://example.org/fakeimg.git'
    assert install(REPO=address)[-1] == f'fakeimg[cuda12] @ git+{address}'
    with pytest.raises(FileNotFoundError, match='its code is not below .*; upload its folder as a data set'):
        install()


def data_cell(settings: dict[str, Any], tmp_path: pathlib.Path, **chosen: str) -> None:
    run_cell('data', **{**settings, 'DATA_PATH': 'demo', 'WORKDIR': str(tmp_path / 'run'), **chosen})


def test_notebook_stops_without_its_images(settings: dict[str, Any], tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match='DATA_PATH: there are no images at'):
        data_cell(settings, tmp_path, DATA_PATH=str(tmp_path / 'absent'))


def test_notebook_stops_before_training_where_unlabelled_holds_nothing(
    settings: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    (tmp_path / 'empty').mkdir()
    for name in ('absent', 'empty'):
        with pytest.raises(FileNotFoundError, match='UNLABELLED: there are no images at'):
            data_cell(settings, tmp_path, UNLABELLED=str(tmp_path / name))
    (tmp_path / 'empty' / 'a.jpg').touch()
    data_cell(settings, tmp_path, UNLABELLED=str(tmp_path / 'empty'))


@pytest.mark.slow
def test_notebook_stops_where_the_hub_cannot_be_reached(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))  # no weights of earlier runs
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.raises(nbclient.exceptions.CellExecutionError, match='returned non-zero exit status 2'):
        chosen = {'WORKDIR': str(tmp_path / 'run'), 'DATA_PATH': 'demo', 'WEIGHTS': 'imagenet'}
        execute_notebook(tmp_path, monkeypatch, notebook, **chosen)
    assert 'there are no ImageNet weights for resnet50' in printed(notebook)


def predicting(code: int) -> Callable[..., list[dict[str, str]]]:
    """The notebook's `predict`, where the command writes a row and exits with `code`."""

    def run(*command: str) -> None:
        pathlib.Path(command[command.index('--out') + 1]).write_text('path,verdict\na.jpg,\n')
        if code:
            raise subprocess.CalledProcessError(code, command)

    return run_cell('predict', run=run, subprocess=subprocess, WORKDIR='run')['predict']


def test_notebook_goes_on_where_some_images_cannot_be_read(tmp_path: pathlib.Path) -> None:
    out = str(tmp_path / 'rows.csv')
    for code in (0, 1):
        assert predicting(code)('images', out) == [{'path': 'a.jpg', 'verdict': ''}]
    with pytest.raises(subprocess.CalledProcessError):
        predicting(2)('images', out)


@pytest.fixture
def run_in_notebook() -> Callable[..., None]:
    """The function `run` of the notebook."""
    return run_cell('run')['run']


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


@pytest.mark.slow
def test_notebook_commands_save_when_their_time_is_up(
    run_in_notebook: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_notebook('python', '-c', SAVES_ON_A_SIGNAL.format(ready=''), hours=4 / 3600)
    output = capsys.readouterr().out
    assert 'saved 1' in output
    assert '!! TIME IS UP' in output


@pytest.mark.slow
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
    assert not re.search('OWNER|https?://', NOTEBOOK.read_text())  # nothing is left to fill in

"""The examples, run from start to end: a script that trains on a folder, a notebook that predicts with its run."""

import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import matplotlib.pyplot
import nbclient
import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec

from tests.support.verbs import ROOT, verb_environment

EXAMPLES = ROOT / 'examples'
NOTEBOOK = EXAMPLES / 'predict.ipynb'


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, str]:
    """The run folder that the script makes, and what the script printed."""
    run = tmp_path_factory.mktemp('examples') / 'run'
    command = [sys.executable, str(EXAMPLES / 'train_your_own.py'), '--run', str(run)]
    process = subprocess.run(
        command, env=verb_environment(1, 1), cwd=run.parent, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert 'WARNING' not in process.stderr  # of libraries below us
    return run, process.stdout


@pytest.mark.slow
def test_script_trains_evaluates_and_predicts(trained: tuple[pathlib.Path, str]) -> None:
    run, text = trained
    assert (run / 'evaluations/test/report.html').is_file()
    accuracy, auc = map(float, re.findall(r'^test accuracy (\S+), AUC (\S+);', text, re.M)[0])
    assert accuracy > 0.7
    assert auc > 0.8
    scores = dict(re.findall(r'^(\S+\.jpg): (\S+)$', text, re.M))
    assert len(scores) == 6
    # The same image has the same score in the evaluation.
    rows = (run / 'evaluations/test/predictions.csv').read_text().splitlines()[1:]
    evaluated = {name: probability for name, _, probability, _ in (row.split(',') for row in rows)}
    for name, score in scores.items():
        assert float(score) == pytest.approx(float(evaluated[name.split('/faces/')[1]]), abs=6e-4)


@pytest.mark.slow
def test_notebook_shows_images_with_their_scores(
    trained: tuple[pathlib.Path, str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kernel_spec(tmp_path / 'jupyter/kernels/python3')
    for name in ('JUPYTER_PATH', 'JUPYTER_DATA_DIR', 'JUPYTER_RUNTIME_DIR', 'JUPYTER_CONFIG_DIR', 'IPYTHONDIR'):
        monkeypatch.setenv(name, str(tmp_path / 'jupyter'))
    for name, value in verb_environment(FAKEIMG_RUN=str(trained[0])).items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={'metadata': {'path': str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    text = ''.join(output['text'] for output in outputs if output['output_type'] == 'stream')
    assert len(re.findall(r': (?:real|fake|unsure), P\(fake\) [01]\.\d{3}$', text, re.M)) == 6
    assert sum('image/png' in output.get('data', {}) for output in outputs) == 2  # the images, and a map


def run_cells(monkeypatch: pytest.MonkeyPatch, **settings: str) -> dict[str, Any]:
    """Runs the cells of the notebook in this process, and returns their names; `displayed` are images."""
    for name in ('RUN', 'IMAGES'):
        monkeypatch.delenv(f'FAKEIMG_{name}', raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(f'FAKEIMG_{name}', value)
    displayed: list[Any] = []
    names: dict[str, Any] = {'display': displayed.append, 'displayed': displayed}
    with matplotlib.rc_context({'backend': 'agg'}):
        monkeypatch.setattr('matplotlib.pyplot.show', lambda: None)
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
            if cell.cell_type == 'code':
                exec(cell.source, names)
        matplotlib.pyplot.close('all')
    return names


def test_notebook_needs_no_run_and_says_what_its_detector_does_not_know(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run_cells(monkeypatch)
    text = capsys.readouterr().out
    assert len(re.findall(r'^image \d: (?:real|fake|unsure), P\(fake\) [01]\.\d{3}$', text, re.M)) == 6
    assert text.count('    unlike the training images: 64 pixels, not 32') == 6
    assert len(names['displayed']) == 1
    one, prediction = names['explanation'], names['predictions'][0]
    assert one.cells.sum() + one.rest == pytest.approx(prediction.logit, abs=1e-4)
    assert f'log-odds of fake {prediction.logit:+.2f} = cells' in text


def test_notebook_says_which_file_is_no_image(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'a.jpg').write_text('no image')
    names = run_cells(monkeypatch, IMAGES=str(tmp_path))
    assert capsys.readouterr().out.count(f'{tmp_path / "a.jpg"} cannot be read: ') == 2
    assert names['displayed'] == []


def test_notebook_says_that_a_score_is_no_proof() -> None:
    assert 'it is no proof' in nbformat.read(NOTEBOOK, as_version=4).cells[0].source


def test_notebook_has_no_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert os.path.getsize(NOTEBOOK) < 20_000

"""Every name of a detector leads to it, and a wrong one ends in one sentence."""

import dataclasses
import pathlib
import shutil
import time
import types
from typing import Any

import huggingface_hub
import jax
import pytest
from huggingface_hub import constants

import fakeimg
from fakeimg import loading, operating, portable
from fakeimg.config import Config
from fakeimg.detector import describe, load
from fakeimg.errors import UserError
from fakeimg.models import create_model, init_variables
from fakeimg.pretrained import hub


@pytest.fixture
def folder(tmp_path: pathlib.Path, config: Config) -> pathlib.Path:
    """A portable detector with random weights."""
    variables = jax.device_get(init_variables(create_model(config), 32, seed=1))
    weights = portable.rounded(portable.Weights(variables, describe(config, 'digest'), 12), 'float32')
    path = tmp_path / 'detector'
    path.mkdir()
    portable.write_weights(path / portable.WEIGHTS, weights, 'float32')
    return path


def test_a_folder_and_its_file_are_the_same_detector(folder: pathlib.Path, faces: pathlib.Path) -> None:
    image = faces / 'test/real/000000.jpg'
    detector = load(folder)
    assert (detector.run, detector.step, detector.origin) == (folder, 12, str(folder))
    alone = folder.parent / 'alone.safetensors'
    shutil.copyfile(folder / portable.WEIGHTS, alone)
    for source in (str(folder), folder / portable.WEIGHTS, alone):
        assert load(source).predict(image) == detector.predict(image)
    assert detector.decision.note == 'no threshold or unsure band is carried; evaluating the run fixes them'
    with pytest.raises(UserError, match='detector holds the weights of step 12 alone; leave out the step 8'):
        load(folder, 8)
    assert load(folder, 12).step == load(folder, '12').step == 12


def test_what_lies_beside_the_weights_must_be_theirs(folder: pathlib.Path) -> None:
    shutil.copyfile(portable.PACKAGED / 'cifake' / operating.FILE, folder / operating.FILE)
    assert load(folder).operating is None  # of another step
    file = folder / operating.FILE
    file.write_text(file.read_text().replace('"step": 4219', '"step": 12'))
    with pytest.raises(UserError, match='operating.json was fitted for another run'):
        load(folder)


def test_a_path_that_exists_comes_before_a_name(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    packaged = portable.PACKAGED / 'cifake' / portable.WEIGHTS
    monkeypatch.chdir(tmp_path)
    assert loading.find('cifake') == packaged
    pathlib.Path('cifake').mkdir()
    with pytest.raises(UserError, match='cifake is not a run folder or portable .*, and hides the detector cifake of'):
        loading.find('cifake')
    shutil.copyfile(folder / portable.WEIGHTS, 'cifake/model.safetensors')
    assert loading.find('cifake') == pathlib.Path('cifake/model.safetensors')
    with pytest.raises(UserError, match=r'a detector of the package \(cifake\); check the path'):
        loading.find('cifak')


def test_labels_that_contradict_are_refused(folder: pathlib.Path) -> None:
    weights = portable.read_weights(folder / portable.WEIGHTS)
    other = dataclasses.replace(weights, meta=dataclasses.replace(weights.meta, labels={'real': 1, 'fake': 0}))
    portable.write_weights(folder / portable.WEIGHTS, other, 'float32')
    with pytest.raises(UserError, match='detector was trained with the labels real = 1, fake = 0'):
        load(folder)


def test_the_hub_gives_the_files_that_predictions_need(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, faces: pathlib.Path
) -> None:
    for name in ('README.md', 'metrics.json'):
        (folder / name).write_text('{}')
    asked = []

    def download(repository: str, file: str, *, revision: str | None, local_files_only: bool) -> str:
        assert (repository, revision, local_files_only) == ('me/faces', 'v2', False)
        asked.append(file)
        return str(folder / file)

    def model_info(repository: str, **_: Any) -> Any:
        names = [path.name for path in folder.iterdir()]
        return types.SimpleNamespace(siblings=[types.SimpleNamespace(rfilename=name) for name in names])

    monkeypatch.setattr(hub, 'check_connection', lambda: None)
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
    monkeypatch.setattr(huggingface_hub, 'model_info', model_info)
    detector = fakeimg.load('hf://me/faces@v2')
    assert asked == ['model.safetensors', 'metrics.json']  # what it has, and nothing that is not needed
    assert detector.origin == 'hf://me/faces@v2'
    image = faces / 'test/real/000000.jpg'
    assert detector.predict(image) == load(folder).predict(image)


def test_a_hub_that_cannot_be_reached_is_one_line_within_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')
    start = time.monotonic()
    with pytest.raises(UserError, match=r'^model.safetensors of me/faces could not .*127.0.0.1 cannot be reached') as e:
        load('hf://me/faces')
    assert time.monotonic() - start < 3 and '\n' not in str(e.value)
    for text in ('hf://faces', 'hf://', 'hf://a/b/c'):
        with pytest.raises(UserError, match='is no detector on the Hub; write hf://OWNER/NAME'):
            load(text)

"""The wheel, installed alone and used in an empty folder."""

import json
import pathlib
import subprocess
import sys
import zipfile

import pytest

import fakeimg
from fakeimg.cli import recipe
from tests.support.verbs import ROOT, verb_environment

pytestmark = pytest.mark.slow
PREDICT = """
import json, sys
import fakeimg
print(json.dumps([prediction.logit for prediction in fakeimg.load('runs/demo').predict(sys.argv[1:])]))
print(fakeimg.__file__)
"""


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp('wheel')
    pip('wheel', '--no-deps', '--no-build-isolation', '--wheel-dir', folder, ROOT)
    (path,) = folder.glob('*.whl')
    return path


def pip(*arguments: object) -> None:
    command = [sys.executable, '-m', 'pip', '--disable-pip-version-check', *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_the_package_and_the_recipes_only(wheel: pathlib.Path) -> None:
    assert wheel.name == f'fakeimg-{fakeimg.__version__}-py3-none-any.whl'
    names = zipfile.ZipFile(wheel).namelist()
    assert {'fakeimg/py.typed', *(f'fakeimg/configs/{name}.py' for name in recipe.names())} <= set(names)
    assert {name.split('/')[0] for name in names} == {'fakeimg', f'fakeimg-{fakeimg.__version__}.dist-info'}
    others = [name for name in names if name.startswith('fakeimg/') and not name.endswith(('.py', 'py.typed'))]
    detectors = [path for path in (ROOT / 'fakeimg/detectors').rglob('*') if path.is_file()]
    shipped = [*(ROOT / 'fakeimg/templates').iterdir(), *detectors]
    assert detectors and sorted(others) == sorted(str(path.relative_to(ROOT)) for path in shipped)


def test_an_installed_wheel_trains_evaluates_and_predicts(
    wheel: pathlib.Path, faces: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    site, work = tmp_path / 'site', tmp_path / 'work'
    work.mkdir()
    pip('install', '--quiet', '--no-deps', '--target', site, wheel)

    def run(*command: object) -> str:
        environment = verb_environment(PYTHONPATH=str(site))
        done = subprocess.run(
            list(map(str, command)), cwd=work, env=environment, capture_output=True, text=True, timeout=300
        )
        assert (done.returncode, done.stderr) == (0, '')
        return done.stdout

    script, images = site / 'bin/fakeimg', [faces / 'test/real/000000.jpg', faces / 'test/fake/000001.jpg']
    first, *rows = run(script, 'predict', '--model', 'cifake', *images).splitlines()  # before anything is trained
    assert first.startswith('path,label,probability') and len(rows) == 2
    assert run(script, '--version') == f'fakeimg {fakeimg.__version__}\n'
    small = ('--config.steps=2', '--config.data.path=demo', '--config.data.demo_examples=32', '--config.batch_size=8')
    assert 'finished: 2 steps, run folder runs/demo' in run(script, 'train', '--config', 'demo', *small)
    run(script, 'evaluate', '--workdir', 'runs/demo')
    metrics = json.loads((work / 'runs/demo/evaluations/test/metrics.json').read_text())
    assert (metrics['n'], metrics['step']) == (8, 2)

    logits, package = run(
        sys.executable, '-W', 'ignore:this detector was trained on faces drawn', '-c', PREDICT, *images
    ).splitlines()
    assert len(set(json.loads(logits))) == 2
    assert package == str(site / 'fakeimg/__init__.py')

"""fakeimg push, and what it has published loaded again, against a stand-in for the Hub."""

import csv
import pathlib
import shutil
from collections.abc import Iterator

import pytest

from fakeimg import portable
from tests.support import hub
from tests.support.hub import Hub
from tests.support.verbs import ROOT, Command, Verb, assert_refused, run_module, verb_environment

PACKAGED = portable.PACKAGED / 'cifake'


@pytest.fixture
def there() -> Iterator[Hub]:
    with hub.serving() as served:
        yield served


@pytest.mark.slow  # new processes, for libraries read the address of the Hub when they are imported
def test_a_pushed_detector_is_loaded_from_the_hub(there: Hub, tmp_path: pathlib.Path, faces: pathlib.Path) -> None:
    def run(*arguments: object, token: str = hub.TOKEN):
        environment = verb_environment(
            HF_ENDPOINT=there.address, HF_HOME=str(tmp_path / 'home'), HF_TOKEN=token, HF_HUB_OFFLINE='0', NO_PROXY='*'
        )
        return run_module('fakeimg', arguments, folder=tmp_path, environment=environment, timeout=120)

    source = shutil.copytree(PACKAGED, tmp_path / 'detector')
    pushed = run('push', source, 'me/faces', '--license', 'apache-2.0')
    assert (pushed.returncode, pushed.stderr) == (0, '')
    assert 'license: apache-2.0' in pushed.stdout and f'published: {there.address}/me/faces/commit/' in pushed.stdout
    assert there.files['me/faces'].keys() == {path.name for path in PACKAGED.iterdir()}
    assert 'hf_stand_in' not in pushed.stdout

    images = [faces / 'test/real/000000.jpg', faces / 'test/fake/000001.jpg']
    expected = run('predict', '--model', source, *images)
    loaded = run('predict', '--model', 'hf://me/faces', *images)
    assert (loaded.returncode, loaded.stderr) == (0, '')
    columns = [[row['logit'], row['threshold'], row['verdict']] for row in csv.DictReader(loaded.stdout.splitlines())]
    assert columns == [
        [row['logit'], row['threshold'], row['verdict']] for row in csv.DictReader(expected.stdout.splitlines())
    ]
    assert portable.CARD not in there.downloaded and portable.WEIGHTS in there.downloaded

    assert_refused(run('push', source, 'others/faces'), 'the token may not write to others/faces; check the owner')
    assert_refused(run('push', source, 'me/faces', token='hf_wrong'), 'the Hugging Face Hub does not accept the token')
    refused = run('predict', '--model', 'hf://me/none', *images)
    assert_refused(refused, 'model.safetensors of me/none could not be downloaded from the Hugging Face Hub')


def test_push_names_what_is_missing(command: Command, tmp_path: pathlib.Path) -> None:
    assert_refused(command('push'), 'no run given: fakeimg push runs/NAME OWNER/NAME.')
    assert_refused(command('push', PACKAGED), 'add OWNER/NAME, or write a folder with --out DIR.')
    assert_refused(command('push', PACKAGED, 'faces'), 'faces is no name of a model on the Hugging Face Hub')
    assert_refused(command('push', PACKAGED, '--out', ROOT), 'exists; name another folder, or remove it first.')
    assert_refused(command('push', PACKAGED, '--out=x', '--about=none.md'), '--about is none.md, which cannot be read')
    assert not (tmp_path / 'x').exists()


def test_a_folder_is_written_without_the_hub(command: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / 'about.md').write_text('Knows **little**.\n')
    done = command('push', PACKAGED, '--out', 'faces', '--about', 'about.md')
    assert (done.returncode, done.stderr) == (0, '')
    assert 'license: not stated; say it with --license' in done.stdout and 'model.safetensors' in done.stdout
    card = (tmp_path / 'faces/README.md').read_text()
    assert '\nKnows **little**.\n' in card and "fakeimg.load('faces')" in card


@pytest.mark.slow
def test_predict_and_evaluate_take_a_detector_of_the_package(verb: Verb, faces: pathlib.Path) -> None:
    done = verb('predict', '--model', 'cifake', faces / 'test/real/000000.jpg')
    assert done.returncode == 0 and ',cnn@' in done.stdout, done.stderr
    evaluated = verb('evaluate', '--model', 'cifake', '--data_path', faces / 'test', '--no_images')
    assert evaluated.returncode == 0, evaluated.stderr
    assert 'report: evaluations/test-of-test-' in evaluated.stdout
    assert not (PACKAGED / 'evaluations').exists()


def test_no_detector_names_all_ways_to_give_one(verb: Verb) -> None:
    sentence = 'no detector given; pass --workdir runs/NAME, --model hf://OWNER/NAME, or one of those in the package: '
    for name in ('predict', 'evaluate'):
        refused = verb(name, *(['x.jpg'] if name == 'predict' else []))
        assert_refused(refused, sentence)
        assert refused.stderr.strip().endswith('--model cifake.')
    both = verb('predict', '--workdir', 'runs/a', '--model', 'cifake', ROOT / 'docs/report.png')
    assert_refused(both, '--model is cifake; it must be left out where --workdir is given.')

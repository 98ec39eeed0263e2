"""The whole probe, as a function and as a person starts it."""

import csv
import json
import pathlib
import re
import shutil

import numpy as np
import pytest

from fakeimg import files
from fakeimg.config import Config, override
from fakeimg.data import labels as labels_lib
from fakeimg.data.datasets import open_data
from fakeimg.detector import load
from fakeimg.errors import UserError
from fakeimg.probing import classifiers
from fakeimg.probing.prober import Options, probe
from fakeimg.training import loop
from fakeimg.untrained import from_recipe
from tests.support.console import Recorder
from tests.support.verbs import Verb, assert_refused, flags_of


def read_json(out: pathlib.Path) -> dict:
    return json.loads((out / 'metrics.json').read_text())


def test_probe_of_random_weights_says_so_and_writes_everything(config: Config, tmp_path: pathlib.Path) -> None:
    out = tmp_path / 'out'
    said = Recorder()
    detector, options = from_recipe(config), Options(folds=3, max_examples=20)
    results = probe(detector, out, options, said)
    assert any(line.startswith('!! RANDOM WEIGHTS (config.init.weights=none)') for line in said.lines)
    assert any('RBF SVM: every fit uses at most 20 images, drawn from the 72 of train' in line for line in said.lines)
    assert sorted(path.name for path in out.iterdir()) == [
        '.lock', 'features-test.npz', 'features-train.npz', 'features-validation.npz', 'metrics.json',
        *(f'predictions-{split}-{name}.csv' for split in ('test', 'validation')
          for name in ('linear_svm', 'logistic_regression', 'rbf_svm')),
        'report.html',
    ]  # fmt: skip
    assert read_json(out) == results
    assert results['n'] == {'train': 72, 'validation': 24, 'test': 40}
    assert results['labels'] == labels_lib.LABELS
    for name, found in results['classifiers'].items():
        assert list(found['splits']) == ['validation', 'test']
        for metric in ('accuracy', 'auc'):
            over_folds = found['cross_validation'][metric]
            assert len(over_folds['folds']) == 3
            assert over_folds['mean'] == pytest.approx(sum(over_folds['folds']) / 3, abs=1e-5)
        assert found['c_by_mean_auc'][f'{found["c"]:g}'] == max(found['c_by_mean_auc'].values())
        scored = found['splits']['test']
        assert 'loss' not in scored  # decisions of an SVM are no log-odds
        with open(out / f'predictions-test-{name.replace(" ", "_").lower()}.csv', newline='') as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == scored['n'] == 40
        right = sum((float(row['decision']) >= 0) == (row['label'] == '1') for row in rows)
        assert scored['accuracy'] == pytest.approx(right / 40)
        assert all(('fake' in row['name']) == (row['label'] == '1') for row in rows)
    page = (out / 'report.html').read_text()
    assert '<h1>Probe of cnn features</h1>' in page
    assert 'RANDOM WEIGHTS' in page
    assert 'whole groups' not in page
    means = {name: found['cross_validation']['auc']['mean'] for name, found in results['classifiers'].items()}
    assert f'{max(means, key=lambda name: means[name])} has the best mean AUC over the folds' in page
    assert 'Images of test' in page and page.count('<img') >= 12

    said.clear()
    assert probe(detector, out, options, said) == results
    assert sum('images read from' in line for line in said.lines) == 3


def test_probe_of_a_checkpoint_says_what_flatters(config: Config, faces: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config.steps = 2
    loop.train(config, tmp_path / 'run')
    said = Recorder()
    out = tmp_path / 'run/probe'
    results = probe(load(tmp_path / 'run'), out, Options(folds=2), said)
    assert results['weights'] == f'checkpoint 2 of {tmp_path / "run"}'
    assert any('cross-validation on them flatters' in line for line in said.lines)
    assert not any('RANDOM' in line for line in said.lines)
    fresh = probe(from_recipe(config), tmp_path / 'fresh', Options('validation', folds=2))
    assert fresh['n'] == {'train': 72, 'validation': 24}
    assert fresh['weights_sha256'] != results['weights_sha256']

    said.clear()
    shutil.copy(faces / 'test/real/000000.jpg', faces / 'train/real/new.jpg')
    probe(load(tmp_path / 'run'), out, Options(folds=2), said)
    assert any('the images are not the ones this run was trained on' in line for line in said.lines)


def test_folds_keep_the_groups_of_train_whole(
    config: Config, faces: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five images of each of a few people, both classes among them; one cannot be read."""
    rows = [('path', 'label', 'split', 'group')]
    for split in ('train', 'test'):
        for number, path in enumerate(sorted(faces.glob(f'{split}/*/*.jpg'), key=lambda path: path.name)):
            rows.append((str(path.relative_to(faces)), path.parent.name, split, f'{split} person {number // 5}'))
    with open(faces / 'list.csv', 'w', newline='') as file:
        csv.writer(file).writerows(rows)
    config.data.path = str(faces / 'list.csv')
    config.data.max_bad_fraction = 0.1
    train = open_data(config).get('train')
    (faces / train.names[0]).write_bytes(b'')
    groups = np.array(train.groups[1:])
    used: list[np.ndarray] = []

    def cross_validate(classifier, features, labels, fold_of, *others, **more):
        used.append(fold_of)
        return original(classifier, features, labels, fold_of, *others, **more)

    original = classifiers.cross_validate
    monkeypatch.setattr(classifiers, 'cross_validate', cross_validate)
    results = probe(from_recipe(config), tmp_path / 'out', Options(folds=3))
    assert results['skipped']['train'] == 1
    assert results['whole_groups'] is True
    assert 'whole groups' in (tmp_path / 'out/report.html').read_text()
    assert len(used) == len(classifiers.CLASSIFIERS)
    for fold_of in used:
        assert set(fold_of) == {0, 1, 2}
        assert all(len(set(fold_of[groups == group])) == 1 for group in groups)


@pytest.mark.parametrize(
    ('arguments', 'fields', 'message'),
    [
        ({'split': 'holdout'}, {}, "there is no split 'holdout' in this data; it has train, validation, test"),
        ({'split': 'train'}, {}, 'split is train, which the classifiers are fitted on'),
        ({'split': 'train[50%:]+test'}, {}, 'share 36 images; choose splits that have none in common'),
        ({'folds': 37}, {}, 'folds is 37; it must be from 2 to the 36 images of the smaller class'),
        ({'folds': 1}, {}, 'folds is 1;'),
        ({'max_examples': 1}, {}, 'max_examples is 1; it must be 2 or more'),
        ({}, {'batch_size': 15}, 'config.batch_size=15 cannot be split over 2 devices'),
        ({}, {'precision': 'half'}, "config.precision is 'half'"),
    ],
)
def test_arguments_that_cannot_work(
    arguments: dict, fields: dict, message: str, config: Config, tmp_path: pathlib.Path
) -> None:
    config = override(config, fields)
    with pytest.raises(UserError, match=re.escape(message)):
        probe(from_recipe(config), tmp_path / 'out', Options(**arguments))
    assert not (tmp_path / 'out').exists()


def test_one_class_can_be_scored_and_not_learned(config: Config, faces: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.rmtree(faces / 'test/fake')
    results = probe(from_recipe(config), tmp_path / 'scored', Options(folds=2))
    assert all(found['splits']['test']['auc'] is None for found in results['classifiers'].values())
    assert '>undefined</' in (tmp_path / 'scored/report.html').read_text()
    shutil.rmtree(faces / 'train/fake')
    with pytest.raises(UserError, match='the training split has 0 images of one class'):
        probe(from_recipe(config), tmp_path / 'out')


def test_a_folder_that_is_taken_or_no_folder_is_refused(config: Config, tmp_path: pathlib.Path) -> None:
    out = tmp_path / 'out'
    out.mkdir()
    with files.hold(out / '.lock', ''), pytest.raises(UserError, match='another probe is using'):
        probe(from_recipe(config), out)
    with pytest.raises(UserError, match='cannot be written to .Not a directory.; choose another folder'):
        probe(from_recipe(config), out / '.lock/below')


@pytest.mark.slow
def test_probe_as_a_person_starts_it(verb: Verb, config: Config, tmp_path: pathlib.Path) -> None:
    flags = ['--config', 'configs/cnn.py', *flags_of(config)]
    probed = verb('probe', *flags, '--folds=2', devices=2)
    assert probed.returncode == 0, probed.stderr
    assert probed.stderr == ''
    assert '64 features of cnn, random weights, seed 0' in probed.stdout
    assert 'RBF SVM' in probed.stdout
    assert probed.stdout.endswith('report: runs/probe_cnn/report.html\n')
    assert (tmp_path / 'work/runs/probe_cnn/metrics.json').exists()
    assert_refused(verb('probe'), 'pass --config NAME or --workdir runs/NAME; neither was given')
    assert_refused(verb('probe', *flags, '--workdir', 'runs/cnn'), 'both were given')

import csv
import dataclasses
import json
import pathlib
import re
import shutil
from typing import Any

import pytest

import fakeimg
from fakeimg.config import Config
from fakeimg.detector import Detector, load
from fakeimg.errors import UserError
from fakeimg.evaluation.evaluator import evaluate, moved
from fakeimg.evaluation.options import Options
from fakeimg.training import loop
from tests.support.console import Recorder
from tests.support.sets import prepare
from tests.support.small import small_config
from tests.support.verbs import Verb


@pytest.fixture(scope='module')
def place(faces_once: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Holds `faces`, a `run` of two steps on them, and `kept`, both as they were."""
    place = tmp_path_factory.mktemp('place')
    for folder in (place, place / 'kept'):
        shutil.copytree(faces_once, folder / 'faces')
    config = small_config(place / 'faces')
    config.steps = 2
    loop.train(config, place / 'run')
    shutil.copytree(place / 'run', place / 'kept/run')
    return place


def anew(folder: pathlib.Path) -> pathlib.Path:
    shutil.rmtree(folder, ignore_errors=True)
    return pathlib.Path(shutil.copytree(folder.parent / 'kept' / folder.name, folder))


@pytest.fixture
def faces(place: pathlib.Path) -> pathlib.Path:
    return anew(place / 'faces')


@pytest.fixture
def reporting(place: pathlib.Path, faces: pathlib.Path) -> pathlib.Path:
    """The run folder; evaluations of it write their pages."""
    return anew(place / 'run')


@pytest.fixture
def workdir(reporting: pathlib.Path, no_page: None) -> pathlib.Path:
    """The run folder."""
    return reporting


def test_another_folder_is_scored_whole_and_kept_apart(
    workdir: pathlib.Path, faces: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    ours, _ = evaluate(load(workdir))
    other = tmp_path / 'other'
    shutil.copytree(faces / 'train', other)  # classes, no splits
    theirs, folder = evaluate(load(workdir), data_path=str(other))
    assert theirs['n'] == 96
    assert theirs['data_path'] == str(other)
    assert re.fullmatch('test-of-other-[0-9a-f]{8}', folder.name)
    assert json.loads((workdir / 'evaluations/test/metrics.json').read_text()) == ours


def test_seen_images_are_recognised_wherever_they_lie(
    workdir: pathlib.Path, faces: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Two steps of 16 have shown 32 of the 72 images, and validation its 24."""
    shutil.copytree(faces / 'train', tmp_path / 'elsewhere/all')
    for number, path in enumerate((tmp_path / 'elsewhere').rglob('*.jpg')):
        path.rename(path.with_name(f'renamed{number}.jpg'))
    metrics, _ = evaluate(load(workdir), data_path=str(tmp_path / 'elsewhere/all'))
    others = metrics['without_copies']
    assert (metrics['n'], others['copies'], others['n']) == (96, 56, 40)
    assert evaluate(load(workdir))[0]['without_copies'] is None
    assert evaluate(load(workdir), 'validation')[0]['without_copies'] is None
    config = load(workdir).config
    config.steps = 5
    loop.train(config, workdir)  # now with all of them
    metrics, _ = evaluate(load(workdir, 'latest'), data_path=str(tmp_path / 'elsewhere/all'))
    assert metrics['without_copies'] == {'copies': 96}


def test_evaluations_never_replace_others(workdir: pathlib.Path, faces: pathlib.Path, tmp_path: pathlib.Path) -> None:
    detector = load(workdir)
    for parent in ('one', 'other'):
        shutil.copytree(faces / 'test', tmp_path / parent / 'val')
    image = tmp_path / 'other/val/real/000000.jpg'
    image.write_bytes(image.read_bytes() + b'0')  # named alike
    folders = [evaluate(detector, data_path=str(tmp_path / parent / 'val'))[1] for parent in ('one', 'other')]
    folders += [evaluate(detector, options=Options(threshold=threshold))[1] for threshold in (0.5, 0.7, 0.3)]
    config = load(workdir).config
    config.steps = 4
    loop.train(config, workdir)
    folders += [evaluate(load(workdir, step))[1] for step in ('latest', 2)]
    assert [folder.name for folder in folders[2:]] == [
        'test', 'test-threshold-0.7', 'test-threshold-0.3', 'test-step-4', 'test',
    ]  # fmt: skip
    assert len(set(folders[:2])) == 2
    found = [json.loads((folder / 'metrics.json').read_text()) for folder in folders]
    assert [one['n'] for one in found[:2]] == [40, 40]
    assert [one['threshold'] for one in found[2:5]] == [0.5, 0.7, 0.3]
    assert evaluate(detector, out=folders[2])[1] == folders[2]
    with pytest.raises(UserError, match='holds another evaluation; choose another folder'):
        evaluate(detector, options=Options(threshold=0.6), out=folders[2])


def test_images_at_another_place_are_the_same_if_their_listing_is(
    workdir: pathlib.Path, faces: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    expected, _ = evaluate(load(workdir))
    faces.rename(tmp_path / 'archive')
    with pytest.raises(UserError, match=f'the images of this run are not at {faces}; .* moved_to'):
        evaluate(load(workdir))
    metrics, folder = evaluate(moved(load(workdir), str(tmp_path / 'archive')))
    assert metrics.pop('data_path') == str(tmp_path / 'archive')
    assert metrics.pop('data')['name'] == 'archive'
    del metrics['detector'], expected['detector'], expected['data'], expected['data_path']  # which have the time, names
    assert metrics == expected
    assert folder.name == 'test'
    shutil.copy(tmp_path / 'archive/test/real/000000.jpg', tmp_path / 'archive/test/real/new.jpg')
    with pytest.raises(UserError, match='does not hold the images that this run was trained on'):
        moved(load(workdir), str(tmp_path / 'archive'))


@pytest.mark.usefixtures('no_page')
def test_a_detector_of_drawn_faces_says_so_on_other_images(
    config: Config, faces: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    config.data.path, config.data.demo_examples, config.steps = 'demo', 64, 1
    loop.train(config, tmp_path / 'run')
    for path, is_said in ((str(faces), True), (None, False)):
        said = Recorder()
        evaluate(load(tmp_path / 'run'), data_path=path, console=said)
        assert any('was trained on faces drawn by code' in line for line in said.lines) == is_said
    with pytest.warns(UserWarning, match='was trained on faces drawn by code'):
        load(tmp_path / 'run').predict([faces / 'test/real/000000.jpg'])


def test_images_that_changed_since_training_are_mentioned(workdir: pathlib.Path, faces: pathlib.Path) -> None:
    said = Recorder()
    evaluate(load(workdir), console=said)
    assert not any('not the ones' in line for line in said.lines)
    shutil.copy(faces / 'test/real/000000.jpg', faces / 'train/real/new.jpg')
    evaluate(load(workdir), console=said)
    assert any('the images are not the ones this run was trained on' in line for line in said.lines)


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_scored(
    workdir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (workdir / 'evaluations').write_text('')  # no folder can be made here, as on a read-only file system
    said, detector = Recorder(), load(workdir)
    with pytest.raises(UserError, match='evaluations/test cannot be written to .*name another folder'):
        evaluate(detector, console=said)
    assert not any(line.startswith('scoring') for line in said.lines)
    _, folder = evaluate(detector, out=tmp_path / 'elsewhere')
    assert folder == tmp_path / 'elsewhere' and (folder / 'predictions.csv').exists()


@pytest.mark.slow
def test_images_that_train_holds_too_are_scored_apart(
    config: Config, faces: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copy(faces / 'train/real/000000.jpg', faces / 'test/real/copy.jpg')
    config.data.path = str(tmp_path / 'prepared')
    prepare(faces, tmp_path / 'prepared')
    config.steps = 1
    loop.train(config, tmp_path / 'run')
    metrics, folder = evaluate(load(tmp_path / 'run'))
    others = metrics['without_copies']
    assert (metrics['n'], others['copies'], others['n']) == (41, 1, 40)
    with open(folder / 'predictions.csv', newline='') as file:
        rows = [row for row in csv.DictReader(file) if row['name'] != 'test/real/copy.jpg']
    right = sum((float(row['probability']) >= 0.5) == (row['label'] == '1') for row in rows)
    assert others['accuracy'] == pytest.approx(right / 40)
    assert evaluate(load(tmp_path / 'run'), 'train')[0]['without_copies'] is None
    others = evaluate(load(tmp_path / 'run'), options=Options(threshold=0.0))[0]['without_copies']
    assert others['threshold'] == 0.0
    assert others['confusion'] == {'tp': 20, 'fp': 20, 'tn': 0, 'fn': 0}


@pytest.mark.slow
def test_the_threshold_decides_what_is_called_fake(verb: Verb, config: Config, tmp_path: pathlib.Path) -> None:
    config.steps = 48
    config.optimizer.base_learning_rate = 0.03
    loop.train(config, tmp_path / 'run')
    usual, folder = evaluate(load(tmp_path / 'run'), 'train')
    result = verb('evaluate', '--workdir', tmp_path / 'run', '--split', 'train', '--threshold=0.9')
    assert result.returncode == 0, result.stderr
    folder = folder.with_name('train-threshold-0.9')
    metrics = json.loads((folder / 'metrics.json').read_text())
    with open(folder / 'predictions.csv', newline='') as file:
        rows = [(row['label'] == '1', float(row['probability']) >= 0.9) for row in csv.DictReader(file)]
    tp, fp = rows.count((True, True)), rows.count((False, True))
    tn, fn = rows.count((False, False)), rows.count((True, False))
    assert metrics['confusion'] == {'tp': tp, 'fp': fp, 'tn': tn, 'fn': fn}
    assert metrics['accuracy'] == pytest.approx((tp + tn) / 72, abs=1e-6)
    assert metrics['precision'] == pytest.approx(tp / (tp + fp), abs=1e-6)
    assert (usual['threshold'], metrics['threshold']) == (0.5, 0.9)
    assert 0 < tp < usual['confusion']['tp']  # images lie on either side of both


def test_unreadable_images_are_not_scored(workdir: pathlib.Path, faces: pathlib.Path) -> None:
    def scores() -> tuple[dict, dict[str, str]]:
        metrics, folder = evaluate(load(workdir).tolerating(0.1))
        with open(folder / 'predictions.csv', newline='') as file:
            return metrics, {row['name']: row['label'] + row['logit'] for row in csv.DictReader(file)}

    whole, expected = scores()
    assert (whole['n'], whole['skipped'], len(expected)) == (40, 0, 40)
    (faces / 'test/real/000006.jpg').write_bytes(b'not an image')
    metrics, found = scores()
    assert (metrics['n'], metrics['skipped'], sum(metrics['confusion'].values())) == (39, 1, 39)
    del expected['test/real/000006.jpg']
    assert found == expected  # each under its own name still


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'split': 'holdout'}, "no split 'holdout'"),
        ({'options': {'threshold': float('nan')}}, '^threshold is nan; it must be a prob'),
        ({'options': {'threshold': 'fpr=0'}}, '^threshold is .fpr=0.; the false positive rate must lie between'),
        ({'options': {'threshold': 'best'}}, '^threshold is .best.; it must be a number from 0 to 1, or one of'),
        ({'options': {'prevalence': 1.0}}, '^prevalence is 1; it must be between 0 and 1'),
        ({'options': {'error_rate': 0.0}}, '^error_rate is 0; it must be between 0 and 1'),
    ],
)
def test_arguments_that_cannot_work(workdir: pathlib.Path, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        if 'options' in arguments:
            arguments = {'options': Options(**arguments['options'])}
        evaluate(load(workdir), **arguments)
    assert not (workdir / 'evaluations').exists()


def test_validation_is_scored_once_and_fixes_thresholds(workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match='does not support the threshold fpr=0.01: it needs 299 real images, has 12'):
        evaluate(load(workdir), options=Options(threshold='fpr=0.01'))
    seen: list[str] = []
    score = Detector.score
    monkeypatch.setattr(
        Detector, 'score', lambda self, part, name, **more: [seen.append(name), score(self, part, name, **more)][1]
    )
    metrics, folder = evaluate(load(workdir), options=Options(threshold='youden'))
    assert seen == ['test']
    assert folder.name == 'test' and metrics['threshold_rule'] == 'youden'
    point = metrics['operating_points'][0]
    stored = json.loads((workdir / 'operating.json').read_text())
    assert (point['source'], point['n'], point['digest']) == ('validation', 24, stored['digest'])
    assert metrics['operating_points'][-1]['achievable'] is False
    assert evaluate(load(workdir))[1].name == 'test-threshold-0.5'
    monkeypatch.undo()


def test_what_validation_fixed_is_not_carried_to_itself_or_to_mirrored_scores(workdir: pathlib.Path) -> None:
    options = Options(threshold='youden')
    metrics, _ = evaluate(load(workdir), options=dataclasses.replace(options, flip=True))
    assert metrics['operating_points'][0]['source'] == 'validation'
    assert not (workdir / 'operating.json').exists()
    said = Recorder()
    metrics, _ = evaluate(load(workdir), 'validation', options=options, console=said)
    assert [row['achievable'] for row in metrics['operating_points']][0] is False
    assert any('these images fixed the thresholds themselves' in line for line in said.lines)


def test_robustness_stays_with_the_evaluation_it_belongs_to(workdir: pathlib.Path) -> None:
    first, folder = evaluate(load(workdir), options=Options(robustness=True, robustness_images=8))
    assert first['robustness']['tiers'] and evaluate(load(workdir))[0]['robustness'] == first['robustness']
    assert evaluate(load(workdir), options=Options(threshold=0.4))[0]['robustness'] is None
    with pytest.raises(UserError, match='holds another evaluation'):
        evaluate(load(workdir), 'validation', out=folder)


def test_labels_of_the_test_set_reach_no_fit(
    workdir: pathlib.Path, faces: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Turned round, they change no threshold, no calibration and no band."""
    first, _ = evaluate(load(workdir))
    (workdir / 'operating.json').unlink()
    for label, other in (('real', 'fake'), ('fake', 'real')):
        shutil.copytree(faces / 'test' / label, tmp_path / 'turned' / other)
    second, _ = evaluate(load(workdir), data_path=str(tmp_path / 'turned'))
    assert second['accuracy'] == pytest.approx(1 - first['accuracy'])
    for name in ('calibration', 'unsure'):
        kept = {key: value for key, value in (first[name] or {}).items() if key not in ('coverage', 'error', 'digest')}
        assert {key: (second[name] or {}).get(key) for key in kept} == kept
    carried = [[row['threshold'] for row in one['operating_points'] if row['achievable']] for one in (first, second)]
    assert carried[0] == carried[1] and len(carried[0]) == 2


def test_the_report_names_rates(reporting: pathlib.Path) -> None:
    metrics, folder = evaluate(load(reporting), options=Options(threshold=0.0))
    page = (folder / 'report.html').read_text()
    assert 'true positive rate 100.0% (20 of 20) of fake images' in page
    assert 'false positive rate 100.0% (20 of 20) of real images' in page
    assert f'fakeimg {fakeimg.__version__}, checkpoint {metrics["step"]}, data {metrics["data_digest"][:12]}' in page


def test_a_few_broken_files_are_skipped_listed_and_said(workdir: pathlib.Path, faces: pathlib.Path) -> None:
    (faces / 'test/real/000006.jpg').write_bytes(b'version https://git-lfs.github.com/spec/v1')
    image = faces / 'test/fake/000007.jpg'
    image.write_bytes(image.read_bytes()[:-200])
    detector = load(workdir)
    with pytest.raises(UserError, match=r'of 40 .* more than max_bad_fraction=0.02 allows'):
        evaluate(detector.tolerating(0.02))
    said = Recorder()
    metrics, folder = evaluate(detector.tolerating(), console=said)
    assert (metrics['n'], metrics['skipped']) == (38, 2)
    assert '2 of 40 images of split test cannot be read' in said.text.replace('\n', ' ')
    listed = (folder / 'bad_pictures.csv').read_text()
    assert 'Git LFS pointer' in listed and 'truncated or damaged JPEG' in listed


def leaves(value: Any, path: str = '') -> dict[str, Any]:
    """Every value in JSON, by where it is."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {path: value}
    return {name: leaf for key, part in items for name, leaf in leaves(part, f'{path}/{key}').items()}


@pytest.mark.slow
def test_one_and_two_devices_give_the_same_figures_of_groups(
    workdir: pathlib.Path, faces: pathlib.Path, tmp_path: pathlib.Path, verb: Verb
) -> None:
    """Of 39 images, which two devices do not divide, in videos of four."""
    images = sorted((faces / 'test').rglob('*.jpg'))[1:]
    rows = [f'{image.relative_to(faces)},{image.parent.name},video {place // 4}' for place, image in enumerate(images)]
    table = faces / 'list.csv'
    table.write_text('\n'.join(['path,label,group', *rows]))
    found = []
    for devices in (1, 2):
        flags = ['--data_path', table, '--out', tmp_path / f'by {devices}', '--batch_size', 8, '--no_images', '--json']
        done = verb('evaluate', '--workdir', workdir, *flags, devices=devices)
        assert done.returncode == 0, done.stderr
        found.append(leaves(json.loads(done.stdout)))
    one, two = found
    assert one.pop('/command') != two.pop('/command')
    assert (one['/n'], one['/data/groups'], one['/figures/auc/groups']) == (39, 10, 10)
    numbers = {name for name, value in one.items() if isinstance(value, float)}
    assert {name: two[name] for name in two.keys() - numbers} == {name: one[name] for name in one.keys() - numbers}
    assert [two[name] for name in numbers] == pytest.approx([one[name] for name in numbers], rel=1e-5, abs=1e-6)
    (folder, other) = (tmp_path / f'by {devices}' for devices in (1, 2))
    assert (folder / 'digests.npy').read_bytes() == (other / 'digests.npy').read_bytes()
    scores = [
        [float(row['logit']) for row in csv.DictReader((path / 'predictions.csv').read_text().splitlines())]
        for path in (folder, other)
    ]
    assert len(scores[0]) == 39 and scores[1] == pytest.approx(scores[0], abs=2e-6)

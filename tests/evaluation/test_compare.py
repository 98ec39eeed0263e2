import csv
import json
import pathlib
import re
import shlex
import shutil
from typing import Any

import numpy as np
import pytest
import scipy.stats

from fakeimg.data import seen
from fakeimg.detector import load
from fakeimg.errors import UserError
from fakeimg.evaluation import compare_tables, contests
from fakeimg.evaluation.compare import compare
from fakeimg.evaluation.evaluator import evaluate
from fakeimg.training import loop
from tests.support.console import Recorder
from tests.support.files import write_tree
from tests.support.sets import prepare
from tests.support.small import small_config
from tests.support.verbs import Verb, assert_refused

NAMES = [f'test/{label}/{place}.jpg' for label in ('real', 'fake') for place in range(60)]
LABELS = np.repeat([0, 1], 60)


def write_scores(path: pathlib.Path, shift: float, seed: int = 0, names: list[str] = NAMES, labels: bool = True) -> str:
    """A table of scores of a detector that is as good as `shift`."""
    logits = shift * (LABELS - 0.5) + np.random.default_rng(seed).normal(size=len(LABELS))
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['name', 'logit', *(['label'] if labels else [])])
        for row, name in enumerate(names):
            writer.writerow([name, logits[row], *([('real', 'fake')[LABELS[row]]] if labels else [])])
    return str(path)


def rows_of(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def write_evaluation(folder: pathlib.Path, shift: float, seed: int, **metrics: object) -> pathlib.Path:
    """An evaluation of a run of the recipe `filters`, without the run."""
    folder.mkdir(parents=True)
    config = {'seed': seed, 'model': {'name': 'cnn'}, 'data': {'path': '/faces'}}
    about = {'split': 'test', 'step': 9, 'content_digest': 'abc', 'data_path': '/faces', 'detector': {'config': config}}
    (folder / 'metrics.json').write_text(json.dumps({**about, **metrics}))
    write_scores(folder / 'predictions.csv', shift, seed)
    return folder


@pytest.fixture(scope='module')
def runs(faces_once: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two seeds of a recipe and one of another, a few steps each; their images are in `faces` beside them."""
    parent = tmp_path_factory.mktemp('runs')
    shutil.copytree(faces_once, parent / 'faces')
    config = small_config(parent / 'faces')
    config.steps = 2
    for name, seed, epochs in (('small-0', 0, 3.0), ('small-1', 1, 3.0), ('longer', 2, 5.0)):
        config.seed, config.epochs = seed, epochs  # the steps count: all three are one program
        loop.train(config, parent / name)
    return parent


@pytest.mark.slow
def test_seeds_are_folded_and_what_exists_is_used(runs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    evaluate(load(runs / 'small-0'))
    before = {path: path.stat().st_mtime_ns for path in (runs / 'small-0/evaluations').rglob('*')}
    sources = [str(runs / name) for name in ('small-0', 'small-1', 'longer')]
    result, folder = compare(sources, out=tmp_path / 'out')
    assert [(system['name'], len(system['members'])) for system in result['systems']] == [('small', 2), ('longer', 1)]
    assert {path: path.stat().st_mtime_ns for path in (runs / 'small-0/evaluations').rglob('*')} == before
    small, longer = result['cells']
    assert [member['is_new'] for member in small['members']] == [False, True]
    found = [json.loads((runs / name / 'evaluations/test/metrics.json').read_text()) for name in ('small-0', 'small-1')]
    for metric in ('auc', 'accuracy'):
        values = [one[metric] for one in found]
        interval = scipy.stats.t.interval(0.95, 1, np.mean(values), scipy.stats.sem(values))
        assert small[metric]['value'] == pytest.approx(np.mean(values), abs=2e-6)
        assert small[metric]['deviation'] == pytest.approx(np.std(values, ddof=1), abs=2e-6)
        assert (small[metric]['low'], small[metric]['high']) == pytest.approx(np.clip(interval, 0, 1), abs=1e-4)
    assert (longer['auc']['n'], longer['auc']['method']) == (40, 'DeLong, logit scale')
    (pair,) = result['pairs']
    assert pair['auc']['value'] == pytest.approx(small['auc']['value'] - longer['auc']['value'], abs=2e-6)
    assert 'recipes' not in pair  # a single seed says nothing about a recipe
    assert any('about these trained networks' in note for note in result['notes'])
    again, _ = compare(sources, out=folder)
    assert not any(member['is_new'] for cell in again['cells'] for member in cell['members'])
    with pytest.raises(UserError, match='out holds another comparison; choose another folder'):
        compare(sources[1:], out=folder)


@pytest.mark.slow
def test_every_system_on_every_set_and_what_was_seen_there(runs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(runs / 'faces/train', tmp_path / 'seen/test')  # by the whole training, but for a few
    shutil.copytree(runs / 'faces/test', tmp_path / 'unseen/test')
    table = write_scores(tmp_path / 'other.csv', 1.0)
    data = [str(tmp_path / 'seen'), str(tmp_path / 'unseen')]
    said = Recorder()
    result, folder = compare(
        [str(runs / 'small-0'), str(runs / 'longer'), table], data, out=tmp_path / 'out', console=said
    )
    cells = {(cell['system'], cell['data']): cell for cell in result['cells']}
    assert set(cells) == {(run, name) for run in ('small-0', 'longer') for name in ('seen', 'unseen')}
    assert [one['n'] for one in result['data']] == [96, 40]
    assert cells['small-0', 'seen']['members'][0]['copies'] == 56  # 32 of train in two steps, 24 of validation
    assert cells['small-0', 'unseen']['members'][0]['copies'] == 0
    assert (
        '56 of the 96 images of seen were in training or validation, byte for byte, of small-0, longer'
        in said.text.replace('\n', ' ')
    )
    titles = [grid.title for grid in compare_tables.grids(result)]
    assert titles[1:3] == ['AUC of every system on every set', 'accuracy of every system on every set']
    assert titles[-1] == 'Without images seen in training'
    assert len(result['pairs']) == 2 and 'other has no scores of seen' in said.text


@pytest.mark.slow
def test_runs_read_sets_with_names_of_their_own(runs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Folders that are named otherwise, and a table with other columns; a later comparison uses the evaluations."""
    shutil.copytree(runs / 'faces/test/real', tmp_path / 'folders/test/untouched')
    shutil.copytree(runs / 'faces/test/fake', tmp_path / 'folders/test/edited')
    images = sorted((tmp_path / 'folders').rglob('*.jpg'))
    lines = [f'{image.relative_to(tmp_path)},{image.parent.name}' for image in images]
    (tmp_path / 'table.csv').write_text('\n'.join(['frame,truth', *lines]))
    sources, data = [str(runs / name) for name in ('small-0', 'longer')], [str(tmp_path / 'folders')]
    labels, columns = ['untouched=real', 'edited=fake'], ['path=frame', 'label=truth']
    with pytest.raises(UserError, match='the classes of .* are unknown'):
        compare(sources, data, out=tmp_path / 'out')
    results = [
        compare(
            sources, [*data, str(tmp_path / 'table.csv')], labels=labels, columns=columns, out=tmp_path / f'o{time}'
        )[0]
        for time in (0, 1)
    ]
    assert [(one['n'], one['fake']) for one in results[0]['data']] == [(40, 20), (40, 20)]
    assert [member['is_new'] for one in results for cell in one['cells'] for member in cell['members']] == (
        [True] * 4 + [False] * 4
    )
    plain, _ = compare(sources, out=tmp_path / 'plain')
    assert [cell['auc'] for cell in results[0]['cells']] == [cell['auc'] for cell in plain['cells']] * 2


@pytest.mark.slow
def test_a_run_folder_that_cannot_be_written_to(runs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run = pathlib.Path(shutil.copytree(runs / 'longer', tmp_path / 'longer'))
    shutil.rmtree(run / 'evaluations', ignore_errors=True)
    (run / 'evaluations').write_text('')  # no folder can be made here, as on a read-only file system
    for is_new in (True, False):
        result, _ = compare([str(run)], out=tmp_path / 'out')
        (member,) = result['cells'][0]['members']
        assert member['is_new'] == is_new
        assert pathlib.Path(member['evaluation']).parent == tmp_path / 'out/evaluations'
    assert any('one detector: there are its figures, and nothing to test against' in note for note in result['notes'])


def test_all_pairs_of_evaluations_with_holm(tmp_path: pathlib.Path) -> None:
    sources = [str(write_evaluation(tmp_path / f'a{seed}', 3.0, seed)) for seed in (0, 1, 2)]
    other = {'config': {'seed': 0, 'model': {'name': 'resnet18'}, 'data': {'path': '/faces'}}}
    sources += [str(write_evaluation(tmp_path / f'b{seed}', 1.0, seed + 5, detector=one)) for seed, one in
                ((0, other), (1, {'config': {**other['config'], 'seed': 1}}))]  # fmt: skip
    sources.append(write_scores(tmp_path / 'table.csv', 2.9, 9, labels=False))
    result, folder = compare(sources, out=tmp_path / 'out')
    assert [system['name'] for system in result['systems']] == ['a', 'b', 'table']
    assert [(pair['a'], pair['b'], pair['seeds']) for pair in result['pairs']] == [
        ('a', 'b', [3, 2]), ('a', 'table', [3, 1]), ('b', 'table', [2, 1]),
    ]  # fmt: skip
    first, second, third = (pair['auc'] for pair in result['pairs'])
    assert first['p_holm'] < 0.01 < second['p_holm']
    assert max(first['p_holm'] / first['p'], third['p_holm'] / third['p']) == pytest.approx(3)
    recipes = result['pairs'][0]['recipes']['auc']
    assert recipes['value'] == first['value']
    assert recipes['high'] - recipes['low'] > first['high'] - first['low']
    assert recipes['p_holm'] == recipes['p'] > first['p']  # one test between recipes
    rows = rows_of(folder / 'differences.csv')
    assert [row['over'] for row in rows] == [
        'images',
        'images',
        'images and seeds',
        'images and seeds',
        *['images'] * 4,
    ]
    assert float(rows[0]['low']) == first['low'] and float(rows[0]['p_holm']) == first['p_holm']


def test_seeds_of_two_recipes_are_compared_as_by_welch() -> None:
    """With next to no variance over images, what is left is Welch's test; seeds widen the interval of images."""
    a, b = np.array([0.91, 0.93, 0.92]), np.array([0.89, 0.90])
    value = a.mean() - b.mean()
    found, wide = (
        contests._of_recipes({'value': value, 'low': value - half, 'high': value + half, 'n': 100, 'p': 0.0}, a, b)
        for half in (1e-6, 0.01)
    )
    expected: Any = scipy.stats.ttest_ind(a, b, equal_var=False)
    interval = expected.confidence_interval()
    assert found['p'] == pytest.approx(expected.pvalue, rel=1e-4)
    assert (found['low'], found['high']) == pytest.approx((interval.low, interval.high), abs=1e-5)
    assert wide['high'] - wide['low'] > 0.02  # than over images alone


def test_more_than_four_systems_are_tested_against_the_first(tmp_path: pathlib.Path) -> None:
    sources = [write_scores(tmp_path / f't{place}.csv', 1.0 + place, place) for place in range(5)]
    result, _ = compare(sources, out=tmp_path / 'out')
    assert [(pair['a'], pair['b']) for pair in result['pairs']] == [('t0', f't{place}') for place in range(1, 5)]
    assert any('each is tested against the first, t0, alone' in note for note in result['notes'])


def test_tables_may_name_images_otherwise_and_have_fewer(tmp_path: pathlib.Path) -> None:
    whole = write_scores(tmp_path / 'whole.csv', 2.0)
    part = write_scores(tmp_path / 'part.csv', 1.0, 1, [f'/data/set/{name}' for name in NAMES[10:]])
    said = Recorder()
    with pytest.raises(UserError, match='contradict the others for 10 of 110 images'):
        compare([whole, part], out=tmp_path / 'out', console=said)
    rows = rows_of(pathlib.Path(part))
    for row in rows:
        row['label'] = row['name'].split('/')[-2]
    with open(part, 'w', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows[::-1])  # in another order
    result, _ = compare([whole, part], out=tmp_path / 'out', console=said)
    assert result['data'][0]['n'] == result['pairs'][0]['auc']['n'] == 110
    assert 'only the 110 images that all have scores of are compared, of 120' in said.text.replace('\n', ' ')


def test_sets_that_name_the_same_images_differently(tmp_path: pathlib.Path) -> None:
    """Images are matched by what the files held, although both have some names; so are copies, in their order."""
    digests = np.array([f'{row:04}' for row in range(120)], seen.DTYPE)
    digests[[3, 4, 70]] = digests[3]  # two real images and a fake one
    digests[9] = b''  # not read
    one, other = (write_evaluation(tmp_path / name, 2.0, 5, content_digest=name, detector={}) for name in 'ab')
    seen.write_scored(one, digests)
    header, *lines = (other / 'predictions.csv').read_text().splitlines()
    order = np.arange(120)[::-1]
    renamed = [','.join([NAMES[place], *lines[row].split(',')[1:]]) for place, row in enumerate(order)]
    (other / 'predictions.csv').write_text('\n'.join([header, *renamed]))
    with pytest.raises(UserError, match='these images are not the same'):  # as an early fakeimg wrote it
        compare([str(one), str(other)], out=tmp_path / 'out')
    seen.write_scored(other, digests[order])
    result, _ = compare([str(one), str(other)], out=tmp_path / 'out')
    assert result['data'][0]['n'] == 119
    (pair,) = result['pairs']
    assert pair['auc']['value'] == 0 and pair['accuracy']['only_a'] + pair['accuracy']['only_b'] <= 2  # of real copies
    notes = ' '.join(result['notes'])
    assert 'b was scored on test of /faces, and its images are matched by what the files hold; 2 of them' in notes
    assert 'only the 119 images that all have scores of are compared, of 120' in notes
    swapped = [line.replace(',real', ',x').replace(',fake', ',real').replace(',x', ',fake') for line in renamed]
    (other / 'predictions.csv').write_text('\n'.join([header, *swapped]))
    with pytest.raises(UserError, match='the labels of b contradict the others for 117 of 119 images'):
        compare([str(one), str(other)], out=tmp_path / 'out')
    seen.write_scored(other, digests[order][:7])  # of another table
    with pytest.raises(UserError, match='these images are not the same'):
        compare([str(one), str(other)], out=tmp_path / 'out')


@pytest.mark.slow
def test_a_folder_and_the_set_prepared_from_its_renamed_copy(runs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    images = sorted((runs / 'faces/test').rglob('*.jpg'))
    for number, image in enumerate(images):
        path = tmp_path / f'renamed/test/{image.parent.name}/{len(images) - number}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.read_bytes())
    prepare(tmp_path / 'renamed', tmp_path / 'prepared')
    detector = load(runs / 'small-0')
    folders = [
        str(evaluate(detector, data_path=str(path), out=tmp_path / f'of {path.name}')[1])
        for path in (runs / 'faces', tmp_path / 'renamed', tmp_path / 'prepared')
    ]
    result, _ = compare(folders, out=tmp_path / 'out')
    assert result['data'][0]['n'] == 40
    assert [pair['auc']['value'] for pair in result['pairs']] == [0, 0, 0]
    assert {pair['accuracy']['only_a'] for pair in result['pairs']} == {0}
    assert sum('matched by what the files hold' in note for note in result['notes']) == 2


def test_groups_are_resampled_whole(tmp_path: pathlib.Path) -> None:
    sources = []
    for name, shift in (('a', 2.0), ('b', 1.0)):
        folder = write_evaluation(tmp_path / name, shift, 3, content_digest='abc', detector={})
        rows = rows_of(folder / 'predictions.csv')
        with open(folder / 'predictions.csv', 'w', newline='') as file:
            writer = csv.DictWriter(file, [*rows[0], 'group'])
            writer.writeheader()
            writer.writerows({**row, 'group': f'video {place // 4}'} for place, row in enumerate(rows))
        sources.append(str(folder))
    result, _ = compare(sources, out=tmp_path / 'out')
    assert result['data'][0]['groups'] == 30
    for figure in (*(result['pairs'][0][metric] for metric in contests.METRICS), result['cells'][0]['auc']):
        assert figure['groups'] == 30 and 'whole groups' in figure['method']
        assert figure['low'] < figure['value'] < figure['high']


def test_the_threshold_may_be_an_operating_point(tmp_path: pathlib.Path) -> None:
    points = [[{'name': 'fpr=0.01', 'threshold': value}, {'name': 'best', 'threshold': 0.1, 'achievable': False}]
              for value in (0.9, 0.2)]  # fmt: skip
    a, b = (
        str(write_evaluation(tmp_path / name, 2.0, 4, operating_points=point, detector={}))
        for name, point in zip('ab', points, strict=True)
    )
    result, _ = compare([a, b], threshold='fpr=0.01', out=tmp_path / 'out')
    assert [cell['members'][0]['threshold'] for cell in result['cells']] == [0.9, 0.2]
    assert result['pairs'][0]['auc']['value'] == 0  # the same scores
    assert result['pairs'][0]['accuracy']['only_a'] + result['pairs'][0]['accuracy']['only_b'] > 0
    with pytest.raises(UserError, match="threshold is 'best'; for a it must be one of fpr=0.01"):
        compare([a, b], threshold='best', out=tmp_path / 'other')


def test_latex_and_markdown_hold_names_as_they_are(tmp_path: pathlib.Path) -> None:
    odd = 'a_b & 50% #1 {x} ~^$'
    sources = [write_scores(tmp_path / f'{odd}.csv', 2.0), write_scores(tmp_path / 'c|d*.csv', 1.0, 1)]
    _, folder = compare(sources, out=tmp_path / 'out')
    text = (folder / 'tables.tex').read_text()
    assert r'a\_b \& 50\% \#1 \{x\} \textasciitilde{}\textasciicircum{}\$' in text
    assert text.count(r'\begin{tabular}') == text.count(r'\bottomrule') == 2
    for line in re.findall(r'.*\\\\$', text, re.MULTILINE):
        assert len(re.findall(r'(?<!\\)&', line)) == 5
    assert r'c\|d\*' in (folder / 'tables.md').read_text()
    assert 'a_b &amp; 50% #1 {x} ~^$' in (folder / 'compare.html').read_text()


@pytest.mark.parametrize(
    ('prepare', 'sentence'),
    [
        (lambda path: [str(path / 'no')], 'no does not exist; give a run folder, an evaluation of one, or a table'),
        (lambda path: [str(path)], 'has neither checkpoints nor metrics.json with predictions.csv'),
        (lambda path: [write_scores(path / 'a.csv', 1)] * 2, 'a.csv is given twice; leave one out'),
        (
            lambda path: [write_scores(path / 'a.csv', 1), write_scores(path / 'b.csv', 1, 0, [*map(hex, range(120))])],
            'b.csv has 120 names that the set does not have',
        ),
        (
            lambda path: [write_scores(path / 'a.csv', 1, 0, NAMES[:9]), write_scores(path / 'b.csv', 1, 0, NAMES[9:])],
            'names that the set does not have',
        ),
        (lambda path: [write_scores(path / 'a.csv', 1, labels=False)], 'no table says which images are fake'),
        (lambda path: [write_scores(path / 'a.csv', float('nan'))], "is 'nan' (column logit), which is not a number"),
        (
            lambda path: [str(write_evaluation(path / f'{digest}', 1, 0, content_digest=digest)) for digest in 'ab'],
            'these images are not the same; name the set that both should be scored on',
        ),
        (lambda path: [str(write_evaluation(path / 'a', 1, 0, split='validation'))], 'of the split validation'),
    ],
)  # fmt: skip
def test_what_cannot_be_compared(prepare, sentence: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError) as raised:
        compare(prepare(tmp_path), out=tmp_path / 'out')
    assert sentence in str(raised.value) and str(raised.value).endswith('.')


def test_a_run_without_a_checkpoint(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'run/checkpoints').mkdir(parents=True)
    with pytest.raises(UserError, match='no checkpoint'):
        compare([str(tmp_path / 'run')], out=tmp_path / 'out')


def test_one_class_says_what_is_undefined(tmp_path: pathlib.Path) -> None:
    sources = [str(write_evaluation(tmp_path / name, 1, seed)) for seed, name in enumerate(('a0', 'a1'))]
    sources += [str(write_evaluation(tmp_path / f'b{seed}', 1, seed, detector={'config': {
        'seed': seed, 'model': {'name': 'vgg19'}, 'data': {}}})) for seed in (0, 1)]  # fmt: skip
    for source in sources:
        path = pathlib.Path(source, 'predictions.csv')
        path.write_text(''.join(path.read_text().splitlines(True)[:31]))
    result, folder = compare(sources, out=tmp_path / 'out')
    assert result['data'][0]['fake'] == 0
    assert {cell['auc']['why'] for cell in result['cells']} == {'only one class'}
    assert result['pairs'][0]['auc']['value'] is None and result['pairs'][0]['accuracy']['value'] == 0
    assert 'undefined: only one class' in (folder / 'tables.md').read_text()


def test_the_verb(tmp_path: pathlib.Path, verb: Verb) -> None:
    sources = [write_scores(tmp_path / f'{name}.csv', shift) for name, shift in (('good', 3.0), ('poor', 0.5))]
    done = verb('compare', *sources, '--out', tmp_path / 'out')
    assert (done.returncode, done.stderr) == (0, '')
    assert 'good − poor' in done.stdout and 'compare.html' in done.stdout
    assert re.search(r'0\.9\d+\s.*\n *\[0\.\d+, 0\.9\d+\]', done.stdout)
    assert shlex.join([*sources, '--out', str(tmp_path / 'out')]) in (tmp_path / 'out/compare.html').read_text()


def test_the_verb_takes_names_of_a_set_and_proposes_them(tmp_path: pathlib.Path, verb: Verb) -> None:
    names = [name.replace('real', 'untouched').replace('fake', 'edited') for name in NAMES]
    folder = write_tree(tmp_path / 'a set', dict.fromkeys(names, b'\xff\xd8\xff no image, but named so'))
    scores = write_scores(tmp_path / 'good.csv', 3.0, names=names, labels=False)
    refused = verb('compare', scores, '--data', folder)
    assert_refused(refused, 'the classes of')
    line = re.search(r'fakeimg compare .*(?= \)\.)', refused.stderr)
    assert line is not None, refused.stderr
    proposed = [word.replace('=real', '=fake') if 'edited' in word else word.replace('=fake', '=real')
                for word in shlex.split(line[0])[2:]]  # fmt: skip
    done = verb('compare', *proposed, '--json')
    assert (done.returncode, json.loads(done.stdout)['data'][0]['fake']) == (0, 60), done.stderr
    table = tmp_path / 'list.csv'
    table.write_text('\n'.join(['frame,truth', *(f'a set/{name},{name.split("/")[1]}' for name in names)]))
    with pytest.raises(UserError, match=r'list\.csv has no column'):
        compare([scores], [str(table)], out=tmp_path / 'out')
    columns, labels = ['path=frame', 'label=truth'], ['untouched=real', 'edited=fake']
    result, _ = compare([scores], [str(table)], labels=labels, columns=columns, out=tmp_path / 'out')
    assert (result['data'][0]['n'], result['data'][0]['fake']) == (120, 60)


def test_labels_of_tables_of_scores(tmp_path: pathlib.Path) -> None:
    """They mean what the user says; without that, an unknown name is refused."""
    path = pathlib.Path(write_scores(tmp_path / 'a.csv', 3.0))
    path.write_text(path.read_text().replace(',real', ',untouched'))
    with pytest.raises(UserError, match='no table says which images are fake; .* define what its names mean'):
        compare([str(path)], out=tmp_path / 'out')
    result, _ = compare([str(path)], labels=['untouched=real'], out=tmp_path / 'out')
    assert result['cells'][0]['auc']['value'] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ('flag', 'sentence'),
    [('--columns=path=frame', 'no set is named'), ('--label=a=real', 'there is neither'), ('--label=a', 'label is')],
)
def test_names_without_a_set_are_refused(tmp_path: pathlib.Path, verb: Verb, flag: str, sentence: str) -> None:
    folder = write_evaluation(tmp_path / 'a', 1.0, 0)
    assert_refused(verb('compare', folder, flag), sentence)


@pytest.mark.slow
def test_the_verb_prints_json_or_refuses(tmp_path: pathlib.Path, verb: Verb) -> None:
    source = write_scores(tmp_path / 'good.csv', 3.0)
    done = verb('compare', source, '--out', tmp_path / 'out', '--json')
    assert json.loads(done.stdout) == json.loads((tmp_path / 'out/compare.json').read_text())
    assert_refused(verb('compare'), 'say what to compare: fakeimg compare RUN...')

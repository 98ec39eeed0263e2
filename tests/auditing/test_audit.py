"""The audit as a whole, on sets with planted faults, and what prepare does about them."""

import csv
import dataclasses
import io
import json
import pathlib
import shutil

import numpy as np
import PIL.Image
import pytest

from fakeimg.auditing import checks
from fakeimg.auditing.audit import audit as audit_data
from fakeimg.auditing.audit import measure_data
from fakeimg.auditing.finding import Evidence, Finding
from fakeimg.auditing.shortcuts import check_shortcuts
from fakeimg.data import datasets, decode, demo, records
from fakeimg.preparing import build, plan
from fakeimg.preparing.items import Encoding
from tests.support.verbs import Verb

OPTIONS = plan.Options(Encoding(), 0, None, 1.3, 224, 32, {'real': 0, 'fake': 1})


@pytest.fixture(scope='module')
def clean(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """160 + 80 demo faces of 48 px, `{train,test}/{real,fake}`."""
    root = tmp_path_factory.mktemp('clean') / 'faces'
    for split, count in (('train', 160), ('test', 80)):
        faces = demo.DemoFaces(split, size=48, num_examples=count)
        for index, name in enumerate(faces.names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(faces[index])
    return root


def audit(path: pathlib.Path) -> dict[str, Finding]:
    """The findings on a set, by name; measured in this process."""
    findings = audit_data(datasets.open_path(str(path)), workers=0).findings
    return {finding.name: finding for finding in findings}


def named_pairs(finding: Finding, path: pathlib.Path) -> set[tuple[str, ...]]:
    names = [name for part in datasets.open_path(str(path)).splits.values() for name in part.names]
    return {tuple(names[row] for row in pair) for pair in finding.pairs}


def recompress(data: bytes, quality: int) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(decode.decode_rgb(data)).save(buffer, 'JPEG', quality=quality)
    return buffer.getvalue()


def plant(root: pathlib.Path) -> None:
    """Three exact copies and four re-compressed ones across splits, two within train, one with both labels."""
    train = {label: sorted((root / 'train' / label).iterdir()) for label in ('real', 'fake')}
    for index in range(3):
        shutil.copy(train['fake'][index], root / f'test/fake/exact{index}.jpg')
    for index in range(10, 14):
        (root / f'test/real/near{index}.jpg').write_bytes(recompress(train['real'][index].read_bytes(), 60))
    for index in range(20, 22):
        shutil.copy(train['real'][index], root / f'train/real/again{index}.jpg')
    shutil.copy(train['real'][30], root / 'train/fake/flipped.jpg')


@pytest.fixture
def planted(clean: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    root = pathlib.Path(shutil.copytree(clean, tmp_path / 'planted'))
    plant(root)
    return root


def test_a_clean_set_has_no_copies(clean: pathlib.Path) -> None:
    findings = audit(clean)
    assert {name: findings[name].level for name in findings if 'copies' in name or name == 'broken'} == {
        'broken': 'ok',
        'copies across splits': 'ok',
        'copies with both labels': 'ok',
        'copies within splits': 'ok',
        'near copies across splits': 'ok',
    }


def test_planted_copies_are_found_and_told_apart(planted: pathlib.Path) -> None:
    findings = audit(planted)
    across = findings['copies across splits']
    assert across.level == 'fail'
    assert across.details['leaks'] == [
        {'of': 'test', 'in': 'train', 'count': 3, 'share': 3 / 87, 'real': 0, 'fake': 3, 'bytes': 3}
    ]
    assert named_pairs(across, planted) == {
        (f'train/fake/{index * 2 + 1:06d}.jpg', f'test/fake/exact{index}.jpg') for index in range(3)
    }
    near = findings['near copies across splits']
    assert near.level == 'fail'  # 4 of 87 are more than the line of 1 %
    assert near.details['leaks'][0]['count'] == 4
    assert named_pairs(near, planted) == {
        (f'train/real/{index * 2:06d}.jpg', f'test/real/near{index}.jpg') for index in range(10, 14)
    }
    assert findings['copies within splits'].details['surplus'] == {'train/real': 2}
    both = findings['copies with both labels']
    assert (both.level, both.details['images']) == ('fail', 2)
    assert named_pairs(both, planted) == {('train/real/000060.jpg', 'train/fake/flipped.jpg')}


def test_dedupe_leaves_out_what_the_audit_found(planted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    options = plan.Options(**{**OPTIONS.__dict__, 'dedupe': True, 'near': True})
    made = plan.make_plan(str(planted), options)
    assert sorted((drop.split, drop.reason) for drop in made.dropped) == sorted(
        [('test', 'copy in an earlier split')] * 3
        + [('test', 'near copy in an earlier split')] * 4
        + [('train', 'copy in the same split')] * 2
        + [('train', 'copies with both labels')] * 2
    )
    assert any('left out of train' in note for note in made.notes)  # never in silence
    summary = build.build(made, tmp_path / 'out', 1)
    assert summary['counts'] == {'train': {'real': 79, 'fake': 80}, 'test': {'real': 40, 'fake': 40}}
    with open(tmp_path / 'out' / build.DROPPED, newline='') as file:
        rows = list(csv.DictReader(file))
    assert {'split': 'test', 'name': 'test/fake/exact0.jpg', 'reason': 'copy in an earlier split',
            'kept': 'train/fake/000001.jpg'} in rows  # fmt: skip
    findings = audit(tmp_path / 'out')
    assert {finding.level for name, finding in findings.items() if 'copies' in name} == {'ok'}


def test_straddling_groups_are_found(clean: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with open(tmp_path / 'faces.csv', 'w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(('path', 'label', 'split', 'group'))
        for split in ('train', 'test'):
            for index, path in enumerate(sorted((clean / split).rglob('*.jpg'))):
                shared = 'photo7' if index == 7 else f'{split}{index // 2}'
                rows.writerow((path, path.parent.name, split, shared))
    finding = audit(tmp_path / 'faces.csv')['groups']
    assert finding.level == 'fail'
    assert finding.details['names'] == ['photo7']
    assert len(finding.pairs) == 1


def test_jpeg_against_png_is_a_shortcut_until_both_are_encoded_alike(tmp_path: pathlib.Path) -> None:
    faces = demo.DemoFaces('train', size=64, num_examples=480)
    for index in range(0, 480, 2):  # genuine ones only, so that nothing but the format tells the classes apart
        label = 'fake' if index % 4 else 'real'
        image = PIL.Image.fromarray(decode.decode_rgb(faces[index]))
        path = tmp_path / 'faces' / 'train' / label / f'{index}.{"png" if index % 4 else "jpg"}'
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=95)  # PNG does not care
    finding = audit(tmp_path / 'faces')['shortcuts']
    assert (finding.level, round(finding.details['auc'], 2)) == ('fail', 1.0)
    assert finding.details['features']['format'] == 1.0
    options = plan.Options(**{**OPTIONS.__dict__, 'encoding': Encoding(quality=90)})
    build.build(plan.make_plan(str(tmp_path / 'faces'), options), tmp_path / 'out', 1)
    findings = audit(tmp_path / 'out')
    assert findings['shortcuts'].details['auc'] < 0.65
    assert not [name for name, finding in findings.items() if finding.level == 'fail']


@pytest.mark.slow
def test_a_degraded_test_split_is_a_shift(clean: pathlib.Path, tmp_path: pathlib.Path) -> None:
    root = pathlib.Path(shutil.copytree(clean, tmp_path / 'faces'))
    assert audit(root)['shift of test'].level == 'ok'
    for path in (root / 'test').rglob('*.jpg'):
        grey = PIL.Image.open(path).convert('L')
        grey.save(path, quality=40)
    finding = audit(root)['shift of test']
    assert finding.level == 'fail'
    assert min(finding.details['auc'].values()) > 0.95
    assert finding.details['statistics']['saturation']['test']['real'][2] < 0.05


def test_broken_files_empty_and_rare_classes(clean: pathlib.Path, tmp_path: pathlib.Path) -> None:
    root = pathlib.Path(shutil.copytree(clean, tmp_path / 'faces'))
    images = sorted((root / 'test/real').iterdir())
    images[0].write_bytes(b'')
    images[1].write_bytes(b'no image at all, just words')
    images[2].write_bytes(images[2].read_bytes()[:-300])
    finding = audit(root)['broken']
    assert finding.level == 'fail'
    assert finding.details['counts'] == {'test': {'empty': 1, 'not_an_image': 1, 'truncated': 1}}
    assert finding.details['names'] == [f'test/real/{path.name}' for path in images[:3]]
    for path in images[4:]:
        path.unlink()
    assert audit(root)['classes'].level == 'warn'
    shutil.rmtree(root / 'test/real')
    finding = audit(root)['classes']
    assert (finding.level, finding.sentence.split(' (')[0]) == ('fail', 'test has no real images')


@pytest.mark.slow
def test_the_verb_says_it_in_words_json_and_a_page_and_by_its_exit_code(
    planted: pathlib.Path, tmp_path: pathlib.Path, verb: Verb
) -> None:
    result = verb('audit', planted, '--validation_fraction=0')
    assert result.returncode == 1, result.stdout + result.stderr
    assert '3 of 87 in test are in train (3.45%, 3 byte for byte)' in ' '.join(result.stdout.split())
    (folder,) = (tmp_path / 'work/audits').glob('planted-????????')
    report = json.loads((folder / 'audit.json').read_text())
    assert report['verdict'] == 'fail'
    assert report['digest'] == datasets.open_path(str(planted)).digest
    page = (folder / 'audit.html').read_text()
    assert page.count('<figure class="pair">') == sum(len(finding['pairs']) for finding in report['findings'])
    failed = [finding['name'] for finding in report['findings'] if finding['level'] == 'fail']
    allowed = verb('audit', planted, '--validation_fraction=0', *(f'--allow={name}' for name in failed))
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr


def test_mistakes_of_the_verb_end_in_one_sentence(clean: pathlib.Path, verb: Verb) -> None:
    for arguments, sentence in (
        ((), 'say what to audit'),
        ((clean, f'--out={clean}/audit'), 'lies inside the data'),
        (('nowhere',), 'nowhere does not exist'),
    ):
        result = verb('audit', *arguments)
        assert result.returncode == 2
        assert sentence in result.stderr
        assert 'Traceback' not in result.stderr
    assert not records.is_prepared(str(clean))


def test_files_that_are_no_images_and_images_that_are_black_are_findings(
    clean: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    root = pathlib.Path(shutil.copytree(clean, tmp_path / 'faces'))
    quiet = audit_names(root)
    assert 'left out' not in quiet and 'nearly black' not in quiet
    (root / 'train/real/notes.txt').write_text('words')
    (root / 'train/fake/model.bin').write_bytes(b'\0' * 100)
    pixels = np.random.default_rng(0).integers(0, 4096, (3, 48, 48)).astype(np.uint16) // 600  # 12 bits, misread
    for index, values in enumerate(pixels):
        PIL.Image.fromarray(values.astype(np.uint8)).save(root / f'test/real/black{index}.png')
    found = audit_names(root)
    left_out, black = found['left out'], found['nearly black']
    assert (left_out.level, left_out.details['counts']) == ('note', {'.txt': 1, '.bin': 1})
    assert '1 .txt' in left_out.sentence and '1 .bin' in left_out.sentence
    assert (black.level, black.details['counts']) == ('warn', {'test': 3})  # 3 of 83 are more than the line of 1 %
    assert black.details['names'] == [f'test/real/black{index}.png' for index in range(3)]
    assert '(first: test/real/black0.png)' in black.sentence
    heic = checks.check_left_out(evidence_of(root, left_out={'HEIC (it needs the extra heif)': 2}))
    assert [(finding.level, "pip install 'fakeimg[heif]'" in finding.advice) for finding in heic] == [('warn', True)]


def test_file_names_are_a_note_apart_from_what_a_network_can_see(clean: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Classes whose files are named and numbered differently, and differ in nothing else of their headers."""
    for path in sorted(clean.rglob('*.jpg')):
        split, label = path.parts[-3:-1]
        name = f'img_{int(path.stem):06}.jpg' if label == 'fake' else f'scan {int(path.stem)} (copy).jpg'
        (tmp_path / split / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / split / label / name)
    evidence = evidence_of(tmp_path)
    findings = {finding.name: finding for finding in check_shortcuts(evidence, np.arange(len(evidence.labels)))}
    names = findings['file names']
    assert names.level == 'note'
    assert names.details['auc'] > 0.99
    assert set(names.details['features']) == {'name_pattern', 'name_length'}
    assert 'no network sees a name' in names.sentence
    assert names.advice.startswith('nothing to do')
    shortcuts = findings['shortcuts']
    assert shortcuts.level == 'ok'
    assert not {'name_pattern', 'name_length'} & set(shortcuts.details['features'])


def evidence_of(path: pathlib.Path, **others) -> Evidence:
    return dataclasses.replace(measure_data(datasets.open_path(str(path)), workers=0), **others)


def audit_names(path: pathlib.Path) -> dict[str, Finding]:
    """What the checks of the files themselves find, which take no models."""
    evidence = evidence_of(path)
    return {
        finding.name: finding for check in (checks.check_left_out, checks.check_black) for finding in check(evidence)
    }

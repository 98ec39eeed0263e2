"""Scores of other detectors: every table that a script may write, and every mistake in one."""

import codecs
import json
import pathlib
import unicodedata
from collections.abc import Iterable

import numpy as np
import pytest
import sklearn.metrics

from fakeimg.data.datasets import Split
from fakeimg.data.files import FolderFiles
from fakeimg.data.labels import class_names
from fakeimg.errors import UserError
from fakeimg.evaluation import matching, score_table
from fakeimg.evaluation.referee import ForeignScores, read_scores
from fakeimg.scoring import Predictions
from tests.support.files import INVALID

NAMES = ['test/real/1.jpg', 'test/real/a b.jpg', 'test/fake/1.jpg', 'test/fake/ünï.png']
SCORES = [0.1, 0.25, 0.75, 0.875]
LABELS = [0, 0, 1, 1]


def split_of(names: list[str] = NAMES, labels: list[int] = LABELS) -> Split:
    sources = [name.split('/')[1] for name in names]
    return Split(FolderFiles('/', names), np.array(labels, np.int32), sources, [''] * len(names))


def read(tmp_path: pathlib.Path, text: str | bytes, name: str = 'scores.csv', **options) -> ForeignScores:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode('utf-8', 'surrogateescape'))
    return read_scores(str(path), **options)


def table(header: str, *columns: Iterable, separator: str = ',') -> str:
    rows = [separator.join(map(str, row)) for row in zip(*columns, strict=True)]
    return '\n'.join([header, *rows]) + '\n'


def refusal(tmp_path: pathlib.Path, text: str | bytes, name: str = 'scores.csv', **options) -> str:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text, name, **options)
    sentence = str(caught.value)
    assert caught.value.exit_code == 2 and '\n' not in sentence and sentence.endswith('.')
    return sentence


PLAIN = table('name,score,label', NAMES, SCORES, ['real', 'real', 'fake', 'fake'])


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('s.csv', PLAIN),
        ('s.csv', table('Filename;P_Fake;Class', NAMES, SCORES, LABELS, separator=';')),
        ('s.csv', table('sep=;\nimage;prob;target', NAMES, [str(s).replace('.', ',') for s in SCORES], LABELS,
                        separator=';')),
        ('s.tsv', table('file\tprobability\ty', NAMES, SCORES, LABELS, separator='\t')),
        ('s.csv', codecs.BOM_UTF16_LE + PLAIN.encode('utf-16-le')),
        ('s.csv', PLAIN.encode('utf-16-be')),
        ('s.csv', table('path,pred,is_real', NAMES, SCORES, ['True', 'True', 'False', 'False'])),
        ('s.csv', table('path,fake,label', NAMES, SCORES, LABELS)),
        ('s.csv', table('path,fake,pred', NAMES, LABELS, SCORES)),
        ('s.csv', table('path,pred,prob,label', NAMES, [0, 0, 1, 1], SCORES, LABELS)),
        ('s.csv', table('path,logit,label', NAMES, np.log(SCORES) - np.log1p(-np.array(SCORES)), LABELS)),
        ('s.csv', table('path,score,label', NAMES, [1 - s for s in SCORES], LABELS)),
        ('s.jsonl', '\n'.join(json.dumps({'Image Path': name, 'score': score, 'label': label})
                              for name, score, label in zip(NAMES, SCORES, LABELS, strict=True))),
        ('s.json', json.dumps([{'file': name, 'score': score, 'label': label}
                               for name, score, label in zip(NAMES, SCORES, LABELS, strict=True)])),
    ],
)  # fmt: skip
@pytest.mark.parametrize('with_split', [False, True])
def test_tables_of_every_kind(tmp_path: pathlib.Path, name: str, text: str | bytes, with_split: bool) -> None:
    turned = isinstance(text, str) and '0.9' in text and 'logit' not in text
    scale = 'probability_of_real' if turned else None
    scores = read(tmp_path, text, name, split=split_of() if with_split else None, scale=scale)
    assert scores.predictions.names == NAMES
    assert scores.predictions.labels.tolist() == LABELS
    np.testing.assert_allclose(scores.predictions.probabilities, SCORES, rtol=1e-9)
    assert scores.predictions.logits.dtype == np.float64
    assert scores.predictions.skipped == 0 and scores.missing == []


def test_labels_come_from_the_split_whatever_the_order_and_the_form_of_names(tmp_path: pathlib.Path) -> None:
    names = [
        r'C:\data\test\fake\1.jpg', unicodedata.normalize('NFD', 'ünï.png'), './real//1.jpg', '/mnt/test/real/a b.jpg',
    ]  # fmt: skip
    scores = read(tmp_path, table('name,score,video', names, [0.75, 0.875, 0.1, 0.25], 'dfab'), split=split_of())
    assert scores.predictions.names == NAMES
    np.testing.assert_allclose(scores.predictions.probabilities, SCORES)
    assert scores.split is not None and scores.split.names == NAMES
    assert scores.predictions.sources == ['real', 'real', 'fake', 'fake']
    assert scores.predictions.groups == ['a', 'b', 'd', 'f']


def test_names_that_are_no_utf8_are_found(tmp_path: pathlib.Path) -> None:
    names = [*NAMES, INVALID]
    scores = read(tmp_path, table('path,score', names[::-1], [0.5, *SCORES]), split=split_of(names, [*LABELS, 0]))
    assert scores.predictions.names == names


def test_columns_that_are_neither_are_kept_in_the_order_of_the_split(tmp_path: pathlib.Path) -> None:
    text = table('path,score,label,skin tone,Generator', NAMES[::-1], SCORES[::-1], LABELS[::-1], 'dcba', 'zyxw')
    scores = read(tmp_path, text, split=split_of())
    assert scores.columns == {'skin tone': list('abcd'), 'source': list('wxyz')}
    scores = read(tmp_path, text)
    assert scores.columns == {'skin tone': list('dcba')}
    assert scores.predictions.sources == list('zyxw')


def test_own_predictions_come_back_as_they_were(tmp_path: pathlib.Path) -> None:
    logits = np.array([-20.5, -20.25, 19.0, 22.0])
    before = Predictions(NAMES, np.array(LABELS, np.int32), logits, 0, sources=list('abcd'))
    before.write_csv(tmp_path / 'predictions.csv')
    scores = read_scores(str(tmp_path / 'predictions.csv'))
    assert scores.predictions.logits.tolist() == logits.tolist()
    assert scores.predictions.sources == list('abcd') and scores.notes == []


def test_a_table_without_names_is_judged_by_its_own_labels(tmp_path: pathlib.Path) -> None:
    scores = read(tmp_path, table('y_true,y_score,label', LABELS, SCORES, LABELS))
    assert scores.predictions.names == ['row 1', 'row 2', 'row 3', 'row 4']
    assert 'has no column of paths' in refusal(tmp_path, table('score,label', SCORES, LABELS), split=split_of())


def test_lines_of_name_and_score_need_no_header(tmp_path: pathlib.Path) -> None:
    scores = read(tmp_path, '\n'.join(f'{n},{s}' for n, s in zip(NAMES, SCORES, strict=True)), split=split_of())
    np.testing.assert_allclose(scores.predictions.probabilities, SCORES)
    three = table(f'{NAMES[0]},0.1,0', NAMES[1:], SCORES[1:], LABELS[1:])
    assert 'give it a first line with the names of the columns' in refusal(tmp_path, three)


def test_ranks_and_ties_of_probabilities_survive(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    scores = np.r_[0, 0, 1, 1, 1e-300, 1e-18, 1 - 1e-16, np.nextafter(1, 0), rng.random(500), rng.random(50).round(1)]
    labels = rng.integers(0, 2, len(scores))
    read_back = read(tmp_path, table('score,label', list(map(repr, scores.tolist())), labels.tolist())).predictions
    assert np.isfinite(read_back.logits).all()
    np.testing.assert_array_equal(np.unique(scores, return_inverse=True)[1],
                                  np.unique(read_back.logits, return_inverse=True)[1])  # fmt: skip
    auc = sklearn.metrics.roc_auc_score(labels, scores)
    assert sklearn.metrics.roc_auc_score(labels, read_back.logits) == pytest.approx(auc, abs=1e-12)
    certain = score_table.to_log_odds(np.array([0.0, 0.5, 1.0]), 'probability', str, 'a table')
    np.testing.assert_allclose(certain, [-27.631, 0, 27.631], atol=1e-3)


def with_names(names: list[str], scores: list | None = None) -> str:
    return table('name,score', names, scores or SCORES[: len(names)])


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (with_names([*NAMES[:3], 'test/fake/2.jpg']), "1 names that the set does not have (first: 'test/fake/2.jpg'"),
        (with_names(['train/real/1.jpg', *NAMES[1:]]), "(first: 'train/real/1.jpg'"),
        (with_names([*NAMES[:3], 'fakes/ünï.png']), 'if only the folders differ'),
        (with_names(NAMES[:3]), "no score for 1 of the 4 images (first: 'test/fake/ünï.png')"),
        (with_names([*NAMES, NAMES[1]], [*SCORES, 0.5]), "2 scores of 'test/real/a b.jpg'"),
        (with_names([*NAMES, 'real/a b.jpg'], [*SCORES, 0.5]), "2 scores of 'test/real/a b.jpg'"),
        (with_names(['1.jpg', *NAMES[1:]]), "'1.jpg' fits several images of the set ('test/real/1.jpg' and"),
        (with_names(['', *NAMES[1:]]), 'row 1 has no name'),
        (with_names(NAMES, [0.1, 'nan', 0.3, 0.4]), "score of 'test/real/a b.jpg' is 'nan'"),
        (with_names(NAMES, [0.1, '', 0.3, 0.4]), "score of 'test/real/a b.jpg' is ''"),
        (with_names(NAMES, [0.1, 'high', 0.3, 0.4]), "is 'high' (column score), which is not a number"),
        (with_names(NAMES, [0.1, -2.5, 3, 0.4]), '2 of 4 scores outside 0 to 1 (first: -2.5 for'),
        (with_names(NAMES, [0.1, -2.5, 3, 0.4]), 'scores_are logit'),
        (with_names(NAMES, [0.1, 93, 70, 0.4]), 'divide them by 100'),
        (with_names(NAMES, [0.1, 'inf', 0.2, 0.4]), 'outside 0 to 1 (first: inf'),
        (table('name,score,label', NAMES, SCORES, [0, 1, 1, 1]), 'contradicts the labels of the data for 1 of 4'),
        (table('name,score,label', NAMES, SCORES, [1, 1, 0, 0]), 'all are swapped'),
        (table('name,value', NAMES, SCORES), 'has no column of scores'),
        ('', 'has no scores'),
        ('name,score\n', 'has no scores'),
        (b'PK\3\4rest', 'spreadsheet'),
        ('name,score\n"a.jpg,0.3\n', 'scores.csv, line'),
    ],
)  # fmt: skip
def test_bad_tables_end_in_one_sentence(tmp_path: pathlib.Path, text: str | bytes, words: str) -> None:
    assert words in refusal(tmp_path, text, split=split_of())


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (table('name,score', NAMES, SCORES), 'has no column of labels'),
        (table('name,score,label', NAMES, SCORES, ['real', 'fake', 'good', 'bad']), "the unknown label 'good'"),
        (table('name,score,label', ['a', 'b', 'a', 'c'], SCORES, LABELS), "2 scores of 'a'"),
    ],
)  # fmt: skip
def test_bad_tables_without_a_set(tmp_path: pathlib.Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, text)


def test_bad_settings_and_files(tmp_path: pathlib.Path) -> None:
    assert 'cannot be read (No such file' in str(pytest.raises(UserError, read_scores, str(tmp_path / 'no')).value)
    assert 'Is a directory' in str(pytest.raises(UserError, read_scores, str(tmp_path)).value)
    assert 'scores_are is' in refusal(tmp_path, PLAIN, scale='percent')
    assert "no column 'p', which score_columns names as score" in refusal(tmp_path, PLAIN, columns={'score': 'p'})
    with pytest.raises(UserError, match='score_columns is .x=y.; it must be path=NAME, score=NAME, label=NAME'):
        score_table.columns_of(['x=y'])
    assert 'not a JSON array' in refusal(tmp_path, '[1, 2]', 'scores.json')
    assert 'line 1: not a JSON object' in refusal(tmp_path, '[1, 2]', 'scores.jsonl')


def test_named_columns_and_labels(tmp_path: pathlib.Path) -> None:
    columns = score_table.columns_of(['path=Frame', 'score=Net Output', 'label=truth'])
    text = table('frame,net output,truth,score', NAMES, SCORES, ['o', 'o', 'x', 'x'], [0, 0, 0, 0.5])
    scores = read(tmp_path, text, columns=columns, class_names=class_names(['o=real', 'x=fake']))
    np.testing.assert_allclose(scores.predictions.probabilities, SCORES)
    assert scores.predictions.labels.tolist() == LABELS and scores.notes == []


def test_missing_scores_are_skipped_where_that_is_allowed(tmp_path: pathlib.Path) -> None:
    scores = read(tmp_path, with_names(NAMES[:3]), split=split_of(), max_missing=0.25)
    assert scores.predictions.skipped == 1 and len(scores.predictions.names) == 3
    assert scores.missing == [('test/fake/ünï.png', 'no score in scores.csv')]


def test_what_is_suspicious_is_said(tmp_path: pathlib.Path) -> None:
    names = [f'{number}.jpg' for number in range(100)]
    labels = [number % 2 for number in range(100)]
    ranked = [0.2 + 0.5 * label + number / 1000 for number, label in enumerate(labels)]
    notes = read(tmp_path, table('name,score,label', names, ranked, labels)).notes
    assert len(notes) == 1 and 'label 0 is taken for real and 1 for fake' in notes[0]
    words = [('real', 'fake')[label] for label in labels]
    assert read(tmp_path, table('name,score,label', names, ranked, words)).notes == []
    turned = table('name,score,label', names, [1 - score for score in ranked], words)
    (note,) = read(tmp_path, turned).notes
    assert 'AUC is 0.0000, well below 0.5' in note and 'probability_of_real' in note
    assert read(tmp_path, turned, scale='probability_of_real').notes == []
    assert read(tmp_path, turned).predictions.probabilities[0] == pytest.approx(1 - ranked[0])  # not flipped
    (note,) = read(tmp_path, table('name,pred,label', names, labels, words)).notes
    assert 'two different scores only, as of decisions' in note
    (note,) = read(tmp_path, table('name,prob,output,label', names, ranked, ranked[::-1], words)).notes
    assert 'column prob is taken for the scores; output may hold some as well' in note


def test_one_class_is_no_error(tmp_path: pathlib.Path) -> None:
    assert read(tmp_path, table('name,score,label', NAMES, SCORES, ['fake'] * 4)).predictions.labels.sum() == 4


def test_labels_that_are_not_understood_do_not_matter_beside_a_set(tmp_path: pathlib.Path) -> None:
    text = table('name,score,class', NAMES, SCORES, ['ffhq', 'ffhq', 'sdxl', 'sdxl'])
    (note,) = read(tmp_path, text, split=split_of()).notes
    assert 'labels in scores.csv are not understood' in note
    assert "unknown label 'ffhq'" in refusal(tmp_path, text, split=split_of(), columns={'label': 'class'})


def test_frames_of_the_same_name_are_told_apart_by_their_folder() -> None:
    known = [f'test/video{video}/{frame}.png' for video in range(300) for frame in range(10)]
    names = [f'/data/{name}' for name in known[::-1]]
    assert matching.match(names, known, 'scores.csv').tolist() == list(range(len(known)))[::-1]
    assert matching.match([name.removeprefix('test/') for name in known], known, 's')[-1] == len(known) - 1

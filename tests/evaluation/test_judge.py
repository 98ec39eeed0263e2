import dataclasses
import json
import pathlib
import re
import time

import numpy as np
import pytest
import scipy.special

from fakeimg.errors import UserError
from fakeimg.evaluation import figures, fitting, judge, points, slices
from fakeimg.evaluation.evaluator import judge_scores
from fakeimg.evaluation.figures import Point
from fakeimg.evaluation.options import Options
from fakeimg.evaluation.referee import ForeignScores
from fakeimg.evaluation.resampling import Resampler
from fakeimg.scoring import Predictions
from tests.support.verbs import Verb, assert_refused

ABOUT = {'referee': 'them', 'data_path': 'set.csv', 'split': 'all'}


def _scored(n: int, shift: float = 2.0, **more: list[str]) -> Predictions:
    labels = np.arange(n) % 2
    logits = np.random.default_rng(1).normal(size=n) + shift * (labels - 0.5)
    return Predictions([f'{number}.jpg' for number in range(n)], labels.astype(np.int32), logits, 0, **more)


@pytest.mark.parametrize('n', [0, 1, 2, 5, 60])
def test_any_set_is_judged_and_reported(n: int, tmp_path: pathlib.Path) -> None:
    found = judge_scores(ForeignScores(_scored(n), None, [], {}, []), ABOUT, tmp_path)
    assert json.loads((tmp_path / 'metrics.json').read_text())['n'] == found['n'] == n
    assert (tmp_path / 'report.html').exists() and (tmp_path / 'model_card.md').exists()
    for figure in found['figures'].values():
        assert figure['value'] is not None or figure['why']
    for line in judge.lines(found):
        assert 'nan' not in line


def test_a_perfect_detector_of_few_images_is_not_certain() -> None:
    found = judge.judge(_scored(40, shift=30.0), Point('0.5', 0.5), Options())
    decided = found['operating_points'][0]['figures']
    for figure in (found['figures']['auc'], found['figures']['average_precision'], *decided.values()):
        assert figure['high'] - figure['low'] > 0.05
    assert found['figures']['tpr_at_fpr_1'] == {'value': None, 'why': 'too few real images', 'n': 20, 'needs': 299}


def test_groups_widen_every_interval() -> None:
    plain = _scored(240)
    grouped = _scored(240, groups=[f'video {number // 24}{number % 2}' for number in range(240)])
    alone, together = (judge.judge(one, Point('0.5', 0.5), Options()) for one in (plain, grouped))
    assert together['figures']['auc']['groups'] == together['videos']['n'] == 20
    assert all('whole groups' in figure['method'] for figure in together['operating_points'][0]['figures'].values())
    fitted = fitting.fit(_scored(2000).labels, _scored(2000).logits * 2, error_rate=0.2)
    together = judge.judge(grouped, Point('0.5', 0.5), Options(error_rate=0.2), fitted)
    assert 'whole groups' in together['unsure']['coverage']['method']
    rows = slices.rows(grouped, ['one' if number < 120 else 'other' for number in range(240)], 0.5)
    assert all(
        'whole groups' in row[name]['method'] and row[name]['groups'] == 10
        for row in rows
        for name in ('accuracy', 'auc')
    )
    assert alone['videos'] is None and alone['figures']['auc']['method'] == 'DeLong, logit scale'


def test_slices_are_worst_first_and_ranked_against_all_of_the_other_class() -> None:
    sources = ['camera' if number % 2 == 0 else ('easy', 'hard')[number // 2 % 2] for number in range(200)]
    scored = _scored(200, sources=sources)
    logits = scored.logits - 1.5 * np.array([source == 'hard' for source in sources])
    rows = slices.rows(Predictions(scored.names, scored.labels, logits, 0, sources), sources, 0.5)
    assert [row['value'] for row in rows][0] == 'hard' and {row['value'] for row in rows} == {'easy', 'hard', 'camera'}
    assert rows[0]['against'] == 'all real images' and rows[0]['auc']['n'] == 150
    assert rows[0]['specificity'] is None and rows[0]['recall']['n'] == 50
    few = slices.macro(rows)['auc']
    assert few == {'value': None, 'why': 'fewer than 5 rows', 'n': 3}


@pytest.mark.slow
def test_the_bootstrap_of_20000_scores_takes_seconds() -> None:
    scored = _scored(20_000)
    start = time.process_time()
    figures.compute(
        scored.labels,
        scipy.special.expit(scored.logits),
        scored.logits,
        [Point('0.5', 0.5)],
        Resampler.of(scored.labels),
    )
    assert time.process_time() - start < 60  # about 15 on a quiet core


def test_a_prevalence_moves_scores_and_carried_thresholds_alike() -> None:
    validation, test = _scored(2000), _scored(600)
    fitted = fitting.fit(validation.labels, validation.logits)
    decided = []
    for options in (Options(threshold='fpr=0.05'), Options(threshold='fpr=0.05', prevalence=0.1)):
        found = judge.judge(points.corrected(test, options, fitted), points.resolve(options, fitted), options, fitted)
        decided.append((found['operating_points'][0]['confusion'], found['unsure']['coverage']))
        decided.append(found['operating_points'][0]['threshold'])
    assert decided[0] == decided[2] and decided[1] > decided[3]


def test_a_threshold_on_corrected_scores_has_one_on_the_networks_own() -> None:
    fitted = fitting.fit(_scored(2000).labels, _scored(2000).logits * 3)
    options, test = Options(prevalence=0.1), _scored(300)
    corrected = points.corrected(test, options, fitted)
    own = points.own_threshold(Point('0.5', 0.5), options, fitted)
    np.testing.assert_array_equal(corrected.probabilities >= 0.5, test.probabilities >= own)
    assert own > 0.5 and points.own_threshold(Point('0.5', 0.5), Options(), fitted) == 0.5


def test_the_gap_is_that_of_the_carried_balanced_accuracy() -> None:
    fitted = fitting.fit(_scored(2000).labels, _scored(2000).logits)
    test = dataclasses.replace(_scored(400), logits=_scored(400).logits + 0.7)
    for threshold in (0.5, 'balanced_accuracy', 'fpr=0.05'):
        options = Options(threshold=threshold)
        found = judge.judge(test, points.resolve(options, fitted), options, fitted)
        rows = {row['name']: row['figures']['balanced_accuracy']['value'] for row in found['operating_points']}
        gap = rows['best on this set'] - rows['balanced_accuracy']
        assert found['transfer_gap']['at'] == 'balanced_accuracy'
        assert found['transfer_gap']['value'] == pytest.approx(gap, abs=2e-6) and gap > 0


def test_thresholds_of_networks_that_are_too_sure() -> None:
    """Near 1 they keep their digits; where P(fake) has none left, none is carried, and asking for one is refused."""
    for factor, is_told in ((10.0, True), (50.0, False)):
        sure = dataclasses.replace(_scored(2000), logits=factor * _scored(2000).logits)
        fitted, options = fitting.fit(sure.labels, sure.logits), Options(threshold='fpr=0.01')
        found = judge.judge(sure, Point('0.5', 0.5), Options(), fitted)
        rows = {row['name']: row for row in found['operating_points']}
        assert ('fpr=0.01' in rows) == is_told
        if is_told:
            point = points.resolve(options, fitted)
            assert 0.999999 < rows['fpr=0.01']['threshold'] < 1
            assert re.search(r'P\(fake\) 1 - \d.*e-\d+, fpr=0.01', '\n'.join(judge.lines(found)))
            called = sure.probabilities >= rows['fpr=0.01']['threshold']
            assert rows['fpr=0.01']['confusion']['fp'] == (called & (sure.labels == 0)).sum() > 0
            assert rows['fpr=0.01']['threshold'] == pytest.approx(point.threshold, rel=1e-12)
        else:
            with pytest.raises(UserError, match='cannot be told from 1; prevalence=0.5 judges calibrated'):
                points.resolve(options, fitted)
            options = dataclasses.replace(options, prevalence=0.5)
            assert points.resolve(options, fitted).threshold < 0.9999


def test_sources_that_train_did_not_hold_are_a_table_of_their_own() -> None:
    sources = ['camera' if number % 2 == 0 else ('known', 'new')[number // 2 % 2] for number in range(200)]
    fitted = {**fitting.fit(_scored(400).labels, _scored(400).logits), 'sources': ['camera', 'known']}
    found = judge.judge(_scored(200, sources=sources), Point('0.5', 0.5), Options(), fitted)
    assert [row['value'] for row in found['held_out']] == ['new']
    assert {row['value']: row['seen'] for row in found['slices']['source']} == {
        'camera': True, 'known': True, 'new': False,
    }  # fmt: skip


@pytest.mark.slow
def test_tables_of_one_name_are_judged_apart(verb: Verb, tmp_path: pathlib.Path) -> None:
    """In one folder, and again where nothing has changed."""
    for folder, shift in (('a', 2.0), ('b', 4.0), ('a', 2.0)):
        (tmp_path / folder).mkdir(exist_ok=True)
        _scored(20, shift).write_csv(tmp_path / folder / 'scores.csv')
        result = verb('evaluate', '--predictions', tmp_path / folder / 'scores.csv', '--no_images')
        assert result.returncode == 0, result.stderr
    names = [path.name for path in tmp_path.rglob('evaluations/*')]
    assert len(names) == 2 and 'scores.csv' in names


def test_thresholds_of_others_come_from_a_second_table(verb: Verb, tmp_path: pathlib.Path) -> None:
    tables = {'scores': _scored(60), 'more': _scored(800), 'part': _scored(60).take(np.arange(60) < 35)}
    more = tables['more']
    tables['more'] = dataclasses.replace(more, names=[f'v{name}' for name in more.names], logits=2 * more.logits + 1)
    for name, scored in tables.items():
        scored.write_csv(tmp_path / f'{name}.csv')
    command = ('evaluate', '--predictions', tmp_path / 'scores.csv', '--no_images', '--threshold=fpr=0.05')
    assert_refused(verb(*command), 'threshold fpr=0.05 is a rule for scores of validation images, and there are none')
    assert_refused(verb(*command, '--validation', tmp_path / 'part.csv'), 'holds scores that are judged')
    assert_refused(verb(*command, '--validation', tmp_path / 'none.csv'), 'none.csv')
    result = verb(*command, '--validation', tmp_path / 'more.csv', '--json')
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    fitted = fitting.fit(tables['more'].labels, tables['more'].logits, rules=['fpr=0.05'])
    assert found['operating_points'][0]['threshold'] == pytest.approx(
        points.resolve(Options(threshold='fpr=0.05'), fitted).threshold, rel=1e-3
    )
    assert {row['source'] for row in found['operating_points']} == {'validation', 'fixed', 'this set'}
    assert found['calibration']['method'] in ('temperature', 'platt') and found['unsure']


def test_options_that_scores_alone_do_not_allow(tmp_path: pathlib.Path) -> None:
    scores = ForeignScores(_scored(10), None, [], {}, [])
    for options, message in (
        (Options(threshold='fpr=0.01'), 'is a rule for scores of validation images'),
        (Options(prevalence=0.1), 'prevalence corrects calibrated scores'),
        (Options(robustness=True), 'robustness needs a detector, of a run or a function'),
        (Options(slices=('camera',)), "no column 'camera' to slice by"),
    ):
        with pytest.raises(UserError, match=message):
            judge_scores(scores, ABOUT, tmp_path, options)


def test_gates_look_at_the_lower_end(verb: Verb, tmp_path: pathlib.Path) -> None:
    scored = _scored(60)
    scored.write_csv(tmp_path / 'scores.csv')
    arguments = [
        'evaluate',
        '--predictions',
        tmp_path / 'scores.csv',
        '--out',
        tmp_path / 'out',
        '--json',
        '--no_images',
    ]
    result = verb(*arguments, '--min_auc=0.9')
    metrics = json.loads(result.stdout)
    assert metrics['figures']['auc']['low'] < 0.9 < metrics['figures']['auc']['high']
    assert result.returncode == 1 and 'AUC may be as low as' in result.stderr

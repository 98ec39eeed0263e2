import numpy as np
import pytest
import scipy.special

from fakeimg import decision
from fakeimg.errors import UserError
from fakeimg.evaluation import abstention, fitting
from fakeimg.evaluation.options import Options
from fakeimg.evaluation.points import on_scale
from tests.evaluation.test_calibration import simulated


@pytest.fixture(scope='module')
def fitted() -> dict:
    labels, logits = simulated(2000, seed=3)
    return fitting.fit(labels, 2 * logits + 1)


def test_the_carried_decision_is_that_of_the_evaluation(fitted: dict) -> None:
    found = decision.carried(fitted)
    assert found.rule == 'fpr=0.01' and found.error_rate == 0.05
    expected = on_scale(fitted['thresholds']['fpr=0.01']['threshold'], fitted, Options())
    assert found.threshold == pytest.approx(expected, rel=1e-12)
    assert decision.carried(fitted, 'youden').rule == 'youden'
    assert decision.carried(fitted, '0.7').threshold == decision.carried(fitted, 0.7).threshold == 0.7


def test_a_verdict_needs_threshold_and_band(fitted: dict) -> None:
    labels, logits = simulated(4000, seed=4)
    logits = 2 * logits + 1
    found, scores = decision.carried(fitted), scipy.special.expit(logits)
    verdicts = np.array([found.verdict(score, logit) for score, logit in zip(scores, logits, strict=True)])
    assert set(verdicts) == {'real', 'fake', 'unsure'}
    order = np.argsort(logits)
    kinds = ['real', 'unsure', 'fake']
    assert sorted(verdicts[order], key=kinds.index) == verdicts[order].tolist()  # one step after the other
    band, line = fitted['unsure']['0.05'], fitted['calibration']
    calibrated = scipy.special.expit(line['slope'] * logits + line['intercept'])
    np.testing.assert_array_equal(verdicts == 'real', calibrated < band['low'])
    np.testing.assert_array_equal(verdicts == 'fake', scores >= found.threshold)
    assert np.mean(verdicts[labels == 0] == 'fake') < 0.02
    decided = verdicts != 'unsure'
    assert np.mean((verdicts == 'fake')[decided] != labels[decided]) < 0.05


def test_without_validation_the_threshold_is_a_half_and_says_so() -> None:
    found = decision.carried(None)
    assert (found.rule, found.threshold, found.error_rate) == ('0.5', 0.5, None)
    assert 'no threshold or unsure band is carried' in found.note
    assert [found.verdict(score, logit) for score, logit in ((0.4, -0.4), (0.5, 0.0), (0.6, 0.4))] == [
        'real', 'fake', 'fake',
    ]  # fmt: skip
    assert decision.carried(None, 0.9).verdict(0.8, 1.4) == 'real'
    with pytest.raises(UserError, match='no threshold youden is carried: evaluate the run with it first'):
        decision.carried(None, 'youden')


def test_what_validation_does_not_support_is_said(fitted: dict) -> None:
    few = fitting.fit(np.array([0, 1] * 40), np.linspace(-3, 3, 80))
    found = decision.carried(few)
    assert found.rule == 'balanced_accuracy'  # fpr=0.01 needs more real images
    with pytest.raises(UserError, match='validation does not support fpr=0.01: it needs 299 real images, has 40; or'):
        decision.carried(few, 'fpr=0.01')
    with pytest.raises(UserError, match=r'fpr=0.02 was not fitted .there are fpr=0.01, .*or give a number'):
        decision.carried(fitted, 'fpr=0.02')
    for number in ('1.5', -1, 'nan'):
        with pytest.raises(UserError, match='threshold is .*; it must be a probability'):
            decision.carried(fitted, number)
    weak = {**fitted, 'unsure': {'0.05': abstention.unsure_band(np.array([0, 1] * 400), np.full(800, 0.5))}}
    assert decision.carried(weak).note.startswith('no unsure band is carried: even of the surest images')
    sure = {**fitted, 'calibration': {**fitted['calibration'], 'slope': 1e-3}}
    assert decision.carried(sure).rule != 'fpr=0.01'

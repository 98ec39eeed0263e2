import dataclasses
import json
import pathlib

import numpy as np
import pytest
import scipy.special
import scipy.stats

from fakeimg import operating
from fakeimg.errors import UserError
from fakeimg.evaluation import fitting, thresholds
from fakeimg.meta import Meta
from tests.evaluation.test_calibration import simulated

META = Meta(config={}, labels={}, preprocessing={}, data_digest='d', checksums={'kernel': 17})
KEY = operating.key(META, 1200, 'validation', 'c' * 64)


@pytest.fixture(scope='module')
def fitted() -> operating.Operating:
    labels, logits = simulated(2000, seed=1)
    return fitting.fit(labels, 4 * logits - 2)


def test_calibration_comes_before_thresholds_and_band(fitted: operating.Operating) -> None:
    labels, logits = simulated(2000, seed=1)
    found = operating.calibration_of(fitted)
    assert found.method == 'platt' and 4 * found.slope == pytest.approx(1, abs=0.1)
    assert fitted['calibration']['log_loss_after'] < fitted['calibration']['log_loss_before']
    scores = scipy.special.expit(found.apply(4 * logits - 2))
    for name in thresholds.RULES:
        rule = thresholds.parse(name)
        assert fitted['thresholds'][name] == thresholds.fit(rule, labels, scores)
    unsure = fitted['unsure']['0.05']
    assert 0.5 - unsure['low'] == pytest.approx(unsure['high'] - 0.5)
    assert (fitted['n'], fitted['real'] + fitted['fake'], fitted['independent']) == (2000, 2000, 2000)


def test_small_and_one_sided_validation_says_what_is_missing() -> None:
    few = fitting.fit(np.array([0, 1, 0, 1, 1]), np.array([-1.0, 1.0, 0.0, 2.0, 3.0]))
    assert few['thresholds']['fpr=0.01'] == {'why': 'needs 299 real images, has 2'}
    assert few['unsure']['0.05'] == {'why': 'needs 72 images, has 5'}
    assert 'threshold' in few['thresholds']['youden']
    one = fitting.fit(np.zeros(400, int), np.linspace(-3, 3, 400))
    assert one['calibration']['method'] == 'none'
    assert 'threshold' in one['thresholds']['fpr=0.01']
    assert one['thresholds']['f1'] == {'why': 'needs images of both classes, has 400 real and 0 fake'}
    nothing = fitting.fit(np.zeros(0, int), np.zeros(0))
    assert nothing['calibration']['log_loss_before'] is None
    json.dumps([few, one, nothing], allow_nan=False)


def test_what_was_not_fitted_can_be_fitted_later(fitted: operating.Operating, tmp_path: pathlib.Path) -> None:
    labels, logits = simulated(2000, seed=1)
    assert fitting.covers(fitted, '0.7', 0.05) and fitting.covers(fitted, 'fpr=0.010', 0.05)
    assert not fitting.covers(fitted, 'fpr=0.02', 0.05) and not fitting.covers(fitted, 'f1', 0.01)
    operating.write(tmp_path, fitted, KEY)
    more = fitting.fit(labels, 4 * logits - 2, error_rate=0.1, rules=['fpr=0.02', '0.7'])
    both = operating.write(tmp_path, more, KEY)
    assert fitting.covers(both, 'fpr=0.02', 0.1) and fitting.covers(both, 'youden', 0.05)
    assert operating.read(tmp_path, KEY) == both and '0.7' not in both['thresholds']
    other = {**KEY, 'step': 1300}
    assert set(operating.write(tmp_path, fitted, other)['unsure']) == {'0.05'}
    for rate in (0, 1, float('nan')):
        with pytest.raises(UserError, match='error rate is .*; it must lie between 0 and 1'):
            fitting.fit(labels, logits, error_rate=rate)


def test_a_fit_belongs_to_a_checkpoint_and_to_images(fitted: operating.Operating, tmp_path: pathlib.Path) -> None:
    assert operating.read(tmp_path, KEY) is None
    operating.write(tmp_path, fitted, KEY)
    assert operating.read(tmp_path, KEY) == {**KEY, **fitted}
    assert operating.read(tmp_path, {**KEY, 'step': 1300}) is None
    seed = operating.key(dataclasses.replace(META, checksums={'kernel': 18}), 1200, 'validation', 'c' * 64)
    for key, words in (
        (seed, 'for another run'),
        ({**KEY, 'split': 'train'}, 'on another split'),
        ({**KEY, 'digest': 'e' * 64}, 'on other images'),
    ):
        with pytest.raises(UserError, match=f'operating.json was fitted {words}; delete it, and'):
            operating.read(tmp_path, key)


@pytest.mark.parametrize('text', ['', '{"step": 1200', '[]', '{"step": 1200}', 'null'])
def test_a_damaged_file_is_refused(text: str, tmp_path: pathlib.Path, fitted: operating.Operating) -> None:
    (tmp_path / operating.FILE).write_text(text)
    for use in (lambda: operating.read(tmp_path, KEY), lambda: operating.write(tmp_path, fitted, KEY)):
        with pytest.raises(UserError, match=r'operating.json cannot be read .*; delete it, and'):
            use()


CLASSES = {
    'normal': (scipy.stats.norm(-2, 1.5), scipy.stats.norm(2, 1.5)),
    'sometimes sure and wrong': (scipy.stats.t(3, -2), scipy.stats.t(3, 2)),
    'overconfident': (scipy.stats.norm(-10, 8), scipy.stats.norm(12, 9)),
    'skewed': (scipy.stats.gumbel_r(-2, 1), scipy.stats.expon(0, 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', CLASSES)
def test_the_band_keeps_its_word_when_calibrated_on_the_same_images(name: str) -> None:
    real, fake = CLASSES[name]
    random, rates = np.random.default_rng(0), []
    for _ in range(250):
        labels = np.arange(600) % 2
        logits = np.where(labels == 1, fake.rvs(600, random_state=random), real.rvs(600, random_state=random))
        found = fitting.fit(labels, logits)
        band, line = found['unsure']['0.05'], operating.calibration_of(found)
        if 'why' not in band:
            low, high = ((scipy.special.logit(band[side]) - line.intercept) / line.slope for side in ('low', 'high'))
            wrong = real.sf(high) + fake.cdf(low)
            rates.append(wrong / (wrong + fake.sf(high) + real.cdf(low)))
    assert np.sum(np.array(rates) > 0.05) / 250 <= 0.05

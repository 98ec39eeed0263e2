import csv
import dataclasses
import json
import pathlib
import types
from typing import Any

import pytest

from fakeimg.applying import words
from fakeimg.applying.rows import Row
from fakeimg.decision import Decision
from fakeimg.detector import DRAWN
from fakeimg.known import UNLIKE

COUNTS = {'real': 1000, 'fake': 500, 'real_called_fake': 20, 'fake_called_real': 150}


@pytest.mark.parametrize(
    ('verdict', 'note', 'sentence'),
    [
        ('fake', None, 'looks generated; wrong about 1 real image in 50 on its test set'),
        ('real', None, 'looks real; wrong about 30 of 100 fake images on its test set'),
        ('unsure', None, 'this detector cannot tell'),
        ('fake', f'{UNLIKE}: blurred', f'a guess: looks generated; {UNLIKE}: blurred'),
        ('real', DRAWN, f'a guess: looks real; {DRAWN}'),
        ('fake', 'other', 'looks generated; wrong about 1 real image in 50 on its test set; other'),
        (None, 'x cannot be read: empty file', 'x cannot be read: empty file'),
    ],
)
def test_a_verdict_in_words(verdict: str | None, note: str | None, sentence: str) -> None:
    assert words.sentence(Row('x', verdict=verdict, note=note), COUNTS) == sentence


def test_without_a_test_set_nothing_is_said_of_it() -> None:
    assert words.sentence(Row('x', verdict='fake'), {}) == 'looks generated'
    none = {**COUNTS, 'real_called_fake': 0}
    assert words.sentence(Row('x', verdict='fake'), none).endswith('none of 1,000 real images on its test set')


def test_counts_are_those_of_the_scores_on_test(tmp_path: pathlib.Path) -> None:
    def detector(**more: Any) -> Any:
        network = types.SimpleNamespace(run=tmp_path, step=7, decision=Decision('0.5', 0.5, low=-1.0, high=2.0))
        return types.SimpleNamespace(**{**network.__dict__, **more})

    assert words.of_test(detector(run=None)) == {} == words.of_test(detector())
    folder = tmp_path / 'evaluations/test'
    folder.mkdir(parents=True)
    with open(folder / 'predictions.csv', 'w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(('name', 'label', 'probability', 'logit'))
        for number, (label, logit) in enumerate(((0, -3), (0, 0.5), (0, 3), (1, 3), (1, -0.5), (1, -3), (1, -4))):
            rows.writerow((f'{number}.jpg', label, 0.9 if logit > 0 else 0.1, logit))
    (folder / 'metrics.json').write_text(json.dumps({'split': 'test', 'step': 8}))
    assert words.of_test(detector()) == {}  # of another checkpoint
    (folder / 'metrics.json').write_text(json.dumps({'split': 'test', 'step': 7}))
    found = words.of_test(detector())
    assert (found['real'], found['fake']) == (3, 4)
    assert (found['real_called_fake'], found['fake_called_real'], found['fake_called_unsure']) == (1, 2, 1)
    (folder / 'metrics.json').write_text(json.dumps({'split': 'test', 'step': 7, 'prevalence': 0.1}))
    assert words.of_test(detector()) == {}  # of corrected scores
    (folder / 'metrics.json').write_text(json.dumps({'split': 'test', 'step': 7}))
    stricter = dataclasses.replace(Decision(), threshold=0.95)
    assert words.of_test(detector(decision=stricter))['real_called_fake'] == 0

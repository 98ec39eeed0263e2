"""The pages for people: what comes from outside, names above all, is text in them and never HTML."""

import html
import pathlib
from collections.abc import Sequence

import numpy as np
import pytest

from fakeimg import pages
from fakeimg.auditing import facts, finding, measure
from fakeimg.auditing import report as audit_report
from fakeimg.data import demo
from fakeimg.data.datasets import DataSet, Split
from fakeimg.evaluation import metrics as metrics_lib
from fakeimg.evaluation import report as evaluation_report
from fakeimg.meta import Meta
from fakeimg.probing import report as probe_report
from fakeimg.scoring import Predictions
from fakeimg.searching import report

EVIL = '<script>&"'


def assert_escaped(page: pathlib.Path, *names: str) -> None:
    """Each of the names, of which EVIL is a part, is in the page as text, and nothing as a tag of theirs."""
    text = page.read_text()
    assert '<script' not in text
    for name in names:
        assert html.escape(name) in text, name


class Faces:
    """Demo faces by names of anybody's choice."""

    def __init__(self, names: Sequence[str]):
        self.names = list(names)
        self._faces = demo.DemoFaces('train', size=16, num_examples=len(names))

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        return self._faces[index]

    def take(self, indices: Sequence[int] | np.ndarray) -> 'Faces':
        return Faces([self.names[index] for index in indices])


def source(*names: str) -> Split:
    labels = np.arange(len(names), dtype=np.int32) % 2
    return Split(Faces(names), labels, generators=[''] * len(names), groups=[''] * len(names))


def test_a_page_is_text_where_it_promises_text(tmp_path: pathlib.Path) -> None:
    pages.write_page(tmp_path / 'page.html', f'{EVIL}title', '<p>body</p>')
    assert_escaped(tmp_path / 'page.html', f'{EVIL}title')
    text = (tmp_path / 'page.html').read_text()
    assert '<p>body</p>' in text and text.count(html.escape(f'{EVIL}title')) == 2  # of the window, and above the text


def test_a_name_of_bytes_that_are_no_text_can_be_shown() -> None:
    assert pages.escape('<caf\udce9>') == '&lt;caf?&gt;'


def test_names_are_escaped_in_the_report_of_an_evaluation(tmp_path: pathlib.Path) -> None:
    images = source(f'{EVIL}real', f'{EVIL}fake')
    predictions = Predictions(images.names, images.labels, np.array([2, -1], np.float32), 0)  # both wrong
    metrics = {
        'split': f'{EVIL}split',
        'step': 1,
        'data_digest': '0' * 64,
        **metrics_lib.compute_metrics(predictions, 0.5),
    }
    meta = Meta(config={'model': {'name': f'{EVIL}model'}}, labels={}, preprocessing={}, data_digest=None)
    evaluation_report.write_report(tmp_path / 'report.html', metrics, predictions, images, meta)
    assert_escaped(tmp_path / 'report.html', *images.names, f'{EVIL}model on the {EVIL}split split')


def test_names_are_escaped_in_the_page_of_an_audit(tmp_path: pathlib.Path) -> None:
    split = f'{EVIL}split'
    images = source(f'{EVIL}left', f'{EVIL}right')
    measured = measure.MeasuredImages((split,), np.zeros(2, np.int32), images.names, np.zeros(2, facts.FACTS))
    evidence = finding.Evidence(measured, images.labels, images.generators, images.groups)
    data = DataSet({split: images}, '0' * 64, f'{EVIL}layout', is_prepared=False, notes=[])
    counts = {f'{EVIL}gan': {'real': 1, 'fake': 1}, f'{EVIL}camera': {'real': 1, 'fake': 1}}
    findings = [
        finding.Finding('classes', 'ok', f'{EVIL}sentence', details={'sources': {split: counts}}),
        finding.Finding(f'{EVIL}finding', 'fail', 'copies', f'{EVIL}advice', pairs=[(0, 1)]),
    ]
    page = tmp_path / 'audit.html'
    audit_report.write_page(page, f'{EVIL}title', evidence, data, findings, [])
    assert_escaped(
        page,
        *(f'{EVIL}{name}' for name in ('title', 'layout', 'sentence', 'finding', 'advice', 'gan', 'camera')),
        f'{split}, real: {EVIL}left',
        f'{split}, fake: {EVIL}right',
    )


def test_names_are_escaped_in_the_report_of_a_probe(tmp_path: pathlib.Path) -> None:
    figure = {'mean': 0.75, 'deviation': 0.125}
    results = {
        'fakeimg': '1',
        'model': f'{EVIL}model',
        'weights': f'{EVIL}weights',
        'weights_sha256': '0' * 64,
        'features': 8,
        'image_size': 32,
        'train_split': f'{EVIL}train',
        'n': {f'{EVIL}train': 4, f'{EVIL}test': 4},
        'skipped': {},
        'folds': 2,
        'whole_groups': False,
        'max_examples': 4,
        'seed': 0,
        'classifiers': {
            f'{EVIL}classifier': {
                'c': 1.0,
                'c_by_mean_auc': {'1': 0.75},
                'cross_validation': {'accuracy': figure, 'auc': figure},
                'splits': {f'{EVIL}test': {'accuracy': 0.75, 'auc': 0.75}},
            }
        },
        'data_digest': '0' * 64,
        'notes': [f'{EVIL}note'],
    }
    probe_report.write_report(tmp_path / 'report.html', results)
    assert_escaped(
        tmp_path / 'report.html',
        f'Probe of {EVIL}model features',
        f'a frozen {EVIL}model at 32 px, {EVIL}weights. Images: {EVIL}train 4, {EVIL}test 4.',
        f'images of {EVIL}train, stratified',
        *(f'{EVIL}{name}' for name in ('classifier', 'test accuracy', 'note')),
    )


@pytest.mark.parametrize('diverged', [False, True])
def test_names_are_escaped_in_the_page_of_a_search(tmp_path: pathlib.Path, diverged: bool) -> None:
    metrics: dict[str, float | None] = dict.fromkeys(report.METRICS, 0.75)
    fields = {f'{EVIL}field': f'{EVIL}value'}
    row = report.Row(f'{EVIL}candidate', 1, fields, 10, 1.0, None if diverged else metrics, f'{EVIL}reason')
    workdir = tmp_path / f'{EVIL}recipe'
    workdir.mkdir()
    report.write(workdir, [row], 1, 100)
    shown = ['recipe', 'field', 'value'] if diverged else ['recipe', 'field', 'value', 'candidate']
    assert_escaped(workdir / 'search.html', *(f'{EVIL}{name}' for name in shown))

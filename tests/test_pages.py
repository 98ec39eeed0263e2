"""The pages for people: what comes from outside, names above all, is text in them and never HTML."""

import base64
import html
import io
import json
import pathlib
import re
import xml.etree.ElementTree

import numpy as np
import PIL.Image
import pytest

from fakeimg import pages
from fakeimg.auditing import facts, finding, measure
from fakeimg.auditing import report as audit_report
from fakeimg.data.datasets import DataSet
from fakeimg.evaluation import report as evaluation_report
from fakeimg.probing import report as probe_report
from fakeimg.probing import sheets
from fakeimg.searching import report
from tests.support import judged
from tests.support.judged import source

EVIL = '<script>&"'


def escaped(name: str) -> str:
    return html.escape(name).replace('&quot;', '&#34;')


def assert_escaped(page: pathlib.Path, *names: str) -> None:
    """Each of the names, of which EVIL is a part, is in the page as text, and nothing as a tag of theirs."""
    text = page.read_text()
    assert '<script' not in text.replace('<script type="application/json" id="numbers">', '')
    for name in names:
        assert escaped(name) in text, name


def test_a_page_is_text_where_it_promises_text(tmp_path: pathlib.Path) -> None:
    table = pages.Table([f'{EVIL}head'], [[f'{EVIL}cell'], [pages.Cell(f'{EVIL}other', 'grey', f'{EVIL}small')]])
    section = pages.Section(
        f'{EVIL}section', [f'{EVIL}words'], [f'{EVIL}command'], tables=[table], folded=[(f'{EVIL}fold', f'{EVIL}long')]
    )
    pages.write_page(tmp_path / 'page.html', f'{EVIL}title', [section], lead=[f'{EVIL}lead'], small=f'{EVIL}foot')
    names = ('title', 'head', 'cell', 'other', 'small', 'section', 'words', 'command', 'fold', 'long', 'lead', 'foot')
    assert_escaped(tmp_path / 'page.html', *(f'{EVIL}{name}' for name in names))
    assert (tmp_path / 'page.html').read_text().count(escaped(f'{EVIL}title')) == 2


@pytest.mark.parametrize(
    ('columns', 'kinds', 'is_wide'),
    [(2, 'w', False), (3, 'w', True), (3, 'wn', False), (4, 'wnnw', True), (5, 'n', True)],
)
def test_tables_that_a_phone_cannot_hold_become_lists(columns: int, kinds: str, is_wide: bool) -> None:
    assert pages.Table(['head'] * columns, [], kinds=kinds).is_wide == is_wide


def test_numbers_cannot_end_the_element_that_holds_them(tmp_path: pathlib.Path) -> None:
    numbers = {'</script><script>alert(1)': [1.0, float('nan'), float('inf'), 0.123456789], 'caf\udce9': 'caf\udce9'}
    pages.write_page(tmp_path / 'page.html', 'title', [], data=numbers)
    text = (tmp_path / 'page.html').read_text()
    assert text.count('<script') == text.count('</script') == 1
    held = text.split('id="numbers">')[1].split('</script>')[0]
    assert json.loads(held) == {'</script><script>alert(1)': [1.0, None, None, 0.123457], 'caf\udce9': 'caf\udce9'}


def test_a_name_of_bytes_that_are_no_text_can_be_shown(tmp_path: pathlib.Path) -> None:
    pages.write_page(tmp_path / 'page.html', '<caf\udce9>', [])
    assert '<h1>&lt;caf?&gt;</h1>' in (tmp_path / 'page.html').read_text()


def test_a_chart_has_an_alternative_its_numbers_and_colours_for_the_dark(tmp_path: pathlib.Path) -> None:
    with pages.drawing() as (figure, axes):
        axes.plot([0, 1], [1, 2], color=pages.REAL_COLOUR, label='at 0.0125')
        axes.legend()
        table = pages.Table(['x', 'y'], [['0', '1.0'], ['1', '2.0']], kinds='n')
        chart = pages.chart(figure, f'{EVIL}title', f'{EVIL}words', table, name='one', folder=tmp_path)
    svg = chart.svg
    assert '>at 0.0125<' in svg  # coordinates are rounded, texts are not
    root = xml.etree.ElementTree.fromstring(svg)
    assert root.get('role') == 'img' and root.get('aria-labelledby') == 'one-t one-d'
    assert [root.findtext(name) for name in ('title', 'desc')] == [f'{EVIL}title', f'{EVIL}words']
    assert 'var(--real)' in svg and 'var(--ink)' in svg and not re.search('#[0-9a-f]{6}', svg)
    ids = re.findall(r' id="([^"]+)"', svg)
    assert len(ids) == len(set(ids)) and all(name.startswith('one-') for name in ids)
    assert {name[1:] for name in re.findall(r'(?:href="|url\()(#[^")]+)', svg)} <= set(ids)
    alone = (tmp_path / 'one.svg').read_text()
    assert 'var(' not in alone and pages.REAL_COLOUR in alone
    xml.etree.ElementTree.fromstring(alone)
    with PIL.Image.open(tmp_path / 'one.png') as image:
        assert image.size == (720, 518)


def test_a_thumbnail_is_small_and_has_no_metadata() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    exif = PIL.Image.Exif()
    exif[0x010E] = 'a secret place'
    buffer = io.BytesIO()
    PIL.Image.fromarray(noise).save(buffer, 'JPEG', exif=exif)
    uri = pages.thumbnail(buffer.getvalue())
    data = base64.b64decode(uri.split(',')[1])
    assert b'secret' in buffer.getvalue() and b'secret' not in data
    assert len(uri) < 24_000
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert max(image.size) == pages.THUMBNAIL_SIZE and not image.getexif()


def test_names_are_escaped_in_the_report_of_an_evaluation(tmp_path: pathlib.Path) -> None:
    images = source(f'{EVIL}real', f'{EVIL}fake')
    predictions = judged.predictions_of(images)
    metrics = {**judged.least(predictions), 'split': f'{EVIL}split', 'data_path': f'/x/{EVIL}data'}
    evaluation_report.write_report(tmp_path, metrics, predictions, images, judged.meta(f'{EVIL}model'))
    assert_escaped(tmp_path / 'report.html', *images.names, f'{EVIL}data, {EVIL}split split', f'{EVIL}model')


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
    split = source(f'{EVIL}left', f'{EVIL}right')
    predictions = judged.predictions_of(split)
    images = sheets.section(f'{EVIL}best', f'{EVIL}split', predictions, split)
    probe_report.write_report(tmp_path / 'report.html', results, images)
    assert_escaped(
        tmp_path / 'report.html',
        f'Probe of {EVIL}model features',
        f'a frozen {EVIL}model at 32 px, {EVIL}weights. Images: {EVIL}train 4, {EVIL}test 4.',
        f'images of {EVIL}train, stratified',
        *(f'{EVIL}{name}' for name in ('classifier', 'test accuracy', 'note', 'left', 'right')),
        f'Images of {EVIL}split',
        f'{EVIL}best has the best mean AUC',
    )


@pytest.mark.parametrize('diverged', [False, True])
def test_names_are_escaped_in_the_page_of_a_search(tmp_path: pathlib.Path, diverged: bool) -> None:
    metrics: dict[str, float | None] = dict.fromkeys(report.METRICS, 0.75)
    fields = {f'{EVIL}field': f'{EVIL}value'}
    row = report.Row(f'{EVIL}candidate', 1, fields, 10, 1.0, None if diverged else metrics, f'{EVIL}reason')
    workdir = tmp_path / f'{EVIL}recipe'
    workdir.mkdir()
    sheet = pages.Sheet('Real', [pages.Thumbnail([], [f'{EVIL}image'])])
    report.write(workdir, [row], 1, report.Shown(100, [sheet], [f'{EVIL}command']))
    shown = ['recipe', 'field', 'value', 'image', 'command'] + ([] if diverged else ['candidate'])
    assert_escaped(workdir / 'search.html', *(f'{EVIL}{name}' for name in shown))

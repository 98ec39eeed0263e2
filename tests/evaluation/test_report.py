"""The report of an evaluation: small, closed to every request, complete, and text where it shows what users named."""

import html
import json
import pathlib
import re
from typing import Any

import numpy as np
import pytest

from fakeimg.data.datasets import Split
from fakeimg.evaluation import gallery, parts, report, words
from fakeimg.evaluation.gallery import Maps
from fakeimg.explaining.checks import Replaced
from fakeimg.explaining.maps import Explanation
from fakeimg.scoring import Predictions
from tests.support import judged

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
COUNT = 320


@pytest.fixture(scope='module')
def split() -> Split:
    return judged.source(*(f'test/{("real", "fake")[row % 2]}/{row:06}.jpg' for row in range(COUNT)), size=160)


@pytest.fixture(scope='module')
def written(split: Split, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A report with everything, and the run and the audit that belong to it."""
    root = tmp_path_factory.mktemp('report')
    run = judged.write_run(root / 'runs/x')
    audit = root / 'audits/cifake-22222222'
    audit.mkdir(parents=True)
    findings = [
        {
            'name': name,
            'level': level,
            'sentence': f'{name} in words',
            'advice': 'advice',
            'commands': ['fakeimg fix it'],
        }
        for name, level in (('classes', 'ok'), ('shift', 'note'), ('copies', 'fail'))
    ]
    (audit / 'audit.json').write_text(json.dumps({'digest': 'other', 'verdict': 'fail', 'findings': findings}))
    predictions = judged.predictions_of(split, skipped=2)
    folder = root / 'evaluation'
    folder.mkdir()
    report.write_report(folder, judged.full(predictions), predictions, split, judged.meta(), run=run)
    return folder


def page_of(folder: pathlib.Path) -> str:
    return (folder / 'report.html').read_text()


def write(folder: pathlib.Path, metrics: dict, predictions: Predictions, split: Split | None, **options: Any) -> str:
    report.write_report(folder, metrics, predictions, split, judged.meta() if split else None, **options)
    return page_of(folder)


def test_the_page_is_small_and_asks_for_nothing(written: pathlib.Path) -> None:
    page = page_of(written)
    assert len(page.encode()) < 1_500_000
    assert len(re.sub('"data:[^"]*"', '', page).encode()) < 300_000  # without images
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">' in page
    fetched = re.findall(r'(?:src|href|srcset|action|poster|data)="([^"]*)"', page)
    assert fetched and all(target.startswith(('data:image/', '#')) for target in fetched)
    assert not re.search(r'url\((?!#)|@import|<link|<iframe|<object|<form|\son\w+=', page)
    assert re.findall('<script[^>]*>', page) == ['<script type="application/json" id="numbers">']
    assert page.count('<img ') == 36


def test_every_chart_has_an_alternative_and_its_numbers(written: pathlib.Path) -> None:
    page = page_of(written)
    charts = re.findall(r'<figure id="chart-([^"]+)">(.*?)</figure>', page, re.DOTALL)
    assert len(charts) == page.count('<svg') == 23
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for name, chart in charts:
        assert f'role="img" aria-labelledby="{name}-t {name}-d"' in chart
        assert all(re.search(rf'<{tag} id="{name}-{tag[0]}">[^<]+<', chart) for tag in ('title', 'desc'))
        assert re.search(r'<details>.*<tbody>.*<t[dh].*</details>', chart, re.DOTALL), name
        assert 'nan' not in chart
    drawn = {path.name for path in (written / 'figures').iterdir()}
    assert drawn == {f'{name}.{kind}' for name, _ in charts for kind in ('svg', 'png')}


def test_the_first_screen_and_every_section(written: pathlib.Path) -> None:
    page = html.unescape(page_of(written))
    first = page.split('<nav')[0]
    for said in ('CIFAKE, test split', '2026-11-27', 'Of 100 real images it wrongly calls', '95 % interval',
                 'It learned from CIFAKE alone', 'A score is no proof', 'images of the class fake',
                 'corrected to a stated prior', 'mirror image'):  # fmt: skip
        assert said in first
    assert re.findall('<h2>([^<]+)</h2>', page)[2:] == [
        'Figures', 'Decisions', 'ROC and DET', 'Reliability', 'Scores by class', 'When it may say unsure',
        'Sources not in training', 'Slices', 'Videos', 'Robustness', 'Explanations', 'Images',
        'Learning curves', 'The audit of this data', 'Unreadable images', 'How to reproduce',
    ]  # fmt: skip
    assert 'needs 2,995 real images' in page and 'class="n grey"' in page
    assert 'nobody can achieve it' in page and 'truncated or damaged JPEG' in page
    assert page.index('copies in words') < page.index('shift in words') and 'classes in words' not in page
    assert '<code>fakeimg fix it</code>' in page
    assert '<code>fakeimg evaluate --workdir runs/x --split test</code>' in page
    numbers = json.loads(page_of(written).split('id="numbers">')[1].split('</script>')[0])
    assert numbers['figures']['auc']['n'] == COUNT and len(numbers['slices']['group']) == 30


def test_maps_stand_beside_the_images_with_what_they_are_worth(split: Split, tmp_path: pathlib.Path) -> None:
    """Images of noise, as faces hardly are, make the page as large as it gets."""
    predictions, rng = judged.predictions_of(split), np.random.default_rng(0)
    maps: Maps = {}
    for name in [predictions.names[row] for _, _, rows in gallery.groups(predictions, 0.5) for row in rows][:35]:
        cells, crop = rng.normal(0, 1, (8, 8)).astype(np.float32), rng.integers(0, 256, (160, 160, 3), np.uint8)
        one = Explanation(name, 0.5, float(cells.sum()), cells, 0.0, 'exact', crop, 20, np.arange(160) // 20)
        maps = {**maps, name: (one, Replaced(4.56, 1.23, 'other'))}
    report.write_report(tmp_path, judged.full(predictions), predictions, split, judged.meta(), maps=maps)
    page = html.unescape(page_of(tmp_path))
    assert len(page.encode()) < 1_500_000
    assert page.count('<img ') == 36 + len(maps) and page.count('drop +4.56; of a random fifth +1.23') == len(maps)
    section = page.split('<section id="explanations">')[1].split('</section>')[0]
    for said in ('8 x 8 cells; a cell is 4 x 4 pixels. The cells and the rest add up.', 'The maps look different.',
                 'moved by 3.40 (3.33 to 3.47) towards the other class, and by 2.10', 'in 200 images',
                 'chart-map_colours', 'The score rests more on what the maps name', 'difference',
                 'and conv1'):  # fmt: skip
        assert said in section, said


@pytest.mark.parametrize(('value', 'said'), [(0.05, 'do not say where the score rests'), (None, 'is undefined: one')])
def test_a_drop_that_is_not_clearly_larger_is_none(value: float | None, said: str, split: Split) -> None:
    metrics = judged.full(judged.predictions_of(split))
    drops = metrics['explanations']['drops']
    drops['difference'] = {'value': value, 'low': -0.1, 'high': 0.2, 'n': 9} if value else {'value': None, 'why': 'one'}
    section = parts.explanations(metrics, has_maps=False)
    assert section is not None and any(said in line for line in section.words) and not section.charts


def test_a_band_of_no_width_says_that_no_image_need_be_unsure(tmp_path: pathlib.Path) -> None:
    error = {'value': 0.0431, 'low': 0.04, 'high': 0.046, 'n': 20000}
    unsure = {'error_rate': 0.05, 'low': 0.466, 'high': 0.466, 'coverage': None, 'error': error}
    section = parts.abstention({'unsure': unsure}, tmp_path)
    assert section is not None and section.words == [
        'No image need be called unsure: on validation, at most 5 % of all decisions at P(fake) 0.466 are wrong. Here, '
        '4.31 % (4.00 to 4.60) are.'
    ]


def test_without_images_it_shows_none(split: Split, tmp_path: pathlib.Path) -> None:
    predictions = judged.predictions_of(split)
    page = write(tmp_path, judged.least(predictions), predictions, split, no_images=True)
    assert '<img' not in page and 'data:image' not in page and 'Thumbnails are left out' in page


def test_the_fewest_keys_are_enough(split: Split, tmp_path: pathlib.Path) -> None:
    predictions = judged.predictions_of(split)
    page = write(tmp_path, judged.least(predictions), predictions, split)
    assert re.findall('<h2>([^<]+)</h2>', page)[2:] == ['Figures', 'Decisions', 'Images', 'How to reproduce']
    assert 'Of 100 real images' in page


@pytest.mark.parametrize('kept', ['real', 'fake', 'five', 'none'])
def test_sets_of_one_class_five_images_and_none(split: Split, tmp_path: pathlib.Path, kept: str) -> None:
    rows = {
        'real': split.labels == 0,
        'fake': split.labels == 1,
        'five': np.arange(COUNT) < 5,
        'none': split.labels > 1,
    }
    predictions = judged.predictions_of(split).take(rows[kept])
    page = html.unescape(write(tmp_path, judged.least(predictions), predictions, None))
    assert {'real': 'There are no fake images', 'fake': 'There are no real images', 'five': 'Of the 3 real images',
            'none': 'No image was scored'}[kept] in page  # fmt: skip
    assert ('only one class' in page) == (kept != 'five')
    assert 'nan' not in page.lower()


def test_names_of_users_are_text_everywhere(tmp_path: pathlib.Path) -> None:
    evil = '<script>alert("1")</script>$x_\udce9'
    images = judged.source(*(f'{evil}{row}' for row in range(8)))
    predictions = judged.predictions_of(images)
    metrics = judged.full(predictions)
    metrics['slices'] = {evil: [{**row, 'value': f'{evil}{row["value"]}'} for row in metrics['slices']['source']]}
    metrics['data'] |= {'name': evil, 'sources': {evil: 1, 'b': 2}, 'unreadable': [[evil, evil]]}
    metrics['detector'] |= {'model': evil, 'trained_on': evil, 'run': evil, 'config': {evil: evil}}
    metrics |= {'split': evil, 'command': evil, 'labels': {evil: 1}}
    metrics['robustness'] = {'n': 8, 'curves': {evil: {**metrics['robustness']['curves']['jpeg'], 'unit': evil}}}
    page = write(tmp_path, metrics, predictions, images)
    assert page.count('<script') == 1
    assert page.count('&lt;script&gt;') > 20 and '$x_?' in page


@pytest.mark.parametrize(
    ('fp', 'tn', 'said'),
    [
        (3, 97, 'of 100 real images it wrongly calls 3 fake (1 to 8)'),
        (30, 9970, 'of 1,000 real images it wrongly calls 3 fake (2 to 4)'),
        (560, 9440, 'of 1,000 real images it wrongly calls 56 fake (52 to 61)'),
        (0, 500, 'of 100 real images it wrongly calls none fake (0 to 1)'),
        (1, 3, 'of the 4 real images it wrongly calls 1 fake (95 % interval 5 to 70 of 100)'),
    ],
)
def test_the_sentence_counts_images(fp: int, tn: int, said: str) -> None:
    point = {'confusion': {'fp': fp, 'tn': tn, 'fn': 5, 'tp': 95}}
    assert words.sentence(point).lower() == f'{said}; of 100 fake images it misses 5 (2 to 11).'


@pytest.mark.parametrize(
    ('figure', 'said'),
    [
        ({'value': 0.6455, 'low': 0.58, 'high': 0.71}, '0.65 (0.58 to 0.71)'),
        ({'value': 0.93124, 'low': 0.92, 'high': 0.942}, '0.931 (0.920 to 0.942)'),
        ({'value': None, 'needs': 2995}, 'undefined: needs 2,995 real images'),
        (None, 'undefined: not computed'),
    ],
)
def test_a_figure_has_the_digits_that_its_interval_supports(figure: dict | None, said: str) -> None:
    assert words.text(figure) == said

"""A search over candidates: the table, the choice, and that it goes on where it stopped."""

import csv
import json
import pathlib
import re
import runpy
import signal
import subprocess
from collections.abc import Iterator

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from fakeimg import scoring
from fakeimg.checkpoint import Checkpoints
from fakeimg.config import Config
from fakeimg.console import Console
from fakeimg.errors import UserError
from fakeimg.models import create_model
from fakeimg.searching import report, search
from fakeimg.training import early_stopping, loop
from tests.support.console import Recorder
from tests.support.verbs import ROOT, Verb, flags_of, verb_command, verb_environment

WIDTHS = [[{'model.filters': 2}, {'model.filters': 4}]]
STAGES = [*WIDTHS, [{'model.dense_layers': 1, 'model.dense': 4}]]
RECIPE = """
from configs.cnn import get_config

def get_search():
    yield [{'model.filters': 2}, {'model.filters': 4}]
"""


@pytest.fixture(scope='module', autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compilations on disk, for the trainings here are many and alike, and a search clears those in memory."""
    settings = {
        'jax_compilation_cache_dir': str(tmp_path_factory.mktemp('compiled')),
        'jax_persistent_cache_min_compile_time_secs': 0.0,
        'jax_persistent_cache_min_entry_size_bytes': -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # or the folder is the one of the first compilation
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def tiny(config: Config) -> Config:
    config.steps = 6
    config.batch_size = 24
    config.model.layers = 1
    config.model.dense_layers = 0
    config.log_every_steps = 2
    return config


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the candidates whose training is called for."""
    names = []
    train = loop.train

    def recorded(config: Config, workdir: pathlib.Path, console: Console) -> loop.Result:
        names.append(workdir.name)
        return train(config, workdir, console)

    monkeypatch.setattr(loop, 'train', recorded)
    return names


def table(workdir: pathlib.Path) -> list[dict[str, str]]:
    return list(csv.DictReader((workdir / 'search.csv').read_text().splitlines()))


def validations(workdir: pathlib.Path) -> dict[int, dict[str, float]]:
    rows = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    return {row['step']: row for row in rows if 'validation/loss' in row}


@pytest.mark.slow
def test_table_and_choice_are_by_validation_and_later_runs_train_nothing_again(
    tiny: Config, faces: pathlib.Path, tmp_path: pathlib.Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (faces / 'test').rglob('*.jpg'):
        path.write_bytes(b'must not be opened')
    # The narrower network shall win, which by its own merit it need not: all scores but its own are turned round.
    score = scoring.Scorer.score

    def scored(scorer, variables, split, name, **rest):
        predictions, bad = score(scorer, variables, split, name, **rest)
        assert name == 'validation'
        model = scorer.config.model
        sign = 1 if model.filters == 2 and model.dense_layers == 0 else -1
        predictions.logits[:] = sign * (20.0 * predictions.labels - 10)
        return predictions, bad

    said = Recorder()
    workdir = tmp_path / 'search'
    with monkeypatch.context() as patched:
        patched.setattr(scoring.Scorer, 'score', scored)
        search.search(tiny, WIDTHS, workdir, said)
        assert trained == ['filters=2', 'filters=4']
        found = search.search(tiny, STAGES, workdir, said, lambda best, split: [f'next after {best.name} on {split}'])
    assert trained == ['filters=2', 'filters=4', 'filters=2,dense_layers=1,dense=4']
    assert [row.name for row in found.rows] == ['filters=2', 'filters=4', 'filters=2,dense_layers=1,dense=4']
    assert (found.total, found.interrupted_by, found.split) == (3, None, 'test')
    rows = table(workdir)
    assert [row['name'] for row in rows] == [row.name for row in found.rows]
    assert [row['model.filters'] for row in rows] == ['2', '4', '2']
    assert [row['model.dense'] for row in rows] == ['', '', '4']
    assert [row['stage'] for row in rows] == ['1', '1', '2']
    # 3 x 3 x 3 weights and a bias a filter; 16 x 16 maps; head or dense layer and head, with their biases.
    flat = 16 * 16
    assert [int(row['parameters']) for row in rows] == [
        28 * 2 + flat * 2 + 1,
        28 * 4 + flat * 4 + 1,
        28 * 2 + (flat * 2 + 1) * 4 + 5,
    ]
    assert [row['auc'] for row in rows] == ['1.0', '0.0', '0.0']
    assert [row['accuracy'] for row in rows] == ['1.0', '0.0', '0.0']
    assert all(float(row['seconds']) > 0 for row in rows)
    assert any(re.fullmatch(r'candidate 2 of 2: filters=4, ETA of the search \d+:\d\d', line) for line in said.lines)
    page = (workdir / 'search.html').read_text()
    assert page.count('<img') == 12 and '<code>next after filters=2 on test</code>' in page
    assert '3 of 3 candidates, ranked by AUC on 24 validation images. Best: filters=2.' in page
    assert page.count('role="img"') == 2 and page.count('<tr>') == 3 * (1 + 3)  # the table, and those of the charts

    again = search.search(tiny, STAGES, workdir, said)
    assert len(trained) == 3
    assert [(row.name, row.seconds) for row in again.rows] == [(row.name, row.seconds) for row in found.rows]
    assert table(workdir) == rows
    tiny.steps = 8  # a longer budget goes on with what is there
    search.search(tiny, [WIDTHS[0][:1]], workdir, said)
    assert trained[3:] == ['filters=2']
    assert Checkpoints(workdir / 'filters=2/checkpoints', read_only=True).steps()[-1] == 8


def test_rows_are_of_the_checkpoint_that_evaluation_takes(tiny: Config, tmp_path: pathlib.Path) -> None:
    tiny.validate_every_epochs = 0.34  # every step
    found = search.search(tiny, [WIDTHS[0][:1]], tmp_path / 'search')
    checkpoints = Checkpoints(tmp_path / 'search/filters=2/checkpoints', read_only=True)
    by_step = validations(tmp_path / 'search/filters=2')
    best = by_step[checkpoints.best_step() or 0]
    assert len({row['validation/loss'] for row in by_step.values()}) > 2
    aucs = [[step, row['validation/auc']] for step, row in by_step.items()]
    assert best is by_step[max(zip(early_stopping.smoothed(aucs), by_step, strict=True))[1]]
    assert found.rows[0].metrics == {name: best.get(f'validation/{name}') for name in found.rows[0].metrics or ()}


@pytest.mark.slow
def test_a_signal_stops_the_search_and_it_goes_on_with_that_candidate(
    tiny: Config, tmp_path: pathlib.Path, trained: list[str]
) -> None:
    tiny.log_every_steps = 1
    expected = search.search(tiny, [WIDTHS[0][1:]], tmp_path / 'uninterrupted').rows[0]
    workdir = tmp_path / 'search'
    search.search(tiny, [WIDTHS[0][:1]], workdir)
    stopped = search.search(tiny, WIDTHS, workdir, Recorder(interrupt_at='step 1/'))  # said once step 2 is under way
    assert stopped.interrupted_by == signal.SIGINT
    assert [row.name for row in stopped.rows] == ['filters=2'] == [row['name'] for row in table(workdir)]
    assert Checkpoints(workdir / 'filters=4/checkpoints', read_only=True).steps() == [2]
    before = json.loads((workdir / 'filters=4/candidate.json').read_text())['seconds']
    trained.clear()
    found = search.search(tiny, WIDTHS, workdir)
    assert trained == ['filters=4']
    resumed = next(row for row in found.rows if row.name == 'filters=4')
    assert resumed.metrics == expected.metrics
    assert resumed.seconds is not None and resumed.seconds > before

    # A signal after a candidate's last validation: that one is done, and the next one is not begun.
    late = search.search(tiny, [WIDTHS[0][::-1]], tmp_path / 'late', Recorder(interrupt_at='validation at step 6'))
    assert (late.interrupted_by, [row.name for row in late.rows]) == (signal.SIGINT, ['filters=4'])


@pytest.mark.slow
def test_a_diverging_candidate_is_a_row(tiny: Config, tmp_path: pathlib.Path, trained: list[str]) -> None:
    tiny.optimizer.warmup_epochs = tiny.optimizer.clip_norm = 0.0
    rates = [{'optimizer.base_learning_rate': 1e36}, {'optimizer.base_learning_rate': 1e-3}]
    said = Recorder()
    for _ in range(2):  # the second time nothing is trained
        found = search.search(tiny, [rates], tmp_path / 'search', said)
        assert [row.name for row in found.rows] == ['base_learning_rate=0.001', 'base_learning_rate=1e+36']
        assert (found.rows[0].metrics is None, found.rows[1].metrics) == (False, None)
    assert trained == ['base_learning_rate=1e+36', 'base_learning_rate=0.001']
    assert 'not finite in step' in table(tmp_path / 'search')[1]['diverged']
    assert re.search(r'\n2 +1e\+36 +[\d,]+ +diverged', said.text)
    with pytest.raises(UserError, match=r'every candidate so far diverged \(1 of 2 tried, see .*search.csv\)'):
        search.search(tiny, [rates[:1], [{'model.filters': 4}]], tmp_path / 'search', said)


@pytest.mark.parametrize(
    ('stages', 'sentence'),
    [
        (
            [[{'model.filters': 2}], [{'model.layerz': 2}]],
            'unknown config field config.model.layerz. Did you',
        ),
        ([[{'modle.layers': 2}]], 'unknown config field config.modle. Did you mean model?'),
        ([[{'model.name.x': 2}]], 'unknown config field config.model.name.x'),
        ([[{'model.layers': 'two'}]], "config.model.layers is 'two'; it must be of type int"),
        ([[{'model': 2}]], 'config.model is 2; it must be of type Model'),
        ([[{'model.filters': 2}], [{'model.layers': 9}]], 'config.model.layers is 9; it must be 1 to 5'),
        ([[{'model.filters': 2}, {'model.filters': 2}]], 'candidate filters=2 twice'),
        ([[]], r'must yield one list a stage, each of {field: value}'),
        ([], r'must yield one list a stage, each of {field: value}'),
        ([['model.filters']], r'must yield one list a stage, each of {field: value}'),
    ],
)
def test_candidates_that_cannot_work_are_named_before_anything_is_trained(
    tiny: Config, tmp_path: pathlib.Path, stages: list, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        search.search(tiny, stages, tmp_path / 'search')
    assert not (tmp_path / 'search').exists()


def test_no_validation_split(tiny: Config, faces: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for path in faces.rglob('train/*/*.jpg'):
        if path not in sorted(path.parent.iterdir())[:2]:
            path.unlink()  # two of a class are too few to carve one out
    with pytest.raises(UserError, match='no validation split can be made'):
        search.search(tiny, WIDTHS, tmp_path / 'search')


def test_names_tell_fields_apart() -> None:
    fields = {'model.name': 'cnn', 'optimizer.name': 'sgd', 'augment.jpeg': (30, 90), 'optimizer.clip_norm': 0.5}
    assert search.candidate_name(fields, search.report.titles(fields)) == (
        'model.name=cnn,optimizer.name=sgd,jpeg=_30_90_,clip_norm=0.5'
    )
    assert search.candidate_name({}, {}) == 'unchanged'


def test_numbers_on_an_axis_are_short() -> None:
    assert [report._short(value) for value in (0.001, 0.5, 20, 5e3, 5e5, 2e6)] == [
        '0.001',
        '0.5',
        '20',
        '5k',
        '500k',
        '2M',
    ]


def test_cifake_search_is_the_grid_of_the_paper() -> None:
    recipe = runpy.run_path(str(ROOT / 'configs/cifake_search.py'))
    stages = list(recipe['get_search']())
    config = recipe['get_config']()
    search.check_stages(config, stages)
    best = {'model.layers': 2, 'model.filters': 32}
    candidates = [*stages[0], *({**best, **fields} for fields in stages[1])]
    networks = [create_model(search.with_fields(config, fields)) for fields in candidates]
    topologies = {(m.layers, m.filters, m.dense_layers, m.dense * (m.dense_layers > 0)) for m in networks}
    convolutional = {(n, filters, 0, 0) for n in (1, 2, 3) for filters in (16, 32, 64, 128)}
    dense = {(2, 32, n, 2**power) for n in (1, 2, 3) for power in range(5, 13)}
    assert topologies == convolutional | dense
    assert len(topologies) == len(candidates) == 36
    titles = search.report.titles(field for fields in candidates for field in fields)
    names = [search.candidate_name(fields, titles) for fields in candidates]
    assert len(set(names)) == 36
    assert {'layers=1,filters=16', 'layers=2,filters=32,dense_layers=3,dense=4096'} <= set(names)


@pytest.mark.slow
def test_search_verb_after_kill_9(verb: Verb, tiny: Config, tmp_path: pathlib.Path) -> None:
    """The whole command: killed inside its second candidate, started again, with what to do next."""
    work = tmp_path / 'work'
    (work / 'recipe.py').write_text(RECIPE)
    tiny.checkpoint_every_steps = 1
    flags = [flag for flag in flags_of(tiny) if not flag.startswith('--config.model.filters')]
    arguments = ['--config', 'recipe.py', *flags]
    killed = subprocess.Popen(
        verb_command('search', *arguments), cwd=work, env=verb_environment(), stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    lines = iter(killed.stdout.readline, '')
    assert any('candidate 2 of 2: filters=4' in line for line in lines)
    assert any('step 2/' in line for line in lines)
    killed.kill()
    killed.wait()
    killed.stdout.close()
    done = verb('search', *arguments)
    assert done.returncode == 0, done.stderr
    assert 'candidate 1 of 2: filters=2, done before' in done.stdout
    assert 'candidate 2 of 2: filters=4' in done.stdout
    assert re.search(r'^[12] +4 .* -$', done.stdout, re.MULTILINE), 'the time of a killed candidate is not known'
    best = table(work / 'runs/recipe-faces')[0]['name']
    *_, evaluate, longer = done.stdout.splitlines()
    assert evaluate == (f'best: {best}; next: fakeimg evaluate --workdir runs/recipe-faces/{best} --split test')
    assert longer.startswith('or train it 2 times as long: fakeimg train --config recipe.py --config.')
    assert longer.endswith(f' --config.model.{best} --workdir runs/recipe-faces_best')
    assert ' --config.steps=12 ' in longer and ' --config.steps=6 ' not in longer


@pytest.mark.parametrize(
    ('recipe', 'flags', 'sentence'),
    [
        ('configs/cnn.py', [], 'configs/cnn.py has no get_search(), which names the candidates'),
        ('configs/cifake_search.py', ['--config.model.dense=3'], '--config.model.dense is what the search tries'),
    ],
)
def test_mistakes_with_search(verb: Verb, tmp_path: pathlib.Path, recipe: str, flags: list[str], sentence: str) -> None:
    refused = verb('search', '--config', recipe, *flags)
    assert refused.returncode == 2
    assert refused.stderr.startswith('fakeimg: ') and sentence in refused.stderr
    assert refused.stderr.count('\n') == 1
    assert not (tmp_path / 'work/runs').exists()

"""What the command line makes of flags that it does not have, and of fields that do nothing."""

import pathlib
import re
import shlex
import struct

import pytest
from absl import flags

from fakeimg.cli import hints, recipe
from fakeimg.config import default_config
from fakeimg.training import loop
from tests.support.verbs import Command, Verb, assert_refused, train_flags


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['train', '--batch_size=3'], 'unknown command line flag --batch_size; did you mean --config.batch_size?'),
        (['train', '--lr=1'], 'did you mean --config.optimizer.base_learning_rate?'),
        (['train', '--data-path', '/absent', '--config', 'cnn'], 'data path /absent does not exist'),
        (['audit', '--data_path=/absent'], 'data path /absent does not exist'),
        (['audit', '--wokers=3'], 'did you mean --workers?'),
        (['prepare', '--qqq'], 'unknown command line flag --qqq; the verb lists its flags with --help.'),
    ],
)
def test_flags_that_are_not_there(command: Command, arguments: list[str], sentence: str) -> None:
    assert_refused(command(*arguments), sentence)


@pytest.mark.parametrize(
    ('given', 'settings', 'expected'),
    [
        (['--workdir', 'a b', '--x=1'], [('workdir', 'a b-2')], ['--x=1', '--workdir=a b-2']),
        (['--workdir=a', '--workdir=b'], [('workdir', 'c')], ['--workdir=c']),
        (['--workdir', 'a'], [('changes', '')], ['--workdir', 'a', '--changes']),
        (['--changes', '--workdir', 'a'], [('changes', '')], ['--workdir', 'a', '--changes']),
        (['--label=a=real', 'DIR'], [('label', 'b=fake')], ['--label=a=real', 'DIR', '--label=b=fake']),
        (['--config.batch_size', '8'], [('config.batch_size', '16')], ['--config.batch_size=16']),
    ],
)
def test_commands_with_settings_more(
    given: list[str], settings: list[tuple[str, str]], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = flags.FlagValues()
    flags.DEFINE_string('workdir', None, '', flag_values=known)
    flags.DEFINE_bool('changes', False, '', flag_values=known)
    flags.DEFINE_multi_string('label', [], '', flag_values=known)
    flags.DEFINE_integer('config.batch_size', 1, '', flag_values=known)
    monkeypatch.setattr(hints.flags, 'FLAGS', known)
    assert hints.with_settings(given, settings) == expected


@pytest.mark.slow
def test_another_run_is_refused_with_commands_that_work(verb: Verb, config, tmp_path: pathlib.Path) -> None:
    config.steps = 2
    loop.train(config, tmp_path / 'work/a run')
    refused = verb('train', *train_flags(config), '--workdir', 'a run', '--config.steps=3', '--config.seed=1')
    assert_refused(refused, 'this run folder holds another run (seed: 0 -> 1)')
    commands = re.search(r'\(for example: (fakeimg train .*) or: (fakeimg train .*) \)\.', refused.stderr)
    assert commands, refused.stderr
    for text in commands.groups():
        name, *arguments = shlex.split(text)[1:]
        done = verb(name, *arguments)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / 'work/a run-2/checkpoints/3').is_dir() and (tmp_path / 'work/a run/checkpoints/3').is_dir()


def test_help_has_no_leftovers(command: Command) -> None:
    text = command('prepare', '--help').stdout
    assert 'repeatable.\n' in text and '.;' not in text and '[' not in text.split('--label', 1)[1].split('\n')[0]


def test_a_field_has_no_effect_where_another_or_the_verb_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {'optimizer.momentum': 0.5, 'optimizer.adamw_learning_rate': 0.1, 'augment.jpeg': (30, 40)}
    given |= {'epochs': 3.0, 'batch_size': 8}
    monkeypatch.setattr(recipe, 'overrides', lambda: given)
    config = default_config()
    assert recipe.without_effect(config) == [
        'config.optimizer.momentum has no effect, because config.optimizer.name is adamw',
        'config.optimizer.adamw_learning_rate has no effect, because config.optimizer.name is adamw',
        'config.augment.jpeg has no effect, because config.augment.degradation_probability is 0',
    ]
    assert len(recipe.without_effect(config, {'augment.degradation_probability', 'model.name'})) == 2
    assert recipe.without_effect(config, {'augment.degradation_probability', 'optimizer.name'}) == []
    config.optimizer.name, config.augment.degradation_probability, config.steps = 'muon', 0.1, 3
    assert recipe.without_effect(config) == ['config.epochs has no effect, because config.steps=3 is given']
    assert recipe.without_effect(config, trains=False) == [
        f'config.{field} has no effect, because nothing is trained' for field in given if field != 'batch_size'
    ]


@pytest.mark.slow
@pytest.mark.parametrize('verb', ['benchmark', 'probe', 'search'])
def test_every_verb_with_fields_says_which_do_nothing(command: Command, verb: str) -> None:
    name = 'cifake_search' if verb == 'search' else 'cnn'
    fields = ('--config.data.path=/absent', '--config.data.demo_examples=80')
    done = command(verb, '--config', name, *fields)
    assert '!! config.data.demo_examples has no effect, because the images are not the demo faces.' in done.stdout
    assert done.returncode == 2 and 'data path /absent does not exist' in done.stderr


@pytest.mark.slow
def test_fields_that_do_nothing_are_said_and_figures_are_drawn(verb: Verb, config, tmp_path: pathlib.Path) -> None:
    config.steps = 4
    flags = ('--config.epochs=3', '--config.optimizer.momentum=0.5', '--config.augment.jpeg=(30,40)')
    done = verb('train', *train_flags(config), *flags, '--workdir', 'a run')
    assert done.returncode == 0, done.stderr
    for field in ('epochs', 'optimizer.momentum', 'augment.jpeg'):
        assert f'!! config.{field} has no effect, because ' in done.stdout
    assert "next: fakeimg evaluate --workdir 'a run' --split" in done.stdout
    assert verb('evaluate', '--workdir', 'a run').returncode == 0
    for name in ('figures/curves.png', 'evaluations/test/figures/roc_curve.png'):
        data = (tmp_path / 'work/a run' / name).read_bytes()
        assert data[:4] == b'\x89PNG' and min(struct.unpack('>II', data[16:24])) > 300

"""What the command line makes of flags that it does not have, and of fields that do nothing."""

import pathlib
import struct

import pytest

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


def test_help_has_no_leftovers(command: Command) -> None:
    text = command('prepare', '--help').stdout
    assert 'repeatable.\n' in text and '.;' not in text and '[' not in text.split('--label', 1)[1].split('\n')[0]


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
    for name in ('figures/curves.png', 'evaluations/test/figures.png'):
        data = (tmp_path / 'work/a run' / name).read_bytes()
        assert data[:4] == b'\x89PNG' and min(struct.unpack('>II', data[16:24])) > 300

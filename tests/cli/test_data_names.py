"""What `--label` and `--columns` say about data, alone and beside what a run recorded."""

import pathlib
import re
import shlex

import pytest

from tests.support.files import write_tree
from tests.support.verbs import Command, assert_refused


@pytest.mark.parametrize('verb', ['audit', 'prepare'])
def test_the_command_of_a_refusal_can_be_copied(command: Command, tmp_path: pathlib.Path, verb: str) -> None:
    names = [f'{known}/{index}.jpg' for known in ('untouched ones', 'edited') for index in range(3)]
    path = write_tree(tmp_path / 'a set', dict.fromkeys(names, b'no image'))
    flags = ['--out', str(tmp_path / 'out')]
    refused = command(verb, path, *flags)
    assert_refused(refused, 'the classes of')
    line = re.search(rf'fakeimg {verb} .*(?= \)\.)', refused.stderr)
    assert line is not None, refused.stderr
    proposed = shlex.split(line[0])
    assert {'--label=edited=real', '--label=untouched ones=fake', *flags} <= set(proposed)
    assert 'the classes of' not in command(*proposed[1:]).stderr


@pytest.mark.slow
@pytest.mark.parametrize('verb', ['train', 'evaluate', 'compare'])
def test_verbs_that_read_data_take_the_flags(command: Command, verb: str) -> None:
    text = command(verb, '--help').stdout
    assert '--label' in text and '--columns' in text


@pytest.mark.parametrize(('flag', 'sentence'), [('--label=edited', 'label is'), ('--columns=x', 'columns is')])
def test_flags_that_say_nothing_are_refused(command: Command, tmp_path: pathlib.Path, flag: str, sentence: str) -> None:
    assert_refused(command('audit', str(tmp_path), flag), sentence)

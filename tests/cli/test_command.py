"""The command itself: its verbs, their help, recipes by name, and how fast it answers."""

import ast
import pathlib
import resource
import statistics
import subprocess
import sys

import pytest

import fakeimg
from fakeimg.cli import VERBS, recipe
from tests.support.verbs import ROOT, Command, assert_refused


def flags_defined_in(verb: str) -> list[str]:
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / f'fakeimg/cli/{verb}.py').read_text()))
        if isinstance(node, ast.Call)
    ]
    return [
        str(call.args[0].value)
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr.startswith('DEFINE_')
        if isinstance(call.args[0], ast.Constant)
    ]


@pytest.mark.parametrize('arguments', [(), ('--help',), ('-h',), ('help',)])
def test_help_lists_the_verbs_with_a_line_each(command: Command, arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, '')
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert [line for line in lines if line and line[0] in VERBS] == [list(verb) for verb in VERBS.items()]


def test_version(command: Command) -> None:
    done = command('--version')
    assert (done.returncode, done.stdout, done.stderr) == (0, f'fakeimg {fakeimg.__version__}\n', '')


@pytest.mark.parametrize(
    ('verb', 'sentence'),
    [
        ('trian', "there is no verb 'trian'; did you mean train?"),
        ('evalaute', "there is no verb 'evalaute'; did you mean evaluate?"),
        ('xyz', "there is no verb 'xyz'; it must be one of train, evaluate, "),
        ('--workdir=run', "there is no verb '--workdir=run'; it must be one of train, "),
    ],
)
def test_unknown_verb(command: Command, verb: str, sentence: str) -> None:
    assert_refused(command(verb, '--help'), sentence)


@pytest.mark.parametrize('verb', VERBS)
def test_help_of_a_verb_lists_its_flags(command: Command, verb: str) -> None:
    done = command(verb, '--help')
    assert (done.returncode, done.stderr) == (0, '')
    assert f'fakeimg {verb}' in done.stdout
    named = flags_defined_in(verb)
    assert named
    assert [flag for flag in named if f'--{flag}' not in done.stdout] == []
    if 'define_config' in (ROOT / f'fakeimg/cli/{verb}.py').read_text():
        assert '--config.' in done.stdout
        assert [name for name in recipe.names() if name not in done.stdout] == []


@pytest.mark.parametrize('name', ['cnn', 'cnn.py', 'configs/cnn.py', str(ROOT / 'configs/cnn.py')])
def test_a_recipe_goes_by_its_name_or_its_path(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for given in (['--config', name], [f'--config={name}']):
        (path,) = [word.removeprefix('--config=') for word in recipe.resolve_names(given) if word != '--config']
        assert path == str(ROOT / 'configs/cnn.py')


def test_the_name_of_a_recipe_is_enough_in_any_folder(command: Command) -> None:
    assert_refused(command('train', '--config', 'cnn', '--config.batch_size=0'), 'config.batch_size')
    assert_refused(
        command('train', '--config', 'cnm'),
        f"there is no recipe 'cnm'; did you mean cnn? All are {', '.join(recipe.names())}, or the path of a file.",
    )
    assert_refused(command('train'), f'no recipe given; add --config NAME, one of {", ".join(recipe.names())}')


def cpu_seconds(*arguments: str) -> float:
    """Median of five processes; processor time, since other tests run beside this one."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times)


def test_help_and_import_are_immediate() -> None:
    # Targets are 0.4 s and 0.1 s; twice that leaves room for slow machines.
    assert cpu_seconds('-m', 'fakeimg', '--help') < 0.8
    assert cpu_seconds('-c', 'import fakeimg') - cpu_seconds('-c', 'pass') < 0.2

"""Rules of the package that no other test would notice."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.verbs import ROOT

PACKAGE = ROOT / 'fakeimg'
MODULES = sorted(PACKAGE.rglob('*.py'))
FLAG = re.compile(r'(?<![\w-])--(?!xla_)\w')  # flags of XLA travel in the environment
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def messages(tree: ast.Module) -> Iterator[ast.Constant]:
    """String literals, the parts of f-strings among them, without docstrings and lists of arguments of a command."""
    docstrings = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, DOCUMENTED)
                  if node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    arguments = {id(part) for node in ast.walk(tree) if isinstance(node, ast.List) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | arguments:
            yield node


def test_only_the_command_line_names_flags() -> None:
    named = [
        f'{path.relative_to(ROOT)}:{node.lineno}: {node.value!r}'
        for path in MODULES
        if PACKAGE / 'cli' not in path.parents
        for node in messages(ast.parse(path.read_text()))
        if FLAG.search(str(node.value))
    ]
    assert named == []


def test_flags_are_seen_in_f_strings_and_not_in_docstrings() -> None:
    tree = ast.parse('def f(x):\n    """--doc"""\n    return f"say --{x} or --word", "a -- b"')
    assert [node.value for node in messages(tree) if FLAG.search(str(node.value))] == [' or --word']


def test_no_module_is_longer_than_300_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_the_noun_is_image() -> None:
    other = re.compile(r'(?i)picture')
    lines = [
        f'{path.relative_to(ROOT)}:{number}: {line.strip()}'
        for path in MODULES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if other.search(line.replace('bad_pictures', ''))
    ]
    assert lines == []


# Prints the first module that brings jax; each is imported after the ones before it.
IMPORTS = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if 'jax' in sys.modules:
        sys.exit(f'{name} imports jax')
"""


# Grain imports jax itself.
DATA = [
    f'fakeimg.data.{path.stem}'
    for path in (PACKAGE / 'data').glob('*.py')
    if not re.search('^import grain', path.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize('names', [['fakeimg', *DATA, 'fakeimg.cli.audit'], ['fakeimg.cli.prepare']])
def test_data_and_the_verbs_that_need_no_device_import_no_jax(names: list[str]) -> None:
    assert len(DATA) > 10
    done = subprocess.run([sys.executable, '-c', IMPORTS, *names], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, '')

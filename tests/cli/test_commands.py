"""Commands that fakeimg prints are whole: the real parser of their verb takes them, with what was typed before."""

import json
import pathlib
import shlex
import subprocess
import sys

import numpy as np
import pytest

from fakeimg.auditing import checks, copies, shortcuts
from fakeimg.auditing.facts import FACTS
from fakeimg.auditing.finding import LEAVE_OUT_COPIES, Command, Evidence, Finding
from fakeimg.auditing.measure import MeasuredImages
from fakeimg.auditing.separability import LEAST_PER_CLASS, Separability
from fakeimg.cli.commands import Images, spell
from tests.support.verbs import verb_environment

# Parses each command line, given as JSON, with the flags of its verb; prints what it says about the images.
PARSE = """
import importlib, json, os, sys
from absl import flags
from fakeimg.cli import hints, recipe
lines = json.loads(sys.stdin.read())
module = importlib.import_module('fakeimg.cli.' + lines[0][1])
for line in lines:
    if child := os.fork():  # flags are parsed once in a process
        assert os.waitpid(child, 0)[1] == 0
        continue
    sys.argv = argv = [line[1], *recipe.resolve_names(hints.with_data_path(module, line[2:]))]
    rest = flags.FLAGS(argv)[1:]
    path = flags.FLAGS['config'].value.data.path if 'config' in flags.FLAGS else rest.pop()
    assert not rest, line
    out = flags.FLAGS['out'].value if line[1] == 'prepare' else ''
    print(json.dumps([path, flags.FLAGS['label'].value, flags.FLAGS['columns'].value, out]), flush=True)
    os._exit(0)
"""
PATH = "data of Ann's/faces & more"
READ_WITH = [('label', "o'clock=real"), ('label', 'edited $x=fake'), ('columns', 'path=photo,label=verdict'),
             ('validation_fraction', '0.2')]  # fmt: skip


def evidence(splits: tuple[str, ...] = ('train', 'test'), count: int = 64, **others) -> Evidence:
    """Images, each of its own, half of them fake, with room for faults."""
    rng = np.random.default_rng(0)
    facts = np.zeros(count * len(splits), FACTS)
    for row, fact in enumerate(facts):
        fact['bytes_hash'] = fact['pixels_hash'] = f'{row}'.encode()
        fact['phash'] = rng.integers(0, 2**64, dtype=np.uint64)
    for name in ('mean', 'std', 'thumbnail', 'sharpness', 'saturation', 'spectrum'):
        facts[name] = rng.uniform(20, 200, facts[name].shape)
    facts['width'] = facts['height'] = 96
    rows = np.arange(len(facts))
    images = MeasuredImages(splits, (rows // count).astype(np.int32), [f'{row}.jpg' for row in rows], facts)
    labels = (rows % 2).astype(np.int32)
    return Evidence(images, labels, ['set'] * len(rows), others.pop('groups', [''] * len(rows)), **others)


def all_findings() -> list[Finding]:
    """Every finding that the checks can make, from sets with all kinds of faults."""
    broken = evidence(groups=[f'video {row % 20}' for row in range(128)], left_out={'.txt': 3})
    facts = broken.images.facts
    facts['problem'][:4] = b'truncated'
    facts['misnamed'][5] = True
    facts['mean'][10:13] = 2
    for one, other in ((20, 22), (24, 100), (26, 27)):  # in a split, across splits, with both labels
        facts['pixels_hash'][other] = facts['pixels_hash'][one]
    for one, other in ((30, 32), (34, 110), (36, 37)):
        facts['phash'][other], facts['thumbnail'][other] = facts['phash'][one], facts['thumbnail'][one]
    facts['jfif'] = broken.labels == 1
    facts['saturation'][64:] += 900
    heic = evidence(('train',), 4, left_out={'HEIC (it needs the extra heif)': 4})
    few, alone = evidence(count=20), evidence(('train',), 20)
    one_class, rare, mixed = evidence(), evidence(), evidence()
    one_class.labels[64:] = 0
    rare.labels[:] = np.arange(128) % 10 == 0
    mixed.labels[64:] = np.arange(64) % 3 == 0
    made = evidence(made=frozenset(['test', 'train']))
    made.images.facts['pixels_hash'][100] = made.images.facts['pixels_hash'][10]
    alike = np.arange(128)
    return [
        *checks.run_checks(broken),
        *checks.check_left_out(heic),
        *checks.check_shortcuts(few, alike[:40]),
        *checks.check_shift(few, alike[:40]),
        *checks.check_shift(alone, alike[:20]),
        *(finding for own in (one_class, rare, mixed) for finding in checks.check_classes(own)),
        *checks.check_copies(made, copies.find_exact(made.images.facts)),
    ]


@pytest.fixture(scope='module')
def findings() -> list[Finding]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortcuts, '_separate', told_apart)
        return all_findings()


def told_apart(rows: np.ndarray, labels: np.ndarray, clusters: np.ndarray, names: list[str]) -> Separability | None:
    """In place of models, whose training takes seconds."""
    enough = np.bincount(labels).min() >= LEAST_PER_CLASS
    return Separability(0.9, [(names[0], 0.9)], len(rows)) if enough else None


def test_every_finding_has_its_reason_and_what_to_type(findings: list[Finding]) -> None:
    assert {finding.name for finding in findings if finding.level != 'ok'} >= {
        'broken', 'misnamed', 'left out', 'nearly black', 'classes', 'copies across splits', 'copies with both labels',
        'copies within splits', 'near copies across splits', 'near copies with both labels',
        'near copies within splits', 'groups', 'shortcuts', 'file names', 'pixel statistics', 'shift', 'shift of test',
    }  # fmt: skip
    for finding in findings:
        if finding.level != 'ok':
            assert finding.advice, finding
            assert finding.commands or finding.advice.startswith('nothing to do'), finding
        else:
            assert not finding.commands


def commands_of(findings: list[Finding]) -> list[Command]:
    return sorted({command for finding in findings for command in finding.commands})


@pytest.mark.slow  # starts three verbs
def test_the_real_parsers_take_every_printed_command(findings: list[Finding], tmp_path: pathlib.Path) -> None:
    commands = commands_of(findings)
    assert {command.verb for command in commands} == {'audit', 'prepare', 'train'}
    for verb in ('audit', 'prepare', 'train'):
        own = [shlex.split(spell(command, Images(PATH, READ_WITH))) for command in commands if command.verb == verb]
        done = subprocess.run(
            [sys.executable, '-c', PARSE],
            input=json.dumps(own),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=verb_environment(),
        )
        assert done.returncode == 0, done.stderr
        parsed = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(parsed) == len(own)
        for path, labels, columns, out in parsed:
            assert path == PATH
            assert labels == ["o'clock=real", 'edited $x=fake']
            assert columns == ['path=photo', 'label=verdict']
            assert out == ('data/faces & more' if verb == 'prepare' else '')


def test_a_prepared_set_is_prepared_again_from_its_images_as_before(tmp_path: pathlib.Path) -> None:
    made = Images(str(tmp_path), [], '/photos/set a', [('to_size', '64'), ('label', 'x=real'), ('dedupe', 'True')])
    assert shlex.split(spell(LEAVE_OUT_COPIES, made)) == [
        'fakeimg', 'prepare', '/photos/set a', f'--out={tmp_path}-2', '--to_size=64', '--label=x=real', '--dedupe',
    ]  # fmt: skip

"""Preparing that is stopped in every way there is, and what it gives when it goes on."""

import csv
import io
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator

import numpy as np
import PIL.Image
import PIL.ImageFile
import PIL.JpegImagePlugin
import pytest

from fakeimg import files
from fakeimg.data import decode, records
from fakeimg.data.datasets import open_path
from fakeimg.data.splits import hash_order
from fakeimg.errors import UserError
from fakeimg.preparing import build as build_lib
from fakeimg.preparing import prepare as prepare_lib
from fakeimg.preparing.items import Encoding
from fakeimg.preparing.plan import make_plan
from fakeimg.runtime import pool
from tests.support.files import INVALID, write_form, write_tree, write_zip
from tests.support.sets import COUNTS, Sets, contents, image, options_of, prepare, tfds_rows, tree_of_images
from tests.support.verbs import verb_environment

# `python -m fakeimg.prepare`, but with shards small enough that a killed run leaves some behind.
DRIVER = """
from fakeimg.preparing import plan
plan.SHARD_ITEMS = (40, 40)
from fakeimg import cli
make_plan = plan.make_plan
def make(*arguments):
    made = make_plan(*arguments)
    print('ready', flush=True)
    return made
plan.make_plan = make
cli.main('prepare')
"""
LIMITED = 'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n'
KILLS = 10


class Killed(BaseException):
    """Stands for SIGKILL: nothing may handle it."""


def start(driver: str, *arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, '-c', driver, *map(str, arguments)],
        env=verb_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == 'ready\n'
    return process


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def living(group: int) -> list[int]:
    """Processes of a group that are not zombies."""
    found = []
    for pid in filter(str.isdecimal, os.listdir('/proc')):
        try:
            state, _, own = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(') ')[2].split()[:3]
        except OSError:
            continue
        if int(own) == group and state != 'Z':
            found.append(int(pid))
    return found


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Waits until workers are there, and returns their process ids."""
    for _ in range(500):
        children = pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
        commands = {pid: pathlib.Path(f'/proc/{pid}/cmdline').read_bytes() for pid in children}
        if found := [int(pid) for pid, command in commands.items() if b'spawn_main' in command]:
            return found
        time.sleep(0.01)
    raise AssertionError('no worker was ever started')


def assert_nothing_lives(group: int) -> None:
    for _ in range(100):
        if not living(group):
            return
        time.sleep(0.05)
    raise AssertionError(f'processes {living(group)} outlive the main one')


@pytest.fixture
def many(many_once: pathlib.Path) -> list[object]:
    """Arguments that take seconds: 1,600 images, enlarged."""
    return [many_once, '--to_size=72', '--encode=jpeg:90', '--workers=2']


@pytest.fixture(scope='module')
def many_once(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    tree = {f'{("train", "test")[i % 3 == 0]}/{("real", "fake")[i % 2]}/{i}.jpg': image(i) for i in range(1600)}
    tree['train/real/broken.jpg'] = b'broken'
    return pathlib.Path(write_zip(tmp_path_factory.mktemp('many') / 'many.zip', tree))


def final_shards(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    return {path.name: path for path in folder.glob('*array_record-*-of-?????')}


@pytest.mark.slow
def test_a_run_killed_again_and_again_gives_the_same_set(many: list[object], tmp_path: pathlib.Path) -> None:
    code, _, err = finish(start(DRIVER, *many, '--out', tmp_path / 'whole'))
    assert (code, err) == (0, '')
    expected = contents(tmp_path / 'whole')
    assert len(final_shards(tmp_path / 'whole')) == 41
    rng = random.Random(0)
    made, left_shards, kills = 0, 0, 0
    kept: dict[str, int] = {}
    groups: list[int] = []
    while kills < KILLS:
        out, partial = tmp_path / f'out{made}', tmp_path / f'out{made}.partial'
        process = start(DRIVER, *many, '--out', out)
        wanted = len(final_shards(partial)) + rng.randint(0, 20)
        while process.poll() is None and len(final_shards(partial)) < min(wanted, 41):
            time.sleep(0.005)
        try:
            process.wait(rng.uniform(0, 0.3))  # into the next shards, or the manifest and the metadata
        except subprocess.TimeoutExpired:
            if kills % 2:
                os.killpg(process.pid, signal.SIGKILL)  # at once, as when the power goes
            else:
                process.kill()  # the main one alone; its workers are orphans while the next run starts
            kills += 1
        code, _, err = finish(process)
        assert code == -signal.SIGKILL or (code, err) == (0, '')
        assert out.exists() or code  # it may be killed when all is done
        groups.append(process.pid)
        shards = final_shards(out if out.exists() else partial)
        for name, path in shards.items():
            assert path.read_bytes() == expected[name], 'half a shard under its final name'
        inodes = {name: path.stat().st_ino for name, path in shards.items()}
        assert {name: inodes.get(name) for name in kept} == kept, 'a finished shard was written again'
        # An orphan may yet put its own shard, of the same bytes, in the place of the next run's.
        kept = inodes if kills % 2 == 0 else {}
        left_shards = max(left_shards, len(shards) if not out.exists() else 0)
        if out.exists():
            made, kept = made + 1, {}
    assert left_shards > 4  # or nothing was ever continued
    code, _, err = finish(start(DRIVER, *many, '--out', tmp_path / f'out{made}'))
    assert (code, err) == (0, '')
    for number in range(made + 1):
        assert contents(tmp_path / f'out{number}') == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f'out{i}' for i in range(made + 1)), 'whole']
    for group in groups:
        assert_nothing_lives(group)  # no orphan of a main process that was killed alone


def test_what_an_orphan_takes_away_meanwhile_is_not_missed(
    sets: Sets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, 'run_tasks', run_here)
    iterdir = pathlib.Path.iterdir

    def with_vanished(folder: pathlib.Path) -> Iterator[pathlib.Path]:
        yield from iterdir(folder)
        if folder.name == 'out.partial' and (folder / '.plan').exists():
            yield folder / 'fakeimg-train.array_record-00000-of-00004.123.partial'

    monkeypatch.setattr(pathlib.Path, 'iterdir', with_vanished)
    prepare(sets.folder, tmp_path / 'out')
    assert contents(tmp_path / 'out') == contents(sets.prepared)


def run_here(function, tasks, **_others) -> Iterator:
    """pool.run_tasks without processes."""
    yield from map(function, tasks)


def test_a_run_stopped_at_any_step_goes_on(sets: Sets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = contents(sets.prepared)
    monkeypatch.setattr(pool, 'run_tasks', run_here)
    steps, write_text = 0, pathlib.Path.write_text
    for module, name in (
        (os, 'replace'), (os, 'rename'), (pathlib.Path, 'unlink'), (pathlib.Path, 'write_text'), (os, 'fsync'),
        (records, 'write_metadata'), (records, 'file_digest'), (build_lib, 'clean'),
    ):  # fmt: skip
        original = getattr(module, name)
        for after in (False, True):
            out = tmp_path / f'{name}{after}'
            for last in range(100):
                calls = 0

                def killed(*arguments, after=after, last=last, original=original, **named):
                    nonlocal calls
                    calls += 1
                    if calls == last + 1 and not after:
                        if original is write_text:
                            write_text(arguments[0], arguments[1][:9])  # half of it
                        raise Killed
                    result = original(*arguments, **named)
                    if calls == last + 1:
                        raise Killed
                    return result

                with monkeypatch.context() as patch:
                    patch.setattr(module, name, killed)
                    try:
                        prepare(sets.folder, out)
                        break
                    except Killed:
                        steps += 1
                        if out.exists():  # the last step of all
                            assert contents(out) == expected
                            shutil.rmtree(out)
                            break
                        prepare_again = last % 7 == 6  # now and then to the end, so that early steps are met anew
                if prepare_again:
                    prepare(sets.folder, out)
                    assert contents(out) == expected
                    shutil.rmtree(out)
            if out.exists():
                assert contents(out) == expected
            assert not out.with_name(f'{out.name}.partial').exists()
    assert steps > 40


def test_the_number_of_workers_does_not_show(sets: Sets, tmp_path: pathlib.Path) -> None:
    prepare(sets.folder, tmp_path / 'three', workers=3)
    assert contents(tmp_path / 'three') == contents(sets.prepared)
    names = {pathlib.Path(name).name for name in contents(sets.prepared)}
    assert names == {
        'manifest.csv', 'prepared.json', 'dataset_info.json', 'features.json', 'label.labels.txt',
        *(f'fakeimg-train.array_record-0000{i}-of-00004' for i in range(4)),
        *(f'fakeimg-test.array_record-0000{i}-of-00003' for i in range(3)),
    } - ({'label.labels.txt'} - names)  # fmt: skip


def test_folder_archive_and_table_give_the_same_records(sets: Sets, tmp_path: pathlib.Path) -> None:
    expected = contents(sets.prepared)
    for path in sets.paths[2:4]:
        prepare(path, tmp_path / path.suffix)
        assert contents(tmp_path / path.suffix) == expected
    prepare(sets.folder / 'list.jsonl', tmp_path / 'table')
    for name in final_shards(sets.prepared):
        assert (tmp_path / 'table' / name).stat().st_size == len(expected[name])


@pytest.mark.parametrize(
    'share', [0.3, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.0, 0.15, 0.5, 0.7))]
)
def test_ctrl_c_ends_everything_soon(many: list[object], tmp_path: pathlib.Path, share: float) -> None:
    process = start(DRIVER, many[0], '--to_size=300', '--workers=2', '--out', tmp_path / 'out')
    time.sleep(share)
    os.killpg(process.pid, signal.SIGINT)
    started = time.monotonic()
    code, _, err = finish(process)
    assert time.monotonic() - started < 4
    assert (code, err) == (130, 'fakeimg: interrupted.\n')
    assert_nothing_lives(process.pid)
    assert not (tmp_path / 'out').exists()


def test_a_killed_worker_is_one_sentence_and_the_rest_is_kept(many: list[object], tmp_path: pathlib.Path) -> None:
    process = start(DRIVER, *many, '--out', tmp_path / 'out')
    workers = workers_of(process)
    for _ in range(1000):  # all of them at work: Python itself prints a traceback when one dies while others start
        if final_shards(tmp_path / 'out.partial'):
            break
        time.sleep(0.01)
    os.kill(workers[0], signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 2
    assert final_shards(tmp_path / 'out.partial')
    assert err == (
        'fakeimg: a worker process was killed, by lack of memory perhaps; run it again with fewer workers.\n'
    )
    assert_nothing_lives(process.pid)


def test_a_full_disk_is_one_sentence_and_then_goes_on(sets: Sets, tmp_path: pathlib.Path) -> None:
    out = tmp_path / 'out'
    arguments = (sets.folder, '--out', out, '--workers=2')
    code, _, err = finish(start(LIMITED + DRIVER, *arguments))
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith(f'fakeimg: cannot write {out}.partial (')
    assert 'File too large' in err
    assert err.endswith(
        '; free some space or fix the permissions, then run the same command again (finished shards are kept).\n'
    )
    assert not out.exists()
    assert not final_shards(out.with_name('out.partial'))
    code, _, err = finish(start(DRIVER, *arguments))
    assert (code, err) == (0, '')
    assert not out.with_name('out.partial').exists()
    assert {name for source in open_path(str(out)).splits.values() for name in source.names} == set(tree_of_images())


def test_a_disk_full_in_the_end_keeps_the_shards(
    sets: Sets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, 'run_tasks', run_here)
    out, partial = tmp_path / 'out', tmp_path / 'out.partial'
    write_summary = build_lib.write_summary
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def write_limited(size: int, *arguments) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            write_summary(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    sizes = sorted({len(data) - 1 for name, data in contents(sets.prepared).items() if 'array_record' not in name})
    for size in (0, *sizes[:-1]):  # one file after the other does not fit
        monkeypatch.setattr(build_lib, 'write_summary', lambda *arguments, size=size: write_limited(size, *arguments))
        with pytest.raises(UserError, match=r'cannot write .*out\.partial \(File too large\); free some space'):
            prepare(sets.folder, out)
        assert len(final_shards(partial)) == 7
    monkeypatch.setattr(build_lib, 'write_summary', write_summary)
    prepare(sets.folder, out)
    assert contents(out) == contents(sets.prepared)


def test_programming_errors_are_not_called_a_full_disk(
    sets: Sets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, 'run_tasks', run_here)
    monkeypatch.setattr('fakeimg.preparing.shards.encode_example', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(sets.folder, tmp_path / 'out')


def test_two_runs_into_one_folder_are_one_too_many(sets: Sets, tmp_path: pathlib.Path) -> None:
    out, partial = tmp_path / 'out', tmp_path / 'out.partial'
    partial.mkdir()
    with files.hold(partial / '.lock', 'held'):
        with pytest.raises(UserError, match='another prepare is writing .*out; wait for it'):
            prepare(sets.folder, out)
    prepare(sets.folder, out)
    assert contents(out) == contents(sets.prepared)


def test_a_second_run_is_refused_while_the_first_one_writes(many: list[object], tmp_path: pathlib.Path) -> None:
    out = tmp_path / 'out'
    process = start(DRIVER, *many, '--out', out)
    workers_of(process)
    with pytest.raises(UserError, match='another prepare is writing .*out; wait for it'):
        prepare_lib.prepare(str(many[0]), options_of(), out)  # before it has read an image
    code, _, err = finish(process)
    assert (code, err) == (0, '')


def test_other_things_in_the_way_are_refused_and_untouched(sets: Sets, tmp_path: pathlib.Path) -> None:
    (tmp_path / 'file').write_text('mine')
    (tmp_path / 'link').symlink_to(sets.folder)
    write_tree(tmp_path / 'folder', {'mine.txt': b'mine'})
    write_tree(tmp_path / 'new.partial', {'mine.txt': b'mine'})
    (tmp_path / 'other.partial').write_text('mine')
    before = contents(tmp_path)
    for name, message in (
        ('file', 'file exists and is not a folder; choose another folder'),
        ('link', 'link exists and is not a folder; choose another folder'),
        ('folder', 'folder exists and holds something else; choose another folder'),
        ('new', r'new\.partial exists and holds something else; move it away, or choose another folder'),
        ('other', r'other\.partial cannot be written to \(.*\); choose another folder'),
        ('file/below', r'file/below\.partial cannot be written to \(Not a directory\); choose another folder'),
    ):
        with pytest.raises(UserError, match=message):
            prepare(sets.folder, tmp_path / name)
    (tmp_path / 'new.partial/.lock').unlink(missing_ok=True)
    assert contents(tmp_path) == before


def test_an_empty_folder_and_the_current_one_are_filled(
    sets: Sets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('empty', 'here'):
        (tmp_path / name).mkdir()
    prepare(sets.folder, tmp_path / 'empty')
    monkeypatch.chdir(tmp_path / 'here')
    prepare(sets.folder, pathlib.Path('.'))
    for name in ('empty', 'here'):
        assert contents(tmp_path / name) == contents(sets.prepared)


def test_the_same_set_again_is_found_whole(sets: Sets, tmp_path: pathlib.Path) -> None:
    out = pathlib.Path(shutil.copytree(sets.prepared, tmp_path / 'out'))
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert prepare(sets.folder, out) == json.loads((sets.prepared / records.SUMMARY).read_text())
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    for options in (options_of(limit=5), options_of(Encoding(0, 90)), options_of(validation_fraction=0.1)):
        with pytest.raises(UserError, match='out holds a set prepared from other images or options'):
            prepare(sets.folder, out, options)
    assert [path.name for path in tmp_path.iterdir()] == ['out']


def test_other_options_do_not_go_on_with_an_unfinished_set(
    sets: Sets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_) -> None:
        raise Killed

    monkeypatch.setattr(pool, 'run_tasks', run_here)
    out, partial = tmp_path / 'out', tmp_path / 'out.partial'
    for module, name in ((records, 'write_metadata'), (build_lib, 'clean')):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, killed)
            with pytest.raises(Killed):
                prepare(sets.folder, out)
        before = contents(partial)
        with pytest.raises(UserError, match='holds an unfinished set of other images or options; finish it with its'):
            prepare(sets.folder, out, options_of(limit=5))
        assert contents(partial) == before
    prepare(sets.folder, out)
    assert contents(out) == contents(sets.prepared)


def bomb(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that claims to be huge."""
    chunks = b''
    for kind, data in (
        (b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)),
        (b'IDAT', zlib.compress(bytes(1000))),
        (b'IEND', b''),
    ):
        chunks += struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + chunks


BAD = {
    'real/empty.jpg': b'',
    'real/text.jpg': b'not an image',
    'fake/bomb.png': bomb(60_000, 60_000),
    'fake/return\r, "q".png': b'\x89PNG\r\n\x1a\n',
    INVALID.removeprefix('train/'): b'x',
}


@pytest.mark.parametrize('form', ['folder', 'gnu.tar'])
@pytest.mark.parametrize('quality', [0, 90])
def test_unreadable_images_are_listed_and_the_rest_goes_on(
    tmp_path: pathlib.Path, form: str, quality: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, 'run_tasks', run_here)
    decoded = []
    load = PIL.ImageFile.ImageFile.load
    monkeypatch.setattr(PIL.ImageFile.ImageFile, 'load', lambda own: decoded.append(own.size) or load(own))
    good = {f'{c}/{i}.jpg': image(i) for c in ('real', 'fake') for i in range(10)}
    truncated = {'fake/cut.jpg': image(0, 60, 60)[:-500]}
    path = write_form(form, tmp_path, {**good, **BAD, **truncated})
    out = tmp_path / 'out'
    summary = prepare(path, out, options_of(Encoding(0, quality), validation_fraction=0.0))
    with open(out / build_lib.UNREADABLE, encoding='utf-8', errors='surrogateescape', newline='') as file:
        header, *rows = csv.reader(file)
    assert header == ['split', 'name', 'reason']
    # Without --encode only headers are read: an image cut short is kept as it is.
    bad = {**BAD, **(truncated if quality else {})}
    assert {name for _, name, _ in rows} == set(bad)
    assert all(split == 'train' and reason for split, _, reason in rows)
    assert next(reason for _, name, reason in rows if 'bomb' in name).count('60') > 0
    assert summary['unreadable'] == len(bad)
    assert summary['counts'] == {'train': {'real': 10, 'fake': 10 + (not quality)}}
    assert set(open_path(str(out)).splits['train'].names) == {*good, *truncated} - set(bad)
    assert (60_000, 60_000) not in decoded


def test_a_set_of_unreadable_images_is_refused_and_can_be_mended(tmp_path: pathlib.Path) -> None:
    folder = write_tree(tmp_path / 'folder', {f'{c}/{i}.jpg': b'x' for c in ('real', 'fake') for i in range(5)})
    for _ in range(2):
        with pytest.raises(UserError, match=r'none of the images can be read \(first: .*: .*\); nothing was'):
            prepare(folder, tmp_path / 'out')
        assert [path.name for path in tmp_path.iterdir()] == ['folder']
    for number, path in enumerate((tmp_path / 'folder').rglob('*.jpg')):
        path.write_bytes(image(number))
    assert sum(sum(counts.values()) for counts in prepare(folder, tmp_path / 'out')['counts'].values()) == 10


@pytest.mark.parametrize(('side', 'quality'), [(8, 90), (24, 90), (24, 0), (0, 90)])
def test_size_and_encoder_are_the_same_for_both_classes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, side: int, quality: int
) -> None:
    monkeypatch.setattr(pool, 'run_tasks', run_here)
    shapes = [(16, 16), (16, 40), (40, 17), (100, 30), (30, 300)]
    tree = {}
    for number, (height, width) in enumerate(shapes):
        tree[f'train/real/{number}.png'] = image(number, height, width, 'PNG')
        tree[f'train/fake/{number}.jpg'] = image(number, height, width)
    folder = write_tree(tmp_path / 'folder', tree)
    encode = f'jpeg:{quality}' if quality else ''
    prepare(folder, tmp_path / 'out', options_of(Encoding.parse(side, encode)))
    plain = io.BytesIO()
    PIL.Image.new('RGB', (8, 8)).save(plain, 'JPEG', quality=quality or 95)
    source = open_path(str(tmp_path / 'out')).splits['train']
    for index, name in enumerate(source.names):
        kind, width, height = decode.identify(source[index])
        before = shapes[int(pathlib.Path(name).stem)]
        scale = side / min(before) if side else 1
        assert kind == 'jpeg'
        assert (height, width) == (round(before[0] * scale), round(before[1] * scale))
        assert quantization(source[index]) == quantization(plain.getvalue())


def quantization(data: bytes) -> dict:
    with PIL.Image.open(io.BytesIO(data)) as opened:
        assert isinstance(opened, PIL.JpegImagePlugin.JpegImageFile)
        return opened.quantization


def test_limit_and_validation_fraction(sets: Sets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, 'run_tasks', run_here)
    whole = sets.open(sets.prepared).splits
    prepare(sets.folder, tmp_path / 'limit', options_of(limit=7))
    limited = open_path(str(tmp_path / 'limit')).splits
    assert {split: source.names for split, source in limited.items()} == {
        split: source.names[:7] for split, source in whole.items()
    }
    prepare(sets.folder, tmp_path / 'split', options_of(validation_fraction=0.2))
    parts = open_path(str(tmp_path / 'split')).splits
    assert list(parts) == ['train', 'validation', 'test']
    assert np.bincount(parts['validation'].labels).tolist() == [6, 6]
    by_hand = open_path(str(sets.folder), 0.2).splits
    assert {split: set(source.names) for split, source in parts.items()} == {
        split: set(source.names) for split, source in by_hand.items()
    }
    for fraction in (-0.1, 0.5, 2.0, float('nan')):
        with pytest.raises(UserError, match='^validation_fraction is .*; it must be at least 0 and below 0.5'):
            prepare(sets.folder, tmp_path / 'no', options_of(validation_fraction=fraction))


def test_images_without_splits_are_split_in_three_or_not_at_all(tmp_path: pathlib.Path) -> None:
    tree = {f'{c}/{i}.jpg': b'' for c in ('real', 'fake') for i in range(50)}
    folder = write_tree(tmp_path / 'folder', tree)
    for fraction, sizes in ((None, [82, 8, 10]), (0.2, [64, 16, 20]), (0.0, [100])):
        plan = make_plan(folder, options_of(validation_fraction=fraction))
        assert [len(items) for items in plan.splits.values()] == sizes
        names = [name for items in plan.splits.values() for name in items.names]
        assert sorted(names) == sorted(tree)


def test_a_prepared_set_is_not_prepared_again(sets: Sets, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match='is a prepared set already; prepare the original images'):
        prepare(sets.prepared, tmp_path / 'out')


def test_shards_are_neither_tiny_nor_huge(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_plan(str(sets.folder), options_of()).shard_items == 4096
    monkeypatch.setattr('fakeimg.preparing.plan.SHARD_BYTES', 60_000)
    monkeypatch.setattr('fakeimg.preparing.plan.SHARD_ITEMS', (2, 4096))
    plan = make_plan(str(sets.folder), options_of())
    assert 20 < plan.shard_items < 80
    assert plan.num_items == sum(COUNTS.values())


def test_shards_and_splits_without_a_readable_image_can_be_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, 'run_tasks', run_here)
    names = [f'train/{c}/{i}.jpg' for c in ('real', 'fake') for i in range(20)]
    names = [names[index] for index in hash_order(names)]  # the order of writing
    tree = {name: image(i) if not 16 <= i < 32 else b'x' for i, name in enumerate(names)}
    folder = write_tree(tmp_path / 'folder', {**tree, 'test/real/1.jpg': b''})
    summary = prepare(folder, tmp_path / 'out')
    assert summary['shards'] == {'train': [16, 0, 8], 'test': [0]}
    source = open_path(str(tmp_path / 'out')).splits['train']
    assert source.names == names[:16] + names[32:]
    assert [source[index] for index in range(24)] == [tree[name] for name in source.names]
    rows = tfds_rows(tmp_path / 'out', 'train')
    assert [rows[index]['image'] for index in range(24)] == [tree[name] for name in source.names]


def test_a_shard_that_lost_its_end_is_written_again(
    sets: Sets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, 'run_tasks', run_here)
    with monkeypatch.context() as patch:
        patch.setattr(build_lib, 'write_summary', lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(sets.folder, tmp_path / 'out')
    shards = sorted(final_shards(tmp_path / 'out.partial').values())
    os.truncate(shards[0], shards[0].stat().st_size // 2)  # as a power failure may leave it
    rows = pathlib.Path(f'{shards[1]}.rows')
    os.truncate(rows, rows.stat().st_size // 2)
    pathlib.Path(f'{shards[2]}.json').write_text('')
    prepare(sets.folder, tmp_path / 'out')
    assert contents(tmp_path / 'out') == contents(sets.prepared)

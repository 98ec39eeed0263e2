"""Measures preparing, reading and auditing data: python benchmarks/data.py --workdir /tmp/bench [--cifake DATASET]

Prints ratios of rates taken in turn on this machine, medians of several rounds. The images are JPEGs of smooth noise,
256 px; 4 GB are written below the work folder and left there.
"""

import collections
import hashlib
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import PIL.Image
from absl import app, flags

from fakeimg.data import datasets, decode, records
from fakeimg.data.files import Files
from fakeimg.preparing import build, plan
from fakeimg.preparing.items import Encoding
from fakeimg.runtime import pool

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder for images and prepared sets.', required=True)
_CIFAKE = flags.DEFINE_string('cifake', '', 'Folder of the unpacked CIFAKE, for images of 32 px and the audit.')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Rounds of each comparison.')
_WORKERS = flags.DEFINE_integer('workers', 0, 'Processes; 0: one a core.')
_ONLY = flags.DEFINE_string('only', '', 'One of prepare, memory, read, audit; empty: all.')

IMAGES, DISTINCT, SIDE = 40_000, 1_000, 256
MEMORY_RECORDS = (10_000, 200_000)
AUDITED = 100_000


def make_images(root: pathlib.Path, count: int, link: bool) -> pathlib.Path:
    """Writes `count` images below `root`, files of their own or hard links to a few."""
    if (root / 'done').exists():
        return root / 'set'
    encoded = []
    for seed in range(DISTINCT):
        noise = np.random.default_rng(seed).normal(128, 22, (SIDE // 4, SIDE // 4, 3)).clip(0, 255).astype(np.uint8)
        image = PIL.Image.fromarray(noise).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC)
        path = root / 'distinct' / f'{seed}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=85)
        encoded.append(path)
    for index in range(count):
        folder = root / 'set' / 'train' / ('real', 'fake')[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (os.link if link else shutil.copyfile)(encoded[index % DISTINCT], folder / f'{index:06d}.jpg')
    (root / 'done').touch()
    return root / 'set'


def read_and_hash(files: Files) -> int:
    """What preparing cannot do without, in a worker."""
    for index in range(len(files)):
        hashlib.sha256(files.read(index)).hexdigest()
        if index % 64 == 63:
            pool.tick(64)
    return len(files)


def read_hash_and_copy(task: tuple[Files, str]) -> int:
    """The same, and the bytes appended to a plain file: the best that anything which writes them again can do."""
    files, path = task
    with open(path, 'wb') as copy:
        for index in range(len(files)):
            data = files.read(index)
            hashlib.sha256(data).hexdigest()
            copy.write(data)
            if index % 64 == 63:
                pool.tick(64)
    return len(files)


def forget(folder: pathlib.Path) -> None:
    """Drops the files of a folder from the page cache."""
    os.sync()
    for path in folder.rglob('*.*'):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def workers() -> int:
    return _WORKERS.value or pool.default_workers()


def compare_prepare(folder: pathlib.Path, work: pathlib.Path, title: str) -> None:
    """Preparing against reading and hashing, from the page cache and from the disk."""
    options = plan.Options(Encoding(), 0, 0.0, 1.3, 224, 32, {'real': 0, 'fake': 1})
    made = plan.make_plan(str(folder), options)

    def parts() -> Iterator[Files]:
        for items in made.splits.values():
            for start in range(0, len(items), made.shard_items):
                yield items.files.take(range(start, min(start + made.shard_items, len(items))))

    def baseline() -> None:
        for _ in pool.run_tasks(read_and_hash, parts(), workers=workers(), total=made.num_items, title='reading'):
            pass

    def copy() -> None:
        (work / 'copies').mkdir(exist_ok=True)
        tasks = ((part, str(work / 'copies' / str(number))) for number, part in enumerate(parts()))
        for _ in pool.run_tasks(read_hash_and_copy, tasks, workers=workers(), total=made.num_items, title='copying'):
            pass

    def prepare() -> None:
        build.build(made, work / 'out', workers())

    for state, before in (('page cache', lambda: None), ('disk', lambda: forget(folder))):
        times = []
        for _ in range(_ROUNDS.value):
            row = []
            for action in (baseline, copy, prepare):
                shutil.rmtree(work / 'out', ignore_errors=True)
                shutil.rmtree(work / 'copies', ignore_errors=True)
                before()
                row.append(seconds(action))
            times.append(row)
        plain, copied, full = (made.num_items / statistics.median(column) for column in zip(*times, strict=True))
        print(f'prepare, {title}, {workers()} processes, from the {state}: '
              f'{statistics.median(row[0] / row[2] for row in times):.2f} of reading and hashing, '
              f'{statistics.median(row[1] / row[2] for row in times):.2f} of reading, hashing and copying '
              f'({full:,.0f}, {plain:,.0f}, {copied:,.0f} images/s)', flush=True)  # fmt: skip


def peak_memory(command: list[str]) -> tuple[float, float]:
    """Runs a command; returns the peak resident memory of its main process, and of a worker, in MB."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peaks: dict[int, int] = {}

    def watch() -> None:
        while process.poll() is None:
            for status in pathlib.Path('/proc').glob('[0-9]*/status'):
                try:
                    fields = dict(line.split(':', 1) for line in status.read_text().splitlines() if ':' in line)
                except OSError:
                    continue
                pid, parent = int(status.parent.name), int(fields['PPid'])
                if process.pid in (pid, parent) and 'VmHWM' in fields:
                    peaks[pid] = int(fields['VmHWM'].split()[0])
            time.sleep(0.05)

    thread = threading.Thread(target=watch)
    thread.start()
    process.wait()
    thread.join()
    others = [peak for pid, peak in peaks.items() if pid != process.pid]
    return peaks[process.pid] / 1024, max(others) / 1024


def compare_memory(work: pathlib.Path) -> None:
    peaks = []
    for count in MEMORY_RECORDS:
        folder = make_images(work / f'linked{count}', count, link=True)
        shutil.rmtree(work / 'out', ignore_errors=True)
        main, worker = peak_memory([sys.executable, '-m', 'fakeimg.prepare', str(folder), '--out', str(work / 'out')])
        print(f'prepare, {count:,} records: peak resident memory {main:,.0f} MB in the main process, '
              f'{worker:,.0f} MB in the largest worker')  # fmt: skip
        peaks.append((main, worker))
    print(f'growth: {peaks[1][0] / peaks[0][0]:.2f} x (main), {peaks[1][1] / peaks[0][1]:.2f} x (worker)')


def compare_reading(folder: pathlib.Path, work: pathlib.Path, title: str) -> None:
    """Reading records one by one against decoding them, one thread."""
    shutil.rmtree(work / 'out', ignore_errors=True)
    options = plan.Options(Encoding(), 10_000, 0.0, 1.3, 224, 32, {'real': 0, 'fake': 1})
    build.build(plan.make_plan(str(folder), options), work / 'out', workers())
    source = datasets.open_path(str(work / 'out')).splits['train']
    order = np.random.default_rng(0).permutation(len(source))
    data = [source[index] for index in order]
    times = []
    for _ in range(_ROUNDS.value):
        # Nothing is kept, as in training: fresh memory costs more than reading.
        reading = seconds(lambda: collections.deque((source[index] for index in order), 0))
        times.append((reading, seconds(lambda: collections.deque(map(decode.decode_rgb, data), 0))))
    reading, decoding = (statistics.median(column) / len(order) * 1e6 for column in zip(*times, strict=True))
    ratio = statistics.median(first / second for first, second in times)
    print(f'reading a record / decoding it, {title}: {ratio:.3f} ({reading:.1f} / {decoding:.1f} us)')


def time_audit(cifake: pathlib.Path, work: pathlib.Path) -> None:
    shutil.rmtree(work / 'cifake', ignore_errors=True)
    options = plan.Options(Encoding(), AUDITED, 0.0, 1.3, 224, 32, {'real': 0, 'fake': 1})
    made = plan.make_plan(str(cifake / 'train'), options)
    build.build(made, work / 'cifake', workers())
    records.open_prepared(str(work / 'cifake'))
    command = [sys.executable, '-m', 'fakeimg.audit', str(work / 'cifake'), '--out', str(work / 'audit'),
               f'--workers={workers()}']  # fmt: skip
    taken = seconds(lambda: subprocess.run(command, check=False, stdout=subprocess.DEVNULL))
    print(f'audit of {made.num_items:,} images of CIFAKE, {workers()} processes: {taken:.0f} s')


def main(argv: list[str]) -> None:
    del argv
    work = pathlib.Path(_WORKDIR.value)
    only, cifake = _ONLY.value, pathlib.Path(_CIFAKE.value) if _CIFAKE.value else None
    if only in ('', 'prepare'):
        compare_prepare(make_images(work / 'own', IMAGES, link=False), work, f'{SIDE} px')
        if cifake:
            compare_prepare(cifake, work, '32 px (CIFAKE)')
    if only in ('', 'memory'):
        compare_memory(work)
    if only in ('', 'read'):
        compare_reading(make_images(work / 'own', IMAGES, link=False), work, f'{SIDE} px')
        if cifake:
            compare_reading(cifake, work, '32 px (CIFAKE)')
    if only in ('', 'audit') and cifake:
        time_audit(cifake, work)


if __name__ == '__main__':
    app.run(main)

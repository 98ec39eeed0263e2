"""All GPU figures of docs/performance.md in one run of at most nine minutes: python benchmarks/gpu.py --out runs/gpu

Each part runs in a process of its own with its own time limit and writes FOLDER/PART.json as it goes, so that a cut
loses nothing; FOLDER/PART.log has what it printed. A part that fails says so in `error`, and the next one goes on.
Parts: device (bandwidth, matrix product), parity (against the CPU, between precisions and mappings), steps (ResNet50
beside PyTorch, where that is installed), train (end to end), small (the small CNN), state (memory, clocks, power).
--dry runs all of them in small on a CPU. --table FOLDER prints the rows of docs/performance.md, with what a plan says
where `fakeimg benchmark --stage plan --json FOLDER/plan.json` has written one.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import NoReturn

import gpu_table

HERE = pathlib.Path(__file__).resolve().parent
# Part -> its share of the time that is left when it starts. What a part leaves over goes to those after it.
PARTS = {'device': 1, 'parity': 4, 'steps': 9, 'train': 7, 'small': 3, 'state': 0.3}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        fail(f'{message}; see --help.')


def fail(sentence: str) -> NoReturn:
    print(f'fakeimg: {sentence}', file=sys.stderr)
    sys.exit(2)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('runs/gpu'), help='folder for the JSON files')
    parser.add_argument('--parts', default=','.join(PARTS), help='of %(default)s')
    parser.add_argument('--seconds', type=float, help='to measure each rate for; default 2, with --dry 0.1')
    parser.add_argument('--limit', type=float, help='minutes for all parts together; default 9, with --dry 30')
    parser.add_argument('--dry', action='store_true', help='small networks on a CPU, to try the script')
    parser.add_argument('--table', type=pathlib.Path, metavar='FOLDER', help='print the figures of a run as Markdown')
    options = parser.parse_args()
    if options.table:
        figures = gpu_table.read(options.table, PARTS)
        if not figures:
            fail(f'{options.table} holds no figures; run benchmarks/gpu.py --out {options.table} first.')
        print(gpu_table.markdown(figures))
        return
    parts = options.parts.split(',')
    for part in parts:
        if part not in PARTS:
            fail(f'there is no part {part!r}; the parts are {", ".join(PARTS)}.')
    seconds = (0.1 if options.dry else 2.0) if options.seconds is None else options.seconds
    limit = (30.0 if options.dry else 9.0) if options.limit is None else options.limit
    for name, value in (('seconds', seconds), ('limit', limit)):
        if not value > 0:
            fail(f'--{name} is {value:g}; it must be more than 0.')
    sys.exit(run(parts, options.out, seconds, time.monotonic() + 60 * limit, options.dry))


def run(parts: list[str], out: pathlib.Path, seconds: float, end: float, dry: bool) -> int:
    """Runs the parts in the order of PARTS; returns the exit code."""
    parts = [part for part in PARTS if part in parts]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for part in parts:
            for suffix in ('json', 'csv'):
                (out / f'{part}.{suffix}').unlink(missing_ok=True)  # of an earlier run
    except OSError as error:
        fail(f'{out} cannot be written to ({error.strerror}); choose another folder with --out.')
    failed = []
    for number, part in enumerate(parts):
        share = PARTS[part] / sum(PARTS[later] for later in parts[number:])
        limit = max(1.0, share * (end - time.monotonic()))
        start = time.monotonic()
        print(f'{part}, at most {limit:.0f} s ...', end=' ', flush=True)
        error = run_part(part, out, seconds, limit, dry)
        print(f'{time.monotonic() - start:.0f} s{f": {error}" if error else ""}', flush=True)
        failed += [part] if error else []
    print(f'{len(parts) - len(failed)} of {len(parts)} parts are complete; python benchmarks/gpu.py --table {out}')
    return 1 if failed else 0


def run_part(part: str, out: pathlib.Path, seconds: float, limit: float, dry: bool) -> str | None:
    """Runs one part and completes its JSON; returns what went wrong."""
    task = {'part': part, 'out': str(out.absolute()), 'seconds': seconds, 'limit': limit, 'dry': dry}
    start = time.monotonic()
    with open(out / f'{part}.log', 'w') as log:
        process = subprocess.Popen(
            [sys.executable, '-c', 'import gpu_parts; gpu_parts.main()', json.dumps(task)],  # its workers import less
            stdin=subprocess.PIPE,  # closed when this process dies, whereupon the part ends too
            stdout=log,
            stderr=log,
            env=environment(part, dry),
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
            error = None if code == 0 else f'{last_line(out / f"{part}.log")} (exit code {code})'
        except subprocess.TimeoutExpired:
            error = f'it was stopped after {limit:.0f} s, before it had finished.'
        finally:
            kill(process)
    path = out / f'{part}.json'
    figures = json.loads(path.read_text()) if path.exists() else {}
    gpu_table.write(path, {**figures, 'part': part, 'took_seconds': time.monotonic() - start, 'error': error})
    return error


def kill(process: subprocess.Popen) -> None:
    """Ends a part with all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def last_line(log: pathlib.Path) -> str:
    """What a failed process said last: of a traceback, the exception."""
    lines = [line.strip() for line in log.read_text(errors='replace').splitlines()]
    return next((line for line in reversed(lines) if line), 'it said nothing')[:300]


def environment(part: str, dry: bool) -> dict[str, str]:
    """Finds this fakeimg wherever it is, and lets several processes share a GPU."""
    paths = [str(HERE), str(HERE.parent), os.environ.get('PYTHONPATH', '')]
    variables = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths))}
    variables['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'
    variables['OPENBLAS_NUM_THREADS'] = '1'  # faces are drawn by as many processes as there are cores
    if part == 'parity':  # several steps are compiled at once: kernels timed meanwhile would be slow to choose
        variables['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_gpu_autotune_level=0'.strip()
    if dry:
        variables |= {'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': ''}
    return variables


if __name__ == '__main__':
    main()

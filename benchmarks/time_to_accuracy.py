"""Wall time to an accuracy on CIFAKE's test split, ours and PyTorch's: python benchmarks/time_to_accuracy.py --data DIR

Needs torch (make torch). DIR is CIFAKE as it comes, with train/ and test/. Both sides train configs/cifake.py, look at
test after every epoch and are stopped once they classify it well enough. The time runs from the start of the process:
it holds imports, compilation (our cache is empty), reading and decoding, and for us saving too. Sides take turns.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags

_DATA = flags.DEFINE_string('data', None, 'CIFAKE: a folder with train/ and test/.', required=True)
_ACCURACY = flags.DEFINE_float('accuracy', 0.9298, "To be reached; Bird & Lotfi's by default.")
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Runs of each side.')
_SIDES = {'fakeimg': 'fakeimg', 'files': 'PyTorch, DataLoader', 'memory': 'PyTorch, images in one tensor'}

ROOT = pathlib.Path(__file__).parents[1]


def main(argv: list[str]) -> None:
    del argv
    seconds: dict[str, list[float]] = {side: [] for side in _SIDES}
    for seed in range(_SEEDS.value):
        for side, title in _SIDES.items():
            with tempfile.TemporaryDirectory() as folder:
                found, epochs = race(side, seed, pathlib.Path(folder))
            seconds[side].append(found)
            print(f'seed {seed}, {title}: {found:.0f} s, {epochs} epochs', flush=True)
    for side in ('files', 'memory'):
        ratios = [ours / theirs for ours, theirs in zip(seconds['fakeimg'], seconds[side], strict=True)]
        spread = f'{min(ratios):.2f} to {max(ratios):.2f}'
        print(f'to {_ACCURACY.value}, fakeimg ÷ {_SIDES[side]}: {statistics.median(ratios):.2f} ({spread})')


def race(side: str, seed: int, work: pathlib.Path) -> tuple[float, int]:
    """Seconds and epochs until `side` reaches the accuracy; exits if it ends without."""
    script = ROOT / 'benchmarks' / 'torch_training.py'
    command = [sys.executable, str(script), _DATA.value, str(seed), side]
    if side == 'fakeimg':
        command = [sys.executable, '-m', 'fakeimg.main', f'--config={ROOT / "configs" / "cifake.py"}']
        command += [f'--config.data.path={_DATA.value}', '--config.data.validation_split=test']
        command += [f'--config.seed={seed}', f'--workdir={work / "run"}']
    environment = os.environ | {'XDG_CACHE_HOME': str(work), 'PYTHONPATH': str(ROOT)}
    with open(work / 'output', 'w') as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            while True:
                ended = process.poll() is not None
                for epoch, accuracy in enumerate(accuracies(side, work), start=1):
                    if accuracy >= _ACCURACY.value:
                        return time.perf_counter() - start, epoch
                if ended:
                    last = (work / 'output').read_text().strip()[-1000:]
                    sys.exit(f'{_SIDES[side]} ended without an accuracy of {_ACCURACY.value}; its last words:\n{last}')
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()


def accuracies(side: str, work: pathlib.Path) -> list[float]:
    """On test, after each epoch so far."""
    path = work / ('run/metrics.jsonl' if side == 'fakeimg' else 'output')
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    lines = [line for line in lines if line.endswith('\n')]  # the last one may be half written
    if side != 'fakeimg':
        return [float(line.split()[-1]) for line in lines if line.startswith('epoch')]
    rows = [json.loads(line) for line in lines]
    return [row['validation/accuracy'] for row in rows if 'validation/accuracy' in row]


if __name__ == '__main__':
    app.run(main)

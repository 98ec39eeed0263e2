"""The script that makes the detector in the package, with a stand-in for fakeimg: the order, and the seed taken."""

import os
import pathlib
import subprocess
import sys

from tests.support.verbs import ROOT

SCRIPT = ROOT / 'launch/make_cifake_detector.sh'
# Notes its arguments; seed 1 has the higher validation AUC, which is not its last.
STAND_IN = r"""#!/usr/bin/env bash
echo "$*" >> calls
if [ "$1" = train ]; then
  workdir="${@: -1}"; mkdir -p "$workdir"
  for auc in 0.5 "0.99${workdir: -1}" 0.7; do
    echo "{\"step\": 1, \"validation/auc\": $auc}"
  done > "$workdir/metrics.jsonl"
fi
"""


def run(folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    tools = folder / 'bin'
    tools.mkdir(exist_ok=True)
    (tools / 'fakeimg').write_text(STAND_IN)
    (tools / 'fakeimg').chmod(0o755)
    path = f'{tools}:{pathlib.Path(sys.executable).parent}:{os.environ["PATH"]}'
    return subprocess.run(
        [SCRIPT, 'DATASET'], cwd=folder, env={**os.environ, 'PATH': path}, capture_output=True, text=True
    )


def test_the_seed_with_the_higher_validation_auc_is_published(tmp_path: pathlib.Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    calls = (tmp_path / 'calls').read_text().splitlines()
    assert [call.split()[0] for call in calls] == ['prepare', 'train', 'evaluate', 'train', 'evaluate', 'push']
    assert calls[0] == 'prepare DATASET --out data/CIFAKE'
    assert calls[-1].startswith('push runs/cifake_large-1 --out fakeimg/detectors/cifake --float16')


def test_the_detector_is_not_made_over_another(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'fakeimg/detectors/cifake').mkdir(parents=True)
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (2, 'fakeimg/detectors/cifake exists; remove it first.\n')
    assert not (tmp_path / 'calls').exists()

"""The run folder's writer."""

import os
import pathlib
import subprocess
import sys

_WRITE = """
import pathlib, sys
from fakeimg import run
writer = run.MetricsWriter(pathlib.Path(sys.argv[1]), 0)
writer.write(1, {'train/loss': 0.5})
writer.close()
print('torch' in sys.modules)
import torch
print(torch.__file__)
"""


def test_a_start_does_not_wait_for_matplotlib() -> None:
    code = "import sys, fakeimg.cli.train; assert not {'matplotlib', 'torch', 'scipy.sparse'} & set(sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True, env=os.environ | {'JAX_PLATFORMS': 'cpu'})


def test_a_start_does_not_wait_for_pytorch(tmp_path: pathlib.Path) -> None:
    """tensorboardX imports PyTorch where it is installed; scalars do not need it. Others can import it as ever."""
    folder = tmp_path / 'run'
    folder.mkdir()
    (tmp_path / 'torch.py').write_text('Tensor = object\n')
    command = [sys.executable, '-c', _WRITE, str(folder)]
    environment = os.environ | {'PYTHONPATH': f'{tmp_path}:{pathlib.Path(__file__).parents[1]}'}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ['False', str(tmp_path / 'torch.py')]
    assert any(path.stat().st_size > 50 for path in (folder / 'tensorboard').iterdir())

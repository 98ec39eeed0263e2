"""Trains a detector: python -m fakeimg.main --config configs/resnet50.py

The same command continues a run that stopped. Any field can be overridden: --config.batch_size=64.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from fakeimg import cli, parallel
from fakeimg.training import loop

_CONFIG = cli.define_config()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Run folder; default runs/NAME for configs/NAME.py.')


def main(argv: Sequence[str]) -> int:
    cli.refuse_arguments(argv)
    config, name = cli.read_config(_CONFIG)
    workdir = pathlib.Path(_WORKDIR.value or f'runs/{name}').expanduser()
    parallel.initialize_distributed()
    result = loop.train(config, workdir)
    if result.interrupted_by is not None:
        cli.say(f'stopped by {result.interrupted_by.name} after step {result.step:,} of {result.total_steps:,}; '
                'saved, the same command continues.')  # fmt: skip
        return 128 + result.interrupted_by  # as a shell reports it: what follows && must not run
    cli.say(f'finished: {result.step:,} steps, run folder {workdir}')
    split = next((name for name in ('test', 'validation') if name in result.splits), 'train')
    cli.say(f'next: python -m fakeimg.evaluate --workdir {workdir} --split {split}')
    return 0


if __name__ == '__main__':
    cli.run_verb(main)

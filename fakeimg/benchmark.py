"""Measures throughput per device: python -m fakeimg.benchmark --config configs/resnet50.py [--json FILE]

Three figures: the input pipeline alone, the compiled training step on batches already on the devices, and both
together as the training loop runs them. Each is the median of several windows; compilation is counted apart.
"""

import pathlib
from collections.abc import Sequence

import rich.console
import rich.table
from absl import flags

from fakeimg import cli, parallel, run
from fakeimg import config as config_lib
from fakeimg.training import setup, throughput

_CONFIG = cli.define_config()
_JSON = flags.DEFINE_string('json', None, 'File to write the figures to; default benchmarks/NAME.json.')
_SECONDS = flags.DEFINE_float('seconds', 10.0, 'Time to measure each stage for, compilation apart.')
STAGES = {'input': 'input pipeline alone', 'step': 'training step alone', 'train': 'training end to end'}


def main(argv: Sequence[str]) -> None:
    cli.refuse_arguments(argv)
    config, name = cli.read_config(_CONFIG)
    parallel.initialize_distributed()
    parts = setup.build(config)
    for note in parts.notes:
        cli.say(f'!! {note}.')
    cli.say(
        f'{config.model.name}, {config.data.image_size} px, {config.batch_size} pictures on {parts.devices.count} '
        f'device(s), {parts.dtype.name}, {config.parallel}; {_SECONDS.value:g} s a stage'
    )
    figures = throughput.measure_all(parts, _SECONDS.value)
    if not parallel.is_first_process():
        return
    table = rich.table.Table('images/s per device', 'median', 'min', 'max')
    for stage, title in STAGES.items():
        rates = figures[stage]
        columns = (rates[key] for key in ('images_per_second_per_device', 'minimum', 'maximum'))
        table.add_row(title, *(f'{rate:,.1f}' for rate in columns))
    rich.console.Console(width=90).print(table)
    cli.say(f'first step {figures["first_step_seconds"]:.1f} s (compilation included); '
            f'training end to end reaches {figures["train_over_step"]:.0%} of the step alone')  # fmt: skip
    path = pathlib.Path(_JSON.value or f'benchmarks/{name}.json')
    path.parent.mkdir(parents=True, exist_ok=True)
    run.write_json(path, {**figures, 'config': config_lib.to_plain(config), 'environment': run.environment()})
    cli.say(f'written to {path}')


if __name__ == '__main__':
    cli.run_verb(main)

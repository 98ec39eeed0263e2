"""Measures throughput per device: fakeimg benchmark --config configs/resnet50.py [--stage STAGE]

decode: nothing but decoding, the limit of the input pipeline; input: the pipeline, alone and from memory; step: the
compiled training step on random images, also against the roofline and on fewer devices; train: end to end; eval:
evaluation end to end; save: what a checkpoint costs; start: from process start to the first step, cold and from the
compilation cache; data: decode and input. Rates are medians of windows.

plan, by itself and without a GPU: what the steps need on the GPU that --gpu names, and reach there at best.
"""

import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from absl import flags

from fakeimg import files, run
from fakeimg.benchmarking import gpus, plan, table
from fakeimg.benchmarking import stages as stages_lib
from fakeimg.cli import recipe, verb
from fakeimg.config import DEMO, Config
from fakeimg.console import Console
from fakeimg.errors import UserError
from fakeimg.fields import to_plain
from fakeimg.runtime import parallel
from fakeimg.runtime.start import start

_CONFIG = recipe.define_config()
_STAGE = flags.DEFINE_enum('stage', 'all', ('all', 'data', 'plan', 'first', *stages_lib.STAGES), 'What to measure.')
_JSON = flags.DEFINE_string('json', None, 'File to write the figures to; default runs/benchmark_NAME.json.')
_SECONDS = flags.DEFINE_float('seconds', 10.0, 'Time to measure each rate for, compilation apart.')
_GPU = flags.DEFINE_string(
    'gpu', None, f'GPU of the plan: {", ".join(gpus.KNOWN)}, or a file with a GpuTargetConfigProto of XLA.'
)
_GPUS = flags.DEFINE_integer('gpus', 1, 'How many of them.')
_SWEEP = flags.DEFINE_list('sweep', [], 'Batch sizes to measure the step at, such as 64,128,256; the best is named.')


def main(argv: Sequence[str]) -> None:
    verb.refuse_arguments(argv)
    verb.require(_SECONDS.value > 0, 'seconds', _SECONDS.value, 'more than 0')
    sizes = _sizes(_SWEEP.value)
    config, name = recipe.read_config(_CONFIG)
    if _STAGE.value == 'plan':
        _plan(config, name)
        return
    config.data.path = config.data.path or DEMO
    start()
    console = verb.console(recipe.without_effect(config))
    if _STAGE.value == 'first':
        stages_lib.take_one_step(config)
        return
    stages = {'all': stages_lib.STAGES, 'data': stages_lib.DATA}.get(_STAGE.value, (_STAGE.value,))
    if parallel.has_other_processes():
        stages = [stage for stage in stages if stage not in ('start', 'save')]
    figures = stages_lib.measure(config, stages, _SECONDS.value, shlex.split(recipe.as_flags({})), console)
    if sizes:
        figures['sweep'] = stages_lib.sweep(config, sizes, _SECONDS.value, console)
    if not parallel.is_first_process():
        return
    table.print_table(figures, console)
    _write(f'runs/benchmark_{name}.json', {**figures, 'environment': run.environment()}, config, console)


def _plan(config: Config, name: str) -> None:
    gpu = _GPU.value or ''
    verb.require(bool(gpu), 'gpu', 'missing', f'one of {", ".join(gpus.KNOWN)}, or a file')
    verb.require(_GPUS.value > 0, 'gpus', _GPUS.value, '1 or more')
    console = verb.console(recipe.without_effect(config))
    figures = plan.plan(config, gpus.find(gpu), _GPUS.value, console)
    plan.say(figures, console)
    _write(f'runs/plan_{name}_{pathlib.Path(gpu).stem.lower()}.json', figures, config, console)


def _write(default: str, figures: dict[str, Any], config: Config, console: Console) -> None:
    path = pathlib.Path(_JSON.value or default)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, {**figures, 'config': to_plain(config)})
    console.say(f'\nwritten to {path}')


def _sizes(texts: Sequence[str]) -> list[int]:
    if not all(text.strip().isdecimal() and int(text) > 0 for text in texts):
        raise UserError(f'--sweep is {",".join(texts)}; it must be batch sizes, such as 64,128,256.')
    return [int(text) for text in texts]

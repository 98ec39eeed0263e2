"""Training end to end with 1 and several steps in a call, images on the host and on the devices: in turn, one process.

    python benchmarks/calls.py --data DATASET [--steps_per_call 8] [--batch_size 1024]

DATASET has images of 32 px, such as CIFAKE. The loop is that of a training without its log.
"""

import statistics
import time
from typing import Any

import jax
from absl import app, flags, logging

from fakeimg.config import Config, default_config, override
from fakeimg.console import SILENT
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.runtime import start
from fakeimg.training import program

_DATA = flags.DEFINE_string('data', None, 'Images of 32 px, in any layout.', required=True)
_STEPS = flags.DEFINE_integer('steps_per_call', 8, 'Steps of the longer calls.')
_BATCH = flags.DEFINE_integer('batch_size', 128, 'Images of a step.')
_MODEL = flags.DEFINE_string('model', 'cnn', 'The network.')
_CALLS = flags.DEFINE_integer('calls', 4, 'Longer calls in a round.')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Rounds, in each of which every side has one turn.')


class Side:
    """A run that is built and has taken an epoch, so that the host's cache is full."""

    def __init__(self, config: Config):
        self.program = program.build(config)
        bad = UnreadableImages('train', self.program.num_train, config.data.max_bad_fraction)
        self.program = self.program.with_device_images(bad, SILENT)
        self.length = self.program.schedule.call_length
        self.batches = iter(self.program.device_batches(self.program.train_batches(bad), self.length))
        self.state, _ = self.program.initial_state()
        self.step = 0
        self.take(max(_STEPS.value, -(-self.program.num_train // config.batch_size)))

    def take(self, steps: int) -> float:
        """Takes at least this many steps; returns images per second."""
        before, began, pending = self.step, time.perf_counter(), None
        while self.step < before + steps:
            count, previous = self.length(self.step), pending
            self.state, pending = self.program.advance(self.step, self.state, next(self.batches))
            self.step += count
            jax.device_get(previous)
        jax.device_get(pending)
        return (self.step - before) * self.program.config.batch_size / (time.perf_counter() - began)


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.ERROR)
    start.start()
    config = default_config()
    config.model.name, config.batch_size, config.steps = _MODEL.value, _BATCH.value, 10**8
    config.data.path, config.data.image_size, config.data.resize_size = _DATA.value, 32, 32
    # Nothing is due in between.
    config.log_every_steps, config.checkpoint_every_steps, config.validate_every_epochs = 10**8, 0, 1e8
    sides: dict[str, Any] = {}
    for cache in ('host', 'device'):
        for steps in (1, _STEPS.value):
            name = f'{cache}, {steps} steps a call'
            sides[name] = Side(override(config, {'data.cache': cache, 'steps_per_call': steps}))
    rates = {name: [] for name in sides}
    for _ in range(_ROUNDS.value):
        for name, side in sides.items():
            rates[name].append(side.take(_CALLS.value * _STEPS.value))
    first = next(iter(rates.values()))
    for name, found in rates.items():
        ratios = [one / other for one, other in zip(found, first, strict=True)]
        spread = f'{min(ratios):.2f} to {max(ratios):.2f}'
        print(f'{name}: {statistics.median(found):,.0f} images/s, ratio {statistics.median(ratios):.2f} ({spread})')
    for side in sides.values():
        side.batches.close()


if __name__ == '__main__':
    app.run(main)

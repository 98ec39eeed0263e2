"""Steps and learning rates of a run: what follows from its configuration and the number of training images."""

import dataclasses
import math

import optax

from fakeimg.config import Config
from fakeimg.errors import UserError


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long a run is and how fast it learns.

    Attributes:
        total_steps: `config.steps`, or `config.epochs` over the training images, rounded up.
        head_steps: the first of them, in which the head learns alone.
        steps_per_epoch: batches in one pass over the training images, not rounded.
        validate_every: steps from one validation to the next.
        steps_per_call: most steps of one call of the compiled program.
        due_every: steps from one row of metrics to the next, from one checkpoint to the next.
        warmup_steps: of each phase; a phase of less than twice as many warms up for its first half.
        peak_learning_rate: linear in the batch size (Goyal et al. 2017, section 2.1).
        decay: cosine or linear, along which the learning rate falls after the warm-up.
    """

    total_steps: int
    head_steps: int
    steps_per_epoch: float
    validate_every: int
    steps_per_call: int
    due_every: tuple[int, ...]
    warmup_steps: int
    peak_learning_rate: float
    decay: str

    @classmethod
    def create(cls, config: Config, num_train: int) -> 'Schedule':
        """Derives the schedule; raises UserError if the steps of the head alone are the whole run."""

        def steps(epochs: float) -> float:
            return epochs * num_train / config.batch_size

        total_steps = config.steps or math.ceil(steps(config.epochs))
        head_epochs = config.finetune.head_epochs
        head_steps = max(1, round(steps(head_epochs))) if head_epochs else 0
        if head_epochs and head_steps >= total_steps:
            raise UserError(
                f'config.finetune.head_epochs={head_epochs:g} are {head_steps} steps, and the run has {total_steps}, '
                'which leaves none to the other stages; lower it, train longer, or freeze them with '
                'config.finetune.last_stages=0.'
            )
        return cls(
            total_steps=total_steps,
            head_steps=head_steps,
            steps_per_epoch=num_train / config.batch_size,
            validate_every=max(1, round(steps(config.validate_every_epochs))),
            steps_per_call=config.steps_per_call,
            due_every=tuple(filter(None, (config.log_every_steps, config.checkpoint_every_steps))),
            warmup_steps=round(steps(config.optimizer.warmup_epochs)),
            peak_learning_rate=config.optimizer.base_learning_rate * config.batch_size / 256,
            decay=config.optimizer.schedule,
        )

    def call_length(self, step: int) -> int:
        """Steps that the call after `step` steps takes: `steps_per_call`, or 1 if something is due before they end.

        Due are a row of metrics, a validation, a checkpoint, the end of the head's phase and that of the run. It
        depends on `step` alone, so a run that continues makes the calls that it would have made.
        """
        ends = [every - step % every for every in (self.validate_every, *self.due_every)]
        ends += [end - step for end in (self.head_steps, self.total_steps) if end > step]
        return self.steps_per_call if self.steps_per_call <= min(ends) else 1

    def phases(self) -> list[optax.Schedule]:
        """The learning rate of each phase by the phase's own step: of the head alone, if there is one, and of the rest.

        Linear warm-up from 0, then one cosine (Goyal et al. 2017; Loshchilov & Hutter 2017) or a straight line to 0 at
        the last step. The head's phase stays at the peak instead: its end is not the run's.
        """
        peak, last = self.peak_learning_rate, self.total_steps - self.head_steps

        def rise(steps: int) -> tuple[optax.Schedule, int]:
            wanted = min(self.warmup_steps, steps // 2)  # a short phase still gets to its rate, and to decay
            return optax.linear_schedule(0.0 if wanted else peak, peak, wanted), wanted

        head, _ = rise(self.head_steps)
        warmup, steps = rise(last)
        if self.decay == 'linear':
            decay = optax.linear_schedule(peak, 0.0, last - steps)
        else:
            decay = optax.cosine_decay_schedule(peak, last - steps)
        rest = optax.join_schedules([warmup, decay], [steps])
        return [head, rest] if self.head_steps else [rest]

    def learning_rate(self) -> optax.Schedule:
        """The learning rate by the step of the run: the phases one after the other."""
        phases = self.phases()
        return phases[0] if len(phases) == 1 else optax.join_schedules(phases, [self.head_steps])

"""The course of a training: which step, epoch and stage each batch belongs to."""

from dataclasses import dataclass

from lapel.config.stages import StageConfig
from lapel.config.train import TrainConfig


@dataclass(frozen=True)
class Phase:
    """A stage in steps.

    Args:
        number: of the stage, from 0.
        first, end: its optimizer steps are `first` to `end - 1`.
        stage: its options.
    """

    number: int
    first: int
    end: int
    stage: StageConfig


class Course:
    """A training's optimizer steps, in epochs and stages: a function of the config and the length of an epoch.

    Args:
        config: of the run.
        batches: of an epoch; `trainer.accumulate` of them make one optimizer step.
    """

    def __init__(self, config: TrainConfig, batches: int) -> None:
        self.parts = config.trainer.accumulate
        self.steps_per_epoch = batches // self.parts
        stages = config.stages or [StageConfig(epochs=config.trainer.max_epochs)]
        epochs = sum(stage.epochs for stage in stages)
        self.total_steps = min(epochs * self.steps_per_epoch, config.trainer.max_steps or epochs * self.steps_per_epoch)
        self.phases: list[Phase] = []
        first = 0
        for number, stage in enumerate(stages):
            end = min(first + stage.epochs * self.steps_per_epoch, self.total_steps)
            if end > first:
                self.phases.append(Phase(number, first, end, stage))
            first = end

    @property
    def total_batches(self) -> int:
        """Batches of the whole training."""
        return self.total_steps * self.parts

    def phase(self, step: int) -> Phase:
        """The stage of an optimizer step, from 0; of one past the end, the last."""
        return next((each for each in self.phases if step < each.end), self.phases[-1])

    def step(self, batch: int) -> int:
        """The optimizer step that a batch belongs to, both counted from 0."""
        return batch // self.parts

    def ends_step(self, batch: int) -> bool:
        """Whether an optimizer step is made after this batch."""
        return (batch + 1) % self.parts == 0

    def ends_epoch(self, steps: int) -> bool:
        """Whether an epoch, or the training, is over when so many optimizer steps are made."""
        return steps % self.steps_per_epoch == 0 or steps == self.total_steps

"""Evaluations of a LLaVATrainer: the loss of Eq. 2 over all samples, and those of each task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .hooks import each_once
from .llava_data import WithTasks, with_tasks
from .log import TaskLog
from .tasks import TaskTable


class Evaluation:
    """What is added up while a LLaVATrainer evaluates.

    Attributes:
        log: takes what a loss outside of training steps tells.
        needs_logits: whether the trainer will read the logits of the next forward.

    Errors: ArgumentError for samples without a task, or with one that has no weight.
    """

    def __init__(self, trainer: Any, tasks: TaskTable, field: str) -> None:
        self._tasks = tasks
        self._field = field
        self.log = TaskLog(tasks)
        self.needs_logits = False
        given = trainer.eval_dataset
        self._dataset = (
            {name: self._with_tasks(each) for name, each in given.items()}
            if isinstance(given, dict)
            else self._with_tasks(given)
        )

    def wrap(self, trainer: Any) -> None:
        """Puts itself around what the trainer calls to evaluate and to predict."""
        trainer.eval_dataset = self._dataset
        trainer.get_eval_dataloader = self._loader(trainer.get_eval_dataloader)
        trainer.get_test_dataloader = self._loader(trainer.get_test_dataloader)
        loop, step = trainer.evaluation_loop, trainer.prediction_step

        def evaluation_loop(*args: Any, **kwargs: Any) -> Any:
            self.log = TaskLog(self._tasks)
            output = loop(*args, **kwargs)
            # The trainer gives it by name.
            prefix = kwargs.get("metric_key_prefix", "eval")
            output.metrics.update(self.log.take(f"{prefix}_", with_loss=True))
            return output

        def prediction_step(
            model: Any, inputs: dict[str, Any], prediction_loss_only: bool, *args: Any, **kw: Any
        ) -> Any:
            self.needs_logits = not prediction_loss_only
            try:
                return step(model, each_once(trainer, inputs), prediction_loss_only, *args, **kw)
            finally:
                self.needs_logits = False

        trainer.evaluation_loop = evaluation_loop
        trainer.prediction_step = prediction_step

    def _loader(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        def get_dataloader(dataset: Any = None) -> Any:
            return stock(self._with_tasks(dataset))

        return get_dataloader

    def _with_tasks(self, dataset: Any) -> Any:
        if isinstance(dataset, WithTasks):
            return dataset
        return with_tasks(dataset, self._tasks, self._field, "the evaluation data")

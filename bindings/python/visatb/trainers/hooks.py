"""What VITW changes in every trainer that is made from Hugging Face's: its step, loss and log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .._errors import Error
from ..methods import Method
from ..torch.function import vitw_loss
from ..torch.module import VITWLoss
from ..torch.places import Given
from ..torch.stats import Stats
from .checkpoint import Checkpoints
from .log import TaskLog
from .step import Scope, Step, StepCounter
from .step_weights import make_method
from .tasks import TaskTable


class StepMixin:
    """Stands before a Trainer; `_train_with` says what to count and what to weigh it by."""

    # The loss is divided by the whole step's denominator already (transformers 5.2x).
    loss_is_scaled_for_ga = True

    def _train_with(
        self,
        tasks: TaskTable,
        given_of: Callable[[dict[str, Any]], Given],
        *,
        scope: Scope = "step",
        method: str | Method | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        """Must be called before the first batch.

        Args:
            tasks: which there are, with their weights.
            given_of: the labels and task ids of a batch.
            scope, method: as in `StepCounter`.
            seed: of a method that is given by name.
            options: `label_smoothing` and `z_loss`, as in `vitw_loss`.
        """
        self.tasks = tasks
        self._given_of = given_of
        self._options = options
        self._criterion = VITWLoss(tasks.weights, shift=True)
        if method is not None:
            method = make_method(method, len(tasks), seed)
        self._step_counter = StepCounter(self._criterion, scope=scope, method=method)
        weights = self._step_counter.step_weights
        self._checkpoints = None if weights is None else Checkpoints(self, weights, tasks)
        self._task_logs = {True: TaskLog(tasks), False: TaskLog(tasks)}

    def _get_num_items_in_batch(self, *_: Any) -> None:
        """None: the weight of the step's tokens is counted instead of their number."""

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Tensor | None]:
        """The micro-batches of a step, each with its `Step`, and the step's denominator."""
        batches: list[Any]
        batches, _ = super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]
        if not batches:
            return batches, None
        steps = self._step_counter.attach(
            batches, lambda batch: self._step_counter.count(self._given_of(batch))
        )
        return batches, steps[0].denominator

    def _loss_of_logits(
        self, logits: Tensor, given: Given, step: Step | None, *, inplace: bool = False
    ) -> Tensor:
        """L of Eq. 2, this micro-batch's share of it; for a batch without a Step, its own."""
        own = None if step is None else step.task_weights
        loss, stats = vitw_loss(
            logits,
            given.labels,
            given.task_ids,
            self._criterion.weights_on(logits.device) if own is None else own,
            shift=given.shift,
            denominator=None if step is None else step.denominator,
            inplace=inplace,
            return_stats=True,
            **self._options,
        )
        self._tell(stats, step)
        return loss

    def _tell(self, stats: Stats, step: Step | None) -> None:
        """What a loss found, to the log and to the method that makes the weights."""
        self._task_log.add(stats, step)
        if step is not None:
            self._step_counter.add(stats, step)

    @property
    def _task_log(self) -> TaskLog:
        training: bool = self.model.training  # type: ignore[attr-defined]
        return self._task_logs[training]

    # --- trainings and their checkpoints --------------------------------------------------------

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's; `train` calls it again where `auto_find_batch_size` begins anew."""
        self._task_logs[True] = TaskLog(self.tasks)
        if self._checkpoints is not None:
            self._checkpoints.begin()
        return super()._inner_training_loop(*args, **kwargs)  # type: ignore[misc]

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
        if self._checkpoints is not None:
            self._checkpoints.save(output_dir)

    def _load_optimizer_and_scheduler(self, folder: str | None) -> None:
        super()._load_optimizer_and_scheduler(folder)  # type: ignore[misc]
        if self._checkpoints is not None:
            self._checkpoints.load(folder)

    # --- evaluation -----------------------------------------------------------------------------

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kw: Any) -> Any:
        """The Trainer's, with each sample once."""
        inputs = each_once(self, inputs)
        return super().prediction_step(model, inputs, *args, **kw)  # type: ignore[misc]

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's, with the loss of all samples in the place of a mean over batches."""
        self._task_logs[False] = TaskLog(self.tasks)
        output = super().evaluation_loop(*args, **kwargs)  # type: ignore[misc]
        # The Trainer gives it as the last of its arguments, by name.
        prefix = kwargs.get("metric_key_prefix", "eval")
        output.metrics.update(self._task_logs[False].take(f"{prefix}_", with_loss=True))
        return output

    # --- the log --------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The Trainer's, with the loss and the token share of each task."""
        if "loss" in logs:
            if self._task_logs[True].is_empty:
                raise Error(
                    f"{type(self).__name__}.compute_loss has taken the place of VITW's, which was "
                    "not called; expected it to call super().compute_loss, or none"
                )
            logs = {**logs, **self._task_logs[True].take()}
        super().log(logs, *args, **kwargs)  # type: ignore[misc]


def base_model(trainer: Any) -> Any:
    """The model of a trainer, inside of wrappers and adapters."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def each_once(trainer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """The batch, where the samples that only fill up the last batches of uneven ranks are ignored.

    accelerate's `gather_for_metrics` drops them too: behind the `remainder` of all ranks' samples.
    """
    state = trainer.accelerator.gradient_state
    if not state.end_of_dataloader or state.remainder <= 0:
        return inputs
    inputs = dict(inputs)
    for key in ("labels", "shift_labels"):
        if key in inputs:
            labels = inputs[key].clone()
            starts = _starts_in_one_row(inputs, labels)
            samples = len(labels) if starts is None else len(starts)
            real = max(0, state.remainder - trainer.args.process_index * samples)
            if starts is None:
                labels[real:] = -100
            elif real < samples:
                labels[:, starts[real] :] = -100
            inputs[key] = labels
    return inputs


def _starts_in_one_row(inputs: dict[str, Any], labels: Tensor) -> list[int] | None:
    """Where each sample begins, if they lie one behind the other in one row."""
    positions = inputs.get("text_position_ids", inputs.get("position_ids"))
    if len(labels) != 1 or positions is None:
        return None
    starts: list[int] = (positions[0] == 0).nonzero().squeeze(1).tolist()
    return starts

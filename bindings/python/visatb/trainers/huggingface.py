"""Hugging Face's Trainer, from transformers 4.46 on, and what is made from it (TRL's SFTTrainer).

    trainer = VITWTrainer(model, args, ..., task_weights="weights.json")

The dataset keeps its `task` column up to the collator; the denominator of a step is counted where
the Trainer takes the batches of a step together; and the loss takes logits, labels and task ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .._errors import ArgumentError, UnsupportedError
from ..torch.module import VITWLinearLoss
from ..torch.places import Given
from .collator import TaskCollator
from .head import LinearHead
from .hooks import StepMixin, base_model
from .refusals import (
    refuse_each,
    refuse_second_division,
    refuse_settings,
    refuse_unknown_tasks,
    refuse_weighted_sampling,
    refuse_zero3,
)
from .step import STEP, VALID_ROWS, Scope, Step
from .tasks import NamedWeights, TaskTable

try:
    import transformers
except ModuleNotFoundError as missing:
    if missing.name != "transformers":
        raise
    raise ImportError(
        "VITWTrainer needs transformers, 4.46 or newer, and accelerate: "
        "pip install 'transformers[torch]'"
    ) from missing


_WHERE_TASKS_ARE = (
    "task_column= says which. If it was there before, its preparation dropped it, as packing=True "
    "does"
)


class VITWTrainerMixin(StepMixin):
    """Put it before a Trainer to train with VITW: `class MyTrainer(VITWTrainerMixin, Trainer)`.

    All that the Trainer takes, and these:

    Args:
        task_weights, tasks: as in `TaskTable`; a weights.json, or {name: weight}.
        task_column: the column of the datasets that names each item's task, or has its id.
        scope: "step", Eq. 2; "local" to compare with a mean of each micro-batch.
        linear: compute the loss from hidden states and head, never holding all logits.
        inplace: write the gradient over the logits in training, which saves their size in memory;
            not for a model that keeps its logits for its own backward.
        z_loss: as in `vitw_loss`. Label smoothing is the Trainer's `label_smoothing_factor`.
        allow_weighted_sampling: the data is drawn by weights that are not the task weights.

    The logged loss is that of Eq. 2. "loss/<task>", the mean nll of a task's tokens, and
    "token_share/<task>" stand beside it; an evaluation has them too, and its loss is that of Eq. 2
    over all of its samples, whatever its batches and processes.

    Errors: ArgumentError and UnsupportedError for what would train another loss.
    """

    def __init__(
        self,
        *args: Any,
        task_weights: NamedWeights,
        tasks: Sequence[str] | None = None,
        task_column: str = "task",
        scope: Scope = "step",
        linear: bool = False,
        inplace: bool = False,
        z_loss: float = 0.0,
        allow_weighted_sampling: bool = False,
        **kwargs: Any,
    ) -> None:
        table = TaskTable(task_weights, tasks)
        self._task_column = task_column
        # TRL's own trainer sets it to something that is no function, so the argument counts.
        given = kwargs.get("compute_loss_func") is not None
        refuse_each([(given, "compute_loss_func is given")])
        self._allow_weighted_sampling = allow_weighted_sampling
        super().__init__(*args, **kwargs)
        mine: Any = self
        base = base_model(mine)
        loss_type = getattr(mine.args, "loss_type", "nll")
        another = loss_type not in ("nll", "chunked_nll", None)
        refuse_each([(another, f"loss_type = {loss_type!r}")])
        refuse_settings(mine, base)
        refuse_second_division(mine, transformers.__version__)
        # What older versions ask before they divide by the accumulation steps.
        mine.model_accepts_loss_kwargs = True
        mine.data_collator = TaskCollator(
            mine.data_collator, table, task_column, count_valid=linear
        )
        for dataset in _all_of(mine.train_dataset, mine.eval_dataset):
            refuse_unknown_tasks(dataset, table, task_column, _WHERE_TASKS_ARE)
        # Label smoothing is the Trainer's own setting.
        smoothing = float(mine.args.label_smoothing_factor)
        self._train_with(table, _given, scope=scope, label_smoothing=smoothing, z_loss=z_loss)
        self._inplace = inplace
        self._linear_head = None
        if linear:
            refuse_zero3(mine.accelerator)
            linear_loss = VITWLinearLoss(
                table.weights, shift=True, return_stats=True, **self._options
            )
            self._linear_head = LinearHead(base, linear_loss)
        self._needs_logits = True

    # --- the task column ------------------------------------------------------------------------

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        columns: list[str] = self._signature_columns  # type: ignore[has-type]
        if self._task_column not in columns:
            self._signature_columns = [*columns, self._task_column]

    def get_train_dataloader(self) -> Any:
        """The Trainer's, refused where it draws by weight."""
        loader = super().get_train_dataloader()  # type: ignore[misc]
        if not self._allow_weighted_sampling:
            refuse_weighted_sampling(loader)
        if self._linear_head is not None and type(loader).__name__ == "DataLoaderDispatcher":
            raise UnsupportedError(
                "linear=True with batches that one process deals out to the others; expected "
                'accelerator_config={"dispatch_batches": False}'
            )
        return loader

    # --- the step -------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """L of Eq. 2, this micro-batch's share of it; for a batch without a Step, its own."""
        del num_items_in_batch  # The Step has it.
        inputs = dict(inputs)
        step: Step | None = inputs.pop(STEP, None)
        inputs.pop(VALID_ROWS, None)
        given = _given(inputs)
        task_ids = inputs.pop("task_ids")
        needs_logits = "shift_labels" in inputs or (return_outputs and self._needs_logits)
        if self._linear_head is not None and not needs_logits:
            loss, stats, outputs = self._linear_head.loss_of(model, inputs, task_ids, step)
            self._task_log.add(stats)
        else:
            for key in ("labels", "shift_labels"):
                inputs.pop(key, None)
            outputs = model(**inputs)
            logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
            inplace = self._inplace and not return_outputs
            loss = self._loss_of_logits(logits, given, step, inplace=inplace)
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, *args: Any, **kw: Any
    ) -> Any:
        """The Trainer's; without logits where only the loss is wanted."""
        self._needs_logits = not prediction_loss_only
        try:
            return super().prediction_step(model, inputs, prediction_loss_only, *args, **kw)
        finally:
            self._needs_logits = True


class VITWTrainer(VITWTrainerMixin, transformers.Trainer):  # type: ignore[misc]
    """transformers.Trainer with VITW; all arguments as there, and those of `VITWTrainerMixin`."""


def _given(inputs: dict[str, Any]) -> Given:
    """The labels of a batch, shifted already where a collator did so."""
    shifted = "shift_labels" in inputs
    labels: Any = inputs.get("shift_labels", inputs.get("labels"))
    for name, value in (("labels", labels), ("task_ids", inputs.get("task_ids"))):
        if value is None:
            raise ArgumentError(
                f"a batch without {name!r} (it has: {', '.join(inputs)}); expected both labels and "
                "task_ids; the trainer's own collator adds the latter, so set data_collator when "
                "the trainer is made, not later"
            )
    return Given(labels, inputs["task_ids"], not shifted)


def _all_of(*datasets: Any) -> Iterable[Any]:
    """Each dataset that is there; those for evaluation may be a dict of several."""
    for dataset in datasets:
        if isinstance(dataset, dict):
            yield from dataset.values()
        elif dataset is not None:
            yield dataset

"""Hugging Face's Trainer, from transformers 4.46 on, and what is made from it (TRL's SFTTrainer).

    trainer = VITWTrainer(model, args, ..., task_weights="weights.json")

The dataset keeps its `task` column up to the collator; the denominator of a step is counted where
the Trainer takes the batches of a step together; and the loss takes logits, labels and task ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from .._errors import ArgumentError, UnsupportedError
from ..torch.function import vitw_loss
from ..torch.module import VITWLinearLoss, VITWLoss
from ..torch.places import Given
from ..torch.stats import Stats
from .collator import TaskCollator
from .head import LinearHead
from .log import TaskLog
from .refusals import (
    refuse_data_parallel,
    refuse_liger,
    refuse_second_division,
    refuse_weighted_sampling,
    refuse_zero3,
)
from .step import STEP, VALID_ROWS, Scope, Step, StepCounter
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


class VITWTrainerMixin:
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

    # The loss is divided by the whole step's denominator already (transformers 5.2x).
    loss_is_scaled_for_ga = True

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
        self.tasks = TaskTable(task_weights, tasks)
        self._task_column = task_column
        if kwargs.get("compute_loss_func") is not None:
            raise _another_loss("compute_loss_func is given")
        self._allow_weighted_sampling = allow_weighted_sampling
        super().__init__(*args, **kwargs)
        mine: Any = self
        _refuse_what_cannot_be(mine)
        # What older versions ask before they divide by the accumulation steps.
        mine.model_accepts_loss_kwargs = True
        mine.data_collator = TaskCollator(
            mine.data_collator, self.tasks, task_column, count_valid=linear
        )
        for dataset in _all_of(mine.train_dataset, mine.eval_dataset):
            _check_column(dataset, self.tasks, task_column)
        # Label smoothing is the Trainer's own setting.
        smoothing = float(mine.args.label_smoothing_factor)
        self._options: dict[str, Any] = {"label_smoothing": smoothing, "z_loss": z_loss}
        self._inplace = inplace
        self._criterion = VITWLoss(self.tasks.weights, shift=True)
        self._step_counter = StepCounter(self._criterion, scope=scope)
        self._linear_head = None
        if linear:
            refuse_zero3(mine.accelerator)
            linear_loss = VITWLinearLoss(
                self.tasks.weights, shift=True, return_stats=True, **self._options
            )
            self._linear_head = LinearHead(_base_model(mine), linear_loss)
        self._task_logs = {True: TaskLog(self.tasks), False: TaskLog(self.tasks)}
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

    def _get_num_items_in_batch(self, *_: Any) -> None:
        """None: the weight of the step's tokens is counted instead of their number."""

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Tensor | None]:
        """The micro-batches of a step, each with its `Step`, and the step's denominator."""
        batches: list[Any]
        batches, _ = super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]
        if not batches:
            return batches, None
        steps = self._step_counter.attach(
            batches, lambda batch: self._step_counter.count(_given(batch))
        )
        return batches, steps[0].denominator

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
        training: bool = self.model.training  # type: ignore[attr-defined]
        needs_logits = "shift_labels" in inputs or (return_outputs and self._needs_logits)
        if self._linear_head is not None and not needs_logits:
            loss, stats, outputs = self._linear_head.loss_of(model, inputs, task_ids, step)
        else:
            for key in ("labels", "shift_labels"):
                inputs.pop(key, None)
            outputs = model(**inputs)
            loss, stats = self._loss_of_logits(outputs, given, step, return_outputs)
        self._task_logs[training].add(stats)
        return (loss, outputs) if return_outputs else loss

    def _loss_of_logits(
        self, outputs: Any, given: Given, step: Step | None, keeps_logits: bool
    ) -> tuple[Tensor, Stats]:
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        return vitw_loss(
            logits,
            given.labels,
            given.task_ids,
            self._criterion.weights_on(logits.device),
            shift=given.shift,
            denominator=None if step is None else step.denominator,
            inplace=self._inplace and not keeps_logits,
            return_stats=True,
            **self._options,
        )

    # --- evaluation -----------------------------------------------------------------------------

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, *args: Any, **kw: Any
    ) -> Any:
        """The Trainer's; without logits where only the loss is wanted, and each sample once."""
        self._needs_logits = not prediction_loss_only
        try:
            inputs = _each_once(self, inputs)
            return super().prediction_step(  # type: ignore[misc]
                model, inputs, prediction_loss_only, *args, **kw
            )
        finally:
            self._needs_logits = True

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
            logs = {**logs, **self._task_logs[True].take()}
        super().log(logs, *args, **kwargs)  # type: ignore[misc]


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


def _each_once(trainer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
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
            labels[max(0, state.remainder - trainer.args.process_index * len(labels)) :] = -100
            inputs[key] = labels
    return inputs


def _all_of(*datasets: Any) -> Iterable[Any]:
    """Each dataset that is there; those for evaluation may be a dict of several."""
    for dataset in datasets:
        if isinstance(dataset, dict):
            yield from dataset.values()
        elif dataset is not None:
            yield dataset


def _check_column(dataset: Any, tasks: TaskTable, column: str) -> None:
    """What can be known of a dataset's tasks before it is read through."""
    columns = getattr(dataset, "column_names", None)
    if columns is None:
        return
    if column not in columns:
        raise ArgumentError(
            f"a dataset has no column {column!r} (it has: {', '.join(columns)}); expected one that "
            "names each item's task, or has its id: task_column= says which. If it was there "
            "before, its preparation dropped it, as packing=True does"
        )
    if hasattr(dataset, "unique"):
        tasks.check(dataset.unique(column), f"column {column!r} of a dataset")


def _base_model(trainer: Any) -> Any:
    """The model inside of wrappers and adapters."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _refuse_what_cannot_be(trainer: Any) -> None:
    args, base = trainer.args, _base_model(trainer)
    refuse_data_parallel(args)
    if getattr(args, "use_liger_kernel", False):
        raise ArgumentError(
            "use_liger_kernel=True; expected False, for Liger's loss would take the place of VITW, "
            "or VITW that of Liger's"
        )
    refuse_liger(base)
    refuse_second_division(trainer, transformers.__version__)
    for wanted, what in _other_losses(trainer, base):
        if wanted:
            raise _another_loss(what)
    parallelism = getattr(trainer.accelerator, "parallelism_config", None)
    for kind in ("tp", "cp", "sp"):
        if getattr(parallelism, f"{kind}_enabled", False):
            raise UnsupportedError(
                f"{kind}_size > 1: this trainer's ranks share batches, which are counted as if "
                "each were another; expected data parallelism alone (or a loop of your own, with "
                "StepLoader and the group of data-parallel ranks)"
            )


def _another_loss(what: str) -> ArgumentError:
    return ArgumentError(f"{what}; expected none, for VITW is the loss here")


def _other_losses(trainer: Any, base: Any) -> Iterable[tuple[bool, str]]:
    config: Any = getattr(base, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    loss_type = getattr(trainer.args, "loss_type", "nll")
    yield loss_type not in ("nll", "chunked_nll", None), f"loss_type = {loss_type!r}"
    routed = getattr(text, "output_router_logits", False)
    yield bool(routed), "output_router_logits, a loss of the experts' routing beside"
    encoder = getattr(config, "is_encoder_decoder", False)
    yield bool(encoder), "an encoder-decoder model, whose labels are not shifted"

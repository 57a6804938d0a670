"""Hugging Face's Trainer, from transformers 4.52 on, and what is made from it (TRL's SFTTrainer).

    trainer = VITWTrainer(model, args, ..., task_weights="weights.json")

The dataset keeps its `task` column up to the collator; the denominator of a step is counted where
the Trainer takes the batches of a step together; and the loss takes logits, labels and task ids.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from .._errors import ArgumentError, UnsupportedError
from ..methods import Method
from ..torch.module import VITWLinearLoss
from ..torch.places import Given
from .collator import TaskCollator
from .head import LinearHead
from .hooks import StepMixin, base_model
from .refusals import (
    another_loss,
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
        "transformers is not installed; VITWTrainer needs 4.52 or newer, and accelerate: "
        "pip install 'transformers[torch]>=4.52'"
    ) from missing

_VERSION = tuple(int(part) for part in transformers.__version__.split(".")[:2])
# Before, the last window of an epoch had as many batches as samples were left, and a step reached
# into the next epoch.
if _VERSION < (4, 52):
    raise ImportError(
        f"transformers is {transformers.__version__}; VITWTrainer needs 4.52 or newer, which takes "
        "the batches of a step together: pip install 'transformers[torch]>=4.52'"
    )

from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss  # noqa: E402

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
        method: changes the weights from step to step: a name of `visatb.METHODS`, which draws by
            the Trainer's `seed`, or a `visatb.Method`. Of task_weights then only the tasks count,
            and in evaluations the weights. Its state is kept with the optimizer's in checkpoints;
            a training that does not resume begins with the state that it has now.
        linear: compute the loss from hidden states and head, never holding all logits.
        inplace: write the gradient over the logits in training, which saves their size in memory;
            not for a model that keeps its logits for its own backward.
        z_loss: as in `vitw_loss`. Label smoothing is the Trainer's `label_smoothing_factor`.
        allow_weighted_sampling: the data is drawn by weights that are not the task weights.

    The logged loss is that of Eq. 2. "loss/<task>", the mean nll of a task's tokens, and
    "token_share/<task>" stand beside it; an evaluation has them too, and its loss is that of Eq. 2
    over all of its samples, whatever its batches and processes. With a method, "weight/<task>" too.

    Errors: ArgumentError and UnsupportedError for what would train another loss.
    """

    def __init__(
        self,
        *args: Any,
        task_weights: NamedWeights,
        tasks: Sequence[str] | None = None,
        task_column: str = "task",
        scope: Scope = "step",
        method: str | Method | None = None,
        linear: bool = False,
        inplace: bool = False,
        z_loss: float = 0.0,
        allow_weighted_sampling: bool = False,
        **kwargs: Any,
    ) -> None:
        table = TaskTable(task_weights, tasks)
        _warn_of_other_losses(type(self))
        self._task_column = task_column
        # As an argument, for TRL's trainer has a string for a function there.
        if kwargs.get("compute_loss_func") is not None:
            raise another_loss("compute_loss_func is given")
        self._allow_weighted_sampling = allow_weighted_sampling
        self._seen_loader: Any = None
        super().__init__(*args, **kwargs)
        mine: Any = self
        base = base_model(mine)
        loss_type = getattr(mine.args, "loss_type", "nll")
        if loss_type not in ("nll", "chunked_nll", None):
            raise another_loss(f"loss_type = {loss_type!r}")
        refuse_settings(mine, base)
        _refuse_model(base, linear=linear)
        if getattr(mine.args, "predict_with_generate", False):
            raise ArgumentError(
                "predict_with_generate=True; expected False, for an evaluation would hand the task "
                "ids to generate()"
            )
        # What older versions ask before they divide by the accumulation steps.
        mine.model_accepts_loss_kwargs = True
        mine.data_collator = TaskCollator(mine.data_collator, table, task_column)
        for dataset in _all_of(mine.train_dataset, mine.eval_dataset):
            refuse_unknown_tasks(dataset, table, task_column, _WHERE_TASKS_ARE)
        # Label smoothing is the Trainer's own setting.
        smoothing = float(mine.args.label_smoothing_factor)
        self._train_with(
            table,
            _given,
            scope=scope,
            method=method,
            seed=mine.args.seed,
            label_smoothing=smoothing,
            z_loss=z_loss,
        )
        self._inplace = inplace
        self._linear_loss = None
        if linear:
            refuse_zero3(mine.accelerator)
            self._linear_loss = VITWLinearLoss(
                table.weights, shift=True, return_stats=True, **self._options
            )
            self._head_of, self._head = mine.model, LinearHead(base, self._linear_loss)
        self._needs_logits = True

    # --- the task column ------------------------------------------------------------------------

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        columns: list[str] = self._signature_columns  # type: ignore[has-type]
        if self._task_column not in columns:
            self._signature_columns = [*columns, self._task_column]

    def get_train_dataloader(self) -> Any:
        """The Trainer's, whose batches say what the linear form must know."""
        mine: Any = self
        plain = mine.data_collator
        # The loaders of evaluations deal batches out among processes, which numbers do not survive.
        if self._linear_loss is not None:
            mine.data_collator = plain.counting()
        try:
            loader = super().get_train_dataloader()  # type: ignore[misc]
        finally:
            mine.data_collator = plain
        dealt = type(loader).__name__ == "DataLoaderDispatcher" and mine.args.world_size > 1
        if self._linear_loss is not None and dealt:
            raise UnsupportedError(
                "linear=True with batches that one process deals out to the others; expected "
                'accelerator_config={"dispatch_batches": False}'
            )
        return loader

    # --- the step -------------------------------------------------------------------------------

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """As `StepMixin`; of a loader that may be somebody else's, and draw by weight."""
        mine: Any = self
        loader = mine.callback_handler.train_dataloader
        if loader is not self._seen_loader and not self._allow_weighted_sampling:
            refuse_weighted_sampling(loader)
        self._seen_loader = loader
        return super().get_batch_samples(*args, **kwargs)

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
        if self._linear_loss is not None and not needs_logits:
            head = self._current_head(self._linear_loss)
            loss, stats, outputs = head.loss_of(model, inputs, task_ids, step)
            self._tell(stats, step)
        else:
            for key in ("labels", "shift_labels"):
                inputs.pop(key, None)
            outputs = model(**inputs)
            logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
            inplace = self._inplace and not return_outputs
            loss = self._loss_of_logits(logits, given, step, inplace=inplace)
        return (loss, outputs) if return_outputs else loss

    def _current_head(self, criterion: VITWLinearLoss) -> LinearHead:
        """The head of the model that is trained, which `model_init` makes anew."""
        mine: Any = self
        if self._head_of is not mine.model:
            self._head_of, self._head = mine.model, LinearHead(base_model(mine), criterion)
        return self._head

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
            remedy = {
                "labels": "the data_collator makes them",
                "task_ids": "the trainer's own collator adds them, so set data_collator when the "
                "trainer is made, not later",
            }[name]
            raise ArgumentError(
                f"a batch without {name!r} (it has: {', '.join(inputs)}); expected both labels and "
                f"task_ids: {remedy}"
            )
    return Given(labels, inputs["task_ids"], not shifted)


def _warn_of_other_losses(kind: type) -> None:
    """Says which compute_loss will not be called: that of a class behind the mixin."""
    behind = kind.__mro__[kind.__mro__.index(VITWTrainerMixin) + 1 :]
    for each in behind:
        known = each.__module__.partition(".")[0] in ("transformers", "trl")
        if "compute_loss" in vars(each) and not known:
            warnings.warn(
                f"{each.__name__}.compute_loss is not called, for VITW's takes its place; what it "
                "adds belongs into a subclass that calls super().compute_loss",
                stacklevel=3,
            )


def _refuse_model(base: Any, *, linear: bool) -> None:
    """Raises for a model that does not predict the next token of what it is given."""
    name = type(base).__name__
    loss: Any = LOSS_MAPPING.get(str(getattr(base, "loss_type", None)))
    if loss not in (None, ForCausalLMLoss):
        raise ArgumentError(
            f"{name} is trained by {getattr(loss, '__name__', loss)}; expected a causal language "
            "model, of which each token predicts the next"
        )
    # It looks at its labels for whether it is trained, and lets tokens see what comes after them.
    sees_ahead = getattr(base.config, "model_type", None) == "paligemma" and _VERSION < (5, 0)
    if sees_ahead and not linear:
        raise UnsupportedError(
            f"{name} of transformers {transformers.__version__}, whose answers see their own "
            "future where it is not given its labels; expected linear=True, or transformers 5"
        )


def _all_of(*datasets: Any) -> Iterable[Any]:
    """Each dataset that is there; those for evaluation may be a dict of several."""
    for dataset in datasets:
        if isinstance(dataset, dict):
            yield from dataset.values()
        elif dataset is not None:
            yield dataset

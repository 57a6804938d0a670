"""Tasks by the `channel` of ms-swift's datasets: all of its hook that needs no ms-swift."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._errors import ArgumentError, UnsupportedError
from ..torch.places import Given
from .hooks import StepMixin, base_model
from .refusals import refuse_settings, refuse_unknown_tasks
from .step import STEP, Step
from .tasks import TaskTable

CHANNEL = "channel"
TASK_IDS = "task_ids"

_REMEDY = (
    'a string in each row of the data; --columns \'{"task": "channel"}\' takes it from a column '
    "of another name"
)


class StepsOfChannels(StepMixin):
    """Before ms-swift's Seq2SeqTrainer: knows the tasks of a batch, and its step."""

    _micro_batch: tuple[Tensor, Step | None]

    def get_train_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """The trainer's, when the dataset's channels are tasks and the settings allow VITW."""
        mine: Any = self
        refuse_settings(mine, base_model(mine))
        dataset = _table_within(mine.train_dataset)
        refuse_unknown_tasks(dataset, self.tasks, CHANNEL, _REMEDY)
        return super().get_train_dataloader(*args, **kwargs)  # type: ignore[misc]

    def _given(self, batch: dict[str, Any]) -> Given:
        """The labels of a batch, and its task ids, which it keeps."""
        batch[TASK_IDS] = task_ids_of(batch, self.tasks, in_one_row=self._in_one_row)
        return Given(batch["labels"], batch[TASK_IDS], True)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        # A batch for evaluation belongs to no step, so that nobody has counted it.
        if TASK_IDS not in inputs and "labels" in inputs:
            self._given(inputs)
        prepared: dict[str, Any] = super()._prepare_inputs(inputs)  # type: ignore[misc]
        return prepared

    def prepare_logits_to_keep(self, inputs: dict[str, Any]) -> None:
        """The trainer's, which cuts labels short; and the task ids with them."""
        super().prepare_logits_to_keep(inputs)  # type: ignore[misc]
        if self._in_one_row:
            inputs[TASK_IDS] = kept(inputs[TASK_IDS], inputs["logits_to_keep"])

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The trainer's, whose loss is told what it is not given."""
        # Without it ms-swift does not multiply by the number of ranks: the Step does that.
        del num_items_in_batch
        self._micro_batch = inputs.pop(TASK_IDS), inputs.pop(STEP, None)
        return super().compute_loss(model, inputs, return_outputs)  # type: ignore[misc]

    def loss_of_micro_batch(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What the loss of ms-swift returns, within `compute_loss`."""
        task_ids, step = self._micro_batch
        return self._loss_of_logits(logits, Given(labels, task_ids, True), step)

    @property
    def _in_one_row(self) -> bool:
        padding_free: bool = self.template.padding_free  # type: ignore[attr-defined]
        return padding_free


def task_ids_of(batch: dict[str, Any], tasks: TaskTable, *, in_one_row: bool) -> Tensor:
    """The ids of a batch's channels, [batch] int64; [1, tokens] if its samples lie in one row."""
    labels: Tensor = batch["labels"]
    channels = batch.get(CHANNEL)
    if channels is None:
        raise ArgumentError(
            f"a batch without {CHANNEL!r} (it has: {', '.join(batch)}); expected the task of each "
            f"sample, by name: {_REMEDY}"
        )
    ids = torch.tensor(
        [tasks.id_of(channel, f"the {CHANNEL} of a sample") for channel in channels],
        dtype=torch.int64,
        device=labels.device,
    )
    if not in_one_row:
        return ids
    positions: Tensor = batch.get("text_position_ids", batch["position_ids"])[0]
    starts = (positions == 0).nonzero().squeeze(1)
    if len(starts) != len(ids):
        raise UnsupportedError(
            f"padding_free or packing: {len(starts)} sequences by their position_ids, but "
            f"{len(ids)} channels; expected as many: --padding_free false --packing false"
        )
    end = torch.tensor([labels.shape[1]], device=labels.device)
    return ids.repeat_interleave(torch.cat([starts, end]).diff()).unsqueeze(0)


def kept(task_ids: Tensor, logits_to_keep: Tensor | int) -> Tensor:
    """The task ids [1, tokens] of the labels that ms-swift keeps, for these logits.

    Args:
        task_ids: of all labels.
        logits_to_keep: how many of the last, or for each token whether it predicts a label that is
            not ignored; the last token always seems to. A place that nothing predicts stands before
            those labels.
    """
    if isinstance(logits_to_keep, int):
        return task_ids[:, -logits_to_keep:]
    predicted = task_ids[:, 1:][:, logits_to_keep[:-1]]
    return torch.nn.functional.pad(predicted, (1, 0))


def refuse_swift_settings(args: Any, template: Any) -> None:
    """Raises for what ms-swift may be told, and VITW cannot be with.

    Args:
        args: ms-swift's training arguments.
        template: what makes its batches.

    Errors: ArgumentError, UnsupportedError.
    """
    if args.enable_dft_loss:
        raise ArgumentError(
            "--enable_dft_loss true; expected false, for ms-swift would compute that loss and then "
            "train with VITW alone"
        )
    if args.router_aux_loss_coef > 0:
        raise ArgumentError(
            f"--router_aux_loss_coef {args.router_aux_loss_coef}; expected 0, for that loss of the "
            "experts' routing is not divided by the step's denominator"
        )
    if template.sequence_parallel_size > 1:
        raise UnsupportedError(
            f"--sequence_parallel_size {template.sequence_parallel_size}; expected 1: ranks that "
            "share a sequence would each count its tokens, and none has all its logits"
        )
    if args.deepspeed and "tensor_parallel" in args.deepspeed:
        raise UnsupportedError(
            "--deepspeed_autotp_size; expected none: ranks that share batches would be counted as "
            "if each had another"
        )


def _table_within(dataset: Any) -> Any:
    """The dataset that has columns, inside of those that tokenize and pack it."""
    while not hasattr(dataset, "column_names") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return dataset

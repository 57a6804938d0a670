"""Task ids in every batch, from the tasks that a dataset names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._errors import ArgumentError
from .step import VALID_ROWS
from .tasks import TaskTable

Item = Any


class TaskCollator:
    """Another collator, whose batches have task ids too.

    Every item has its task in a column, by name or by id; the other collator does not see it. The
    batch gets "task_ids", int64 [batch]; or [1, tokens], by token, where the other collator lays
    the items one behind the other in one row.

    Args:
        collator: what makes a batch of a list of items.
        tasks: which tasks there are.
        column: where an item has its task.

    Errors, when a batch is made: ArgumentError for an item without a task, and for one that the
    weights do not have.
    """

    def __init__(
        self,
        collator: Callable[[list[Item]], Any],
        tasks: TaskTable,
        column: str = "task",
    ) -> None:
        self.collator = collator
        self._counts_valid = False
        self._tasks = tasks
        self._column = column

    def __call__(self, items: Sequence[Item]) -> dict[str, Any]:
        """The batch of these items; as it is where there are neither tasks nor labels."""
        lengths = [_length(item) for item in items]
        others = [{k: v for k, v in item.items() if k != self._column} for item in items]
        batch: dict[str, Any] = self.collator(others)
        if "labels" not in batch and not any(self._column in item for item in items):
            return batch
        where = f"column {self._column!r}"
        ids = [self._tasks.id_of(self._task_of(item), where) for item in items]
        task_ids = torch.tensor(ids, dtype=torch.int64)
        batch["task_ids"] = _laid_out(task_ids, lengths, batch.get("labels"))
        if self._counts_valid and "labels" in batch:
            batch[VALID_ROWS] = int((batch["labels"][:, 1:] != -100).sum())
        return batch

    def counting(self) -> TaskCollator:
        """The same, whose batches also say how many of their labels, shifted, are not ignored.

        As an int, for the linear form on a GPU, which must know it on the host.
        """
        other = copy.copy(self)
        other._counts_valid = True
        return other

    def __getattr__(self, name: str) -> Any:
        # While it is unpickled, in a worker of a DataLoader, there is no collator yet.
        if "collator" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["collator"], name)

    def _task_of(self, item: Item) -> Any:
        if self._column in item:
            return item[self._column]
        raise ArgumentError(
            f"an item of the dataset has no {self._column!r} (it has: "
            f"{', '.join(map(str, item))}); expected its task, by name or id: task_column= says "
            "which column has it. If the dataset has that column, something has dropped it, as "
            "packing does, which puts several items into one; remove_unused_columns=False keeps it "
            "for a Trainer that is not VITW's"
        )


def _length(item: Item) -> int | None:
    tokens = item.get("input_ids")
    return None if tokens is None else len(tokens)


def _laid_out(task_ids: Tensor, lengths: list[int | None], labels: Any) -> Tensor:
    """By sequence; by token where several sequences came to lie in one row."""
    if not isinstance(labels, Tensor) or labels.dim() != 2 or len(labels) == len(task_ids):
        return task_ids
    tokens = labels.shape[1]
    known = [length for length in lengths if length is not None]
    if len(labels) == 1 and len(known) == len(lengths) and sum(known) <= tokens:
        by_token = task_ids.repeat_interleave(torch.tensor(known))
        # What a collator fills a row up with is not trained on.
        return torch.nn.functional.pad(by_token, (0, tokens - len(by_token))).unsqueeze(0)
    raise ArgumentError(
        f"the collator makes labels of shape {tuple(labels.shape)} from {len(task_ids)} items; "
        "expected a row for each, or all of them in one row"
    )

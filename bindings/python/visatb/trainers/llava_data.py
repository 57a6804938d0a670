"""LLaVA's datasets with the task of each item, and batches that tell their tokens by task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import Dataset

from .._errors import ArgumentError
from ..torch.denominator import count_task_tokens
from ..torch.places import Given
from .llava_replay import LabelReplay
from .step import VALID_ROWS, Batch
from .tasks import TaskTable

# Where a batch carries what was counted of it.
TOKENS = "visatb_task_tokens"

NO_TASK_IDS = (
    "a batch with labels and without task_ids; expected those that the collator added: was the "
    "trainer's data_collator changed after visatb.trainers.llava.install, or "
    "remove_unused_columns set?"
)

Collator = Callable[[Sequence[Any]], Batch]


def with_tasks(dataset: Any, tasks: TaskTable, field: str, what: str) -> Any:
    """A dataset whose items have their task, or the dataset itself if it is none of LLaVA's.

    Args:
        dataset: one of LLaVA's has its samples in `list_data_dict`; all of them are looked at.
        tasks: those that there are.
        field: of a sample: its task, by name or id.
        what: how messages call the dataset.

    Errors: ArgumentError for a sample without a task, or with one that has no weight.
    """
    samples = getattr(dataset, "list_data_dict", None)
    if samples is None:
        return dataset
    for number, sample in enumerate(samples):
        if field not in sample:
            raise ArgumentError(
                f"sample {number} of {what} has no {field!r} (it has: {', '.join(sample)}); "
                "expected its task, by name or id: task_field= says where it stands"
            )
    tasks.check({sample[field] for sample in samples}, f"{field!r} of {what}")
    return WithTasks(dataset, field)


class WithTasks(Dataset[Any]):
    """A LazySupervisedDataset whose items have their task."""

    def __init__(self, dataset: Any, field: str) -> None:
        self._dataset = dataset
        self._field = field

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item: dict[str, Any] = self._dataset[index]
        return {**item, self._field: self._sample_of(index, item)[self._field]}

    def __getattr__(self, name: str) -> Any:
        # While it is unpickled, in a worker of a DataLoader, there is no dataset yet.
        if "_dataset" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["_dataset"], name)

    def _sample_of(self, index: int, item: dict[str, Any]) -> dict[str, Any]:
        """Which sample the item is: some datasets give the next one for an image that is broken."""
        samples: list[dict[str, Any]] = self._dataset.list_data_dict
        if "id" not in item or item["id"] == samples[index].get("id", index):
            return samples[index]
        found = [sample for sample in samples if sample.get("id") == item["id"]]
        if len({sample[self._field] for sample in found}) != 1:
            raise ArgumentError(
                f"the dataset gives sample {item['id']!r} for number {index}, and {len(found)} "
                "samples have that id; expected one, or several of one task"
            )
        return found[0]


class CountingCollator:
    """A collator whose batches tell the tokens that their labels will have in the model."""

    def __init__(self, collator: Collator, replay: LabelReplay, tasks: int) -> None:
        self._collator = collator
        self._replay = replay
        self._tasks = tasks

    def __call__(self, items: Sequence[Any]) -> Batch:
        """The batch, with its tokens by task and the number of its valid rows."""
        batch = self._collator(items)
        if "task_ids" not in batch:
            raise ArgumentError(NO_TASK_IDS)
        given = Given(self._replay.labels_of(batch), batch["task_ids"], shift=True)
        batch[TOKENS] = count_task_tokens(given, self._tasks)
        batch[VALID_ROWS] = int(batch[TOKENS].sum())
        return batch

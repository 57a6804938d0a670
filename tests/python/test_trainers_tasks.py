"""Task names, their ids, and the collator that carries them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from visatb import ArgumentError, compute_weights  # noqa: E402
from visatb.trainers import TaskCollator, TaskTable  # noqa: E402

WEIGHTS = {"vqa": 0.5, "ocr": 2.0, "chat": 1.0}


@pytest.fixture
def weights_json(examples: Path, folder: Path) -> Path:
    path = folder / "weights.json"
    compute_weights(examples / "full.json").save(path)
    return path


def test_names_and_weights_come_from_a_weights_json(weights_json: Path, examples: Path) -> None:
    document = json.loads(weights_json.read_text())
    for source in (weights_json, str(weights_json), compute_weights(examples / "full.json")):
        table = TaskTable(source)
        assert table.names == document["tasks"]
        expected = np.float32([document["weights"][name] for name in document["tasks"]])
        np.testing.assert_array_equal(table.weights.numpy(), expected)
        assert [table.id_of(name, "data") for name in document["tasks"]] == [0, 1, 2, 3]


def test_another_order_of_ids_takes_its_weights_along(weights_json: Path) -> None:
    table = TaskTable(weights_json, tasks=["grounding", "caption"])
    whole = TaskTable(weights_json)
    assert table.id_of("grounding", "data") == 0
    assert float(table.weights[0]) == float(whole.weights[whole.id_of("grounding", "data")])
    assert TaskTable(WEIGHTS, tasks=["chat", "vqa"]).weights.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("number", [1, np.int32(1), torch.tensor(1), torch.tensor([1])])
def test_a_dataset_may_number_its_tasks(number: Any) -> None:
    assert TaskTable(WEIGHTS).id_of(number, "data") == 1
    assert TaskTable([1.0, 2.0]).id_of(number, "data") == 1


def test_weights_without_names_can_be_named() -> None:
    assert TaskTable([1.0, 2.0], tasks=["a", "b"]).id_of("b", "data") == 1
    assert TaskTable([1.0, 2.0]).label(1) == "1"
    assert TaskTable([1.0, 2.0], tasks=["a", "b"]).label(1) == "b"


@pytest.mark.parametrize("task", ["VQA", "", None, True, 1.0, 3, -1, torch.tensor(1.0)])
def test_a_task_without_a_weight_is_refused(task: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        TaskTable(WEIGHTS).id_of(task, "column 'task'")
    assert str(caught.value) == (
        f"column 'task': task {task!r}; expected one of those that the task weights have: "
        "vqa, ocr, chat"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TaskTable([1.0, 2.0]).id_of("vqa", "data"),
            "data: task 'vqa'; expected an id in [0, 2), for these task weights have no names",
        ),
        (
            lambda: TaskTable([1.0, 2.0], tasks=["a"]),
            "tasks names 1 tasks with 2 task_weights; expected as many names as weights",
        ),
        (
            lambda: TaskTable([1.0, 2.0], tasks=["a", "a"]),
            "tasks names a more than once; expected once",
        ),
        (
            lambda: TaskTable(WEIGHTS, tasks=["vqa", "vga"]),
            "tasks names 'vga'; expected names that the weights have: vqa, ocr, chat",
        ),
    ],
)
def test_wrong_tables(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make()
    assert str(caught.value) == message


# --- the collator -------------------------------------------------------------------------------


def padded(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A row for each item."""
    assert all("task" not in item for item in items), "the collator sees the task"
    rows = [torch.tensor(item["labels"]) for item in items]
    return {"labels": torch.nn.utils.rnn.pad_sequence(rows, True, -100)}


def flattened(items: list[dict[str, Any]]) -> dict[str, Any]:
    """All items in one row, and two more tokens to make it a round number."""
    words = [word for item in items for word in [-100, *item["labels"][1:]]]
    return {"labels": torch.tensor([[*words, -100, -100]])}


def make_items(*tasks: Any) -> list[dict[str, Any]]:
    lengths = range(2, 2 + len(tasks))
    return [
        {"input_ids": [1] * length, "labels": [5] * length, "task": task}
        for length, task in zip(lengths, tasks, strict=True)
    ]


def test_a_batch_has_the_ids_of_its_items() -> None:
    batch = TaskCollator(padded, TaskTable(WEIGHTS))(make_items("chat", "vqa", 1))
    assert batch["task_ids"].tolist() == [2, 0, 1]
    assert batch["task_ids"].dtype == torch.int64
    assert "visatb_valid_rows" not in batch


def test_items_in_one_row_have_ids_by_token() -> None:
    batch = TaskCollator(flattened, TaskTable(WEIGHTS))(make_items("chat", "vqa"))
    assert batch["task_ids"].tolist() == [[2, 2, 0, 0, 0, 0, 0]]
    assert batch["task_ids"].shape == batch["labels"].shape


def test_valid_rows_are_counted_where_they_are_wanted() -> None:
    collate = TaskCollator(padded, TaskTable(WEIGHTS)).counting()
    assert collate(make_items("chat", "vqa"))["visatb_valid_rows"] == 1 + 2


def test_another_column() -> None:
    items = [{"labels": [1, 2], "source": "ocr"}]
    batch = TaskCollator(padded, TaskTable(WEIGHTS), "source")(items)
    assert batch["task_ids"].tolist() == [1]


def test_what_the_collator_has_besides_is_there_too() -> None:
    class Collator:
        tokenizer = "a tokenizer"

        def __call__(self, items: list[Any]) -> dict[str, Any]:
            return padded(items)

    collate = TaskCollator(Collator(), TaskTable(WEIGHTS))
    assert collate.tokenizer == "a tokenizer"
    again = pickle.loads(pickle.dumps(TaskCollator(padded, TaskTable(WEIGHTS))))
    assert again(make_items("ocr"))["task_ids"].tolist() == [1]


def test_an_item_without_a_task_is_refused_with_what_keeps_it() -> None:
    items = make_items("vqa", "ocr")
    del items[1]["task"]
    with pytest.raises(ArgumentError) as caught:
        TaskCollator(padded, TaskTable(WEIGHTS))(items)
    assert str(caught.value) == (
        "an item of the dataset has no 'task' (it has: input_ids, labels); expected its task, by "
        "name or id: task_column= says which column has it. If the dataset has that column, "
        "something has dropped it, as packing does, which puts several items into one; "
        "remove_unused_columns=False keeps it for a Trainer that is not VITW's"
    )


def test_without_labels_there_need_be_no_tasks() -> None:
    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        return {"input_ids": torch.tensor([item["input_ids"] for item in items])}

    batch = TaskCollator(collate, TaskTable(WEIGHTS))([{"input_ids": [1]}, {"input_ids": [2]}])
    assert list(batch) == ["input_ids"]


def test_rows_that_are_not_the_items_are_refused() -> None:
    def in_two_rows(items: list[Any]) -> dict[str, Any]:
        del items
        return {"labels": torch.zeros(2, 4, dtype=torch.int64)}

    with pytest.raises(ArgumentError) as caught:
        TaskCollator(in_two_rows, TaskTable(WEIGHTS))(make_items("vqa", "ocr", "chat"))
    assert str(caught.value) == (
        "the collator makes labels of shape (2, 4) from 3 items; expected a row for each, or all "
        "of them in one row"
    )

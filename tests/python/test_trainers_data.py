"""Hugging Face's Trainer over every kind of dataset, and the models that it makes itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.6", reason="PyTorch 2.6 or newer is needed")
transformers = pytest.importorskip("transformers", reason="transformers is needed")
datasets = pytest.importorskip("datasets", reason="datasets is needed")
pytest.importorskip("accelerate", reason="accelerate is needed")

from trainer_ranks import TASKS, Samples, collate, make_model  # noqa: E402

from visatb import ArgumentError, Error  # noqa: E402
from visatb.trainers import VITWTrainer, VITWTrainerMixin  # noqa: E402
from visatb.trainers.hooks import StepMixin  # noqa: E402

SAMPLES = Samples().items[:24]
ROWS = [
    {key: value if key == "task" else value.tolist() for key, value in item.items()}
    for item in SAMPLES
]


class Streamed(torch.utils.data.IterableDataset):
    """The samples, one after the other, of a number that nobody knows."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from SAMPLES


def from_lists(items: list[dict[str, Any]]) -> dict[str, Any]:
    return collate(
        [{key: torch.as_tensor(item[key]) for key in ("input_ids", "labels")} for item in items]
    )


def make_trainer(folder: Path, dataset: Any, model: Any = None, **options: Any) -> Any:
    arguments = transformers.TrainingArguments(
        str(folder),
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        max_steps=3,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        gradient_accumulation_steps=2,
        logging_steps=1,
        train_sampling_strategy="sequential",
        dataloader_pin_memory=False,
    )
    if model is None and "model_init" not in options:
        model = make_model()
    options = {"task_weights": TASKS, "eval_dataset": dataset, **options}
    return VITWTrainer(model, arguments, train_dataset=dataset, data_collator=from_lists, **options)


def losses(trainer: Any) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of the samples in a list."""
    return losses(make_trainer(tmp_path_factory.mktemp("listed"), SAMPLES))


KINDS = {
    "IterableDataset": Streamed,
    "datasets": lambda: datasets.Dataset.from_list(ROWS),
    "datasets, streamed": lambda: datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
    "datasets, chosen": lambda: datasets.Dataset.from_list(ROWS + ROWS).select(range(24)),
}


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_dataset(
    tmp_path: Path, expected: list[float], kind: str, linear: bool
) -> None:
    trainer = make_trainer(tmp_path, KINDS[kind](), linear=linear)
    assert losses(trainer) == pytest.approx(expected, rel=1e-5)
    assert trainer.evaluate()["eval_token_share/caption"] > 0


def test_the_linear_form_is_told_on_the_host_how_many_rows_are_valid(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, SAMPLES, linear=True)
    for batch in trainer.get_train_dataloader():
        assert batch["visatb_valid_rows"] == (batch["labels"][:, 1:] != -100).sum()
    assert all("visatb_valid_rows" not in batch for batch in trainer.get_eval_dataloader())
    plain = make_trainer(tmp_path, SAMPLES)
    assert all("visatb_valid_rows" not in batch for batch in plain.get_train_dataloader())


def test_a_model_that_the_trainer_makes_itself(tmp_path: Path, expected: list[float]) -> None:
    trainer = make_trainer(tmp_path, SAMPLES, model_init=make_model, linear=True)
    assert losses(trainer) == pytest.approx(expected, rel=1e-5)


def test_predictions_without_labels_need_no_tasks(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, SAMPLES)
    trainer.data_collator.collator = lambda items: {
        "input_ids": torch.stack([item["input_ids"] for item in items])
    }
    found = trainer.predict([{"input_ids": item["input_ids"]} for item in SAMPLES[:4]])
    assert found.predictions.shape[0] == 4
    assert "test_loss" not in found.metrics


def test_a_class_label_in_another_order_is_refused(tmp_path: Path) -> None:
    numbered = datasets.Dataset.from_list(ROWS).class_encode_column("task")
    with pytest.raises(ArgumentError) as caught:
        make_trainer(tmp_path, numbered, task_weights={"vqa": 1.7, "caption": 0.4, "ocr": 1.0})
    assert str(caught.value) == (
        "column 'task' of a dataset is a ClassLabel, whose numbers are those of caption, ocr, vqa; "
        "expected the order of the task weights, vqa, caption, ocr: tasks=['caption', 'ocr', 'vqa']"
        " takes the dataset's"
    )
    trainer = make_trainer(tmp_path, numbered, task_weights=TASKS, tasks=["caption", "ocr", "vqa"])
    assert trainer.tasks.names == ["caption", "ocr", "vqa"]


WEIGHTED = (
    "the training data is drawn by {}; expected each sample as often as any other, for to sample "
    "by weights and to weigh the loss by them squares them. If those are not the task weights: "
    "allow_weighted_sampling=True"
)


def test_data_that_is_drawn_by_weight_is_refused(tmp_path: Path) -> None:
    class Drawn(VITWTrainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.WeightedRandomSampler([1.0] * 24, 24)

    arguments = make_trainer(tmp_path, SAMPLES).args
    options = {"train_dataset": SAMPLES, "data_collator": from_lists, "task_weights": TASKS}
    with pytest.raises(ArgumentError) as caught:
        Drawn(make_model(), arguments, **options).train()
    assert str(caught.value) == WEIGHTED.format("a WeightedRandomSampler")
    Drawn(make_model(), arguments, **options, allow_weighted_sampling=True).train()


def test_a_loader_of_ones_own_that_draws_by_weight_is_refused(tmp_path: Path) -> None:
    class Loaded(VITWTrainer):
        def get_train_dataloader(self) -> Any:
            sampler = torch.utils.data.WeightedRandomSampler([1.0] * 24, 24)
            return torch.utils.data.DataLoader(
                SAMPLES, 4, sampler=sampler, collate_fn=self.data_collator
            )

    options = {"train_dataset": SAMPLES, "data_collator": from_lists, "task_weights": TASKS}
    with pytest.raises(ArgumentError) as caught:
        Loaded(make_model(), make_trainer(tmp_path, SAMPLES).args, **options).train()
    assert str(caught.value) == WEIGHTED.format("a WeightedRandomSampler")


def test_a_compute_loss_behind_the_mixin_is_not_called_and_said_so(tmp_path: Path) -> None:
    class Old(transformers.Trainer):
        def compute_loss(self, *_: Any, **__: Any) -> Any:
            raise AssertionError

    class New(VITWTrainerMixin, Old):
        pass

    options = {"train_dataset": SAMPLES, "data_collator": from_lists, "task_weights": TASKS}
    arguments = make_trainer(tmp_path, SAMPLES).args
    with pytest.warns(UserWarning, match=r"^Old.compute_loss is not called, for VITW's takes its"):
        New(make_model(), arguments, **options).train()


def test_a_compute_loss_before_the_mixin_that_leaves_vitw_out_is_an_error(tmp_path: Path) -> None:
    class Own(VITWTrainer):
        def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
            return model(inputs["input_ids"], labels=inputs["labels"]).loss

    options = {"train_dataset": SAMPLES, "data_collator": from_lists, "task_weights": TASKS}
    with pytest.raises(Error) as caught:
        Own(make_model(), make_trainer(tmp_path, SAMPLES).args, **options).train()
    assert str(caught.value) == (
        "Own.compute_loss has taken the place of VITW's, which was not called; expected it to call "
        "super().compute_loss, or none"
    )


def test_a_wrong_task_in_a_list_is_found_at_once(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError) as caught:
        make_trainer(tmp_path, [*SAMPLES, {**SAMPLES[0], "task": "orc"}])
    assert str(caught.value) == (
        "item 24 of a dataset: task 'orc'; expected one of those that the task weights have: "
        "caption, vqa, ocr"
    )


def test_streams_that_are_mixed_by_probabilities_are_refused(tmp_path: Path) -> None:
    stream = datasets.Dataset.from_list(ROWS).to_iterable_dataset()
    mixed = datasets.interleave_datasets([stream, stream], probabilities=[0.9, 0.1], seed=0)
    with pytest.raises(ArgumentError) as caught:
        make_trainer(tmp_path, mixed).train()
    assert str(caught.value) == WEIGHTED.format("datasets.interleave_datasets(probabilities=...)")


@pytest.mark.parametrize(
    ("rank", "remainder", "labels", "positions", "kept", "is_last"),
    [
        # 5 samples on two ranks of 3 a batch: the second rank's last is there to fill up.
        (0, 5, [[1, 2]] * 3, None, 3, True),
        (1, 5, [[1, 2]] * 3, None, 2, True),
        (1, 5, [[1, 2]] * 3, None, 3, False),
        (1, 3, [[1, 2]] * 3, None, 0, True),
        (1, 0, [[1, 2]] * 3, None, 3, True),
        # The same in one row.
        (0, 5, [[1, 2] * 3], [[0, 1] * 3], 3, True),
        (1, 5, [[1, 2] * 3], [[0, 1] * 3], 2, True),
        (1, 5, [[1, 2] * 3], [[0, 1] * 3], 3, False),
        (1, 3, [[1, 2] * 3], [[0, 1] * 3], 0, True),
    ],
)
def test_an_evaluation_ignores_samples_that_fill_up_a_batch(
    rank: int, remainder: int, labels: list[list[int]], positions: Any, kept: int, is_last: bool
) -> None:
    class Trainer:
        def prediction_step(self, _: Any, inputs: dict[str, Any]) -> Any:
            return inputs

    class Mixed(StepMixin, Trainer):
        accelerator = SimpleNamespace(
            gradient_state=SimpleNamespace(end_of_dataloader=is_last, remainder=remainder)
        )
        args = SimpleNamespace(process_index=rank)

    given = {"labels": torch.tensor(labels)}
    if positions is not None:
        given["position_ids"] = torch.tensor(positions)
    found = Mixed().prediction_step(None, given)["labels"]
    assert (found != -100).sum() == 2 * kept
    assert (given["labels"] != -100).all()

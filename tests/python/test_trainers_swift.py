"""The hook for ms-swift: its parts, and where ms-swift is there, real trainings by it."""

from __future__ import annotations

import enum
import importlib
import importlib.util
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT

pytest.importorskip("torch", reason="the hooks for trainers need PyTorch")

import torch
import torch.distributed as dist
from torch import Tensor

from visatb import ArgumentError, UnsupportedError
from visatb.trainers import TaskTable
from visatb.trainers.channels import (
    StepsOfChannels,
    kept,
    refuse_swift_settings,
    task_ids_of,
)
from visatb.trainers.refusals import refuse_processes_apart

HAS_SWIFT = importlib.util.find_spec("swift") is not None and (
    importlib.util.find_spec("swift.loss") is not None
)
needs_swift = pytest.mark.skipif(
    not HAS_SWIFT,
    reason="ms-swift is not installed (examples/trainers/ms_swift/requirements.txt)",
)

WEIGHTS = {"caption": 0.4, "vqa": 1.7, "ocr": 0.9}
VOCAB = 11


@pytest.fixture
def tasks() -> TaskTable:
    return TaskTable(WEIGHTS)


def test_a_row_has_the_id_of_its_channel(tasks: TaskTable) -> None:
    batch = {"labels": torch.zeros(3, 4, dtype=torch.int64), "channel": ["ocr", "caption", "vqa"]}
    ids = task_ids_of(batch, tasks, in_one_row=False)
    assert ids.dtype == torch.int64
    assert ids.tolist() == [2, 0, 1]


def test_samples_in_one_row_have_their_ids_token_by_token(tasks: TaskTable) -> None:
    batch = {
        "labels": torch.zeros(1, 6, dtype=torch.int64),
        "position_ids": torch.tensor([[0, 1, 2, 0, 0, 1]]),
        "channel": ["vqa", "caption", "ocr"],
    }
    ids = task_ids_of(batch, tasks, in_one_row=True)
    assert ids.tolist() == [[1, 1, 1, 0, 2, 2]]


def test_models_of_several_positions_a_token_have_text_positions_beside(tasks: TaskTable) -> None:
    batch = {
        "labels": torch.zeros(1, 4, dtype=torch.int64),
        # An image's tokens share positions, so that these say nothing about samples.
        "position_ids": torch.zeros(3, 1, 4, dtype=torch.int64),
        "text_position_ids": torch.tensor([[0, 1, 2, 0]]),
        "channel": ["vqa", "ocr"],
    }
    assert task_ids_of(batch, tasks, in_one_row=True).tolist() == [[1, 1, 1, 2]]


def test_other_numbers_of_samples_and_channels_are_refused(tasks: TaskTable) -> None:
    batch = {
        "labels": torch.zeros(1, 4, dtype=torch.int64),
        "position_ids": torch.tensor([[0, 1, 0, 1]]),
        "channel": ["vqa", "ocr", "ocr"],
    }
    with pytest.raises(UnsupportedError, match="2 sequences by their position_ids, but 3 channels"):
        task_ids_of(batch, tasks, in_one_row=True)


@pytest.mark.parametrize("missing", [None, "chat", ""])
def test_a_channel_that_is_no_task_is_refused(tasks: TaskTable, missing: str | None) -> None:
    batch = {"labels": torch.zeros(2, 4, dtype=torch.int64), "channel": ["vqa", missing]}
    with pytest.raises(ArgumentError) as error:
        task_ids_of(batch, tasks, in_one_row=False)
    assert str(error.value) == (
        f"the channel of a sample: task {missing!r}; expected one of those that the task weights "
        "have: caption, vqa, ocr"
    )


def test_a_batch_without_channels_is_refused_with_a_remedy(tasks: TaskTable) -> None:
    batch = {"labels": torch.zeros(2, 4, dtype=torch.int64), "input_ids": torch.zeros(2, 4)}
    with pytest.raises(ArgumentError) as error:
        task_ids_of(batch, tasks, in_one_row=False)
    assert "a batch without 'channel' (it has: labels, input_ids)" in str(error.value)
    assert '--columns \'{"task": "channel"}\'' in str(error.value)


def cut(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(labels, logits_to_keep) as ms-swift cuts a single row: what is ignored goes."""
    valid = (labels != -100)[0]
    shorter = torch.nn.functional.pad(labels[:, valid], (1, 0), value=-100)
    return shorter, torch.nn.functional.pad(valid[1:], (0, 1), value=True)


@pytest.mark.parametrize(
    "labels",
    [
        [[-100, -100, 5, 6, -100, -100, 7, 8, 9]],
        [[-100, 5, -100, -100]],
        [[-100, -100, -100]],
    ],
)
def test_labels_keep_their_tasks_where_ms_swift_cuts_them_out(labels: list[list[int]]) -> None:
    whole = torch.tensor(labels)
    task_ids = torch.arange(whole.shape[1]).unsqueeze(0)
    shorter, logits_to_keep = cut(whole)
    their_ids = kept(task_ids, logits_to_keep)
    assert their_ids.shape == shorter.shape
    assert int(logits_to_keep.sum()) == shorter.shape[1]
    valid = shorter != -100
    assert their_ids[valid].tolist() == task_ids[whole != -100].tolist()


def test_labels_keep_their_tasks_where_ms_swift_keeps_the_last() -> None:
    task_ids = torch.tensor([[0, 0, 1, 1, 2]])
    assert kept(task_ids, 3).tolist() == [[1, 1, 2]]
    # Nothing to train on: it asks for one more than there are.
    assert kept(task_ids, 6).tolist() == task_ids.tolist()


def settings(**changed: Any) -> tuple[Any, Any]:
    args = {"enable_dft_loss": False, "router_aux_loss_coef": 0.0, "deepspeed": None}
    template = {"sequence_parallel_size": 1}
    for name, value in changed.items():
        (template if name in template else args)[name] = value
    return SimpleNamespace(**args), SimpleNamespace(**template)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"enable_dft_loss": True}, "--enable_dft_loss true; expected false"),
        ({"router_aux_loss_coef": 0.01}, "--router_aux_loss_coef 0.01; expected 0"),
        ({"sequence_parallel_size": 2}, "--sequence_parallel_size 2; expected 1"),
        ({"deepspeed": {"tensor_parallel": {"autotp_size": 2}}}, "--deepspeed_autotp_size"),
    ],
)
def test_other_losses_and_shared_batches_are_refused(changed: dict[str, Any], what: str) -> None:
    refuse_swift_settings(*settings(deepspeed={"zero_optimization": {"stage": 2}}))
    with pytest.raises((ArgumentError, UnsupportedError)) as error:
        refuse_swift_settings(*settings(**changed))
    assert what in str(error.value)


class DistributedType(enum.Enum):
    """Of accelerate's, the two that matter here."""

    NO = "NO"
    MULTI_CPU = "MULTI_CPU"


def test_processes_that_accelerate_leaves_apart_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apart = SimpleNamespace(distributed_type=DistributedType.NO)
    refuse_processes_apart(apart)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    refuse_processes_apart(SimpleNamespace(distributed_type=DistributedType.MULTI_CPU))
    with pytest.raises(UnsupportedError, match="2 processes that accelerate leaves apart"):
        refuse_processes_apart(apart)


class StandIn:
    """What ms-swift's Seq2SeqTrainer does with batches, its loss and the number of ranks."""

    def __init__(self, windows: list[list[dict[str, Any]]], processes: int) -> None:
        self.windows = iter(windows)
        self.processes = processes
        self.template = SimpleNamespace(padding_free=False)
        self.model = SimpleNamespace(training=True)
        self.state = SimpleNamespace(global_step=0)

    def get_batch_samples(self) -> tuple[list[Any], Tensor]:
        return next(self.windows), torch.tensor(999)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        del model, return_outputs
        inputs.pop("channel", None)
        assert set(inputs) == {"labels", "logits"}, "the model would be given the rest"
        loss: Tensor = self.loss_of_micro_batch(inputs["logits"], inputs["labels"])  # type: ignore[attr-defined]
        return loss if num_items_in_batch is None else loss * self.processes


class Trainer(StepsOfChannels, StandIn):
    """As the loss makes one."""


def make_batches() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(2)
    batches = []
    for length, channels in ((4, ["vqa", "caption"]), (9, ["ocr"]), (6, ["caption", "caption"])):
        labels = torch.randint(0, VOCAB, (len(channels), length), generator=generator)
        labels[:, :2] = -100
        logits = torch.randn(len(channels), length, VOCAB, generator=generator)
        batches.append({"labels": labels, "logits": logits, "channel": channels})
    return batches


def equation_two(batches: list[dict[str, Any]]) -> float:
    """As it is written, over all micro-batches."""
    numerator = denominator = 0.0
    for batch in batches:
        log_p = batch["logits"][:, :-1].double().log_softmax(-1)
        for row, channel in enumerate(batch["channel"]):
            for place, label in enumerate(batch["labels"][row, 1:].tolist()):
                if label != -100:
                    numerator -= WEIGHTS[channel] * float(log_p[row, place, label])
                    denominator += WEIGHTS[channel]
    return numerator / denominator


def test_the_losses_of_a_step_add_up_to_equation_two(tasks: TaskTable) -> None:
    expected = equation_two(make_batches())
    batches = make_batches()
    trainer = Trainer([batches], processes=1)
    trainer._train_with(tasks, trainer._given)
    taken, items = trainer.get_batch_samples()
    losses = [float(trainer.compute_loss(None, batch, num_items_in_batch=items)) for batch in taken]
    assert sum(losses) == pytest.approx(expected, rel=1e-6)
    logged = trainer._task_logs[True].take()
    assert sum(logged[f"token_share/{name}"] for name in WEIGHTS) == pytest.approx(1)


def test_a_method_makes_the_weights_of_a_step(tasks: TaskTable) -> None:
    batches = make_batches()
    trainer = Trainer([batches], processes=1)
    trainer._train_with(tasks, trainer._given, method="TLA", seed=1)
    taken, _ = trainer.get_batch_samples()
    loss = sum(float(trainer.compute_loss(None, batch)) for batch in taken)
    logged = trainer._task_logs[True].take()
    assert loss == pytest.approx(sum(logged[f"loss/{name}"] for name in WEIGHTS) / 3, rel=1e-6)
    assert logged["weight/ocr"] == pytest.approx(1 / 7)


def test_ms_swift_does_not_multiply_by_ranks_what_the_step_has_multiplied(tasks: TaskTable) -> None:
    alone, among_four = [Trainer([make_batches()[:1]], processes=processes) for processes in (1, 4)]
    losses = []
    for trainer in (alone, among_four):
        trainer._train_with(tasks, trainer._given)
        taken, items = trainer.get_batch_samples()
        losses.append(float(trainer.compute_loss(None, taken[0], num_items_in_batch=items)))
    assert losses[0] == losses[1]


def test_a_batch_for_evaluation_divides_by_its_own_weight(tasks: TaskTable) -> None:
    batch = make_batches()[0]
    trainer = Trainer([], processes=1)
    trainer._train_with(tasks, trainer._given)
    trainer.model.training = False
    trainer._given(batch)
    expected = equation_two([{**batch}])
    assert float(trainer.compute_loss(None, batch)) == pytest.approx(expected, rel=1e-6)
    assert "loss/vqa" in trainer._task_logs[False].take()
    assert trainer._task_logs[True].take() == {}


@pytest.mark.skipif(HAS_SWIFT, reason="ms-swift is installed")
def test_without_ms_swift_the_import_says_what_to_install() -> None:
    with pytest.raises(ImportError, match="pip install 'ms-swift>=4.6'"):
        importlib.import_module("visatb.trainers.swift")


@needs_swift
def test_trainings_by_ms_swift_agree_with_equation_two() -> None:
    script = ROOT / "examples/trainers/ms_swift/check.py"
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "All agree" in done.stdout


@needs_swift
class TestTheLossItself:
    """Built as ms-swift builds it, for a trainer that is not whole yet."""

    @staticmethod
    def make(**changed: Any) -> tuple[Any, Any]:
        from swift.loss import loss_map
        from swift.template import Template
        from swift.trainers import Seq2SeqTrainer

        import visatb.trainers.swift  # noqa: F401 - registers the loss

        args, of_template = settings(**changed)
        args.label_smoothing_factor = 0.0
        args.seed = 42
        trainer = object.__new__(Seq2SeqTrainer)
        trainer.template = object.__new__(Template)
        trainer.template.padding_free = False
        vars(trainer.template).update(vars(of_template))
        return loss_map["vitw"](args, trainer), trainer

    def test_it_puts_its_steps_before_the_trainers_class(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        import json

        from swift.trainers import Seq2SeqTrainer

        content = {"visatb_weights": 1, "tasks": list(WEIGHTS), "weights": WEIGHTS}
        (tmp_path / "weights.json").write_text(json.dumps(content))
        monkeypatch.setenv("VISATB_WEIGHTS", str(tmp_path / "weights.json"))
        loss, trainer = self.make()
        assert type(trainer).__mro__[1] is StepsOfChannels
        assert isinstance(trainer, Seq2SeqTrainer)
        assert trainer.tasks.names == list(WEIGHTS)
        with pytest.raises(ArgumentError, match="a loss_scale for each token"):
            loss(SimpleNamespace(logits=None), None, loss_scale=torch.ones(3))

    def test_it_asks_for_weights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("VISATB_WEIGHTS", raising=False)
        with pytest.raises(ArgumentError, match="VISATB_WEIGHTS=weights.json swift sft"):
            self.make()

    def test_it_refuses_other_settings_before_it_reads_anything(self) -> None:
        with pytest.raises(ArgumentError, match="--enable_dft_loss true"):
            self.make(enable_dft_loss=True)

    def test_it_refuses_other_trainers(self) -> None:
        import visatb.trainers.swift as hook

        with pytest.raises(UnsupportedError, match="expected its Seq2SeqTrainer"):
            hook.SwiftLoss(settings()[0], SimpleNamespace())

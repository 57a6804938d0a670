"""The state of a method in trainings that begin, resume and begin anew, and its file."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from visatb import DataError, FileError, Method  # noqa: E402
from visatb.trainers import TaskTable, checkpoint  # noqa: E402
from visatb.trainers.step_weights import StepWeights  # noqa: E402


@pytest.fixture
def trainer_of(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes a Trainer that saves every 4 of 8 steps, and logs each."""
    transformers = pytest.importorskip("transformers", reason="transformers is needed")
    pytest.importorskip("accelerate", reason="accelerate is needed")
    from trainer_ranks import TASKS, InOrder, Samples, collate, make_model

    def make(method: Any, folder: str = "out", weights: Any = TASKS, **options: Any) -> Any:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / folder),
            per_device_train_batch_size=8,
            gradient_accumulation_steps=2,
            max_steps=options.pop("max_steps", 8),
            lr_scheduler_type="constant",
            logging_steps=1,
            save_steps=4,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            **options,
        )
        return InOrder(
            make_model(),
            arguments,
            train_dataset=Samples(),
            eval_dataset=Samples().items[:8],
            data_collator=collate,
            optimizer="sgd",
            task_weights=weights,
            method=method,
        )

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # So little to do takes more only longer.
    yield make
    torch.set_num_threads(threads)


def logged_weights(trainer: Any) -> list[list[float]]:
    return [
        [entry[f"weight/{task}"] for task in ("caption", "vqa", "ocr")]
        for entry in trainer.state.log_history
        if "loss" in entry
    ]


def parameters_of(trainer: Any) -> Any:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


@pytest.mark.parametrize("name", ["DWA", "IGBv1", "RLW"])
def test_a_resumed_training_has_the_same_weights_and_parameters(
    trainer_of: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    make = functools.partial(Method, name, 3, seed=3, window=3, base_steps=(1, 6))
    whole = trainer_of(make())
    whole.train()
    resumed = trainer_of(make(), "again")
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-4"))
    assert logged_weights(resumed) == logged_weights(whole)
    assert torch.equal(parameters_of(resumed), parameters_of(whole))
    assert len({tuple(weights) for weights in logged_weights(whole)[4:]}) > 1
    saved = json.loads((tmp_path / "out/checkpoint-4/visatb_method.json").read_text())
    assert (saved["name"], saved["tasks"]) == (name, ["caption", "vqa", "ocr"])


@pytest.mark.parametrize("name", ["DWA", "RLW"])
@pytest.mark.parametrize("event", ["on_step_begin", "on_pre_optimizer_step"])
def test_a_checkpoint_that_a_signal_asks_for_goes_on_from_the_step_it_names(
    trainer_of: Callable[..., Any], tmp_path: Path, event: str, name: str
) -> None:
    """As transformers saves one within a step, where the optimizer has not stepped yet."""
    jit = pytest.importorskip(
        "transformers.trainer_jit_checkpoint", reason="transformers 5 is needed"
    )
    from transformers import TrainerCallback

    class AsksAtStep2(TrainerCallback):
        def ask(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            manager.is_checkpoint_requested |= state.global_step == 2

    make = functools.partial(Method, name, 3, seed=3, window=1)
    whole = trainer_of(make(), max_steps=4)
    whole.train()
    stopped = trainer_of(make(), "stopped", max_steps=4)
    saves = jit.JITCheckpointCallback()
    manager = saves.jit_manager = jit.CheckpointManager(stopped)
    setattr(AsksAtStep2, event, AsksAtStep2.ask)
    stopped.add_callback(AsksAtStep2())
    stopped.add_callback(saves)
    stopped.train()
    assert len(logged_weights(stopped)) < 4
    resumed = trainer_of(make(), "resumed", max_steps=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped/checkpoint-2"))
    assert logged_weights(resumed) == logged_weights(whole)
    assert torch.equal(parameters_of(resumed), parameters_of(whole))


@pytest.mark.parametrize("name", ["DWA", "RLW"])
def test_every_training_begins_with_the_method_as_the_trainer_was_made(
    trainer_of: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    from trainer_ranks import make_model

    method = Method(name, 3, seed=3, window=2)
    method.update([1.0, 2.0, 3.0], [1, 1, 1])
    trainer = trainer_of(method, max_steps=5)
    trainer.model_init = make_model
    found = []
    for _ in range(2):
        trainer.train()
        found.append((logged_weights(trainer), parameters_of(trainer).tolist()))
    assert found[0] == found[1]
    assert len({tuple(weights) for weights in found[0][0]}) > 1
    trainer.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-4"))
    assert logged_weights(trainer) == found[0][0]


def test_a_training_with_smaller_batches_begins_with_the_method_anew(
    trainer_of: Callable[..., Any],
) -> None:
    """As `auto_find_batch_size` begins it where the memory was not enough."""
    from transformers import TrainerCallback

    class RunsOutOfMemory(TrainerCallback):
        attempts = 0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.attempts += 1

        def on_pre_optimizer_step(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            if self.attempts == 1 and state.global_step == 1:
                raise RuntimeError("CUDA out of memory.")

    trainer = trainer_of(Method("RLW", 3, seed=3), max_steps=3, auto_find_batch_size=True)
    again = RunsOutOfMemory()
    trainer.add_callback(again)
    trainer.train()
    assert again.attempts == 2
    whole = trainer_of(Method("RLW", 3, seed=3), "whole", max_steps=3)
    whole.train()
    assert logged_weights(trainer) == logged_weights(whole)


def test_evaluations_tell_the_method_nothing(trainer_of: Callable[..., Any]) -> None:
    make = functools.partial(Method, "DWA", 3, window=2)
    plain, evaluating = (
        trainer_of(make()),
        trainer_of(make(), "e", eval_strategy="steps", eval_steps=1),
    )
    for trainer in (plain, evaluating):
        trainer.train()
    assert logged_weights(plain) == logged_weights(evaluating)
    assert sum("eval_loss" in entry for entry in evaluating.state.log_history) == 8
    assert not any("eval_weight/vqa" in entry for entry in evaluating.state.log_history)


def test_a_name_draws_by_the_trainers_seed(trainer_of: Callable[..., Any]) -> None:
    weights = []
    for seed in (3, 4):
        trainer = trainer_of("RLW", seed=seed, max_steps=1)
        trainer.train()
        weights.append(logged_weights(trainer))
        first = Method("RLW", 3, seed=seed).weights().astype(np.float32)
        assert weights[-1][0] == first.tolist()
    assert weights[0] != weights[1]


def test_a_training_does_not_resume_by_another_method(
    trainer_of: Callable[..., Any], tmp_path: Path
) -> None:
    trainer_of(Method("DWA", 3)).train()
    folder = tmp_path / "out/checkpoint-4"
    with pytest.raises(DataError) as caught:
        trainer_of("IGBv1").train(resume_from_checkpoint=str(folder))
    assert str(caught.value) == (
        f"{folder}/visatb_method.json: the state is of a method with name = 'DWA'; expected 'IGBv1'"
    )


# --- the file -----------------------------------------------------------------------------------

NAMES = {"vqa": 1.0, "ocr": 1.0}


def test_only_one_rank_writes_the_state(tmp_path: Path) -> None:
    weights = StepWeights(Method("DWA", 2))
    checkpoint.save(str(tmp_path), weights, TaskTable(NAMES), writes=False)
    assert list(tmp_path.iterdir()) == []
    checkpoint.save(str(tmp_path), weights, TaskTable(NAMES), writes=True)
    assert [file.name for file in tmp_path.iterdir()] == ["visatb_method.json"]


@pytest.mark.parametrize(
    ("change", "method", "names", "message"),
    [
        (
            ("DWA", "DWA"),
            Method("DWA", 2, window=9),
            NAMES,
            "visatb_method_restore: the state is of a method with window = 25; expected 9",
        ),
        (
            ("DWA", "DWA"),
            Method("DWA", 2),
            {"ocr": 1.0, "vqa": 1.0},
            "tasks: ['vqa', 'ocr']; expected ['ocr', 'vqa']",
        ),
        (
            ("", "{"),
            Method("DWA", 2),
            NAMES,
            "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        (
            ('"visatb_method": 1', '"visatb_method": 2'),
            Method("DWA", 2),
            NAMES,
            'expected {"visatb_method": 1, ...}',
        ),
        (
            ('"state": "V', '"state": "*'),
            Method("DWA", 2),
            NAMES,
            "state: expected Base64",
        ),
        (
            ('"state": "V', '"state": "\u00e9'),
            Method("DWA", 2),
            NAMES,
            "state: expected Base64",
        ),
        (
            ('"state": ', '"state": ' + "[" * 200000),
            Method("DWA", 2),
            NAMES,
            "nested too deeply",
        ),
        (
            ('"state": "V', '"state": "W'),
            Method("DWA", 2),
            NAMES,
            "visatb_method_restore: the state does not begin with VISATBMS; expected one of "
            "visatb_method_save",
        ),
    ],
)
def test_a_wrong_file_is_refused(
    tmp_path: Path, change: tuple[str, str], method: Method, names: Any, message: str
) -> None:
    checkpoint.save(str(tmp_path), StepWeights(Method("DWA", 2)), TaskTable(NAMES), writes=True)
    file = tmp_path / "visatb_method.json"
    content = file.read_text()
    assert change[0] in content
    file.write_text(content.replace(change[0], change[1], 1))
    before = method.state_dict()
    with pytest.raises(DataError) as caught:
        checkpoint.load(str(tmp_path), StepWeights(method), TaskTable(names))
    assert str(caught.value) == f"{file}: {message}"
    assert method.state_dict() == before


def test_a_checkpoint_without_a_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        checkpoint.load(str(tmp_path), StepWeights(Method("EW", 2)), TaskTable(NAMES))
    assert str(caught.value) == (
        f"{tmp_path}/visatb_method.json: cannot be read: No such file or directory; expected the "
        "state of the method EW, which a checkpoint has that was saved while it trained, and not "
        "by save_only_model"
    )

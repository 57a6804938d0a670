"""Weights that change from step to step, in trainers: what the method is told, and checkpoints."""

from __future__ import annotations

import copy
import functools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from method_formulas import Step, dwa

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from torch.nn import functional  # noqa: E402

from visatb import (  # noqa: E402
    METHODS,
    ArgumentError,
    DataError,
    Error,
    FileError,
    Method,
    VITWLoss,
)
from visatb.torch.gpu import HostCopy  # noqa: E402
from visatb.torch.stats import Stats  # noqa: E402
from visatb.trainers import StepCounter, StepLoader, TaskTable, checkpoint  # noqa: E402
from visatb.trainers.log import TaskLog  # noqa: E402
from visatb.trainers.step_weights import StepWeights  # noqa: E402

VOCAB = 7


def make_batches(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Logits whose loss falls, by task; some batches lack a task."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for number in range(count):
        labels = torch.randint(0, VOCAB, (2, 5), generator=generator)
        labels[torch.rand(2, 5, generator=generator) < 0.3] = -100
        task_ids = torch.randint(0, 3, (2,), generator=generator)
        logits = torch.randn(2, 5, VOCAB, generator=generator) / (1 + number)
        batches.append({"logits": logits, "labels": labels, "task_ids": task_ids})
    return batches


def told_of(batches: list[dict[str, Any]]) -> Step:
    """The sums of nll and the tokens of a step by task, in fp64."""
    sums = [[0.0, 0] for _ in range(3)]
    for batch in batches:
        nll = functional.cross_entropy(
            batch["logits"][:, :-1].double().transpose(1, 2),
            batch["labels"][:, 1:],
            reduction="none",
        )
        for row, task in enumerate(batch["task_ids"].tolist()):
            sums[task][0] += float(nll[row].sum())
            sums[task][1] += int((batch["labels"][row, 1:] != -100).sum())
    return [(nll, int(tokens)) for nll, tokens in sums]


def train(counter: StepCounter, batches: list[dict[str, Any]]) -> list[Any]:
    """The last `Step` of each step, of two micro-batches, in a loop as in docs/trainers.md."""
    steps = []
    for batch in StepLoader(batches, counter, accumulation_steps=2):
        step = batch.pop("visatb_step")
        _, stats = counter.criterion(
            batch["logits"],
            batch["labels"],
            batch["task_ids"],
            denominator=step.denominator,
            task_weights=step.task_weights,
        )
        counter.add(stats, step)
        if step.is_last:
            steps.append(step)
    return steps


def weights_of(steps: list[Any]) -> list[list[float]]:
    return [step.task_weights.tolist() for step in steps]


def make_counter(method: Any, **options: Any) -> StepCounter:
    criterion = VITWLoss([1.0, 1.0, 1.0], shift=True, return_stats=True)
    return StepCounter(criterion, method=method, **options)


def test_a_loop_tells_the_method_of_whole_steps() -> None:
    batches = make_batches(24)
    steps = [told_of(batches[n : n + 2]) for n in range(0, 24, 2)]
    assert any(tokens == 0 for step in steps for _, tokens in step)
    found = weights_of(train(make_counter(Method("DWA", 3, window=2, temperature=0.1)), batches))
    expected = [dwa(steps[:told], 3, 2, 0.1) for told in range(12)]
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    assert np.ptp(expected[-1]) > 0.1


@pytest.mark.parametrize("name", METHODS)
def test_the_denominator_is_of_the_weights_of_the_step(name: str) -> None:
    counter = make_counter(Method(name, 3, window=1, base_steps=(0, 1)))
    for step in train(counter, make_batches(8)):
        weights = step.task_weights.double()
        assert float(step.denominator) == float((weights * step.task_tokens).sum()) > 0
    assert (name == "EW") == torch.equal(weights, torch.ones(3).double())


def test_without_a_method_a_step_has_no_weights_of_its_own() -> None:
    counter = make_counter(None)
    (batch,) = StepLoader(make_batches(1), counter)
    assert batch["visatb_step"].task_weights is None
    counter.add(stats_of([0.0] * 3, [0] * 3), batch["visatb_step"])


@pytest.mark.parametrize("name", METHODS)
def test_a_loop_that_goes_on_from_a_state_has_the_same_bits(name: str) -> None:
    batches = make_batches(20)
    make = functools.partial(Method, name, 3, seed=3, window=2, base_steps=(1, 4))
    whole = weights_of(train(make_counter(make()), copy.deepcopy(batches)))
    counter = make_counter(make())
    train(counter, copy.deepcopy(batches[:10]))
    state = pickle.loads(pickle.dumps(counter.step_weights.state_dict()))
    resumed = make_counter(make())
    resumed.step_weights.load_state_dict(state)
    assert weights_of(train(resumed, batches[10:])) == whole[5:]


def test_a_state_can_be_kept_by_torch(tmp_path: Path) -> None:
    counter = make_counter("DWA")
    train(counter, make_batches(4))
    state = counter.step_weights.state_dict()
    torch.save(state, tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == state


def stats_of(nll: list[float], tokens: list[int]) -> Stats:
    nothing = torch.zeros(())
    return Stats(nothing, nothing, torch.tensor(nll).double(), torch.tensor(tokens), nothing)


def tell(counter: StepCounter, *micro_batches: tuple[list[float], list[int]]) -> None:
    """A step of these sums and tokens."""
    counts = [torch.tensor([*tokens, 0]) for _, tokens in micro_batches]
    for step, (nll, tokens) in zip(counter.steps(counts), micro_batches, strict=True):
        counter.add(stats_of(nll, tokens), step)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_overflowed_counts_as_a_task_that_was_not_there(bad: float) -> None:
    overflowed, absent = (make_counter(Method("DWA", 3, window=1)) for _ in range(2))
    for counter, nll, tokens in ((overflowed, bad, 4), (absent, 0.0, 0)):
        tell(counter, ([1.0, 2.0, 3.0], [1, 1, 1]))
        tell(counter, ([1.0, nll, 3.0], [1, tokens, 1]), ([1.0, 0.0, 1.0], [1, 0, 1]))
    states = [each.step_weights.state_dict()["state"] for each in (overflowed, absent)]
    assert states[0] == states[1]


def test_a_step_that_was_abandoned_is_no_step() -> None:
    counter = make_counter(Method("DWA", 3, window=1))
    tell(counter, ([1.0, 2.0, 3.0], [1, 1, 1]))
    before = counter.step_weights.state_dict()["state"]
    first, _ = counter.steps([torch.tensor([1, 1, 1, 0])] * 2)
    counter.add(stats_of([9.0, 9.0, 9.0], [1, 1, 1]), first)
    assert counter.step_weights.state_dict()["state"] == before
    tell(counter, ([1.0, 1.0, 1.0], [1, 1, 1]))
    whole = make_counter(Method("DWA", 3, window=1))
    tell(whole, ([1.0, 2.0, 3.0], [1, 1, 1]))
    tell(whole, ([1.0, 1.0, 1.0], [1, 1, 1]))
    states = [each.step_weights.state_dict()["state"] for each in (counter, whole)]
    assert states[0] == states[1]


def test_a_loop_that_tells_no_losses_raises() -> None:
    loader = StepLoader(make_batches(4), make_counter("IGBv1"), accumulation_steps=2)
    with pytest.raises(Error) as caught:
        list(loader)
    assert str(caught.value) == (
        "the method IGBv1 was not told the losses of a step; expected StepCounter.add(stats, step) "
        "after the loss of each micro-batch"
    )
    assert len(list(StepLoader(make_batches(4), make_counter("RLW")))) == 4


def test_a_loss_that_is_told_twice_raises() -> None:
    counter = make_counter("DWA")
    first, last = counter.steps([torch.tensor([1, 0, 2, 0])] * 2)
    for step in (first, first, last):
        counter.add(stats_of([1.0, 0.0, 1.0], [1, 0, 2]), step)
    with pytest.raises(Error) as caught:
        counter.step_weights.state_dict()
    assert str(caught.value) == (
        "the losses of a step were of [3, 0, 6] valid tokens by task, and [2, 0, 4] were counted; "
        "expected the same: each micro-batch's loss told once"
    )


@pytest.mark.parametrize("name", METHODS)
def test_no_method_looks_at_the_tokens_of_the_coming_step_on_the_host(name: str) -> None:
    """Whatever looks at a tensor of the meta device raises, as it would wait for a GPU."""
    counter = make_counter(name)
    counter.criterion.weights_on(torch.device("meta"))
    (step,) = counter.steps([torch.zeros(4, dtype=torch.int64, device="meta")])
    assert step.task_weights.device.type == "meta"
    if name not in ("DWA", "IGBv1"):
        nothing = torch.zeros(3, device="meta")
        counter.add(Stats(nothing, nothing, nothing, nothing, nothing), step)
        counter.steps([torch.zeros(4, dtype=torch.int64, device="meta")])


def test_tla_in_a_step_has_the_weights_of_the_method() -> None:
    counts = torch.tensor([3, 0, 2**40, 0])
    (step,) = make_counter("TLA").steps([counts])
    expected = Method("TLA", 3).weights(counts[:-1].numpy()).astype(np.float32)
    assert step.task_weights.tolist() == expected.tolist()


def test_the_log_has_the_mean_weights_of_the_steps_since_the_last_time() -> None:
    log = TaskLog(TaskTable({"vqa": 1.0, "ocr": 2.0, "chat": 3.0}))
    counter = make_counter("TLA")
    for tokens in ([1, 4, 0], [2, 2, 0]):
        for step in counter.steps([torch.tensor([*tokens, 0]), torch.zeros(4).long()]):
            log.add(stats_of([1.0] * 3, tokens), step)
    logged = log.take()
    assert logged["weight/vqa"] == 0.75
    assert logged["weight/ocr"] == 0.375
    assert logged["weight/chat"] == 0
    log.add(stats_of([1.0] * 3, [1, 1, 1]))
    assert not any(name.startswith("weight/") for name in log.take())


def test_what_is_on_the_host_is_there_at_once() -> None:
    tensor = torch.arange(3)
    copied = HostCopy(tensor)
    assert copied.is_there()
    assert copied.wait() is tensor


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("PCGrad", "method = 'PCGrad'; expected one of EW, TLA, RLW, DWA, IGBv1"),
        (7, "method = 7; expected one of EW, TLA, RLW, DWA, IGBv1, or a visatb.Method"),
        (
            Method("EW", 2),
            "a method for 2 tasks with 3 task_weights; expected as many",
        ),
    ],
)
def test_another_method_is_refused(method: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make_counter(method)
    assert str(caught.value) == message


# --- Hugging Face's Trainer -------------------------------------------------------------------


@pytest.fixture
def trainer_of(tmp_path: Path) -> Callable[..., Any]:
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

    return make


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

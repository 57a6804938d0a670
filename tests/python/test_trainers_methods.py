"""Weights that change from step to step, in trainers: what the method is told of steps."""

from __future__ import annotations

import copy
import functools
import pickle
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
    Error,
    Method,
    VITWLoss,
)
from visatb.torch.gpu import HostCopy  # noqa: E402
from visatb.torch.stats import Stats  # noqa: E402
from visatb.trainers import StepCounter, StepLoader, TaskTable  # noqa: E402
from visatb.trainers.log import TaskLog  # noqa: E402

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


@pytest.mark.parametrize("name", METHODS)
def test_a_step_that_was_abandoned_is_no_step(name: str) -> None:
    counter, whole = (make_counter(Method(name, 3, window=1, base_steps=(0, 1))) for _ in range(2))
    tell(counter, ([1.0, 2.0, 3.0], [1, 1, 1]))
    before = counter.step_weights.state_dict()
    # Once before its first loss, and once in the midst.
    counter.steps([torch.tensor([1, 1, 1, 0])] * 2)
    first, _ = counter.steps([torch.tensor([1, 1, 1, 0])] * 2)
    counter.add(stats_of([9.0, 9.0, 9.0], [1, 1, 1]), first)
    assert counter.step_weights.state_dict() == before
    tell(counter, ([1.0, 1.0, 1.0], [1, 1, 1]))
    tell(whole, ([1.0, 2.0, 3.0], [1, 1, 1]))
    tell(whole, ([1.0, 1.0, 1.0], [1, 1, 1]))
    after = counter.step_weights.state_dict()
    assert after == whole.step_weights.state_dict() != before


@pytest.mark.parametrize("name", METHODS)
def test_a_state_that_is_loaded_forgets_the_step_that_was_trained_last(name: str) -> None:
    counter, whole = (make_counter(Method(name, 3, window=1, base_steps=(0, 1))) for _ in range(2))
    state = counter.step_weights.state_dict()
    tell(counter, ([9.0, 2.0, 3.0], [1, 1, 1]))
    counter.step_weights.load_state_dict(state)
    assert counter.step_weights.state_dict() == state
    for each in (counter, whole):
        tell(each, ([1.0, 1.0, 1.0], [1, 1, 1]))
    assert counter.step_weights.state_dict() == whole.step_weights.state_dict() != state


def test_what_is_left_of_a_step_when_a_state_is_loaded_is_forgotten_too() -> None:
    counter = make_counter("DWA")
    state = counter.step_weights.state_dict()
    first, last = counter.steps([torch.tensor([1, 1, 1, 0])] * 2)
    counter.add(stats_of([1.0, 1.0, 1.0], [1, 1, 1]), first)
    counter.step_weights.load_state_dict(state)
    counter.add(stats_of([1.0, 1.0, 1.0], [1, 1, 1]), last)
    assert counter.step_weights.state_dict() == state


@pytest.mark.parametrize("name", METHODS)
def test_a_loop_that_tells_no_losses_raises(name: str) -> None:
    loader = StepLoader(make_batches(4), make_counter(name), accumulation_steps=2)
    with pytest.raises(Error) as caught:
        list(loader)
    assert str(caught.value) == (
        f"the method {name} was not told the losses of a step; expected "
        "StepCounter.add(stats, step) after the loss of each micro-batch"
    )


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


def test_a_method_is_not_told_of_what_requires_gradients() -> None:
    with pytest.raises(ArgumentError) as caught:
        Method("DWA", 2).update(torch.ones(2, requires_grad=True), [1, 1])
    assert str(caught.value) == (
        "task_nll is not an array: Can't call numpy() on Tensor that requires grad. Use "
        "tensor.detach().numpy() instead."
    )


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

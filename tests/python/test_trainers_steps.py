"""A step's denominator, its tokens and its batches: StepCounter, StepLoader, TaskLog."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from visatb import ArgumentError, VITWLinearLoss, VITWLoss, vitw_denominator  # noqa: E402
from visatb.torch.places import Given  # noqa: E402
from visatb.torch.stats import Stats  # noqa: E402
from visatb.trainers import StepCounter, StepLoader, TaskTable  # noqa: E402
from visatb.trainers.log import TaskLog  # noqa: E402

WEIGHTS = [0.25, 3.0, 1 / 3]
STEP = "visatb_step"


def make_batches(count: int, seed: int = 0) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(count):
        labels = torch.randint(0, 7, (2, 5), generator=generator)
        labels[torch.rand(2, 5, generator=generator) < 0.4] = -100
        task_ids = torch.randint(0, 3, (2,), generator=generator)
        batches.append({"labels": labels, "task_ids": task_ids})
    return batches


def denominator_of(batches: list[dict[str, Any]]) -> float:
    return sum(
        float(vitw_denominator(batch["labels"], batch["task_ids"], WEIGHTS, shift=True))
        for batch in batches
    )


def tokens_of(batches: list[dict[str, Any]]) -> list[int]:
    counts = [0, 0, 0]
    for batch in batches:
        for labels, task in zip(batch["labels"], batch["task_ids"], strict=True):
            counts[int(task)] += int((labels[1:] != -100).sum())
    return counts


def make_loss(**options: Any) -> Any:
    return VITWLoss(WEIGHTS, shift=True, **options)


def test_every_batch_of_a_window_has_the_denominator_of_the_window() -> None:
    batches = make_batches(8)
    loaded = list(StepLoader(copy.deepcopy(batches), make_loss(), accumulation_steps=4))
    for first in (0, 4):
        window = batches[first : first + 4]
        for place, batch in enumerate(loaded[first : first + 4]):
            step = batch[STEP]
            assert float(step.denominator) == pytest.approx(denominator_of(window), rel=1e-14)
            assert step.denominator.dtype == torch.float64
            assert step.task_tokens.tolist() == tokens_of(window)
            assert step.own_tokens.tolist() == tokens_of([batch])
            assert step.max_valid_rows == sum(tokens_of([batch]))
            assert (step.micro_batch, step.micro_batches) == (place, 4)
            assert step.is_last == (place == 3)


def test_the_last_window_of_an_epoch_may_be_shorter() -> None:
    batches = make_batches(5)
    steps = [batch[STEP] for batch in StepLoader(batches, make_loss(), accumulation_steps=3)]
    assert [step.is_last for step in steps] == [False, False, True, False, True]
    assert float(steps[-1].denominator) == pytest.approx(denominator_of(batches[3:]), rel=1e-14)


def test_a_loader_is_asked_for_one_window_at_a_time() -> None:
    taken = []

    def batches() -> Any:
        for number, batch in enumerate(make_batches(6)):
            taken.append(number)
            yield batch

    loader = iter(StepLoader(batches(), make_loss(), accumulation_steps=2))
    for seen, expected in enumerate([2, 2, 4, 4, 6, 6]):
        next(loader)
        assert len(taken) == expected, seen


def test_the_gradients_of_micro_batches_add_up_to_those_of_the_step() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(4, 7)
    batches = make_batches(4)
    for batch in batches:
        batch["hidden"] = torch.randn(2, 5, 4)
    whole = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
    expected = make_loss()(head(whole["hidden"]), whole["labels"], whole["task_ids"])
    (gradient,) = torch.autograd.grad(expected, head.weight)
    total = 0.0
    loss_of = VITWLinearLoss(WEIGHTS, shift=True)
    for batch in StepLoader(batches, loss_of, accumulation_steps=4):
        step = batch.pop(STEP)
        loss = loss_of(
            batch["hidden"],
            head.weight,
            batch["labels"],
            batch["task_ids"],
            bias=head.bias,
            denominator=step.denominator,
            max_valid_rows=step.max_valid_rows,
        )
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(head.weight.grad, gradient)


def test_local_scope_is_the_mean_of_the_micro_batches_own_means() -> None:
    batches = make_batches(3)
    steps = [
        batch[STEP]
        for batch in StepLoader(batches, make_loss(), accumulation_steps=3, scope="local")
    ]
    for batch, step in zip(batches, steps, strict=True):
        assert float(step.denominator) == pytest.approx(3 * denominator_of([batch]), rel=1e-14)


@pytest.mark.parametrize("scope", ["step", "local"])
def test_a_step_has_the_tokens_of_all_ranks(scope: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two here, the other of which has the same batches."""
    ranks = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        get_world_size=lambda _: 2,
        get_backend=lambda _: "gloo",
        all_reduce=lambda tensor, **_: tensor.mul_(2),
    )
    monkeypatch.setattr("visatb.trainers.step.dist", ranks)
    batches = make_batches(3)
    for batch in StepLoader(copy.deepcopy(batches), make_loss(), accumulation_steps=3, scope=scope):
        step = batch[STEP]
        assert step.task_tokens.tolist() == [2 * tokens for tokens in tokens_of(batches)]
        assert step.own_tokens.tolist() == tokens_of([batch])
        own = 3 * denominator_of([batch])
        # Over the ranks, whose gradients are averaged.
        expected = denominator_of(batches) if scope == "step" else own
        assert float(step.denominator) == pytest.approx(expected, rel=1e-14)


def test_what_divides_the_loss_later_is_taken_back() -> None:
    batches = make_batches(2)
    loader = StepLoader(batches, make_loss(), accumulation_steps=2, divided_later_by=2)
    expected = pytest.approx(denominator_of(batches) / 2, rel=1e-14)
    assert [float(batch[STEP].denominator) for batch in loader] == [expected, expected]


def test_a_loader_that_draws_by_weight_is_refused() -> None:
    batches = make_batches(2)
    sampler = torch.utils.data.WeightedRandomSampler([1.0, 1.0], 2)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, sampler=sampler)
    with pytest.raises(
        ArgumentError, match="the training data is drawn by a WeightedRandomSampler"
    ):
        StepLoader(loader, make_loss())
    assert len(list(StepLoader(loader, make_loss(), allow_weighted_sampling=True))) == 2


def test_an_accelerator_that_divides_by_the_accumulation_steps() -> None:
    """docs/engines.md: who divides, and by what."""
    accelerate = pytest.importorskip("accelerate", reason="accelerate is needed")
    from accelerate.state import AcceleratorState

    torch.manual_seed(0)
    head = torch.nn.Linear(4, 7)
    batches = [{**batch, "hidden": torch.randn(2, 5, 4)} for batch in make_batches(2)]
    whole = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
    expected = make_loss()(head(whole["hidden"]), whole["labels"], whole["task_ids"])
    (gradient,) = torch.autograd.grad(expected, head.weight)
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    loader = StepLoader(batches, make_loss(), accumulation_steps=2, divided_later_by=2)
    for batch in loader:
        logits = head(batch["hidden"])
        denominator = batch[STEP].denominator
        loss = make_loss()(logits, batch["labels"], batch["task_ids"], denominator=denominator)
        accelerator.backward(loss)
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.testing.assert_close(head.weight.grad, gradient)


def test_a_window_without_a_valid_token_has_denominator_0() -> None:
    batches = make_batches(2)
    for batch in batches:
        batch["labels"].fill_(-100)
    for batch in StepLoader(batches, make_loss(), accumulation_steps=2):
        assert float(batch[STEP].denominator) == 0
        logits = torch.randn(2, 5, 7, requires_grad=True)
        loss = make_loss()(
            logits, batch["labels"], batch["task_ids"], denominator=batch[STEP].denominator
        )
        loss.backward()
        assert float(loss) == 0
        assert not logits.grad.any()


def test_what_moves_and_casts_a_batch_lets_its_step_be() -> None:
    (batch,) = StepLoader(make_batches(1), make_loss())
    step = batch[STEP]
    _, spec = torch.utils._pytree.tree_flatten({"step": step})
    assert spec.num_leaves == 1
    assert not hasattr(step, "to")
    assert pickle.loads(pickle.dumps(step)).task_tokens.tolist() == step.task_tokens.tolist()


def test_what_the_loader_has_besides_is_there_too() -> None:
    dataset = make_batches(4)
    loader = torch.utils.data.DataLoader(dataset, batch_size=None)
    steps = StepLoader(loader, make_loss(), accumulation_steps=2)
    assert len(steps) == 4
    assert steps.dataset is dataset
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = steps.no_such_thing
    assert len(list(pickle.loads(pickle.dumps(steps)))) == 4


def test_shifted_labels_count_as_they_are() -> None:
    (batch,) = make_batches(1)
    counter = StepCounter(make_loss())
    labels = torch.full_like(batch["labels"], -100)
    labels[:, :-1] = batch["labels"][:, 1:]
    shifted = counter.count(Given(labels, batch["task_ids"], shift=False))
    given = counter.count(Given(batch["labels"], batch["task_ids"], shift=True))
    assert shifted.tolist() == given.tolist()
    assert given[-1] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: StepLoader([], make_loss(), accumulation_steps=0),
            "accumulation_steps = 0; expected at least 1",
        ),
        (
            lambda: StepCounter(make_loss(), scope="rank"),
            'scope = \'rank\'; expected "step" or "local"',
        ),
        (
            lambda: StepCounter(make_loss(reduction="sum")),
            "a criterion with reduction = 'sum'; expected \"mean\", for the step's denominator "
            "divides",
        ),
        (
            lambda: next(iter(StepLoader([{"labels": torch.zeros(1, 2)}], make_loss()))),
            "a batch without 'task_ids' (it has: labels); expected labels and task_ids, which "
            "TaskCollator adds",
        ),
        (
            lambda: next(
                iter(
                    StepLoader(
                        [{"labels": torch.zeros(1, 2).long(), "task_ids": torch.tensor([7])}],
                        make_loss(),
                    )
                )
            ),
            "task_ids[0] = 7; expected a value in [0, 3)",
        ),
    ],
)
def test_wrong_use(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make()
    assert str(caught.value) == message


def stats_of(nll: list[float], tokens: list[int]) -> Stats:
    nothing = torch.zeros(())
    return Stats(nothing, nothing, torch.tensor(nll).double(), torch.tensor(tokens), nothing)


def test_the_log_has_means_and_shares_since_the_last_time() -> None:
    log = TaskLog(TaskTable({"vqa": 1.0, "ocr": 2.0, "chat": 3.0}))
    assert log.take() == {}
    log.add(stats_of([3.0, 0.0, 1.0], [2, 0, 1]))
    log.add(stats_of([1.0, 0.0, 0.0], [2, 0, 3]))
    assert log.take("eval_") == {
        "eval_loss/vqa": 1.0,
        "eval_token_share/vqa": 0.5,
        "eval_loss/chat": 0.25,
        "eval_token_share/chat": 0.5,
    }
    assert log.take() == {}

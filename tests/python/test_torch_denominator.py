"""vitw_denominator counts before the step what vitw_loss divides by."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import make_batch  # noqa: E402

from visatb import ArgumentError  # noqa: E402
from visatb.torch import VITWLoss, ops, vitw_denominator, vitw_loss  # noqa: E402

# 1/3 is another number in bf16, and another in fp64.
BATCH = make_batch()._replace(task_weights=torch.tensor([1 / 3, 1.75, 0.0]))
BY_SEQUENCE = torch.tensor([1, 0, 2])
BY_TOKEN = BY_SEQUENCE.unsqueeze(1).expand(3, 6)


def of_the_loss(labels: Any, task_ids: Any, **options: Any) -> Any:
    """The denominator that the loss itself computes."""
    _, stats = vitw_loss(
        BATCH.logits, labels, task_ids, BATCH.task_weights, return_stats=True, **options
    )
    return stats.denominator


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("task_ids", [BY_SEQUENCE, BY_TOKEN, BY_TOKEN.flatten(), BATCH.task_ids])
@pytest.mark.parametrize("labels", [BATCH.labels, BATCH.labels.flatten(), BATCH.labels.int()])
def test_it_is_the_denominator_of_the_loss_in_every_layout(
    labels: Any, task_ids: Any, shift: bool
) -> None:
    if shift and labels.dim() == task_ids.dim() == 1 and len(task_ids) == 18:
        pytest.skip("nothing tells where a sequence ends")
    found = vitw_denominator(labels, task_ids, BATCH.task_weights, shift=shift)
    assert found.dtype == torch.float64
    assert found.shape == ()
    torch.testing.assert_close(
        found, of_the_loss(labels, task_ids, shift=shift), rtol=1e-14, atol=0
    )


def test_another_ignore_index() -> None:
    labels = BATCH.labels.clamp(min=0)
    found = vitw_denominator(labels, BY_TOKEN, BATCH.task_weights, ignore_index=0)
    torch.testing.assert_close(found, of_the_loss(labels, BY_TOKEN, ignore_index=0))


def test_ids_beside_ignored_labels_are_not_read_and_labels_not_checked() -> None:
    task_ids = BATCH.task_ids.clone()
    task_ids[BATCH.labels == -100] = 2**40
    labels = torch.where(BATCH.labels == -100, -100, BATCH.labels + 10**6)
    found = vitw_denominator(labels, task_ids, BATCH.task_weights)
    torch.testing.assert_close(found, of_the_loss(BATCH.labels, BATCH.task_ids))


@pytest.mark.parametrize("seq", [0, 1])
def test_nothing_to_count_is_0_which_the_loss_takes(seq: int) -> None:
    parts = [part[:, :seq] for part in BATCH[:3]]
    found = vitw_denominator(*parts[1:], BATCH.task_weights, shift=True)
    assert found == 0
    assert vitw_loss(*parts, BATCH.task_weights, shift=True, denominator=found) == 0


@pytest.mark.parametrize(
    ("task_ids", "shift", "message"),
    [
        (torch.tensor([0, 3, 0]), False, "task_ids[1] = 3; expected a value in [0, 3)"),
        (torch.tensor([0, 0, -1]), True, "task_ids[2] = -1; expected a value in [0, 3)"),
        (
            torch.where(torch.arange(18).view(3, 6) == 10, 2**40, BATCH.task_ids),
            True,
            f"task_ids[1, 4] = {2**40}; expected a value in [0, 3)",
        ),
        (
            torch.zeros(4, dtype=torch.int64),
            False,
            "task_ids has shape (4,) with labels of shape (3, 6); expected (3,), (3, 6) or (18,)",
        ),
        (torch.zeros(3), False, "task_ids is torch.float32; expected integers, such as int64"),
    ],
)
def test_wrong_task_ids_are_named(task_ids: Any, shift: bool, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        vitw_denominator(BATCH.labels, task_ids, BATCH.task_weights, shift=shift)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": [1]}, "labels is a list; expected a tensor of integers"),
        (
            {"labels": torch.zeros(1, 3, 6).long()},
            "labels has shape (1, 3, 6); expected (rows,) or (batch, seq)",
        ),
        (
            {"labels": BATCH.labels.to("meta")},
            "task_ids is on device 'cpu'; expected that of labels, 'meta'",
        ),
        (
            {"labels": BATCH.labels.flatten(), "task_ids": BY_TOKEN.flatten(), "shift": True},
            "shift = True with labels of shape (18,); expected (batch, seq), "
            "which tells where a sequence ends",
        ),
        ({"ignore_index": 0.5}, "ignore_index = 0.5; expected an integer of 64 bits"),
    ],
)
def test_a_wrong_argument_is_named(wrong: dict[str, Any], message: str) -> None:
    arguments = {"labels": BATCH.labels, "task_ids": BY_TOKEN, "task_weights": [1.0, 2.0, 3.0]}
    with pytest.raises(ArgumentError) as caught:
        vitw_denominator(**{**arguments, **wrong})
    assert str(caught.value) == message


def test_the_module_counts_with_its_weights_and_options() -> None:
    loss = VITWLoss([1.0, 2.0, 4.0], shift=True, ignore_index=5)
    found = loss.denominator_of(BATCH.labels.clamp(min=0), BY_SEQUENCE)
    expected = vitw_denominator(
        BATCH.labels.clamp(min=0), BY_SEQUENCE, [1.0, 2.0, 4.0], shift=True, ignore_index=5
    )
    assert torch.equal(found, expected)


@pytest.mark.skipif(not ops.REGISTERED, reason="PyTorch before 2.4 has no operators to compile")
def test_it_compiles_without_a_graph_break() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(vitw_denominator, fullgraph=True, backend="aot_eager")
    found = compiled(BATCH.labels, BY_SEQUENCE, BATCH.task_weights, shift=True)
    assert torch.equal(
        found, vitw_denominator(BATCH.labels, BY_SEQUENCE, BATCH.task_weights, shift=True)
    )

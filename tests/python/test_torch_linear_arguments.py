"""A wrong argument of vitw_linear_loss is named, with its value and with what would be right."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import make_linear_batch  # noqa: E402

from visatb import ArgumentError, UnsupportedError  # noqa: E402
from visatb.torch import vitw_linear_loss  # noqa: E402

BATCH = make_linear_batch()  # 12 of 18 labels are valid

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("no tensor", {"hidden": [[0.0]]}, "hidden is a list; expected a tensor"),
    (
        "integer hidden",
        {"hidden": BATCH.hidden.long()},
        "hidden is torch.int64; expected float32, bfloat16, float16 or float64",
    ),
    (
        "one dimension",
        {"hidden": torch.zeros(16)},
        "hidden has shape (16,); expected (rows, d) or (batch, seq, d), with d >= 1",
    ),
    (
        "no width",
        {"hidden": torch.zeros(18, 0)},
        "hidden has shape (18, 0); expected (rows, d) or (batch, seq, d), with d >= 1",
    ),
    ("no head", {"weight": None}, "weight is a NoneType; expected a tensor"),
    (
        "a module for its weight",
        {"weight": torch.nn.Linear(16, 37)},
        "weight is a Linear; expected a tensor",
    ),
    (
        "integer weight",
        {"weight": BATCH.weight.int()},
        "weight is torch.int32; expected float32, bfloat16, float16 or float64",
    ),
    (
        "a transposed head",
        {"weight": BATCH.weight.t()},
        "weight has shape (16, 37) with hidden of shape (3, 6, 16); "
        "expected (vocab, 16), with vocab >= 1",
    ),
    (
        "no vocabulary",
        {"weight": torch.zeros(0, 16)},
        "weight has shape (0, 16) with hidden of shape (3, 6, 16); "
        "expected (vocab, 16), with vocab >= 1",
    ),
    (
        "a weight elsewhere",
        {"weight": BATCH.weight.to("meta")},
        "weight is on device 'meta'; expected that of hidden, 'cpu'",
    ),
    (
        "another type",
        {"weight": BATCH.weight.double()},
        "weight is torch.float64 with hidden of torch.float32; expected one type for both, "
        "as weight.to(torch.float32) or torch.autocast makes it",
    ),
    (
        "a bias of another type",
        {"bias": BATCH.bias.half()},
        "bias is torch.float16 with hidden of torch.float32; expected one type for both, "
        "as bias.to(torch.float32) or torch.autocast makes it",
    ),
    (
        "a bias of another shape",
        {"bias": BATCH.bias[:-1]},
        "bias has shape (36,) with weight of shape (37, 16); expected (37,)",
    ),
    ("a bias that is a list", {"bias": [0.0] * 37}, "bias is a list; expected a tensor"),
    (
        "labels of another shape",
        {"labels": BATCH.labels[:, 1:]},
        "labels has shape (3, 5) with hidden of shape (3, 6, 16); expected (3, 6) or (18,)",
    ),
    (
        "labels elsewhere",
        {"labels": BATCH.labels.to("meta")},
        "labels is on device 'meta'; expected that of hidden, 'cpu'",
    ),
    ("reduction", {"reduction": "none"}, 'reduction = \'none\'; expected "mean" or "sum"'),
    ("softcap", {"softcap": "30"}, "softcap = '30'; expected a number"),
    (
        "chunk_bytes of 0",
        {"chunk_bytes": 0},
        "chunk_bytes = 0; expected None or an integer of at least 1",
    ),
    (
        "chunk_bytes that are no integer",
        {"chunk_bytes": 2e6},
        "chunk_bytes = 2000000.0; expected None or an integer of at least 1",
    ),
    (
        "chunk_bytes beyond 64 bits",
        {"chunk_bytes": 2**64 + 2**20},
        f"chunk_bytes = {2**64 + 2**20}; expected None or an integer of at least 1",
    ),
    (
        "max_valid_rows below 0",
        {"max_valid_rows": -1},
        "max_valid_rows = -1; expected None or an integer of at least 0",
    ),
    (
        "max_valid_rows of True",
        {"max_valid_rows": True},
        "max_valid_rows = True; expected None or an integer of at least 0",
    ),
]


def call(**wrong: Any) -> Any:
    return vitw_linear_loss(**{**BATCH._asdict(), **wrong})


@pytest.mark.parametrize(
    ("wrong", "message"), [case[1:] for case in WRONG], ids=[c[0] for c in WRONG]
)
def test_a_wrong_argument_is_named_with_its_value_and_the_remedy(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        call(**wrong)
    assert str(caught.value) == message


def set_at(tensor: Any, value: int) -> Any:
    changed = tensor.clone()
    changed[-1, -1] = value
    return changed


IN_THE_DATA: list[tuple[dict[str, Any], str]] = [
    (
        {"labels": set_at(BATCH.labels, 37)},
        r"^labels\[2, 5\] = 37; expected ignore_index \(-100\) or a value in \[0, 37\)$",
    ),
    ({"labels": set_at(BATCH.labels, 37), "shift": True}, r"^labels\[2, 5\] = 37; "),
    (
        {"task_ids": torch.tensor([0, 9, 0])},
        r"^task_ids\[1\] = 9; expected a value in \[0, 3\)$",
    ),
    ({"task_weights": [1.0, -0.5, 1.0]}, r"^task_weights\[1\] = -0\.5; "),
    ({"denominator": 0.0}, r"^denominator = 0; .* labels\[0, 1\] has the weight 0\.5$"),
    ({"label_smoothing": 2.0}, r"^label_smoothing = 2; expected a value in \[0, 1\]$"),
    (
        {"chunk_bytes": 10},
        r"^chunk_bytes = 10; expected at least \d+, which one row takes, or None$",
    ),
    *(
        (
            {"max_valid_rows": most},
            f"^max_valid_rows = {most}; expected None or at least 12, the labels that differ from "
            "ignore_index$",
        )
        for most in (11, 0)
    ),
]


@pytest.mark.parametrize(("wrong", "pattern"), IN_THE_DATA, ids=[str(c[1]) for c in IN_THE_DATA])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_what_the_library_finds_is_raised_in_the_words_of_the_caller(
    wrong: dict[str, Any], pattern: str, requires_grad: bool
) -> None:
    hidden = BATCH.hidden.clone().requires_grad_(requires_grad)
    with pytest.raises(ArgumentError, match=pattern):
        call(hidden=hidden, **wrong)


def test_as_many_valid_rows_as_were_allowed_are_fine() -> None:
    assert torch.equal(call(max_valid_rows=12), call())
    ignored = torch.full_like(BATCH.labels, -100)
    assert call(labels=ignored, max_valid_rows=0) == 0


def test_a_device_that_is_neither_is_refused_and_nothing_copied_to_the_cpu() -> None:
    with pytest.raises(UnsupportedError) as caught:
        call(**{name: tensor.to("meta") for name, tensor in BATCH._asdict().items()})
    assert str(caught.value) == (
        "hidden is on device 'meta'; expected 'cpu' or 'cuda', for this version computes nowhere "
        "else (hidden.cpu() moves them, if that is meant)"
    )


def test_the_options_are_keywords_only() -> None:
    with pytest.raises(TypeError):
        vitw_linear_loss(*BATCH[:2], *BATCH.terms, BATCH.bias)  # type: ignore[call-overload]

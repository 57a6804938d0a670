"""A wrong argument is named, with its value and with what would be right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import make_batch  # noqa: E402

from visatb import ArgumentError, DataError, Error, FileError, UnsupportedError  # noqa: E402
from visatb.torch import vitw_loss  # noqa: E402

BATCH = make_batch()
ARGUMENTS: dict[str, Any] = BATCH._asdict()
A_LEAF = torch.tensor(2.0, requires_grad=True)

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("no tensor", {"logits": [[0.0]]}, "logits is a list; expected a tensor"),
    (
        "integer logits",
        {"logits": BATCH.logits.long()},
        "logits is torch.int64; expected float32, bfloat16, float16 or float64",
    ),
    (
        "one dimension",
        {"logits": torch.zeros(7)},
        "logits has shape (7,); expected (rows, vocab) or (batch, seq, vocab), with vocab >= 1",
    ),
    (
        "no vocabulary",
        {"logits": torch.zeros(7, 0)},
        "logits has shape (7, 0); expected (rows, vocab) or (batch, seq, vocab), with vocab >= 1",
    ),
    ("a list of labels", {"labels": [1]}, "labels is a list; expected a tensor of integers"),
    (
        "float labels",
        {"labels": BATCH.labels.float()},
        "labels is torch.float32; expected integers, such as int64",
    ),
    (
        "bool task ids",
        {"task_ids": BATCH.task_ids.bool()},
        "task_ids is torch.bool; expected integers, such as int64",
    ),
    (
        "float task ids",
        {"task_ids": BATCH.task_ids.bfloat16()},
        "task_ids is torch.bfloat16; expected integers, such as int64",
    ),
    (
        "labels of another shape",
        {"labels": BATCH.labels[:, 1:]},
        "labels has shape (3, 5) with logits of shape (3, 6, 37); expected (3, 6) or (18,)",
    ),
    (
        "labels of another number of rows",
        {"logits": torch.zeros(18, 5), "labels": BATCH.labels.flatten()[1:]},
        "labels has shape (17,) with logits of shape (18, 5); "
        "expected (18,) or (batch, seq) with batch * seq = 18",
    ),
    (
        "task ids of another shape",
        {"task_ids": BATCH.task_ids[:, 1:]},
        "task_ids has shape (3, 5) with labels of shape (3, 6); expected (3,), (3, 6) or (18,)",
    ),
    (
        "task ids by sample, of rows",
        {
            "logits": torch.zeros(18, 5),
            "labels": BATCH.labels.flatten(),
            "task_ids": BATCH.task_ids[:, 0],
        },
        "task_ids has shape (3,) with labels of shape (18,); expected (18,)",
    ),
    (
        "labels elsewhere",
        {"labels": BATCH.labels.to("meta")},
        "labels is on device 'meta'; expected that of logits, 'cpu'",
    ),
    (
        "shift of rows",
        {"logits": torch.zeros(18, 5), "labels": BATCH.labels.flatten(), "shift": True}
        | {"task_ids": BATCH.task_ids.flatten()},
        "shift = True with labels of shape (18,); expected (batch, seq), "
        "which tells where a sequence ends",
    ),
    (
        "integer weights",
        {"task_weights": torch.ones(3, dtype=torch.int64)},
        "task_weights is a tensor of torch.int64; expected a float tensor [tasks], "
        "a sequence of numbers, the path of a weights.json, or visatb.Weights",
    ),
    (
        "a matrix of weights",
        {"task_weights": torch.ones(3, 1)},
        "task_weights has shape (3, 1); expected (tasks,), with tasks >= 1",
    ),
    (
        "no weights",
        {"task_weights": []},
        "task_weights = []; expected a float tensor [tasks], a sequence of numbers, "
        "the path of a weights.json, or visatb.Weights",
    ),
    (
        "weights by name",
        {"task_weights": {"vqa": 1.0}},
        "task_weights = {'vqa': 1.0}; expected a float tensor [tasks], a sequence of numbers, "
        "the path of a weights.json, or visatb.Weights",
    ),
    (
        "weights that are trained",
        {"task_weights": torch.nn.Parameter(torch.ones(3))},
        "task_weights requires grad; expected task_weights.detach(), "
        "for the loss is not differentiated in it",
    ),
    (
        "reduction",
        {"reduction": "none"},
        'reduction = \'none\'; expected "mean" or "sum"',
    ),
    (
        "ignore_index",
        {"ignore_index": 0.5},
        "ignore_index = 0.5; expected an integer of 64 bits",
    ),
    (
        "ignore_index of None, shifted",
        {"ignore_index": None, "shift": True},
        "ignore_index = None; expected an integer of 64 bits",
    ),
    (
        "ignore_index beyond 64 bits",
        {"ignore_index": 2**63},
        "ignore_index = 9223372036854775808; expected an integer of 64 bits",
    ),
    ("softcap", {"softcap": "30"}, "softcap = '30'; expected a number"),
    ("label_smoothing", {"label_smoothing": None}, "label_smoothing = None; expected a number"),
    ("z_loss", {"z_loss": True}, "z_loss = True; expected a number"),
    (
        "denominator",
        {"denominator": "7"},
        "denominator = '7'; expected a number or a tensor of shape ()",
    ),
    (
        "denominator of several",
        {"denominator": torch.ones(2)},
        "denominator is a tensor of torch.float32 and shape (2,); "
        "expected a number or a tensor of shape ()",
    ),
    (
        "denominator with a derivative",
        {"denominator": A_LEAF},
        "denominator requires grad; expected denominator.detach(), "
        "for the loss is not differentiated in it",
    ),
    (
        "grad_scale of zero",
        {"grad_scale": 0.0},
        "grad_scale = 0.0; expected a number that is finite and not 0 in float32, "
        "for the backward divides by it",
    ),
    (
        "a denominator of a sum",
        {"denominator": 2.0, "reduction": "sum"},
        'reduction = "sum" with a denominator; expected denominator = None or reduction = "mean", '
        "for a sum is not divided",
    ),
    (
        "a denominator beyond fp64",
        {"denominator": 10**400},
        "denominator is an integer beyond float64; expected a smaller one",
    ),
    (
        "a NumPy bool",
        {"denominator": np.bool_(True)},
        f"denominator = {np.bool_(True)!r}; expected a number or a tensor of shape ()",
    ),
]


def call(**wrong: Any) -> Any:
    return vitw_loss(**{**ARGUMENTS, **wrong})


@pytest.mark.parametrize(
    ("wrong", "message"), [case[1:] for case in WRONG], ids=[c[0] for c in WRONG]
)
def test_a_wrong_argument_is_named_with_its_value_and_the_remedy(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        call(**wrong)
    assert str(caught.value) == message


def set_at(tensor: Any, value: float) -> Any:
    changed = tensor.clone()
    changed[-1, -1] = value
    return changed


IN_THE_DATA: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "a label beyond the vocabulary": (
        lambda: {"labels": set_at(BATCH.labels, 37)},
        r"^labels\[2, 5\] = 37; expected ignore_index \(-100\) or a value in \[0, 37\)$",
    ),
    "a negative label": (
        lambda: {"labels": set_at(BATCH.labels, -1)},
        r"^labels\[2, 5\] = -1; ",
    ),
    "a label of a row": (
        lambda: {"labels": set_at(BATCH.labels, -1).flatten()},
        r"^labels\[17\] = -1; ",
    ),
    "a label that is shifted": (
        lambda: {"labels": set_at(BATCH.labels, 37), "shift": True},
        r"^labels\[2, 5\] = 37; ",
    ),
    "a task id by sequence": (
        lambda: {"task_ids": torch.tensor([0, 9, 0])},
        r"^task_ids\[1\] = 9; expected a value in \[0, 3\)$",
    ),
    "a task id by sequence that is shifted": (
        lambda: {"task_ids": torch.tensor([0, 0, 2**40]), "shift": True},
        rf"^task_ids\[2\] = {2**40}; ",
    ),
    "a task id of a row": (
        lambda: {"task_ids": set_at(BATCH.task_ids, 3).flatten()},
        r"^task_ids\[17\] = 3; ",
    ),
    "a task id beyond the tasks": (
        lambda: {"task_ids": set_at(BATCH.task_ids, 3)},
        r"^task_ids\[2, 5\] = 3; ",
    ),
    "a task id that would wrap to 0": (
        lambda: {"task_ids": set_at(BATCH.task_ids, 2**32)},
        r"^task_ids\[2, 5\] = 4294967296; ",
    ),
    "a negative weight": (lambda: {"task_weights": [1.0, -0.5, 1.0]}, r"task_weights\[1\].* -0\.5"),
    "a weight that is NaN": (
        lambda: {"task_weights": [1.0, float("nan"), 1.0]},
        r"task_weights\[1\]",
    ),
    "a denominator of 0": (
        lambda: {"denominator": 0.0},
        r"^denominator = 0; .* labels\[0, 1\] has the weight 0\.5$",
    ),
    "a negative denominator": (lambda: {"denominator": torch.tensor(-2.0)}, r"^denominator = -2; "),
    "an infinite grad_scale": (lambda: {"grad_scale": float("inf")}, r"^grad_scale = inf; "),
    "a grad_scale that fp32 cannot hold": (lambda: {"grad_scale": 1e39}, r"^grad_scale = 1e\+39; "),
    "a grad_scale that fp32 takes for 0": (
        lambda: {"grad_scale": torch.tensor(1e-50, dtype=torch.float64)},
        r"^grad_scale = 1e-50; ",
    ),
    "a tensor of 0 as grad_scale": (lambda: {"grad_scale": torch.zeros(())}, r"^grad_scale = 0"),
}


@pytest.mark.parametrize("case", IN_THE_DATA)
def test_what_the_library_finds_in_the_data_is_raised_with_its_message(case: str) -> None:
    wrong, pattern = IN_THE_DATA[case]
    leaf = BATCH.logits.clone().requires_grad_()
    with pytest.raises(ArgumentError, match=pattern):
        call(**{"logits": leaf, **wrong()})


@pytest.mark.parametrize(
    ("option", "value", "right"),
    [
        ("label_smoothing", 1.5, r"expected a value in \[0, 1\]"),
        ("label_smoothing", float("nan"), r"expected a value in \[0, 1\]"),
        ("softcap", -30.0, "expected a finite value > 0, or 0 for none"),
        ("softcap", float("inf"), "expected a finite value > 0, or 0 for none"),
        ("z_loss", -1e-4, "expected a finite value >= 0"),
    ],
)
def test_an_option_out_of_its_range_is_refused(option: str, value: float, right: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{option} = {value:g}; {right}$"):
        call(**{option: value})


def test_softcap_of_none_and_0_are_both_off() -> None:
    assert torch.equal(call(softcap=None), call(softcap=0.0))


def test_a_device_that_is_neither_is_refused_and_nothing_copied_to_the_cpu() -> None:
    with pytest.raises(UnsupportedError) as caught:
        vitw_loss(*(tensor.to("meta") for tensor in BATCH))
    assert str(caught.value) == (
        "logits is on device 'meta'; expected 'cpu' or 'cuda', for this version computes nowhere "
        "else (logits.cpu() moves them, if that is meant)"
    )


def test_the_options_are_keywords_only() -> None:
    with pytest.raises(TypeError):
        vitw_loss(*BATCH, -100)  # type: ignore[call-overload]


def test_argument_errors_are_value_errors_and_the_others_runtime_errors() -> None:
    assert issubclass(ArgumentError, ValueError)
    assert issubclass(Error, RuntimeError)
    for kind in (DataError, FileError, UnsupportedError):
        assert issubclass(kind, Error)
    assert issubclass(FileError, OSError)


def test_labels_and_ids_of_ignored_rows_are_not_read() -> None:
    task_ids = BATCH.task_ids.clone()
    task_ids[BATCH.labels == -100] = 2**40
    assert torch.equal(call(task_ids=task_ids), call())


def test_weights_of_any_float_type_and_sequence() -> None:
    import numpy as np

    for weights in (
        BATCH.task_weights.double(),
        BATCH.task_weights.bfloat16(),
        [0.5, 1.75, 0],
        (0.5, 1.75, 0.0),
        np.array([0.5, 1.75, 0.0]),
    ):
        assert torch.equal(call(task_weights=weights), call())


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
def test_numbers_of_numpy_are_numbers(kind: Any) -> None:
    found = call(ignore_index=np.int64(-100), denominator=kind(3), grad_scale=kind(2))
    assert torch.equal(found, call(denominator=3.0, grad_scale=2.0))


def test_a_weights_file_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    with pytest.raises(FileError, match=re.escape(f"{path}: No such file or directory")):
        call(task_weights=path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"visatb_weights":1}', '{"visatb_weights":1,"tasks":[]}', "\xff"]
)
def test_a_weights_file_that_is_wrong_is_named_with_its_path(text: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: "):
        call(task_weights=str(path))


def test_a_path_that_no_cpu_has_is_refused_where_the_environment_names_it() -> None:
    code = (
        "import torch, visatb; rows = torch.zeros(1, dtype=torch.int64); "
        "visatb.vitw_loss(torch.zeros(1, 2), rows, rows, [1.0])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "VISATB_CPU": "abacus"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr.splitlines()[-1] == (
        "visatb._errors.UnsupportedError: the environment says VISATB_CPU=abacus; expected "
        "portable, avx2, avx512 or avx512_bf16, or no such variable"
    )

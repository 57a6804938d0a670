"""How far each contestant is from fp64, on few enough rows to look at every entry.

The loss is compared relatively. An entry of the gradient is compared in units of the largest factor
that a token's loss is multiplied with (lambda / D), and for types of 16 bits also by whether it is
the number of that type that is nearest to what fp64 gives. Of the linear form, norms are compared.
What is promised is a bound that numbers keep: a NaN, of which no comparison holds, never does.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .cases import Case, Size
from .contestants import FLOOR, OURS, Contestant, NotRun, Result, reason_of
from .data import Data, make_data
from .names import LINEAR_AUTHORS
from .progress import Progress
from .reference import factors, kind_of, nll, slope
from .timing import Bench, free_memory, require_working

ROWS, VOCABULARIES = 256, (32000, 32003, 152064)
LINEAR_ROWS, LINEAR_VOCABULARY, LINEAR_HIDDEN = 512, 32000, 1024
DTYPES = ("bfloat16", "float16", "float32")
LOSS_LIMIT, ROUNDED_LIMIT, ULP_LIMIT = 1e-6, 0.999, 1.0
# For fp32: relative to the entry, or else in units of the row's lambda / D, below which errors do
# not count.
ENTRY_LIMIT, NOISE = 2e-6, 1e-7
NORM_LIMIT, NORM_RATIO_LIMIT = 3e-6, 1.1
# Of the linear form, whose logits are rounded to bf16 on a GPU.
LINEAR_LOSS_LIMITS = {"float32": LOSS_LIMIT, "bfloat16": 1e-3}
Record = dict[str, Any]


def cases(*, quick: bool) -> list[Case]:
    """Logits of every type, and hidden states."""
    vocabularies = (515,) if quick else VOCABULARIES
    linear = Size(64, 512, 32) if quick else Size(LINEAR_ROWS, LINEAR_VOCABULARY, LINEAR_HIDDEN)
    rows = 64 if quick else ROWS
    found = [Case(Size(rows, vocab), dtype, 50) for vocab in vocabularies for dtype in DTYPES]
    return [*found, *(Case(linear, dtype, 50) for dtype in ("bfloat16", "float32"))]


def measure(case: Case, bench: Bench, progress: Progress) -> Record:
    """Errors of every contestant that runs, and whether ours are within the promised ones."""
    free_memory(bench)
    data = make_data(case, bench.device)
    found = []
    chosen = [one for one in bench.contestants[case.size.form] if one.group != FLOOR]
    # Compiled code is PyTorch's other way to the same numbers, and takes seconds.
    chosen = [one for one in chosen if "compiled" not in one.name]
    for number, one in enumerate(chosen, 1):
        progress.show(f"accuracy {number}/{len(chosen)}: {one.name}")
        found.append({"name": one.name, "group": one.group, **_of(one, data, bench)})
    if case.size.hidden is not None:
        _judge_norms(found, case.dtype)
    return {
        "form": case.size.form,
        "rows": case.size.rows,
        "vocab": case.size.vocab,
        "hidden": case.size.hidden,
        "dtype": case.dtype,
        "contestants": found,
    }


def _of(one: Contestant, data: Data, bench: Bench) -> Record:
    try:
        run = one.make(data)
        data.renew()
        result = run()
        bench.stopwatch.wait()
        errors = _errors_of_linear if data.source is None else _errors_of_logits
        return errors(data, result, kind_of(one), judged=one.group == OURS)
    except Exception as error:  # noqa: BLE001 - a rival may raise anything
        is_missed = one.group == OURS and not isinstance(error, NotRun)
        require_working(bench, one.name, one.group, error)
        return {"not_run": reason_of(error), **({"met": False} if is_missed else {})}


@torch.no_grad()
def _errors_of_logits(data: Data, result: Result | None, kind: str, *, judged: bool) -> Record:
    source, scale = data.source, factors(data)[kind]
    if source is None or result is None:
        raise ValueError("no logits, or nothing computed from them")
    wide = source.double()
    expected_loss = (nll(wide, data.labels) * scale).sum()
    expected = slope(wide, data.labels) * scale[:, None]
    gradient, unit = result.gradients[0], scale.max()
    error = (gradient.double() - expected).abs()
    found: Record = {
        "loss": _relative(result.loss, expected_loss),
        "gradient_max": float(error.max() / unit),
        "gradient_mean": float(error.mean() / unit),
    }
    counts = ~(error <= NOISE * scale[:, None])
    if gradient.dtype == torch.float32:
        relative = (error / expected.abs())[counts]
        found["entry_max"] = float(relative.max()) if relative.numel() else 0.0
        good = found["entry_max"] <= ENTRY_LIMIT
    else:
        found["correctly_rounded"], found["ulps_max"] = _rounding(gradient, expected, counts)
        good = found["correctly_rounded"] >= ROUNDED_LIMIT and found["ulps_max"] <= ULP_LIMIT
    if judged:
        finite = gradient.isfinite() | ~expected.to(gradient.dtype).isfinite()
        found["met"] = bool(good and finite.all() and found["loss"] <= LOSS_LIMIT)
    return found


def _rounding(gradient: Tensor, expected: Tensor, counts: Tensor) -> tuple[float, float]:
    """The share of entries beyond subnormal numbers that are rounded right, and how far others are.

    In units of the last place, where subnormal numbers count too; differences below the noise do
    not.
    """
    nearest = expected.to(gradient.dtype)
    normal = expected.abs() >= torch.finfo(gradient.dtype).tiny
    share = float((gradient == nearest)[normal].double().mean())
    steps = (_ordered(gradient) - _ordered(nearest)).abs()[counts]
    return share, float(steps.max()) if steps.numel() else 0.0


def _ordered(values: Tensor) -> Tensor:
    """Numbers of 16 bits as integers in their order, neighbours one apart."""
    bits = values.view(torch.int16).int()
    return torch.where(bits < 0, -(bits & 0x7FFF), bits)


@torch.no_grad()
def _errors_of_linear(data: Data, result: Result | None, kind: str, *, judged: bool) -> Record:
    del judged  # Beside PyTorch, when that is known.
    if result is None:
        raise ValueError("nothing computed")
    hidden, weight = (tensor.detach().double() for tensor in data.inputs)
    logits, scale = hidden @ weight.T, factors(data)[kind]
    expected_loss = (nll(logits, data.labels) * scale).sum()
    of_logits = slope(logits, data.labels) * scale[:, None]
    of_hidden, of_weight = result.gradients
    return {
        "loss": _relative(result.loss, expected_loss),
        "hidden": _norm_error(of_hidden, of_logits @ weight),
        "weight": _norm_error(of_weight, of_logits.T @ hidden),
    }


def _judge_norms(found: list[Record], dtype: str) -> None:
    """fp32 and every loss by a limit; bf16 beside PyTorch's product with a softmax in fp32."""
    parts = ("hidden", "weight")
    beside = next((one for one in found if one["name"] == LINEAR_AUTHORS), {})
    limits = dict.fromkeys(parts, NORM_LIMIT)
    if dtype != "float32":
        limits = {part: NORM_RATIO_LIMIT * beside.get(part, math.nan) for part in parts}
    # Of a product that failed, or is wrong itself, nothing can be asked but that ours are numbers.
    limits = {part: limit if math.isfinite(limit) else math.inf for part, limit in limits.items()}
    is_known = all(map(math.isfinite, limits.values()))
    limits["loss"] = LINEAR_LOSS_LIMITS[dtype]
    for one in found:
        if one["group"] != OURS or "loss" not in one:
            continue
        is_good = all(math.isfinite(one[key]) and one[key] <= limits[key] for key in limits)
        if is_known or not is_good:
            one["met"] = is_good


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).abs() / expected.abs())


def _norm_error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())

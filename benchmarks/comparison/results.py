"""Result files, and what is read from them: medians, ratios and the targets. Imports no PyTorch."""

from __future__ import annotations

import json
import math
import os
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .names import (
    AUTHORS,
    C_CALL,
    CCE,
    COMPILED,
    COPY,
    COPY_WARM,
    EAGER,
    EXACT,
    GATHERED,
    IN_PLACE,
    LIGER,
    LIGER_16,
    LIGER_LINEAR,
    LINEAR,
    LINEAR_COMPILED,
    LINEAR_EAGER,
    ONE_CHUNK,
    PASS,
    PRODUCTS,
    QUACK,
    QUACK_AT_ONCE,
    QUACK_LINEAR,
    SEPARATE,
    WEIGHTED_COMPILED,
)

FORMAT = 1
DISTURBED = 0.15  # cores that others used meanwhile
SHAPE = ("rows", "vocab", "hidden", "valid_percent")
Record = dict[str, Any]


def plain(text: str) -> str:
    """Without a terminal's colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def write(path: Path, results: Record) -> None:
    """Replaces the file at once, so that a run that is stopped leaves a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)  # noqa: PTH105 - Path.replace says the same and hides the two names.


def read(path: Path) -> Record:
    """A result file.

    Errors: ValueError for another format.
    """
    results: Record = json.loads(path.read_text(encoding="utf-8"))
    if results.get("visatb_cpu_benchmark") != FORMAT:
        raise ValueError(f"{path}: no result file of format {FORMAT}")
    return results


def title(contestant: Record) -> str:
    """Its name in tables and pictures."""
    name: str = contestant["name"]
    return name + GATHERED if contestant["gathered"] else name


def median(contestant: Record) -> float:
    """Seconds."""
    times: list[float] = contestant["times_s"]
    return statistics.median(times)


def contestants(case: Record) -> dict[str, Record]:
    """By title, in the file's order; of floors of one name the fastest, those not run last."""
    found: dict[str, Record] = {}
    for contestant in case["contestants"]:
        name = title(contestant)
        if name not in found or _order(contestant) < _order(found[name]):
            found[name] = contestant
    return found


def _order(contestant: Record) -> float:
    return median(contestant) if "times_s" in contestant else math.inf


def is_disturbed(case: Record) -> bool:
    """Whether others were at work meanwhile, so that its times are worth little."""
    others: float = case["cores_others_used"]
    return others > DISTURBED


def size_of(case: Record) -> str:
    """The shape as text."""
    rows, vocab, hidden = case["rows"], case["vocab"], case["hidden"]
    return f"[{rows}, {vocab}]" if hidden is None else f"[{rows}, {hidden}] x [{vocab}, {hidden}]"


@dataclass(frozen=True)
class Ratio:
    """How many times the second the first takes, and what it should be."""

    what: str
    value: float
    target: str = ""
    met: bool | None = None


def _is_odd(case: Record) -> bool:
    odd: bool = case["vocab"] % 8 != 0
    return is_all_valid(case) and odd and case["dtype"] == "bfloat16"


def _is_even_bf16(case: Record) -> bool:
    return is_all_valid(case) and not _is_odd(case) and case["dtype"] == "bfloat16"


def _is_bf16(case: Record) -> bool:
    return is_all_valid(case) and case["dtype"] == "bfloat16"


def _is_wide(case: Record) -> bool:
    wide: bool = case["vocab"] > 100_000
    return is_all_valid(case) and wide


def _is_sparse(case: Record) -> bool:
    share: int = case["valid_percent"]
    return share == 30


def is_all_valid(case: Record) -> bool:
    """Whether every row of a case counts."""
    share: int = case["valid_percent"]
    return share == 100


@dataclass(frozen=True)
class Bound:
    """What is divided by what, and the bound that was set, if any, for the cases it is for."""

    one: str
    other: str
    sign: str = ""
    limit: float = 0.0
    applies: Callable[[Record], bool] = is_all_valid

    @property
    def what(self) -> str:
        """In tables."""
        return f"{self.one} / {self.other}"

    def ratio(self, value: float, case: Record) -> Ratio:
        """The ratio with its verdict."""
        if not self.sign or not self.applies(case):
            return Ratio(self.what, value)
        met = {"<=": value <= self.limit, ">=": value >= self.limit, "<": value < self.limit}
        return Ratio(self.what, value, f"{self.sign} {self.limit:g}", met[self.sign])


BOUNDS = (
    Bound(IN_PLACE, PASS, "<=", 1.5),
    Bound(C_CALL, PASS, "<=", 1.5),
    Bound(EAGER, IN_PLACE, ">=", 8.0),
    Bound(EAGER, SEPARATE),
    Bound(COMPILED, IN_PLACE),
    Bound(COMPILED, SEPARATE),
    Bound(EAGER + GATHERED, IN_PLACE),
    Bound(COMPILED + GATHERED, IN_PLACE),
    Bound(SEPARATE, COPY, "<=", 1.2),
    Bound(LINEAR, PRODUCTS),
    Bound(LINEAR, PRODUCTS + GATHERED),
    Bound(LINEAR_EAGER, LINEAR),
    Bound(LINEAR_COMPILED, LINEAR),
    Bound(LINEAR_EAGER + GATHERED, LINEAR),
    Bound(LINEAR_COMPILED + GATHERED, LINEAR),
)


# "Level with": not slower by more than three percent.
GPU_BOUNDS = (
    Bound(COPY_WARM, IN_PLACE, ">=", 0.92, _is_even_bf16),
    Bound(COPY_WARM, IN_PLACE, ">=", 0.85, _is_odd),
    Bound(QUACK_AT_ONCE, IN_PLACE, ">=", 0.97, _is_bf16),
    Bound(LIGER, IN_PLACE, ">=", 1.5, _is_bf16),
    Bound(AUTHORS, IN_PLACE, ">=", 5.0, _is_bf16),
    Bound(COPY_WARM, C_CALL),
    Bound(COPY_WARM, SEPARATE),
    Bound(QUACK, IN_PLACE),
    Bound(EAGER, IN_PLACE),
    Bound(COMPILED, IN_PLACE),
    Bound(WEIGHTED_COMPILED, IN_PLACE),
    Bound(QUACK_AT_ONCE + GATHERED, IN_PLACE),
    Bound(LIGER + GATHERED, IN_PLACE),
    Bound(PRODUCTS, ONE_CHUNK, ">=", 0.95),
    Bound(PRODUCTS, EXACT, ">=", 0.88, _is_wide),
    Bound(QUACK_LINEAR, ONE_CHUNK, ">=", 0.97),
    Bound(LIGER_LINEAR, ONE_CHUNK, ">=", 0.97),
    Bound(LIGER_16, ONE_CHUNK, ">=", 0.97),
    Bound(QUACK_LINEAR, EXACT, ">=", 3.0, _is_sparse),
    Bound(LIGER_LINEAR, EXACT, ">=", 3.0, _is_sparse),
    Bound(LIGER_16, EXACT, ">=", 3.0, _is_sparse),
    Bound(PRODUCTS, LINEAR),
    Bound(PRODUCTS + GATHERED, EXACT),
    Bound(PRODUCTS + GATHERED, ONE_CHUNK),
    Bound(CCE, EXACT),
    Bound(LINEAR_EAGER, EXACT),
    Bound(LINEAR_COMPILED, EXACT),
    Bound(QUACK_LINEAR + GATHERED, EXACT),
    Bound(LIGER_LINEAR + GATHERED, EXACT),
)


def measured(case: Record, bounds: tuple[Bound, ...]) -> list[Ratio]:
    """Those ratios of a case whose two sides ran, where a bound that is set is for such a case.

    Of several bounds of one ratio, the one that is for the case counts. How fast something wrong is
    tells nothing: see `spoiled`.
    """
    times = {name: c["times_s"] for name, c in contestants(case).items() if _is_timed(c)}
    found: dict[str, Ratio] = {}
    for bound in bounds:
        if bound.one in times and bound.other in times:
            ratio = bound.ratio(_paired(times[bound.one], times[bound.other]), case)
            if ratio.target or bound.what not in found:
                found[bound.what] = ratio
    return list(found.values())


def spoiled(case: Record, bounds: tuple[Bound, ...]) -> set[str]:
    """Those ratios of a case that there are not because a side of them is wrong."""
    wrong = {name for name, one in contestants(case).items() if "wrong" in one}
    return {bound.what for bound in bounds if bound.one in wrong or bound.other in wrong}


def _is_timed(contestant: Record) -> bool:
    return "times_s" in contestant and "wrong" not in contestant


def ratios(case: Record, cases: list[Record]) -> list[Ratio]:
    """Those of one case, on a CPU also beside fp32 of the same shape among the cases."""
    if "device" in case:
        return measured(case, GPU_BOUNDS)
    found = measured(case, BOUNDS)
    if case["dtype"] != "bfloat16":
        return found
    wide = {"dtype": "float32", **{key: case[key] for key in SHAPE}}
    own = contestants(case)
    for other in cases:
        if all(other[key] == value for key, value in wide.items()):
            beside = contestants(other)
            found += [
                Bound(
                    f"{name}: bf16", "fp32", *(("", 0.0) if name == LINEAR else ("<", 1.0))
                ).ratio(median(own[name]) / median(beside[name]), case)
                for name in (IN_PLACE, SEPARATE, LINEAR)
                if _is_timed(own.get(name, {})) and _is_timed(beside.get(name, {}))
            ]
    return found


def _paired(ones: list[float], others: list[float]) -> float:
    """The median over rounds: a machine that is slow for a while is so for both of a round."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))

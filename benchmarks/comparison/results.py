"""Result files, and what is read from them: medians, ratios and the targets. Imports no PyTorch."""

from __future__ import annotations

import json
import math
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .names import (
    C_CALL,
    COMPILED,
    COPY,
    EAGER,
    GATHERED,
    IN_PLACE,
    LINEAR,
    LINEAR_COMPILED,
    LINEAR_EAGER,
    PASS,
    PRODUCTS,
    SEPARATE,
)

FORMAT = 1
DISTURBED = 0.15  # cores that others used meanwhile
SHAPE = ("rows", "vocab", "hidden", "valid_percent")
Record = dict[str, Any]


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


# what is divided by what, and the bound that was set: at most, at least, or none.
RATIOS = (
    (IN_PLACE, PASS, "<=", 1.5),
    (C_CALL, PASS, "<=", 1.5),
    (EAGER, IN_PLACE, ">=", 8.0),
    (EAGER, SEPARATE, "", 0.0),
    (COMPILED, IN_PLACE, "", 0.0),
    (COMPILED, SEPARATE, "", 0.0),
    (EAGER + GATHERED, IN_PLACE, "", 0.0),
    (COMPILED + GATHERED, IN_PLACE, "", 0.0),
    (SEPARATE, COPY, "<=", 1.2),
    (LINEAR, PRODUCTS, "", 0.0),
    (LINEAR, PRODUCTS + GATHERED, "", 0.0),
    (LINEAR_EAGER, LINEAR, "", 0.0),
    (LINEAR_COMPILED, LINEAR, "", 0.0),
    (LINEAR_EAGER + GATHERED, LINEAR, "", 0.0),
    (LINEAR_COMPILED + GATHERED, LINEAR, "", 0.0),
)


def ratios(case: Record, cases: list[Record]) -> list[Ratio]:
    """Those of one case whose two sides ran, also beside fp32 of the same shape among the cases."""
    times = {name: c["times_s"] for name, c in contestants(case).items() if "times_s" in c}
    found = [
        _ratio(f"{one} / {other}", _paired(times[one], times[other]), bound, limit, case)
        for one, other, bound, limit in RATIOS
        if one in times and other in times
    ]
    if case["dtype"] != "bfloat16":
        return found
    wide = {"dtype": "float32", **{key: case[key] for key in SHAPE}}
    for other in cases:
        if all(other[key] == value for key, value in wide.items()):
            beside = contestants(other)
            found += [
                _ratio(
                    f"{name}: bf16 / fp32",
                    statistics.median(times[name]) / median(beside[name]),
                    *(("", 0.0) if name == LINEAR else ("<", 1.0)),
                    case,
                )
                for name in (IN_PLACE, SEPARATE, LINEAR)
                if name in times and "times_s" in beside.get(name, {})
            ]
    return found


def _paired(ones: list[float], others: list[float]) -> float:
    """The median over rounds: a machine that is slow for a while is so for both of a round."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def _ratio(what: str, value: float, bound: str, limit: float, case: Record) -> Ratio:
    """Bounds hold where all rows are valid."""
    if not bound or case["valid_percent"] < 100:
        return Ratio(what, value)
    met = {"<=": value <= limit, ">=": value >= limit, "<": value < limit}[bound]
    return Ratio(what, value, f"{bound} {limit:g}", met)

"""The tables of the comparison: means over seeds with 95% intervals, beside the paper's numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from scipy import stats

# dI and dE in percent as the paper prints them, for LLaVA-1.5 on its Academic Benchmark.
PAPER_7B = {"EW": (8.75, 0.10), "TLA": (6.65, 1.85), "VisATB": (11.29, 0.15)}
PAPER_13B = {"EW": (4.55, 0.66), "VisATB": (6.89, 0.29)}

_HOW = """\
`make reproduce` made this page: the demo's four tasks ([demo.md](demo.md)), a LLaVA of {model} from
random weights, {seeds} seeds. Every seed has its own splits, subsets, first weights and order.
Means over the seeds with 95% intervals (Student's t). STL, each task alone, is the baseline; dI is
better higher, dE lower, both in percent. Every method trains on the same samples as often; the
scores that VisATB's weights are made from cost {measuring:.1f}% of a final run beside that."""
_OF_PAPER = """\
The paper's numbers are of LLaVA-1.5 on its Academic Benchmark of seven tasks, as far as they were
at hand. They are not to be expected from this model and these tasks."""
_ALONE = """\
As in the paper's Table 8: weights from one of the three measures, beside all of them together and
beside equal weights."""

METHODS = ("EW", "TLA", "RLW", "DWA", "IGBv1", "VisATB")
ALONE = ("VisATB outward", "VisATB inward", "VisATB difficulty")


class Seed(NamedTuple):
    """What one seed came to.

    Attributes:
        seed: its number.
        results: results.json.
        evaluation: what `visatb evaluate` makes of it.
        weights: weights.json; None where VisATB refused the scores.
        measuring: what the scores of the weights cost, as a share of a final run's samples.
    """

    seed: int
    results: dict[str, Any]
    evaluation: dict[str, Any]
    weights: dict[str, Any] | None
    measuring: float


def document(seeds: Sequence[Seed], *, model: str, machine: str) -> str:
    """The whole page, in Markdown."""
    refused = [str(one.seed) for one in seeds if one.weights is None]
    # Means of one table are over the same seeds.
    compared = [one for one in seeds if one.weights is not None] or seeds
    measuring = 100.0 * statistics.fmean(one.measuring for one in seeds)
    parts = [
        "# The paper's comparison in small",
        _HOW.format(model=model, seeds=len(seeds), measuring=measuring),
        _compared(compared, METHODS, "method"),
        _OF_PAPER,
        "## Each alpha alone",
        _ALONE,
        _compared(compared, ("EW", *ALONE, "VisATB"), "weights by", paper=False),
        "## Against equal weights",
        "Differences from EW seed by seed, so that what a seed does to both falls out.",
        _differences(compared),
        "## Test scores",
        _scores(compared),
        "## VisATB's weights",
        _weights(seeds),
    ]
    if refused:
        parts.append(
            f"VisATB refused the scores of seed {', '.join(refused)}: without a model of its own "
            "there, means and differences are those of the other seeds."
        )
    parts += ["## By seed", _by_seed(seeds), f"Made with {machine}."]
    return "\n\n".join(parts) + "\n"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean and half of its 95% interval; infinite for a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.inf
    factor = float(stats.t.interval(0.95, len(values) - 1)[1])
    return mean, factor * statistics.stdev(values) / math.sqrt(len(values))


def _compared(
    seeds: Sequence[Seed], methods: Sequence[str], name: str, *, paper: bool = True
) -> str:
    header = [name, "dI %", "dE %"]
    if paper:
        header += ["paper, 7B: dI, dE", "paper, 13B: dI, dE"]
    rows = []
    for method in methods:
        row = [method, *(_mean(_summaries(seeds, method, key)) for key in ("dI", "dE"))]
        if paper:
            row += [_of_paper(PAPER_7B, method), _of_paper(PAPER_13B, method)]
        rows.append(row)
    return _table(header, rows)


def _differences(seeds: Sequence[Seed]) -> str:
    rows = []
    for method in (*METHODS[1:], *ALONE):
        row = [method]
        for key in ("dI", "dE"):
            pairs = [
                (of[method][key], of["EW"][key])
                for of in (one.evaluation["methods"] for one in seeds)
                if method in of
            ]
            row.append(_mean([mine - equal for mine, equal in pairs], signed=True))
        better = sum(
            of[method]["dI"] > of["EW"]["dI"]
            for of in (one.evaluation["methods"] for one in seeds)
            if method in of
        )
        rows.append([*row, f"{better} of {len(pairs)}"])
    return _table(["method", "dI - dI of EW", "dE - dE of EW", "seeds with the higher dI"], rows)


def _scores(seeds: Sequence[Seed]) -> str:
    tasks = seeds[0].results["tasks"]
    rows = []
    for method in ("STL", *METHODS, *ALONE):
        row = [method]
        for task in tasks:
            name, metric = task["name"], task["metrics"][0]["name"]
            values = [
                one.results["methods"][method][name][metric]
                for one in seeds
                if method in one.results["methods"]
            ]
            row.append(_mean(values, signed=False))
        rows.append(row)
    return _table(["method", *(f"{t['name']} ({t['metrics'][0]['name']})" for t in tasks)], rows)


def _weights(seeds: Sequence[Seed]) -> str:
    made = [one.weights for one in seeds if one.weights is not None]
    if not made:
        return "None: VisATB refused the scores of every seed."
    keys = ("outward", "inward", "difficulty", "weights")
    rows = [
        [task, *(_mean([one[key][task] for one in made]) for key in keys)]
        for task in made[0]["tasks"]
    ]
    return _table(["task", "outward", "inward", "difficulty", "weight"], rows)


def _by_seed(seeds: Sequence[Seed]) -> str:
    methods = (*METHODS, *ALONE)
    rows = []
    for one in seeds:
        of = one.evaluation["methods"]
        shown = (f"{of[m]['dI']:.2f}, {of[m]['dE']:.2f}" if m in of else "" for m in methods)
        temperature = f"{one.weights['temperature']:g}" if one.weights else "refused"
        rows.append([str(one.seed), temperature, *shown])
    return "dI, dE of every seed, and its automatic temperature.\n\n" + _table(
        ["seed", "T", *methods], rows
    )


def _summaries(seeds: Sequence[Seed], method: str, key: str) -> list[float]:
    evaluations = (one.evaluation["methods"] for one in seeds)
    return [of[method][key] for of in evaluations if method in of]


def _mean(values: Sequence[float], *, signed: bool = False) -> str:
    if not values:
        return ""
    mean, half = interval(values)
    shown = f"{mean:+.2f}" if signed else f"{mean:.2f}"
    return shown if math.isinf(half) else f"{shown} ± {half:.2f}"


def _of_paper(numbers: dict[str, tuple[float, float]], method: str) -> str:
    return ", ".join(f"{number:.2f}" for number in numbers[method]) if method in numbers else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

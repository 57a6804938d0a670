"""Folders for tests of the report: scores, weights made from them, a plan, results."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import visatb
from visatb.procedure.plan import Cost, Plan, Run
from visatb.report import write_report
from visatb.report.gather import gather

Json = dict[str, Any]
HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>&amp;{{ 7*7 }}",
    "$\\nonsense{1}$ and $x$",
    "two\nlines\x1b[2J",
    "\u0645\u0647\u0645\u0629 \u202e reversed",
    "\U0001f600 \u56fe\u8868",
    "a very long name of a task that says all of what it is and then some" * 3,
    "a very long name of a task that says all of what it is and then something else" * 3,
)


def simulated_scores(names: Sequence[str], seed: int = 0) -> Json:
    """Scores of the full form: every task gains from its own data, and a little from others'."""
    rng = np.random.default_rng(seed)
    mini = rng.uniform(35, 60, len(names))
    gain = rng.uniform(6, 25, len(names))
    helped = rng.normal(0.15, 0.18, (len(names), len(names)))
    np.fill_diagonal(helped, 1.0)
    with_mini = mini + helped * gain
    return {
        "visatb_scores": 1,
        "form": "full",
        "tasks": [
            {"name": name, "metrics": [{"name": "em", "higher_is_better": True}]} for name in names
        ],
        "runs": {
            "mini": {name: {"em": value} for name, value in zip(names, mini, strict=True)},
            "with_mini": {
                unit: {name: {"em": value} for name, value in zip(names, row, strict=True)}
                for unit, row in zip(names, with_mini.tolist(), strict=True)
            },
        },
    }


def save(path: Path, document: Json) -> Path:
    path.write_text(json.dumps(document, ensure_ascii=True), encoding="utf-8")
    return path


def make_folder(folder: Path, scores: Json, change: Callable[[Json], None] | None = None) -> Path:
    """scores.json and the weights.json made from it, which may be changed before it is saved."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = visatb.compute_weights(save(folder / "scores.json", scores)).data
    if change is not None:
        change(weights)
    save(folder / "weights.json", weights)
    return folder


def vector_scores() -> Json:
    """The scores of the known answer: three tasks that are weighed, and a fixed one."""
    vector = Path(__file__).resolve().parents[1] / "vectors/scores_full.json"
    return dict(json.loads(vector.read_text(encoding="utf-8"))["scores"])


def add_intervals(weights: Json) -> None:
    """Intervals of one width around what was measured."""
    bounds = {
        task: [weight - 0.11, weight + 0.12]
        for task, weight in weights["weights"].items()
        if task in weights["difficulty"]
    }
    weights["intervals"] = {
        "confidence": 0.95,
        "resamples": 2000,
        "seed": 0,
        "refused": 3,
        "weights": bounds,
        "contribution": {
            i: {j: [value - 0.1, value + 0.1] for j, value in row.items()}
            for i, row in weights["contribution"].items()
        },
        **{
            measure: {unit: [v - 0.05, v + 0.06] for unit, v in weights[measure].items()}
            for measure in ("outward", "inward", "difficulty")
        },
        "apart_from_one": [t for t, (low, high) in bounds.items() if not low <= 1 <= high],
        "apart": [
            list(pair)
            for pair in itertools.combinations(bounds, 2)
            if abs(weights["weights"][pair[0]] - weights["weights"][pair[1]]) > 0.2
        ],
    }


def plan_for(scores: Json, **changes: Any) -> Json:
    """A plan that these scores of the full form may come from, as `visatb plan` writes it."""
    tasks = [
        {key: value for key, value in task.items() if key != "note"}
        | {"samples": 40_000, "validation": 500, "test": 500}
        for task in scores["tasks"]
    ]
    names = tuple(task["name"] for task in tasks)
    units = dict.fromkeys(t.get("group", t["name"]) for t in tasks if "fixed_weight" not in t)
    measuring = [
        Run(name, "measure", "EW", f"data/{n}.json", 1250 + 70 * n, 10 + n, "validation", names)
        for n, name in enumerate(["mini", *(f"with_mini:{unit}" for unit in units)])
    ]
    final = Run("VisATB", "compare", "VisATB", "data/all.json", 120_000, 938, "test", names)
    plan = Plan(
        form="full",
        seed=3,
        base_model="",
        tasks=tuple(tasks),
        data={},
        sampling={"large": 0.25, "mini": 0.03125, "seed": 3, "batch_size": 128, "epochs": 1},
        inputs=({"name": "data.json", "sha256": "ab" * 32},),
        subsets=(),
        materials=(),
        runs=(*measuring, final),
        cost=Cost(0.34375, 0.3441, 41_292, 120_000, 323, 938),
    )
    return dict(json.loads(replace(plan, **changes).to_json()))


def results_for(tasks: Sequence[str], methods: Sequence[str], seed: int = 0) -> Json:
    """Results of some methods on these tasks and two zero-shot ones."""
    rng = np.random.default_rng(seed)
    all_tasks = [*tasks, "POPE", "MME"]
    return {
        "visatb_results": 1,
        "tasks": [
            {"name": name, "metrics": [{"name": "em", "higher_is_better": True}],
             **({} if name in tasks else {"zero_shot": True})}
            for name in all_tasks
        ],
        "baseline": "STL",
        "methods": {
            method: {
                name: {"em": 50 + 5 * number + float(rng.uniform(-4, 6))}
                for number, name in enumerate(all_tasks)
            }
            for method in ("STL", *methods)
        },
    }  # fmt: skip


def weights() -> Json:
    """weights.json of the working folder."""
    return json.loads(Path("weights.json").read_text(encoding="utf-8"))


def change(path: str, value: object, file: str = "weights.json") -> None:
    """Sets, or with ... removes, what stands at a path of keys joined by "/"."""
    document = json.loads(Path(file).read_text(encoding="utf-8"))
    *way, last = path.split("/")
    place = document
    for key in way:
        place = place[int(key) if isinstance(place, list) else key]
    key = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[key]
    else:
        place[key] = value
    save(Path(file), document)


def refusal(error: type[Exception], path: str = "weights.json", **options: str) -> str:
    """The message of what is refused; nothing was written."""
    before = {file: file.read_bytes() for file in Path().rglob("*") if file.is_file()}
    with pytest.raises(error) as raised:
        gather(path, **options) if not options.keys() & {"output", "figures"} else write_report(
            path, **options
        )
    assert {file: file.read_bytes() for file in Path().rglob("*") if file.is_file()} == before
    return str(raised.value)

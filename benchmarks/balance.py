"""How long the balance mathematics takes: arrays of 17 and 4096 tasks, a score file of 256.

`python benchmarks/balance.py` prints medians over repeated calls of the installed library, with its
checks of the input, and the machine they were taken on.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import visatb


def scores(units: int) -> tuple[np.ndarray, np.ndarray]:
    """Baseline [units], and trained [units, units] in which every task helps itself the most."""
    random = np.random.default_rng(0)
    baseline = random.uniform(20.0, 60.0, units)
    trained = baseline + random.uniform(-0.5, 2.0, (units, units))
    np.fill_diagonal(trained, baseline + random.uniform(5.0, 20.0, units))
    return baseline, trained


def from_arrays(baseline: np.ndarray, trained: np.ndarray) -> None:
    """Contribution, difficulty and weights from arrays."""
    contribution = visatb.contribution(trained, baseline)
    outward, inward = visatb.contribution_means(contribution)
    difficulty = visatb.difficulty(baseline, np.diag(trained).copy())
    visatb.balance_weights(outward, inward, difficulty, temperature=0.5)


def score_file(units: int) -> str:
    """The text of a score file of the full form."""
    baseline, trained = scores(units)
    names = [f"task{index}" for index in range(units)]

    def run(values: np.ndarray) -> dict[str, dict[str, float]]:
        return {name: {"em": float(value)} for name, value in zip(names, values, strict=True)}

    metrics = [{"name": "em", "higher_is_better": True}]
    return json.dumps(
        {
            "visatb_scores": 1,
            "form": "full",
            "tasks": [{"name": name, "metrics": metrics} for name in names],
            "runs": {
                "mini": run(baseline),
                "with_mini": {name: run(row) for name, row in zip(names, trained, strict=True)},
            },
            "temperature": 0.5,
        }
    )


def report(what: str, function: Callable[[], object], repetitions: int) -> None:
    """Prints the median time of a call."""
    function()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    print(f"{what:<34}{statistics.median(times) * 1e6:>12,.0f} us  ({repetitions} calls)")


def processor() -> str:
    """The name of the processor, where the system tells it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "?")


def main() -> None:
    """Runs everything."""
    print(f"visatb {visatb.__version__}, {processor()}, {platform.platform()}")
    for units, repetitions in ((17, 2000), (256, 50), (4096, 5)):
        baseline, trained = scores(units)
        report(f"arrays, N = {units}", lambda b=baseline, t=trained: from_arrays(b, t), repetitions)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.json"
        path.write_text(score_file(256), encoding="utf-8")
        report("JSON file to weights, N = 256", lambda: visatb.compute_weights(path), 20)


if __name__ == "__main__":
    main()

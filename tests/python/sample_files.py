"""Score files with scores by sample, for tests."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from visatb.per_sample import SampleValues, write_per_sample

Key = tuple[str, str, str]


def sampled(
    document: dict[str, Any], seed: int = 0, samples: int = 30, noise: float = 0.1
) -> tuple[dict[str, Any], dict[Key, dict[str, float]]]:
    """A score file with values for every score of its runs, whose means the scores become.

    The values of one sample are alike in all runs.
    """
    generator = np.random.default_rng(seed)
    values: dict[Key, dict[str, float]] = {}
    easy: dict[str, Any] = {}
    for run, tasks in runs_of(document):
        for task, metrics in tasks.items():
            names = [f"{task}/{index}" for index in range(samples + len(task))]
            luck = easy.setdefault(task, generator.normal(size=len(names)))
            for metric, score in metrics.items():
                own = generator.normal(size=len(names))
                column = score * (1 + noise * (luck + own))
                values[run, task, metric] = dict(zip(names, column.tolist(), strict=True))
                if noise:
                    metrics[metric] = math.fsum(column) / len(column)
    return document, values


def runs_of(document: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """The runs of a score file by their names."""
    for kind, content in document["runs"].items():
        if kind in {"mini", "base"}:
            yield kind, content
        else:
            for unit, tasks in content.items():
                yield f"{kind}:{unit}", tasks


def write(
    document: dict[str, Any], values: dict[Key, dict[str, float]], folder: Path = Path()
) -> None:
    """Both files, scores.json and answers.jsonl."""
    lines = [SampleValues(*key, column) for key, column in values.items()]
    write_per_sample(folder / "answers.jsonl", lines)
    document["per_sample"] = "answers.jsonl"
    (folder / "scores.json").write_text(json.dumps(document), encoding="utf-8")


def shift(values: dict[Key, dict[str, float]], key: Key, by: float) -> None:
    """Moves the values of one run."""
    values[key] = {sample: value + by for sample, value in values[key].items()}


def rescore(document: dict[str, Any], values: dict[Key, dict[str, float]]) -> None:
    """Puts the means of the values into the score file."""
    for (run, task, metric), column in values.items():
        kind, _, unit = run.partition(":")
        content = document["runs"][kind][unit] if unit else document["runs"][kind]
        content[task][metric] = sum(column.values()) / len(column)

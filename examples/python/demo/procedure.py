"""VisATB from scores to results, over the pieces that train and score one run.

    mini           every task's mini subset
    with_mini.T    task T's large subset with the other tasks' mini subsets
                   -> scores on validation -> scores.json -> weights.json
    EW, VisATB     all data of all tasks, equal weights or VisATB's weights
    STL.T          all data of task T alone
                   -> scores on test -> results.json

Every run starts from the same random weights (those of the seed), goes over its samples equally
often and has the same settings; the mini subset of a task is a part of its large subset.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import answers
from model import Tokenizer
from progress import RunProgress
from tasks import TASKS, Dataset, Sample
from training import Settings, step_count, train

import visatb

Scores = dict[str, dict[str, float]]
NAMES = [task.name for task in TASKS]
EQUAL = [1.0] * len(TASKS)


@dataclass(frozen=True)
class Scale:
    """How much of everything: pictures in each split, fractions of train, passes over them."""

    pictures: dict[str, int]
    large: float
    mini: float
    settings: Settings


FULL = Scale({"train": 2400, "validation": 900, "test": 1000}, 1 / 4, 1 / 32, Settings(epochs=10))
QUICK = Scale({"train": 320, "validation": 80, "test": 80}, 1 / 2, 1 / 8, Settings(epochs=6))


@dataclass(frozen=True)
class Run:
    """One training run: its samples and weights, and the tasks it is then asked, on which split."""

    samples: list[Sample]
    task_weights: list[float] = field(default_factory=lambda: EQUAL)
    split: str = "validation"
    asked: tuple[int, ...] = tuple(range(len(TASKS)))


class Procedure:
    """The runs of one seed on one data set."""

    def __init__(self, data: Dataset, scale: Scale, seed: int) -> None:
        """Learn the vocabulary and lay the subsets out; nothing is trained yet."""
        self.data, self.scale, self.seed = data, scale, seed
        every = (
            sample for tasks in data.samples.values() for samples in tasks for sample in samples
        )
        self.tokenizer = Tokenizer(text for one in every for text in (one.prompt, one.answer))
        self.train = data.samples["train"]
        self.mini = [self._first(samples, scale.mini) for samples in self.train]
        self.large = [self._first(samples, scale.large) for samples in self.train]

    @staticmethod
    def _first(samples: list[Sample], fraction: float) -> list[Sample]:
        """The first samples; the pictures were dealt in random order, so this is a random part."""
        return samples[: max(1, round(fraction * len(samples)))]

    def score_runs(self) -> dict[str, Run]:
        """The runs that the scores come from, all with equal weights."""
        runs = {"mini": Run(_together(self.mini))}
        for task, name in enumerate(NAMES):
            parts = [*self.mini[:task], self.large[task], *self.mini[task + 1 :]]
            runs[f"with_mini.{name}"] = Run(_together(parts))
        return runs

    def final_runs(self, task_weights: list[float] | None) -> dict[str, Run]:
        """The runs that are compared in the end; VisATB is one of them if it has weights."""
        everything = _together(self.train)
        runs = {"EW": Run(everything, split="test")}
        if task_weights is not None:
            runs["VisATB"] = Run(everything, task_weights, split="test")
        for task, name in enumerate(NAMES):
            runs[f"STL.{name}"] = Run(self.train[task], split="test", asked=(task,))
        return runs

    def steps(self, runs: dict[str, Run]) -> int:
        """The optimiser steps these runs take together."""
        return sum(step_count(len(run.samples), self.scale.settings) for run in runs.values())

    def carry_out(self, name: str, run: Run, progress: RunProgress) -> Scores:
        """Train one model and score it."""
        progress.begin(name, step_count(len(run.samples), self.scale.settings))
        model = train(
            run.samples,
            run.task_weights,
            self.data.images,
            self.tokenizer,
            self.scale.settings,
            self.seed,
            progress.step,
        )
        asked = {TASKS[task]: self.data.samples[run.split][task] for task in run.asked}
        scores = answers.score(model, asked, self.data.images, self.tokenizer)
        progress.end(name, summary(scores))
        return scores

    def scores_file(self, scored: dict[str, Scores]) -> dict[str, Any]:
        """The content of scores.json.

        The batch size stays out: with it VisATB would count the steps of one pass, and these are
        several.
        """
        tasks = describe_tasks()
        for task, samples in zip(tasks, self.train, strict=True):
            task["samples"] = len(samples)
        return {
            "visatb_scores": 1,
            "form": "full",
            "note": f"easy-VQA, a LLaVA trained from random weights, seed {self.seed}",
            "tasks": tasks,
            "runs": {
                "mini": scored["mini"],
                "with_mini": {name: scored[f"with_mini.{name}"] for name in NAMES},
            },
            "sampling": {
                "large": self.scale.large,
                "mini": self.scale.mini,
                "seed": self.seed,
            },
        }


def _together(parts: list[list[Sample]]) -> list[Sample]:
    """The samples of several tasks in one list."""
    return [sample for part in parts for sample in part]


def results_file(scored: dict[str, Scores]) -> dict[str, Any]:
    """The content of results.json; STL is every task's score from the run of its own."""
    methods = {"STL": {name: scored[f"STL.{name}"][name] for name in NAMES}}
    methods |= {method: scored[method] for method in ("EW", "VisATB") if method in scored}
    return {
        "visatb_results": 1,
        "tasks": describe_tasks(),
        "baseline": "STL",
        "methods": methods,
    }


def describe_tasks() -> list[dict[str, Any]]:
    """The tasks and their metrics as both files name them."""
    return [
        {"name": task.name, "metrics": [{"name": task.metric, "higher_is_better": True}]}
        for task in TASKS
    ]


def weight_list(weights: visatb.Weights) -> list[float]:
    """VisATB's weights in the order of the task ids."""
    return [weights.data["weights"][name] for name in NAMES]


def summary(scores: Scores) -> str:
    """A run's scores in one short line."""
    return "  ".join(
        f"{name} {score:4.1f}" for name, metrics in scores.items() for score in metrics.values()
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file people can read too."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

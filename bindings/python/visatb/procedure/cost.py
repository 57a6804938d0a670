"""How long runs are, what measuring costs beside the final run, and the paper's advice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from .dealing import LARGE, MINI
from .plan import Cost, PlanWarning, Run
from .project import Project
from .runs import MEASURE

# The paper's advice, as libvisatb's warnings of scores have it.
FEWEST_MINI_SAMPLES = 1000
FEWEST_LARGE_SAMPLES = 10000
FEWEST_STEPS = 100

Sizes = dict[str, dict[str, int]]


def step_count(samples: int, batch_size: int, epochs: int) -> int:
    """The optimiser steps of a run."""
    return epochs * -(-samples // batch_size)


def formula(form: str, units: int, large: Fraction, mini: Fraction) -> Fraction:
    """The samples of all measuring runs as a share of the whole, where mini lies in large."""
    mixed = large + units * mini
    alone = large + mini
    return {"full": mixed, "simple": alone, "precise": mixed + alone}[form]


def cost_of(project: Project, runs: Sequence[Run], whole: int) -> Cost:
    """The cost of a plan whose final run trains on so many samples."""
    sampling = project.sampling
    measuring = [run for run in runs if run.purpose == MEASURE]
    samples = sum(run.samples for run in measuring)
    return Cost(
        formula=float(formula(project.form, len(project.units), sampling.large, sampling.mini)),
        counted=samples / whole,
        measuring_samples=samples,
        final_samples=whole,
        measuring_steps=sum(run.steps for run in measuring),
        final_steps=step_count(whole, sampling.batch_size, sampling.epochs),
    )


def advice(project: Project, sizes: Sizes, runs: Iterable[Run]) -> list[PlanWarning]:
    """What the paper advises against.

    Args:
        project: the project.
        sizes: {task: {subset: its samples}}.
        runs: of the plan.
    """
    warnings = []
    limits = {MINI: FEWEST_MINI_SAMPLES, LARGE: FEWEST_LARGE_SAMPLES}
    for subset, fewest in limits.items():
        for unit, members in project.units.items():
            count = sum(sizes[task.name][subset] for task in members)
            if count < fewest:
                text = f"{subset} subset of {unit}: {count} samples, fewer than {fewest}"
                path = f"tasks.{members[0].name}"
                warnings.append(PlanWarning(f"few_{subset}_samples", path, text))
    for run in runs:
        if run.purpose == MEASURE and run.is_trained and run.steps <= FEWEST_STEPS:
            advised = f"the paper advises more than {FEWEST_STEPS}"
            text = f"few steps: {run.name} ({run.steps}; {advised})"
            warnings.append(PlanWarning("few_steps", f"runs.{run.name}", text))
    return warnings

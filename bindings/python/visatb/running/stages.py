"""The stages of a plan's runs: a training, and the commands that evaluate what it trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..procedure.places import Evaluation, evaluations
from ..procedure.plan import Plan, Run, file_name_of
from ..procedure.project import Project
from ..procedure.runs import MEASURE

TRAIN = "train"


@dataclass(frozen=True)
class Stage:
    """One command of a run, and where its files lie.

    Attributes:
        run: its run.
        name: "train", "evaluate", or "evaluate.vqa" for one task.
        output: the folder of the whole.
        evaluation: what is evaluated; None for a training.
    """

    run: Run
    name: str
    output: Path
    evaluation: Evaluation | None = None

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.run.name}: {self.name}"

    @property
    def folder(self) -> Path:
        """That of its run."""
        return self.output / self.run.folder

    @property
    def marker(self) -> Path:
        """What says that it is done."""
        return self.folder / f"{self.name}.done"

    @property
    def failure(self) -> Path:
        """What says that its last attempt failed."""
        return self.folder / f"{self.name}.failed"

    @property
    def log(self) -> Path:
        """Where its command's output goes."""
        return self.folder / f"{self.name}.log"

    @property
    def lock(self) -> Path:
        """Held while it is at work."""
        return self.output / "locks" / file_name_of(self.run.name) / f"{self.name}.lock"

    @property
    def is_training(self) -> bool:
        """Whether it trains."""
        return self.evaluation is None

    @property
    def is_measuring(self) -> bool:
        """Whether the weights need it."""
        return self.run.purpose == MEASURE


def stages_of(project: Project, run: Run) -> list[Stage]:
    """The stages of a run, in their order."""
    training = [Stage(run, TRAIN, project.output)] if run.is_trained else []
    return training + [
        Stage(run, one.name, project.output, one) for one in evaluations(project, run)
    ]


def template_of(project: Project, stage: Stage) -> str:
    """The template of a stage's command."""
    if stage.evaluation is None:
        return project.commands.train or ""
    return stage.evaluation.template


def taken(project: Project, run: Run) -> Stage:
    """What stands for all stages of a run whose result was made elsewhere."""
    return Stage(run, "taken", project.output)


def all_stages(project: Project, plan: Plan) -> dict[str, list[Stage]]:
    """{run: its stages}."""
    return {run.name: stages_of(project, run) for run in plan.runs}


def metrics_of(plan: Plan) -> dict[str, list[str]]:
    """{task: its metrics}."""
    return {task["name"]: [metric["name"] for metric in task["metrics"]] for task in plan.tasks}

"""What of a plan is done, as the disk says it."""

from __future__ import annotations

from pathlib import Path

from .. import _digest
from .._errors import DataError, FileError
from ..procedure.places import needs_weights, weights_file
from ..procedure.plan import Plan, Run
from ..procedure.project import Project
from ..procedure.runs import MEASURE
from .called import called
from .markers import Marker, Scores, read_marker
from .stages import Stage, all_stages, metrics_of, taken, template_of


class Book:
    """The markers of a plan's stages.

    Attributes:
        project, plan: whose.
        stages: {run: its stages}.
    """

    def __init__(self, project: Project, plan: Plan) -> None:
        self.project = project
        self.plan = plan
        self.stages = all_stages(project, plan)
        self._metrics = metrics_of(plan)
        self._markers: dict[Path, tuple[tuple[int, ...], Marker]] = {}

    def marker(self, stage: Stage) -> Marker | None:
        """The marker of a stage, read anew if it changed; None where it is not done.

        Errors: FileError, DataError (of another plan; damaged).
        """
        path = stage.marker
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as reason:  # of a disk that does not answer; its model is not to be removed
            raise FileError(f"{called(path)}: {reason.strerror}") from reason
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
        known = self._markers.get(path)
        if known is not None and known[0] == state:
            return known[1]
        marker = read_marker(path, self.plan.identity)
        if marker is not None:
            self._markers[path] = (state, marker)
        return marker

    def done(self, stage: Stage) -> Marker | None:
        """The marker of a stage if it counts.

        An evaluation must be of the training that is there, and of the tasks that are its own.

        Errors: FileError, DataError.
        """
        marker = self.marker(taken(self.project, stage.run)) or self.marker(stage)
        if marker is None or stage.evaluation is None or marker.stage != stage.name:
            return marker
        # A task that got, or lost, a command of its own is now another stage's.
        asked = {task: set(self._metrics[task]) for task in stage.evaluation.tasks}
        if {task: set(scores) for task, scores in marker.scores.items()} != asked:
            return None
        return marker if marker.training == self.training(stage.run) else None

    def training(self, run: Run) -> str | None:
        """The attempt that trained a run; "" where none is needed, None where it is not trained."""
        if not run.is_trained:
            return ""
        marker = self.marker(self.stages[run.name][0])
        return None if marker is None else marker.attempt

    def result(self, run: Run) -> Scores | None:
        """The scores of a run, by sample where they are; None where it is not done.

        Errors: FileError, DataError.
        """
        scores: Scores = {}
        for stage in self.stages[run.name]:
            marker = self.done(stage)
            if marker is None:
                return None
            scores |= marker.scores
        return {task: scores[task] for task in run.scores}

    def has_result(self, run: Run) -> bool:
        """Whether all stages of a run are done; they are not where a marker cannot be read."""
        try:
            return self.result(run) is not None
        except (DataError, FileError):
            return False

    def lacking(self, purpose: str) -> list[str]:
        """The runs of a purpose that have no result yet."""
        return [r.name for r in self.plan.runs if r.purpose == purpose and not self.has_result(r)]

    @property
    def is_measured(self) -> bool:
        """Whether everything is there that the weights are made from."""
        return not self.lacking(MEASURE)

    def stale(self, run: Run) -> str | None:
        """What is wrong with a run that was trained with other weights than there are now.

        Errors: FileError, DataError.
        """
        if not needs_weights(self.project, run):
            return None
        stages = [taken(self.project, run), self.stages[run.name][0]]
        marker = next((m for m in map(self.marker, stages) if m is not None), None)
        path = weights_file(self.project, run)
        if marker is None or marker.weights == sha256_of(path):
            return None
        folder = called(self.project.output / run.folder)
        holds = "now holds" if path.exists() else "held, which is no longer there"
        return (
            f"{run.name}: was trained with other weights than {called(path)} {holds}; expected "
            f"{folder} to be removed, and it is trained again"
        )

    def changed_commands(self) -> list[str]:
        """What was done by another command than the project has now.

        Errors: FileError, DataError.
        """
        trained: list[str] = []
        evaluated: list[str] = []
        for run in self.plan.runs:
            for stage in self.stages[run.name]:
                marker = self.done(stage)
                if marker is None or not marker.template:
                    continue
                if marker.template != template_of(self.project, stage):
                    names = trained if stage.is_training else evaluated
                    names.append(run.name if stage.is_training else stage.label)
        said = (("trained", trained), ("evaluated", evaluated))
        return [
            f"{', '.join(names)}: {what} by another command than the project has now, and kept; to "
            f"have that done again, remove the folders in {called(self.project.output / 'runs')}"
            for what, names in said
            if names
        ]

    def check(self) -> None:
        """Reads every marker.

        Errors: FileError, DataError (of another plan; damaged).
        """
        for run in self.plan.runs:
            for stage in (*self.stages[run.name], taken(self.project, run)):
                self.marker(stage)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file; "" where there is none.

    Errors: FileError.
    """
    try:
        return _digest.sha256_of(path)
    except FileNotFoundError:
        return ""
    except OSError as reason:
        raise FileError(f"{called(path)}: {reason.strerror}") from reason

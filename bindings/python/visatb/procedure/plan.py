"""plan.json: every subset and run of a project, with hashes that say what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .._errors import DataError, FileError
from .._sources import PathLike, shown
from .._write import write_whole

FILE = "plan.json"


@dataclass(frozen=True)
class Subset:
    """A list of ids: the samples of one task that a split or a subset holds.

    Attributes:
        task, split, subset: which; "subset" is "all", "large" or "mini".
        samples: how many.
        sha256: of its file; "" where only the sizes are known.
        file: one id a line, in the plan's folder.
    """

    task: str
    split: str
    subset: str
    samples: int
    sha256: str = ""
    file: str = ""


@dataclass(frozen=True)
class Material:
    """A file of samples that commands are given.

    Attributes:
        file: in the plan's folder.
        samples: how many.
        sha256: of its content.
    """

    file: str
    samples: int
    sha256: str


@dataclass(frozen=True)
class Run:
    """A training and its evaluation.

    Attributes:
        name: mini, with_mini:vqa, ...; a compared one by its method, STL:vqa.
        purpose: "measure", for the weights, or "compare".
        method: how its tasks are weighed: the name of a method.
        data: the file it is trained on; "" where nothing is trained, or only sizes are known.
        samples, steps: how long it is.
        split: where it is scored.
        scores: the tasks it is scored on.
    """

    name: str
    purpose: str
    method: str
    data: str
    samples: int
    steps: int
    split: str
    scores: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Its folder in the plan's: a name that every file system and every shell takes."""
        return f"runs/{file_name_of(self.name)}"

    @property
    def is_trained(self) -> bool:
        """Whether there is anything to train."""
        return self.samples > 0


@dataclass(frozen=True)
class Cost:
    """What the measuring takes, as a share of one final run: by formula, and counted."""

    formula: float
    counted: float
    measuring_samples: int
    final_samples: int
    measuring_steps: int
    final_steps: int


@dataclass(frozen=True)
class PlanWarning:
    """Advice that the plan does not follow."""

    code: str
    path: str
    message: str


@dataclass(frozen=True)
class Plan:
    """A whole plan; see the classes above.

    Attributes:
        base_model: as the project names it; "" where it names none.
        tasks: as in scores.json, with the numbers of their samples.
        data: what the project says of its data and splits, by the place where it says so.
        inputs: the files that were read, each with its hash.
        materials: the files that commands are given.
    """

    form: str
    seed: int
    base_model: str
    tasks: tuple[dict[str, Any], ...]
    sampling: dict[str, Any]
    data: dict[str, Any]
    inputs: tuple[dict[str, str], ...]
    subsets: tuple[Subset, ...]
    materials: tuple[Material, ...]
    runs: tuple[Run, ...]
    cost: Cost
    warnings: tuple[PlanWarning, ...] = field(default=())

    @property
    def identity(self) -> str:
        """A hash of all that results depend on, so that those of another plan are known as such.

        Methods are not in it: one more to compare changes no result that is there. Neither are the
        names of files, nor the commands, of which every marker of a run has its own.
        """
        depends = {
            "form": self.form,
            "base_model": self.base_model,
            "tasks": self.tasks,
            "sampling": self.sampling,
            "inputs": [one["sha256"] for one in self.inputs],
            "subsets": [asdict(subset) for subset in self.subsets],
        }
        return _sha256(depends)

    @property
    def can_run(self) -> bool:
        """Whether there is data; a plan of sizes alone has none."""
        return bool(self.materials)

    def run(self, name: str) -> Run:
        """The run of this name.

        Errors: DataError.
        """
        for run in self.runs:
            if run.name == name:
                return run
        known = ", ".join(run.name for run in self.runs)
        raise DataError(f'"{name}" is no run of this plan; there are {known}')

    def to_json(self) -> str:
        """The text of plan.json."""
        content = {"visatb_plan": 1, "identity": self.identity, **asdict(self)}
        content["sha256"] = _sha256(content)
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"

    def save(self, folder: Path) -> None:
        """Writes plan.json; the file appears whole or not at all.

        Errors: FileError.
        """
        write_whole(folder / FILE, self.to_json().encode("utf-8", "surrogatepass"))


def load_plan(folder: PathLike) -> Plan:
    """Reads the plan of a folder.

    Errors: FileError, DataError (no plan, or one that was edited).
    """
    path = Path(folder) / FILE
    name = shown(str(path))
    try:
        content = json.loads(path.read_bytes())
    except OSError as reason:
        raise FileError(f"{name}: {reason.strerror}") from reason
    except (ValueError, RecursionError) as reason:
        raise DataError(f"{name}: not JSON: {reason}; `visatb plan` makes it again") from None
    return plan_of(content, name)


def plan_of(content: object, name: str) -> Plan:
    """The plan that a parsed plan.json holds, if it is as `visatb plan` wrote it.

    Args:
        content: the document.
        name: how messages call the file.

    Errors: DataError (no plan, or one that was edited).
    """
    if not isinstance(content, dict) or content.get("visatb_plan") != 1:
        raise DataError(f"{name}: no plan of version 1; `visatb plan` makes one")
    rest = {key: value for key, value in content.items() if key != "sha256"}
    if content.get("sha256") != _sha256(rest):
        raise DataError(f"{name}: was changed after it was made; `visatb plan` makes it again")
    plan = _plan(content, name)
    if content.get("identity") != plan.identity:
        raise DataError(f"{name}: not a plan as `visatb plan` writes it; it makes it again")
    return plan


def _plan(content: Mapping[str, Any], name: str) -> Plan:
    try:
        return Plan(
            form=content["form"],
            seed=content["seed"],
            base_model=content["base_model"],
            tasks=tuple(content["tasks"]),
            sampling=content["sampling"],
            data=content["data"],
            inputs=tuple(content["inputs"]),
            subsets=tuple(Subset(**subset) for subset in content["subsets"]),
            materials=tuple(Material(**material) for material in content["materials"]),
            runs=tuple(Run(**{**run, "scores": tuple(run["scores"])}) for run in content["runs"]),
            cost=Cost(**content["cost"]),
            warnings=tuple(PlanWarning(**warning) for warning in content["warnings"]),
        )
    except (KeyError, TypeError, AttributeError) as reason:
        raise DataError(f"{name}: not a plan as `visatb plan` writes it: {reason}") from None


def _sha256(content: Mapping[str, Any]) -> str:
    """That of a document, however it is laid out."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_name_of(name: str) -> str:
    """A name as one that every file system takes, and two names as two."""
    kind, colon, unit = name.partition(":")
    safe = [quote(part, safe=" -_").replace(".", "%2E") for part in (kind, unit)]
    # Long names in another alphabet would pass what a file's name may hold.
    safe = [part if len(part) <= 100 else _shortened(part) for part in safe]
    return f"{safe[0]}.{safe[1]}" if colon else safe[0]


def _shortened(name: str) -> str:
    return f"{name[:60]}%{hashlib.sha256(name.encode()).hexdigest()[:16]}"

"""A spreadsheet of validation scores as a score file.

One row is one score: the columns run, task, metric and score in any order and, if need be,
higher_is_better, group and fixed_weight. A run is base or mini, or one of a unit: with_mini:vqa,
only:vqa, mini_only:vqa. A row with a fixed_weight may leave run, metric and score empty.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any, NamedTuple

from ._csv_sheet import Place, Row, fault, read_rows
from ._errors import DataError
from ._json_path import Path, parse

SINGLE_RUNS = ("base", "mini")
UNIT_RUNS = ("with_mini", "only", "mini_only")

# As JSON writes it, and as spreadsheets also do: +60, 60. and .42
_NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_HINTS = (
    (re.compile(r"[+-]?[0-9]*,[0-9]+"), "; write it with a decimal point"),
    (re.compile(r"[+-]?[0-9.,]+\s*%"), "; write it without the percent sign"),
)
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class CsvScores(NamedTuple):
    """A converted sheet.

    Attributes:
        name: how messages call the sheet.
        document: the scores as `json.loads` gives a score file.
        places: the cell that each path of the document came from.
        sha256: that of the sheet's bytes.
    """

    name: str
    document: dict[str, Any]
    places: dict[Path, Place]
    sha256: str

    def where(self, path: str) -> str:
        """A path of the document as the cell that it came from, or as it is where there is none."""
        steps = parse(path)
        return str(self.places[steps]) if steps in self.places else path

    def translate(self, error: DataError) -> DataError:
        """An error of the library about the document as one about the sheet."""
        steps = parse(error.path)
        prefix = f"{self.name}: {error.path}: "
        if not steps or not str(error).startswith(prefix):
            return error
        what = str(error)[len(prefix) :]
        if steps in self.places:
            return fault(self.name, self.places[steps], what)
        if steps[0] == "runs" and what == "missing":
            return DataError(f"{self.name}: no row for {_wanted(steps)}: {what}", error.path)
        for length in range(len(steps) - 1, 1, -1):
            if steps[:length] in self.places:
                return fault(self.name, self.places[steps[:length]], what)
        return error


def convert(content: bytes, name: str, form: str | None = None) -> CsvScores:
    """Converts a sheet.

    Args:
        content: the bytes of the file: UTF-8, separated by commas, semicolons or tabs.
        name: how messages call it, as "scores.csv".
        form: "full", "simple" or "precise"; None: told from the runs that are there.

    Errors:
        DataError, which names the row and the column. Scores that are missing are found only when
        the document is used, by the library.
    """
    builder = _Builder(name)
    for row in read_rows(content, name):
        builder.add(row)
    document = {
        "visatb_scores": 1,
        "form": form or _form_of(builder.runs, name),
        "tasks": builder.tasks,
        "runs": builder.runs,
    }
    return CsvScores(name, document, builder.places, hashlib.sha256(content).hexdigest())


def to_json(scores: CsvScores) -> bytes:
    """The text of the score file."""
    return json.dumps(scores.document, ensure_ascii=False).encode()


class _Builder:
    """The document while the rows come in."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tasks: list[dict[str, Any]] = []
        self.index: dict[str, int] = {}
        self.runs: dict[str, Any] = {}
        self.places: dict[Path, Place] = {}

    def add(self, row: Row) -> None:
        task = self._text(row, "task")
        index = self._task_index(row, task)
        if row.cells["group"]:
            self._agree(("tasks", index, "group"), row, "group", row.cells["group"])
        if row.cells["fixed_weight"]:
            weight = self._number(row, "fixed_weight")
            self._agree(("tasks", index, "fixed_weight"), row, "fixed_weight", weight)
            if not any(row.cells[column] for column in ("run", "metric", "score")):
                return
        metric = self._text(row, "metric")
        self._add_metric(row, index, metric)
        self._add_score(row, task, metric)

    def _task_index(self, row: Row, task: str) -> int:
        if task not in self.index:
            self.index[task] = len(self.tasks)
            self.places["tasks", len(self.tasks)] = row.place("task")
            self.tasks.append({"name": task, "metrics": []})
        return self.index[task]

    def _add_metric(self, row: Row, index: int, metric: str) -> None:
        metrics = self.tasks[index]["metrics"]
        position = next((k for k, known in enumerate(metrics) if known["name"] == metric), None)
        if position is None:
            position = len(metrics)
            metrics.append({"name": metric, "higher_is_better": True})
            self.places["tasks", index, "metrics", position] = row.place("metric")
        higher = row.cells["higher_is_better"]
        if not higher:
            return
        if higher.lower() not in _BOOLEANS:
            text = f'"{higher}"; expected true or false'
            raise fault(self.name, row.place("higher_is_better"), text)
        path = ("tasks", index, "metrics", position, "higher_is_better")
        self._agree(path, row, "higher_is_better", _BOOLEANS[higher.lower()])

    def _add_score(self, row: Row, task: str, metric: str) -> None:
        run = self._run(row)
        score = self._number(row, "score")
        path: Path = ("runs", *run, task, metric)
        if path in self.places:
            text = f"row {self.places[path].row} holds this run, task and metric already"
            raise fault(self.name, row.place("run"), text)
        scores = self.runs
        for key in (*run, task):
            scores = scores.setdefault(key, {})
        scores[metric] = score
        self.places[path] = row.place("score")
        self.places.setdefault(path[:-1], row.place("task"))
        self.places.setdefault(path[:-2], row.place("run"))

    def _run(self, row: Row) -> tuple[str, ...]:
        kind, colon, unit = (part.strip() for part in self._text(row, "run").partition(":"))
        if (kind in SINGLE_RUNS and not colon) or (kind in UNIT_RUNS and unit):
            return (kind, unit) if unit else (kind,)
        text = (
            f'"{row.cells["run"]}" is no run; expected base, mini, with_mini:UNIT, only:UNIT '
            "or mini_only:UNIT"
        )
        raise fault(self.name, row.place("run"), text)

    def _agree(self, path: Path, row: Row, column: str, value: object) -> None:
        """Sets what is said once for a task, or finds that it was said otherwise before."""
        *parents, last = path
        holder: Any = self.tasks
        for step in parents[1:]:
            holder = holder[step]
        if path not in self.places:
            holder[last] = value
            self.places[path] = row.place(column)
        elif holder[last] != value:
            text = f'"{row.cells[column]}", but row {self.places[path].row} says otherwise'
            raise fault(self.name, row.place(column), text)

    def _text(self, row: Row, column: str) -> str:
        if not row.cells[column]:
            raise fault(self.name, row.place(column), "empty")
        return row.cells[column]

    def _number(self, row: Row, column: str) -> float:
        text = self._text(row, column)
        if not _NUMBER.fullmatch(text):
            hint = next((hint for form, hint in _HINTS if form.fullmatch(text)), "")
            raise fault(self.name, row.place(column), f'"{text}" is not a number{hint}')
        number = float(text)
        if not math.isfinite(number):
            raise fault(self.name, row.place(column), f"{text} is too large")
        return number


def _form_of(runs: dict[str, Any], name: str) -> str:
    kinds = runs.keys()
    if "with_mini" in kinds and not kinds & {"only", "mini_only"}:
        return "full"
    if kinds >= {"base", "only"} and "with_mini" not in kinds:
        return "simple"
    if kinds >= {"with_mini", "only", "mini_only"} and "base" not in kinds:
        return "precise"
    found = ", ".join(kind for kind in (*SINGLE_RUNS, *UNIT_RUNS) if kind in kinds) or "none"
    raise DataError(
        f"{name}: column run: the runs that are here ({found}) do not tell the form: "
        "use --form full, simple or precise",
        "column run",
    )


def _wanted(steps: Path) -> str:
    """The row that is missing: ("runs", "with_mini", "vqa", "caption") as words."""
    kind, *rest = steps[1:] or ("mini",)
    run = str(kind)
    if kind in UNIT_RUNS:
        run += f":{rest.pop(0) if rest else 'UNIT'}"
    words = [f"run {run}"]
    words += [f"{what} {step}" for what, step in zip(("task", "metric"), rest, strict=False)]
    return ", ".join(words)

"""What lmms-eval wrote: its table of results, and its logs of samples.

    DATE_results.json          {"results": {task: {"metric,filter": number, ...}},
                                "higher_is_better": {task: {metric: true}}, ...}
    DATE_samples_TASK.jsonl    {"doc_id": 0, "target": ..., "filtered_resps": ..., metric: number}

Scores stay on the scale that lmms-eval gives them, which is 0 to 1 for many of its tasks.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from visatb._arguments import file_name
from visatb._errors import DataError, FileError
from visatb._sources import PathLike, read, shown

from .records import Records, parse_document, read_records

_RESULTS = "results.json"
_NO_FILTER = "none"
# Of its floats both sides have every digit; sums may differ in their order.
_SAME = 1e-9


class ImportedScore(NamedTuple):
    """One score of a task.

    Attributes:
        task: lmms-eval's name.
        metric: its name, with ",FILTER" where a filter was used.
        higher_is_better: as lmms-eval says; True where it does not.
        score: as it stands in the results.
        values: {doc_id: value} with the score as their mean; None where the log has no such values.
    """

    task: str
    metric: str
    higher_is_better: bool
    score: float
    values: dict[str, float] | None


class ImportNote(NamedTuple):
    """What a reader must know beside the scores of a task."""

    task: str
    message: str


class Imported(NamedTuple):
    """All scores of a file, with notes."""

    scores: list[ImportedScore]
    notes: list[ImportNote]


def import_lmms_eval(path: PathLike) -> list[ImportedScore]:
    """The scores that lmms-eval wrote, without the notes of `read_lmms_eval`."""
    return read_lmms_eval(path).scores


def read_lmms_eval(path: PathLike) -> Imported:
    """The scores that lmms-eval wrote, with the samples' values where its logs lie beside.

    Args:
        path: a results file, or a folder that holds one, also in a folder below it.

    Errors: ArgumentError, FileError, DataError (no results file, several, or another kind of file;
    a log that is cut off).
    """
    file = _results_file(Path(file_name("path", path)))
    content, name = read(file, "results")
    document = parse_document(content, name, constants=True)
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, dict):
        raise DataError(f'{name}: no lmms-eval results; expected an object with "results"')
    imported = Imported([], [])
    for task, entry in results.items():
        if not isinstance(entry, dict):
            raise DataError(f"{name}: results.{task}: expected an object", f"results.{task}")
        _Task(file, document, task, imported).add(entry)
    if not imported.scores:
        raise DataError(f"{name}: results: no score", "results")
    return imported


class _Task:
    """One task while its scores are taken over."""

    def __init__(self, file: Path, document: dict[str, Any], task: str, to: Imported) -> None:
        self.file, self.task, self.to = file, task, to
        self.directions = _directions(document, task)

    def add(self, entry: dict[str, Any]) -> None:
        """The scores among the entries; the others are its alias, its errors, its texts."""
        keys = [key for key in entry if "," in key and "_stderr" not in key]
        log = _log(self.file, self.task) if keys else None
        for key in keys:
            if _is_number(entry[key]):
                self._add_score(key, float(entry[key]), log)
            else:
                self._note(f"{key}: left out: it is no finite number")

    def _add_score(self, key: str, score: float, log: Records | None) -> None:
        metric, _, filter_name = key.rpartition(",")
        name = metric if filter_name == _NO_FILTER else key
        higher = self.directions.get(metric)
        if not isinstance(higher, bool):
            self._note(f"{name}: higher is taken to be better; the results do not say")
        values, why_not = None, "there is no log of them"
        if log is not None:
            values, why_not = _values(log, metric, filter_name, score)
        if values is None:
            self._note(f"{name}: no values of samples: {why_not}")
        self.to.scores.append(ImportedScore(self.task, name, higher is not False, score, values))

    def _note(self, message: str) -> None:
        self.to.notes.append(ImportNote(self.task, message))


def _results_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.rglob(f"*{_RESULTS}"))
    if not found:
        raise FileError(f"{shown(str(path))}: no *{_RESULTS} of lmms-eval in this folder")
    if len(found) > 1:
        names = ", ".join(shown(os.path.relpath(file, path)) for file in found)
        raise DataError(f"{shown(str(path))}: {len(found)} results files; name one: {names}")
    return found[0]


def _directions(document: dict[str, Any], task: str) -> dict[str, Any]:
    known = document.get("higher_is_better")
    found = known.get(task) if isinstance(known, dict) else None
    return found if isinstance(found, dict) else {}


def _log(results: Path, task: str) -> Records | None:
    prefix = results.name.removesuffix(_RESULTS)
    log = results.with_name(f"{prefix}samples_{task}.jsonl")
    return read_records(log, "samples", constants=True) if log.is_file() else None


def _values(
    log: Records, metric: str, filter_name: str, score: float
) -> tuple[dict[str, float] | None, str]:
    """The values whose mean the score is, or why there are none.

    A score in percent may be the mean of shares.
    """
    shares = _logged(log, metric, filter_name)
    if not shares:
        return None, f"{log.name} has not one number for each"
    mean = math.fsum(shares.values()) / len(shares)
    for factor in (1.0, 100.0):
        if math.isclose(factor * mean, score, rel_tol=_SAME, abs_tol=1e-12):
            return {sample: factor * value for sample, value in shares.items()}, ""
    return None, f"the mean of those in {log.name} is {mean:.6g}, the score {score:.6g}"


def _logged(log: Records, metric: str, filter_name: str) -> dict[str, float]:
    """{doc_id: number}; nothing where a line has no number, or a sample has several."""
    values: dict[str, float] = {}
    for fields in log.fields:
        if fields.get("filter", filter_name) != filter_name:
            continue
        value = fields.get(metric)
        # What a task logs for sums of its own often has the number as "score".
        number = value.get("score") if isinstance(value, dict) else value
        sample = str(fields.get("doc_id"))
        if not (isinstance(number, bool) or _is_number(number)) or sample in values:
            return {}
        values[sample] = float(number)  # type: ignore[arg-type]
    return values


def _is_number(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type]

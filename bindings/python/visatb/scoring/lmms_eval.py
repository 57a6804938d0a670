"""What lmms-eval wrote: its table of results, and its logs of samples.

    DATE_results.json          {"results": {task: {"metric,filter": number, ...}},
                                "higher_is_better": {task: {metric: true}}, ...}
    DATE_samples_TASK.jsonl    {"doc_id": 0, "target": ..., "filtered_resps": ..., metric: number}

Scores stay on the scale that lmms-eval gives them, which is 0 to 1 for many of its tasks.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from visatb._arguments import file_name, name_bytes
from visatb._errors import ArgumentError, DataError, FileError
from visatb._numbers import LARGEST, finite
from visatb._sources import PathLike, read, shown

from .records import Records, parse_document, read_records

_RESULTS = "results.json"
_NO_FILTER = "none"
# Of its floats both sides have every digit; sums may differ in their order.
_SAME = 1e-9
# A value may become a percentage, which a file of scores by sample must be able to hold.
_LARGEST = LARGEST / 100


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
    """All scores of a results file, with notes, and the files that were read: it and its logs."""

    scores: list[ImportedScore]
    notes: list[ImportNote]
    files: list[Path]


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
    imported = Imported([], [], [file])
    for task, entry in results.items():
        _check_name(name, "task", task)
        if not isinstance(entry, dict):
            raise DataError(f"{name}: results.{task}: expected an object", f"results.{task}")
        for key in entry:
            _check_name(name, "metric", key)
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
        log = self._log() if keys else None
        for key in keys:
            score = finite(entry[key])
            if score is None:
                self._note(f"{key}: left out: it is no finite number")
            else:
                self._add_score(key, score, log)

    def _log(self) -> Records | None:
        """The task's log, which lies beside the results."""
        prefix = self.file.name.removesuffix(_RESULTS)
        # Not with_name: a task's name may hold a slash.
        log = self.file.parent / f"{prefix}samples_{self.task}.jsonl"
        with suppress(OSError):  # a name that is too long for a file
            if log.is_file():
                self.to.files.append(log)
                return read_records(log, "samples", constants=True)
        return None

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
    try:
        is_folder = path.is_dir()
    except OSError:  # of which reading tells
        is_folder = False
    if not is_folder:
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


def _check_name(file: str, what: str, name: str) -> None:
    try:
        name_bytes(what, name)
    except ArgumentError as reason:
        raise DataError(f"{file}: results: {reason}", "results") from None


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
        found = value.get("score") if isinstance(value, dict) else value
        number = float(found) if isinstance(found, bool) else finite(found, _LARGEST)
        sample = _sample(fields.get("doc_id"))
        if number is None or sample is None or sample in values:
            return {}
        values[sample] = number
    return values


def _sample(doc_id: object) -> str | None:
    """An id as text; None where it is none."""
    if isinstance(doc_id, bool) or not isinstance(doc_id, (int, str)):
        return None
    with suppress(ArgumentError):
        return name_bytes("doc_id", str(doc_id)).decode()
    return None

"""Answers made scores.

A supervisor, which must start fast, runs this file by its path for the answers of an evaluation.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def score_folder(
    folder: Path, asked: Mapping[str, Sequence[str]], references: Mapping[str, str]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Scores a folder of answers, one file a task.

    Args:
        folder: holds <task>.jsonl, by the task's name as a file's.
        asked: {task: its metrics}.
        references: {task: the file of its samples}.

    Returns:
        {task: {metric: a score, or {sample: its score}}}, and what is to be said about them.

    Errors: ArgumentError, DataError, FileError, UnsupportedError.
    """
    from visatb._errors import DataError
    from visatb.procedure.plan import file_name_of
    from visatb.running.called import called, near
    from visatb.scoring import METRICS, score_answers

    scores: dict[str, dict[str, Any]] = {}
    notes = []
    for task, metrics in asked.items():
        answers = near(folder / f"{file_name_of(task)}.jsonl")
        if not answers.exists():
            raise DataError(f"{called(answers)}: was not written")
        scores[task] = {}
        for metric in metrics:
            truths = near(Path(references[task])) if METRICS[metric].references else None
            scored = score_answers(metric, answers, truths)
            scores[task][metric] = scored.score if scored.values is None else dict(scored.values)
            notes += [f"{task}.{metric}: {note}" for note in scored.notes]
    return scores, notes


def require_java(metric: str) -> None:
    """Sees that what a metric of captions needs is installed.

    Errors: UnsupportedError.
    """
    from visatb.scoring.captions import require

    require(metric)


def _load() -> None:
    """Has `visatb` be the package of this file, whatever else is on the path."""
    here = Path(__file__).resolve().parent
    # Python puts it there, unless it is told not to; it is no place to import from.
    sys.path[:] = [one for one in sys.path if Path(one).resolve() != here]
    found = importlib.util.spec_from_file_location("visatb", here.parent / "__init__.py")
    assert found is not None  # noqa: S101 - for the types; it is a Python file
    assert found.loader is not None  # noqa: S101
    package = importlib.util.module_from_spec(found)
    sys.modules["visatb"] = package
    found.loader.exec_module(package)


def _main() -> int:
    _load()
    from visatb._errors import ArgumentError, Error

    order = json.load(sys.stdin)
    try:
        scores, notes = score_folder(Path(order["path"]), order["asked"], order["references"])
    except (ArgumentError, Error) as error:
        json.dump({"error": str(error)}, sys.stdout)
    else:
        json.dump({"scores": scores, "notes": notes}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(_main())

"""How `visatb score` shows scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .terminal import Column, render


class Row(NamedTuple):
    """One score; values are those of its samples, None where it is no mean of any."""

    task: str | None
    metric: str
    score: float
    samples: int | None
    values: Mapping[str, float] | None


def table(rows: Sequence[Row]) -> str:
    """A row a score."""
    with_task = any(row.task is not None for row in rows)
    columns = [
        *([Column("task")] if with_task else []),
        Column("metric"),
        Column("score", is_number=True),
        Column("samples", is_number=True, stays=1),
        Column("by sample", stays=0),
    ]
    return render(columns, [_cells(row, with_task=with_task) for row in rows])


def json_text(rows: Iterable[Row]) -> str:
    """What `visatb run` takes for the scores of a run."""
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        scores.setdefault(row.task or "", {})[row.metric] = row.score
    document = {"visatb_run_scores": 1, "scores": scores}
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


FORMATS = {"table": table, "json": json_text}


def _cells(row: Row, *, with_task: bool) -> list[str]:
    return [
        *([row.task or ""] if with_task else []),
        row.metric,
        f"{row.score:.4f}",
        "" if row.samples is None else str(row.samples),
        "no" if row.values is None else "yes",
    ]

"""The values of samples, as error bars are made from them."""

from __future__ import annotations

import json
from collections.abc import Mapping


def per_sample_line(run: str, task: str, metric: str, values: Mapping[str, float]) -> str:
    """One line of per_sample.jsonl (docs/scoring.md), with its newline."""
    line = {"run": run, "task": task, "metric": metric, "values": dict(values)}
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"

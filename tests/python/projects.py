"""Projects for tests: data of a few tasks, and a project file over it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visatb.procedure import Plan, load_project, make_plan

SIZES = {"vqa": 200, "caption": 150, "ocr": 100}

TASKS = "\n".join(f'[tasks.{name}]\nmetrics = ["score"]' for name in SIZES)
SAMPLING = '[sampling]\nlarge = "1/2"\nmini = "1/8"\nbatch_size = 4\n'
PLAIN = f'visatb_project = 1\ndata = {{ train = "data.json" }}\n{SAMPLING}{TASKS}\n'


def samples(sizes: Mapping[str, int] = SIZES) -> list[dict[str, Any]]:
    """LLaVA's samples; ids are counted anew in every task, and tasks alternate."""
    rows = [
        {
            "id": number,
            "task": task,
            "image": f"{number // 2}.jpg",
            "conversations": [
                {"from": "human", "value": "<image>\nWas ist das?"},
                {"from": "gpt", "value": f"{task} ü {number}"},
            ],
        }
        for task, count in sizes.items()
        for number in range(count)
    ]
    return sorted(rows, key=lambda row: row["id"])


def write_data(folder: Path, rows: list[dict[str, Any]] | None = None) -> None:
    """data.json in a folder."""
    text = json.dumps(samples() if rows is None else rows)
    (folder / "data.json").write_text(text, encoding="utf-8")


def planned(folder: Path, text: str = PLAIN) -> Plan:
    """The plan of a project file with this text, in a folder that has the data."""
    (folder / "visatb.toml").write_text(text, encoding="utf-8")
    return make_plan(load_project(folder / "visatb.toml"))


def ids(folder: Path, task: str, subset: str, split: str = "train") -> set[str]:
    """The ids that the plan of a folder lists."""
    ending = f".{subset}" if split == "train" else ""
    file = folder / f"visatb-output/subsets/{split}/{task}{ending}.txt"
    return set(file.read_text(encoding="utf-8").split())


def read(folder: Path, file: str) -> list[dict[str, Any]]:
    """A file of samples that the plan of a folder wrote."""
    return list(json.loads((folder / "visatb-output" / file).read_text(encoding="utf-8")))

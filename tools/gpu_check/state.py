"""What has been found already, for which sources: one JSON file a stage."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .stage import Context, Record, Stage

FORMAT = 1
LEFT_OUT = {"__pycache__", "results", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


class State:
    """The stages' records of this tree on this GPU."""

    def __init__(self, context: Context, stages: dict[str, Stage]) -> None:
        self._context = context
        self._folder = context.folder / "state"
        self._prints = {
            name: fingerprint(context.root, stage, context.machine.gpu)
            for name, stage in stages.items()
        }

    @property
    def stages(self) -> list[str]:
        """Their names, in order."""
        return list(self._prints)

    def record(self, stage: str) -> Record | None:
        """What was found of a stage for these very sources."""
        found = read_json(self._folder / f"{stage}.json")
        if not isinstance(found, dict) or found.get("fingerprint") != self._prints[stage]:
            return None
        return found

    def parts(self, stage: str) -> dict[str, Record]:
        """The outcomes of a stage's parts."""
        record = self.record(stage)
        return {} if record is None else dict(record["parts"])

    def status(self, stage: str) -> str | None:
        """What a stage came to."""
        record = self.record(stage)
        return None if record is None else str(record["status"])

    def keep(self, stage: str, parts: dict[str, Record], status: str) -> None:
        """Replaces a stage's record."""
        machine = self._context.machine
        write_json(
            self._folder / f"{stage}.json",
            {
                "fingerprint": self._prints[stage],
                "commit": machine.commit,
                "dirty": machine.dirty,
                "status": status,
                "parts": parts,
            },
        )

    def adopt(self, results: list[Record]) -> None:
        """Takes over what result files have of these sources, from a machine that is gone."""
        for found in results:
            for stage, record in found.get("stages", {}).items():
                # A library that is elsewhere is of no use here.
                if stage == "build" or self.record(stage) is not None:
                    continue
                if record.get("fingerprint") == self._prints.get(stage):
                    write_json(self._folder / f"{stage}.json", record)
                    self._adopt_benchmark(stage, found)

    def _adopt_benchmark(self, stage: str, found: Record) -> None:
        if stage == "bench" and found.get("benchmark"):
            write_json(self.benchmark, found["benchmark"])

    @property
    def benchmark(self) -> Path:
        """What benchmarks/gpu.py writes."""
        return self._context.folder / "benchmark.json"


def fingerprint(root: Path, stage: Stage, gpu: str | None) -> str:
    """Of a stage's sources, and of the GPU where it matters."""
    total = hashlib.sha256(f"{FORMAT} {gpu if stage.of_gpu else ''} {stage.depends()}".encode())
    for path in _files(root, stage.sources):
        total.update(f"\0{path.relative_to(root)}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def _files(root: Path, sources: tuple[str, ...]) -> list[Path]:
    found = []
    for source in sources:
        start = root / source
        if start.is_file():
            found.append(start)
        for folder, folders, names in os.walk(start):
            folders[:] = [name for name in folders if name not in LEFT_OUT]
            found += [Path(folder) / name for name in names]
    return sorted(found)


def read_json(path: Path) -> Any:
    """What a file says; None where there is none, or no JSON in it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(path: Path, content: Any) -> None:
    """Replaces a file at once, so that a run that is stopped leaves a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)

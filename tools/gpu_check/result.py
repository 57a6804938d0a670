"""The result file: one for a GPU and a day, of everything that is known of these sources."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .machine import answer
from .paths import without_paths
from .state import read_json, write_json

if TYPE_CHECKING:
    from .machine import Machine
    from .stage import Context, Record
    from .state import State

FORMAT = 1
TORCH = """\
import json, platform, torch
print(json.dumps({"python": platform.python_version(), "torch": torch.__version__,
                  "cuda_runtime": torch.version.cuda}))"""


def path_of(folder: Path, machine: Machine) -> Path | None:
    """Where it goes; nowhere without a GPU."""
    if machine.gpu is None:
        return None
    return folder / f"gpu-{machine.slug}-{_today()}.json"


def find(*folders: Path) -> list[Record]:
    """The result files that are there, the newest first."""
    files = {path.resolve() for folder in folders for path in folder.glob("gpu-*.json")}
    found = [read_json(path) for path in sorted(files, key=lambda path: path.name, reverse=True)]
    return [one for one in found if isinstance(one, dict) and one.get("visatb_gpu_check") == FORMAT]


def write(path: Path, state: State, context: Context) -> None:
    """Writes it whole, or leaves the one that is there."""
    machine = context.machine
    stages = {name: state.record(name) for name in state.stages}
    has_benchmark = stages.get("bench") is not None
    content = {
        "visatb_gpu_check": FORMAT,
        "date": _today(),
        "commit": machine.commit,
        "dirty": machine.dirty,
        "gpu": {"name": machine.gpu, "driver": machine.driver},
        "versions": _versions(machine),
        "stages": {name: record for name, record in stages.items() if record is not None},
        "benchmark": read_json(state.benchmark) if has_benchmark else None,
    }
    write_json(path, without_paths(content, context))


def _versions(machine: Machine) -> Any:
    text = answer([machine.python, "-c", TORCH])
    return json.loads(text) if text else {"torch": None}


def _today() -> str:
    return dt.datetime.now(dt.timezone.utc).date().isoformat()

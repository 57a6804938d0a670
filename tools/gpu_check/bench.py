"""benchmarks/gpu.py, whose file becomes a part of the result file."""

from __future__ import annotations

import os
from pathlib import Path

from .build import SOURCES
from .command import run
from .stage import Context, Part, Record, Stage, failed, not_run, passed
from .state import read_json

# Nothing new is begun after so many seconds; what is under way then may take some more.
SECONDS, LIMIT = 390, 450
# What benchmarks/gpu.py says where PyTorch is one for the CPU, or the driver is too old for it.
NO_GPU = "gpu.py: no GPU"


def _benchmark(context: Context, limit: float) -> Record:
    context.machine.need("torch", "numpy")
    output = context.folder / "benchmark.json"
    output.unlink(missing_ok=True)
    seconds = min(SECONDS, limit - 30)
    command = [context.machine.python, str(context.root / "benchmarks/gpu.py")]
    command += ["--output", str(output), "--seconds", f"{seconds:.0f}"]
    log = context.logs / "bench.log"
    done = run(command, limit, log, cwd=context.root, environment=context.environment())
    found = read_json(output) or {}
    more = {"cases": len(found.get("cases", [])), "left_out": found.get("not_run", [])}
    wrong = found.get("wrong", [])
    if wrong:
        return failed(wrong[0], wrong=wrong, **more)
    if done.was_cut:
        return not_run(f"cut after {done.seconds:.0f} s; what it had by then is kept", **more)
    if done.code != 0 and done.last_line().startswith(NO_GPU):
        return not_run(done.last_line(), **more)
    if done.code != 0:
        return failed(done.last_line(), **more)
    if more["left_out"]:
        return not_run(
            f"{len(more['left_out'])} of its parts were not run, the first: {more['left_out'][0]}",
            **more,
        )
    return passed(**more)


def _parts(context: Context) -> list[Part]:
    del context
    return [Part("benchmark", _benchmark, LIMIT)]


def _wheels() -> str:
    """The rivals that are there to be installed: with others the benchmark is another."""
    folder = os.environ.get("VISATB_WHEELS")
    return " ".join(sorted(path.name for path in Path(folder).glob("*.whl"))) if folder else ""


STAGE = Stage("bench", _parts, (*SOURCES, "bindings/python", "benchmarks"), depends=_wheels)

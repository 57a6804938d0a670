"""The command: which stages run, what is written, and what is said last."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import bench, build, result, sanitize, tests
from .machine import look
from .stage import Context, Record, Stage, run_stage
from .state import State

ROOT = Path(__file__).resolve().parents[2]
STAGES: dict[str, Stage] = {
    "build": build.STAGE,
    "test": tests.STAGE,
    "sanitize": sanitize.STAGE,
    "bench": bench.STAGE,
}
OK, FAILED, NO_GPU = 0, 1, 2
WORDS = """\
Builds, tests, checks and times the CUDA code, on a machine with an NVIDIA GPU and without network.

  build      the library with CUDA, C tests where cmocka is, and the example programs
  test       C tests, and the Python tests of the loss on the GPU
  sanitize   every kernel under compute-sanitizer: memcheck, racecheck, initcheck, synccheck
  bench      benchmarks/gpu.py, with the wheels in the folder that VISATB_WHEELS names

It installs nothing. It needs

  cmake 3.25 or newer, and nvcc 12.4 or newer: CUDACXX, on PATH, or /usr/local/cuda/bin/nvcc
  a Python with PyTorch for CUDA, NumPy and pytest: the one that runs it, as
      /path/to/python tools/gpu-check
  compute-sanitizer, on PATH or beside nvcc
  cmocka, if the C tests are wanted

Each stage takes less than eight minutes. What it had no time or no program for is recorded as not
run. A stage that is called again continues with what has not passed; sources that changed, or
--again, begin anew. The result file is gpu-<name of the GPU>-<date>.json.
"""


def main(arguments: list[str]) -> int:
    """Runs the stages that are asked for; the exit status."""
    options = _parse(arguments)
    machine = look(ROOT)
    chosen = list(STAGES) if options.stage == "all" else [options.stage]
    if machine.gpu is None and chosen != ["build"]:
        print(f"gpu-check: no GPU: {machine.no_gpu}")
        return NO_GPU
    context = Context(ROOT, options.build.resolve(), machine)
    state = State(context, STAGES)
    path = result.path_of(options.out, machine)
    state.adopt(result.find(options.out, ROOT / "benchmarks/results"))
    # Every other stage needs what this one makes.
    if "build" not in chosen and not build.is_there(context, state):
        print("gpu-check: the library of these sources is not there: it is built first")
        chosen.insert(0, "build")
    for name in chosen:
        run_stage(STAGES[name], context, state, again=options.again)
        if path is not None:
            result.write(path, state, context)
        if name == "build" and not build.is_there(context, state):
            if chosen != ["build"]:
                print("gpu-check: the library was not built: nothing else is run")
            break
    records = {name: state.record(name) for name in STAGES}
    print(_summary(records))
    if path is not None:
        print(f"result file: {path}")
    else:
        print("result file: none, for there is no GPU whose it would be")
    print(_last_line(records))
    failed = any(record is not None and record["status"] == "failed" for record in records.values())
    return FAILED if failed else OK


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu-check", description=WORDS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--stage", choices=[*STAGES, "all"], default="all", help="one of them, or all (all)")
    add("--out", type=Path, default=ROOT / "benchmarks/results", help="folder of the result file")
    add("--build", type=Path, default=ROOT / "build/gpu-check", help="folder to build and log in")
    add("--again", action="store_true", help="also what has passed already")
    return parser.parse_args(arguments)


def _summary(records: dict[str, Record | None]) -> str:
    lines = [f"{'stage':<10}{'passed':>8}{'failed':>8}{'not run':>9}{'seconds':>9}"]
    details = []
    for name, record in records.items():
        parts = {} if record is None else record["parts"]
        statuses = [part["status"] for part in parts.values()]
        counts = [statuses.count(status) for status in ("passed", "failed", "not run")]
        seconds = sum(part.get("seconds", 0.0) for part in parts.values())
        passed, failed, not_run = counts
        lines.append(f"{name:<10}{passed:>8}{failed:>8}{not_run:>9}{seconds:>9.0f}")
        details += _details(name, parts)
    return "\n".join(["", *lines, *details])


def _details(stage: str, parts: dict[str, Record]) -> list[str]:
    """One line a reason, for dozens of parts may lack the same program."""
    outcomes: dict[str, list[str]] = {}
    for part, it in parts.items():
        if it["status"] != "passed":
            outcomes.setdefault(f"{it['status']}: {it.get('reason', '')}", []).append(part)
    return [
        f"  {stage}, {names[0] if len(names) == 1 else f'{len(names)} parts'}: {outcome}"
        for outcome, names in outcomes.items()
    ]


def _last_line(records: dict[str, Record | None]) -> str:
    words = [
        f"{name} {'not run' if record is None else record['status']}"
        for name, record in records.items()
    ]
    return f"gpu-check: {', '.join(words)}"

"""The tests: those in C by ctest, and those of the loss for PyTorch by file, some at a time."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

from . import junit, programs
from .build import SOURCES
from .command import Finished, run
from .stage import Context, Part, Record, Stage, failed, not_run, passed

PYTHON_TESTS = ("test_torch_*.py", "test_cuda*.py", "test_gpu*.py")
# Those that need a GPU have the label "gpu"; others run its kernels on the CPU.
C_TESTS = {"C tests of the GPU": ("-L", "gpu"), "C tests": ("-LE", "gpu")}
NO_TESTS = "no such C tests were configured; they need cmocka"
TEST_SECONDS = 120


def _in_c(context: Context, limit: float, *, name: str) -> Record:
    ctest = programs.find("ctest")
    base = [ctest, "--test-dir", str(context.cmake), *C_TESTS[name]]
    slug = re.sub(r"\W+", "-", name.lower())
    listed = run([*base, "-N"], limit, context.logs / f"{slug}-list.log", cwd=context.root)
    total = re.search(r"Total Tests: (\d+)", listed.text)
    if total is None or total[1] == "0":
        return not_run(NO_TESTS)
    report = context.logs / f"{slug}.xml"
    report.unlink(missing_ok=True)
    command = [*base, "--output-junit", str(report), "--output-on-failure"]
    command += ["--timeout", str(TEST_SECONDS), "-j", str(os.cpu_count())]
    done = run(command, limit, context.logs / f"{slug}.log", cwd=context.root)
    return judge(done, junit.read(report))


def _in_python(context: Context, limit: float, *, file: Path) -> Record:
    context.machine.need("pytest", "torch", "numpy")
    report = context.logs / f"{file.stem}.xml"
    report.unlink(missing_ok=True)
    command = [context.machine.python, "-m", "pytest", str(file.relative_to(context.root))]
    command += ["-q", "-p", "no:cacheprovider", f"--junit-xml={report}"]
    done = run(
        command,
        limit,
        context.logs / f"{file.stem}.log",
        cwd=context.root,
        environment=context.environment(),
    )
    return judge(done, junit.read(report))


def judge(done: Finished, counts: Record | None) -> Record:
    """What a run of tests came to; one that was cut never passed."""
    if done.was_cut:
        return not_run(f"cut after {done.seconds:.0f} s", **(counts or {}))
    if counts is None:
        return failed(f"it ended with {done.code} and no report: {done.last_line()}")
    if counts["failed"]:
        first = counts["failures"][0]
        reason = f"{counts['failed']} failed, the first: {first['name']}: {first['message']}"
        return failed(reason, **counts)
    if done.code not in {0, 5}:
        return failed(f"it ended with {done.code}: {done.last_line()}", **counts)
    if not counts["passed"]:
        reasons = "; ".join(counts["skip_reasons"]) or "it has no tests"
        return not_run(f"nothing of it ran: {reasons}", **counts)
    return passed(**counts)


def _imports(context: Context, limit: float) -> Record:
    """Whether the package opens the library that was built, and that sees the GPU."""
    command = [context.machine.python, "-m", "visatb"]
    log = context.logs / "diagnosis.log"
    done = run(command, limit, log, cwd=context.folder, environment=context.environment())
    if done.was_cut:
        return not_run(f"cut after {done.seconds:.0f} s")
    # Where things lie is somebody's own.
    said = [line.strip() for line in done.text.splitlines() if line.strip() and "/" not in line]
    if done.code != 0:
        return failed(done.last_line(), said=said)
    cuda = next((line for line in said if line.startswith("cuda:")), "cuda: nothing is said of it")
    if "cannot be used" in cuda or re.match(r"cuda: +no\b", cuda):
        return failed(cuda, said=said)
    return passed(said=said)


def _parts(context: Context) -> list[Part]:
    folder = context.root / "tests/python"
    files = {path for pattern in PYTHON_TESTS for path in folder.glob(pattern)}
    # What is of the GPU alone first, for the time may be up before the rest.
    ordered = sorted(files, key=lambda path: (path.name.startswith("test_torch"), path.name))
    ordered.sort(key=lambda path: "cuda" not in path.name and "gpu" not in path.name)
    return [
        Part("import visatb", _imports, 60),
        *(Part(name, partial(_in_c, name=name), 150, beside=True) for name in C_TESTS),
        *(Part(path.name, partial(_in_python, file=path), 150, beside=True) for path in ordered),
    ]


STAGE = Stage("test", _parts, (*SOURCES, "bindings/python", "tests/python"))

"""Every kernel under the tools of compute-sanitizer, by a C program that knows the answers."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from . import programs
from .build import SOURCES
from .command import run
from .stage import PASSED, Context, Part, Record, Stage, failed, not_run, passed

TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
PROGRAM = Path("tools/gpu_check/every_kernel")
# All of them, or it is not known whose they are: cuBLAS alone has thousands.
MOST_REPORTS = 100000
SECONDS_OF_PYTHON = 30
# cuBLAS reads what it never wrote, in its own workspace; that is not ours to mend.
FOREIGN = re.compile(r"cublas|cutlass|gemm|gemv|nvjet|xmma|splitk|cask", re.IGNORECASE)
_SUMMARY = re.compile(r"ERROR SUMMARY: (\d+) errors?")
_RACES = re.compile(
    r"RACECHECK SUMMARY: (\d+) hazards? displayed \((\d+) errors?, (\d+) warnings?\)"
)
_PLACE = re.compile(r"^=+ +(?:.* access )?at (.+?)(?:\+0x[0-9a-f]+.*)?$")
_BEGIN = re.compile(r"^=+ (?!COMPUTE-SANITIZER|ERROR SUMMARY|RACECHECK SUMMARY)\S")


def summary_of(text: str) -> dict[str, Any]:
    """What a tool found: errors, and how many of those shown lie in kernels that are not ours.

    None for a number that it does not tell.
    """
    errors = _SUMMARY.search(text)
    races = _RACES.search(text)
    places = [
        found[1] for line in text.splitlines() if (found := _PLACE.match(line)) and found[1].strip()
    ]
    foreign = [place for place in places if FOREIGN.search(place)]
    first = next((line for line in text.splitlines() if _BEGIN.match(line)), "")
    number = int(errors[1]) if errors else int(races[1]) if races else None
    return {
        "errors": number,
        "foreign": len(foreign),
        "shown": len(places),
        "first": re.sub(r"^=+ ", "", first)[:200],
        "places": sorted({place for place in places if place not in foreign})[:20],
    }


def judge(tool: str, code: int | None, text: str, seconds: float) -> Record:
    """The outcome of one tool."""
    if code is None:
        return not_run(f"cut after {seconds:.0f} s")
    found = summary_of(text)
    if "Device not supported" in text or found["errors"] is None:
        return not_run(f"the tool did not work here: {found['first'] or 'no summary'}", **found)
    own = found["errors"]
    # Only where all are shown is it known whose they are.
    if tool == "initcheck" and found["shown"] >= found["errors"]:
        own = found["errors"] - found["foreign"]
    if own:
        return failed(f"{own} errors, the first: {found['first']}", **found)
    if "every_kernel: ok" not in text:
        return failed("the program did not come to its end, or found wrong results", **found)
    return passed(**found)


def _compile(context: Context, limit: float) -> Record:
    nvcc = programs.nvcc()
    sources = [path for path in (context.root / PROGRAM).glob("*.c") if path.stem != "memory_host"]
    sources.append(context.root / "tests/c/loss_reference.c")
    command = [nvcc, "-O1", "-g", "-o", str(_program(context)), *map(str, sorted(sources))]
    for folder in ("include", "tests/c"):
        command += ["-I", str(context.root / folder)]
    command += [f"-L{context.cmake}", "-lvisatb", "-lm", "-Xlinker", f"-rpath={context.cmake}"]
    done = run(command, limit, context.logs / "every_kernel-build.log", cwd=context.root)
    if done.was_cut:
        return not_run(f"cut after {done.seconds:.0f} s")
    return passed() if done.code == 0 else failed(done.last_line())


def _program(context: Context) -> Path:
    return context.folder / "every_kernel"


def _environment(context: Context) -> dict[str, str]:
    """With the cuBLAS that PyTorch brings, where the system has none of its own."""
    name = "VISATB_CUBLAS_OFFER"
    program = f"import os, visatb._lib as lib; lib.library(); print(os.environ.get({name!r}, ''))"
    environment = context.environment()
    done = run(
        [context.machine.python, "-c", program],
        SECONDS_OF_PYTHON,
        context.logs / "cublas.log",
        cwd=context.folder,
        environment=environment,
    )
    path = done.text.strip().splitlines()[-1] if done.code == 0 and done.text.strip() else ""
    return environment | ({name: path} if path else {})


def _is_built(context: Context, limit: float) -> bool:
    """Whether the program is there, or is now: what passed may have passed on another machine."""
    return _program(context).exists() or _compile(context, limit)["status"] == PASSED


def _plain(context: Context, limit: float) -> Record:
    """The known answers, without a tool."""
    if not _is_built(context, limit):
        return not_run("the program was not built")
    log = context.logs / "every_kernel.log"
    done = run(
        [str(_program(context))], limit, log, cwd=context.root, environment=_environment(context)
    )
    if done.was_cut:
        return not_run(f"cut after {done.seconds:.0f} s")
    taken = [line for line in done.text.splitlines() if line.startswith("taken: ")]
    if done.code != 0:
        wrong = [line for line in done.text.splitlines() if line.startswith("wrong: ")]
        return failed(wrong[0] if wrong else done.last_line(), wrong=wrong[:20], taken=taken)
    return passed(taken=taken)


def _tool(context: Context, limit: float, *, tool: str) -> Record:
    program = programs.sanitizer()
    if not _is_built(context, limit):
        return not_run("the program was not built")
    command = [program, "--tool", tool, "--print-limit", str(MOST_REPORTS)]
    command += [str(_program(context)), "--small", *(("--raw",) if tool == "initcheck" else ())]
    log = context.logs / f"{tool}.log"
    done = run(command, limit, log, cwd=context.root, environment=_environment(context))
    return judge(tool, done.code, done.text, done.seconds)


def _parts(context: Context) -> list[Part]:
    del context
    return [
        Part("compile every_kernel", _compile, 60),
        Part("known answers", _plain, 60),
        *(Part(tool, partial(_tool, tool=tool), 150) for tool in TOOLS),
    ]


STAGE = Stage("sanitize", _parts, (*SOURCES, str(PROGRAM)))

"""A small project whose commands are the little ones, and ways to start, kill and look at it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from visatb.running.order import Check, Order

Found = TypeVar("Found")

LITTLE = Path(__file__).with_name("little_commands.py")
PYTHON = f"{sys.executable} -I -S {LITTLE}"
TRAIN = f"{PYTHON} train {{data}} {{output}} {{weights}} {{run}} # {{method}}"
EVALUATE = f"{PYTHON} evaluate {{model}} {{scores}} {{questions}} {{tasks}} {{run}} evaluate"
RESULTS = ("scores.json", "per_sample.jsonl", "weights.json", "results.json")
ADVICE = re.compile(r"fewer than 10+$|the paper advises more than 100\)$")
NEVER = {"overlap", "dirty", "mixed"}

TALK = [{"from": "human", "value": "Is it?"}, {"from": "gpt", "value": "Yes."}]
HEAD = 'visatb_project = 1\nmethods = ["STL", "EW", "VisATB"]\n'
TASKS = '[tasks.a]\nmetrics = ["em"]\n[tasks.b]\nmetrics = ["em"]\n'


def write_project(
    folder: Path,
    *,
    head: str = HEAD,
    tasks: str = TASKS,
    names: str = "ab",
    run: str = "jobs = 2\n",
    train: str = TRAIN,
    evaluate: str = EVALUATE,
) -> Path:
    """Writes visatb.toml and its data, tasks by the letters of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count, mark in (("train", 64, ""), ("validation", 5, "v"), ("test", 5, "t")):
        samples = [
            {"id": f"{task}{mark}{number}", "task": task, "conversations": TALK}
            for task in names
            for number in range(count)
            if not (task == "z" and split != "test")
        ]
        (folder / f"{split}.json").write_text(json.dumps(samples), encoding="utf-8")
    data = "".join(f'{split} = "{split}.json"\n' for split in ("train", "validation", "test"))
    commands = f"train = {json.dumps(train)}\nevaluate = {json.dumps(evaluate)}\n"
    text = f"{head}[data]\n{data}{tasks}[run]\n{commands}{run}"
    (folder / "visatb.toml").write_text(text, encoding="utf-8")
    return folder


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Starts `visatb run` there, as a terminal does: in a process group of its own."""
    return subprocess.Popen(  # noqa: S603 - the command under test
        [sys.executable, "-m", "visatb", "run", *arguments],
        cwd=folder,
        env={**os.environ, "LITTLE_JOURNAL": str(folder / "journal"), **environment},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Runs `visatb run` there: exit code, output, messages (but those of the plan's advice)."""
    process = start(folder, *arguments, **environment)
    out, err = process.communicate(timeout=60)
    told = (line for line in err.splitlines(keepends=True) if not ADVICE.search(line))
    return process.returncode, out, "".join(told)


def processes(folder: Path) -> Iterator[int]:
    """All processes that belong to this folder's work: runners, supervisors and commands."""
    wanted = f"LITTLE_JOURNAL={folder / 'journal'}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


def wait_for(found: Callable[[], Found], seconds: float = 20.0) -> Found:
    """Waits until what is looked for is there, which it returns; fails when the time is over."""
    deadline = time.monotonic() + seconds
    while not (what := found()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return what


def kill_all(folder: Path) -> None:
    """Kills them all, also those that one of them was just starting."""

    def are_dead() -> bool:
        alive = [pid for pid in processes(folder) if command_line(pid)]
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not alive

    wait_for(are_dead)


def command_line(pid: int) -> str:
    """What a process was started as; "" of one that has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return " ".join(os.fsdecode(word) for word in words if word)


def journal(folder: Path) -> list[dict[str, Any]]:
    """What the commands noted."""
    path = folder / "journal"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def results(folder: Path, names: tuple[str, ...] = RESULTS) -> dict[str, bytes]:
    """The files of results."""
    return {name: (folder / "visatb-output" / name).read_bytes() for name in names}


def markers(folder: Path) -> dict[str, bytes]:
    """The markers that are there."""
    runs = folder / "visatb-output" / "runs"
    return {str(path.relative_to(runs)): path.read_bytes() for path in runs.glob("*/*.done")}


def order_in(folder: Path, line: str, **more: Any) -> Order:
    """What a supervisor is told of a training, the model of which is "model"."""
    order = Order(
        plan="p",
        run="mini",
        stage="train",
        attempt="0123",
        line=line,
        folder=str(folder),
        environment={},
        gpus="",
        log=str(folder / "train.log"),
        marker=str(folder / "train.done"),
        failure=str(folder / "train.failed"),
        needed=(),
        fresh=True,
        check=Check("model", str(folder / "model")),
    )
    return replace(order, **more)

"""`visatb run` killed at any moment, and several at once, come to the result of one undisturbed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from running_project import (
    LITTLE,
    NEVER,
    TRAIN,
    command_line,
    finish,
    journal,
    kill_all,
    markers,
    processes,
    results,
    start,
    wait_for,
    write_project,
)

from visatb.cli import main
from visatb.procedure import load_plan
from visatb.running import locks
from visatb.running.markers import Marker

KILLS = 50


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """A project that was carried out at one go."""
    folder = write_project(tmp_path_factory.mktemp("running") / "undisturbed")
    code, _, err = finish(folder)
    assert code == 0, err
    assert {line["what"] for line in journal(folder)} == {"begin", "end"}
    return folder


@dataclass
class Fire:
    """Kills, of the runner alone or of everything; met: those that met a command at work."""

    chance: random.Random
    kills: int = 0
    met: Counter[str] = field(default_factory=Counter)


def test_fifty_kills_at_random_moments_change_nothing(undisturbed, tmp_path):
    fire = Fire(random.Random(2403))  # noqa: S311 - moments, no secrets
    plans = 0
    while fire.kills < KILLS:
        folder = write_project(tmp_path / f"plan{plans}", run="jobs = 3\n")
        carry_out_under(fire, folder)
        assert finish(folder)[0] == 0
        assert results(folder) == results(undisturbed)
        noted = journal(folder)
        assert not [line for line in noted if line["what"] in NEVER]
        assert not list((folder / "visatb-output").rglob("*.part"))
        plans += 1
    assert fire.kills == KILLS
    assert sum(fire.met.values()) >= 30
    assert min(fire.met["runner"], fire.met["everything"]) >= 10


def carry_out_under(fire: Fire, folder: Path) -> None:
    """Kills until the plan is done, or so often as there are kills left."""
    seen: dict[str, bytes] = {}
    while fire.kills < KILLS:
        before = count_begun(folder)
        process = start(folder, LITTLE_SECONDS="0.25")
        wait_for(lambda: count_begun(folder) > before or process.poll() is not None)  # noqa: B023
        try:
            process.wait(fire.chance.uniform(0.0, 0.3))
        except subprocess.TimeoutExpired:  # at work, as it should be
            kill(fire, folder, process)
        else:
            assert process.returncode == 0, process.communicate()
            return
        process.communicate()
        # What was recorded once is never done again.
        now = markers(folder)
        assert {name: now.get(name) for name in seen} == seen
        seen = now


def kill(fire: Fire, folder: Path, process: subprocess.Popen[str]) -> None:
    what = fire.chance.choice(["runner", "everything"])
    at_work = any(str(LITTLE) in command_line(pid) for pid in processes(folder))
    process.kill()
    if what == "everything":
        kill_all(folder)
    fire.kills += 1
    fire.met[what] += at_work


def count_begun(folder: Path) -> int:
    return sum(line["what"] == "begin" for line in journal(folder))


@pytest.mark.parametrize("count", [2, 3])
def test_several_at_once_share_the_work(undisturbed, tmp_path, count):
    folder = write_project(tmp_path / "shared", run="gpus = [0, 1, 2]\n")
    started = [start(folder) for _ in range(count)]
    ended = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0] * count, ended
    assert results(folder) == results(undisturbed)
    noted = journal(folder)
    assert not [line for line in noted if line["what"] in NEVER]
    ends = [(line["run"], line["stage"]) for line in noted if line["what"] == "end"]
    assert sorted(ends) == sorted(
        (line["run"], line["stage"]) for line in journal(undisturbed) if line["what"] == "end"
    )
    gpus = {line["gpus"] for line in noted if line["what"] == "begin"}
    assert gpus == {"0", "1", "2"}


def test_one_takes_over_what_another_that_was_killed_had_begun(undisturbed, tmp_path):
    folder = write_project(tmp_path / "shared")
    first = start(folder, LITTLE_SECONDS="2.0")
    wait_for(lambda: count_begun(folder))
    second = start(folder)
    first.kill()
    first.communicate()
    out, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert "mini: train is at work already (process " in out
    assert results(folder) == results(undisturbed)
    begun = [line["run"] for line in journal(folder) if line["what"] == "begin"]
    assert begun.count("mini") == 2  # its training and its evaluation, each once


def test_a_stage_is_not_begun_again_while_its_command_lives_on_without_a_supervisor(
    undisturbed, tmp_path
):
    folder = write_project(tmp_path / "orphan", run="jobs = 1\n")
    first = start(folder, LITTLE_SECONDS="2.0")
    begun = wait_for(lambda: [line for line in journal(folder) if line["what"] == "begin"])
    # Everything but the command itself.
    command = begun[0]["pid"]
    parents = {pid for pid in processes(folder) if pid != command}
    first.kill()
    for pid in parents - {first.pid}:
        os.kill(pid, 9)
    first.communicate()
    code, out, _ = finish(folder)
    assert code == 0
    assert "mini: train is at work already" in out
    assert results(folder) == results(undisturbed)
    noted = journal(folder)
    assert not [line for line in noted if line["what"] in NEVER]
    trained = [line["what"] for line in noted if line.get("stage") == "train"][:4]
    assert trained == ["begin", "end", "begin", "end"]
    assert [line["run"] for line in noted][:4] == ["mini"] * 4


def test_what_another_did_between_the_look_and_the_lock_is_not_done_again(
    folder, monkeypatch, capsys
):
    evaluate = 'echo \'{{"a": {{"em": 1}}, "b": {{"em": 1}}}}\' > {scores} # {model}'
    write_project(folder, evaluate=evaluate, train="echo trained here # {data} {output} {weights}")
    assert main(["plan"]) == 0
    plan = load_plan("visatb-output")
    inner = locks.take

    def take_late(path: Path) -> locks.Lock | None:
        marker = Path("visatb-output/runs/mini/train.done")
        if path.name == "train.lock" and not marker.exists():
            marker.parent.mkdir(parents=True)
            Marker(plan.identity, "mini", "train", "0123", "true", "other", 1.0, 2.0).save(marker)
        return inner(path)

    monkeypatch.setattr(locks, "take", take_late)
    assert main(["run", "--only", "mini"]) == 0
    assert "mini: train begins" not in capsys.readouterr().out
    assert not Path("visatb-output/runs/mini/train.log").exists()


def test_a_stage_whose_supervisor_was_killed_is_not_done_and_not_tried_again_at_once(tmp_path):
    folder = write_project(tmp_path / "lost", run="jobs = 1\n")
    process = start(folder, "--only", "mini", LITTLE_SECONDS="1.0")
    wait_for(lambda: journal(folder))
    (supervisor,) = [pid for pid in processes(folder) if "start.py" in command_line(pid)]
    os.kill(supervisor, 9)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 5
    assert err.endswith("visatb: mini: train: its supervisor was killed\n")
    assert [line["what"] for line in journal(folder)] == ["begin", "end"]
    assert markers(folder) == {}


def test_what_failed_for_one_is_not_tried_again_by_another_at_the_same_time(tmp_path):
    train = f"{TRAIN.removesuffix(' # {method}')} && exit 6 # {{method}}"
    folder = write_project(tmp_path / "failing", train=train)
    started = [start(folder, "--only", "mini", LITTLE_SECONDS="1.5") for _ in range(2)]
    ended = [process.communicate(timeout=30) for process in started]
    assert [process.returncode for process in started] == [5, 5]
    assert [err.count("failed with exit code 6") for _, err in ended] == [1, 1]
    assert [line["what"] for line in journal(folder)] == ["begin", "end"]


WORKER = "import os, sys, time; os.closerange(3, 64); time.sleep(60)"


def test_what_a_killed_attempt_left_running_is_ended_before_the_next_begins(tmp_path):
    # A worker without the lock, as launchers of several ranks start them.
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER, encoding="utf-8")
    train = f"{sys.executable} -I {worker} & sleep 60 # {{data}} {{output}} {{weights}}"
    folder = write_project(tmp_path / "workers", train=train, run="gpus = [7]\n")
    first = start(folder)
    (survivor,) = wait_for(
        lambda: [p for p in processes(folder) if command_line(p).endswith(str(worker))]
    )
    first.kill()
    # The supervisor before its command, the end of which it would see.
    others = sorted(set(processes(folder)) - {survivor, first.pid})
    for pid in sorted(others, key=lambda pid: "start.py" not in command_line(pid)):
        os.kill(pid, 9)
    first.communicate()
    assert command_line(survivor).endswith(str(worker))
    write_project(folder, run="gpus = [7]\n")
    assert finish(folder)[0] == 0
    assert command_line(survivor) == ""

"""`visatb run` stopped by its user, and commands that do not want to be."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from running_project import (
    command_line,
    finish,
    journal,
    kill_all,
    markers,
    order_in,
    processes,
    start,
    wait_for,
    write_project,
)

from visatb.cli import main
from visatb.running import gather, leftovers, locks, runner
from visatb.running import start as supervisor
from visatb.running.order import Needed
from visatb.running.wake import Bell

# Ends at once when it is asked to, and says so; or does not; or ends as if all were well.
ASKED = "trap 'echo asked; exit 1' TERM; sleep 30 & wait"
STUBBORN = "trap '' TERM; while :; do sleep 0.1; done"
SMOOTH = "half={output}; trap 'mkdir $half; touch $half/half; exit 0' TERM; sleep 30 & wait"
NAMES = " # {data} {output} {weights}"


@pytest.fixture
def slow(tmp_path):
    """A project whose trainings last, and an end of all that was started."""
    folder = tmp_path / "slow"
    yield folder
    kill_all(folder)


def begun(folder: Path, count: int) -> None:
    runs = folder / "visatb-output/runs"
    wait_for(lambda: len(list(runs.glob("*/train.log"))) >= count)
    time.sleep(0.2)  # the shell sets its traps


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_ends_the_commands_and_says_what_is_unfinished(slow, number, code):
    write_project(slow, train=ASKED + NAMES)
    process = start(slow)
    begun(slow, 2)
    os.killpg(process.pid, number)
    asked = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - asked < 5
    assert process.returncode == code
    assert out.splitlines()[-3:] == [
        "stopping; Ctrl-C kills at once",
        "0 runs are done; unfinished: mini, with_mini:a, with_mini:b, STL:a, STL:b, EW; "
        "waiting for weights: VisATB",
        f"ended by {signal.Signals(number).name}; `visatb run` goes on from here",
    ]
    assert "failed" not in err
    assert markers(slow) == {}
    assert list(processes(slow)) == []
    assert "asked" in (slow / "visatb-output/runs/mini/train.log").read_text(encoding="utf-8")


def test_a_second_interrupt_kills_at_once(slow):
    write_project(slow, train=STUBBORN + NAMES)
    process = start(slow)
    begun(slow, 2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    process.communicate(timeout=30)
    assert (process.returncode, time.monotonic() - asked < 8) == (130, True)
    assert list(processes(slow)) == []


def test_a_training_that_ends_well_because_it_was_stopped_is_not_done(slow):
    write_project(slow, train=SMOOTH + NAMES)
    process = start(slow)
    begun(slow, 2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert (slow / "visatb-output/runs/mini/model/half").exists()
    assert markers(slow) == {}


def test_commands_that_were_taken_over_are_named_and_go_on(slow):
    write_project(slow, train=ASKED + NAMES, run="jobs = 1\n")
    first = start(slow)
    begun(slow, 1)
    first.kill()
    first.communicate()
    second = start(slow)
    assert "mini: train is at work already (process" in second.stdout.readline()
    second.send_signal(signal.SIGINT)
    out, _ = second.communicate(timeout=30)
    assert second.returncode == 130
    assert "mini: train goes on without this (process" in out
    assert len(list(processes(slow))) >= 2


def test_a_closed_terminal_stops_nothing(slow):
    write_project(slow, run="jobs = 1\n")
    process = start(slow, LITTLE_SECONDS="1.0")
    begun(slow, 1)
    os.killpg(process.pid, signal.SIGHUP)
    process.communicate(timeout=30)
    assert process.returncode == 129
    wait_for(lambda: not list(processes(slow)))
    assert list(markers(slow)) == ["mini/train.done"]


MEASURING = ("mini", "with_mini:a", "with_mini:b")


def is_caught(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    _, _, caught = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").partition("SigCgt:")
    return bool(int(caught.split()[0], 16) >> (number - 1) & 1)


def test_a_signal_ends_the_wait_for_another_that_makes_weights(slow):
    write_project(slow)
    assert finish(slow, "--only", *MEASURING, LITTLE_SECONDS="0")[0] == 0
    lock = locks.take(slow / "visatb-output/locks/gather.lock")
    process = start(slow, "--only", "VisATB")
    wait_for(lambda: is_caught(process.pid, signal.SIGCHLD))
    os.kill(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    lock.release()
    assert process.returncode == 143
    assert out.splitlines()[-1] == "ended by SIGTERM; `visatb run` goes on from here"
    assert "begins" not in out


def test_nothing_is_begun_after_a_signal_that_came_while_weights_were_made(
    slow, monkeypatch, capsys
):
    write_project(slow)
    assert finish(slow, "--only", *MEASURING, LITTLE_SECONDS="0")[0] == 0

    def interrupted(*_: object) -> gather.Gathered:
        os.kill(os.getpid(), signal.SIGINT)
        return gather.Gathered()

    monkeypatch.setattr(runner, "gather_weights", interrupted)
    assert main(["run", str(slow / "visatb.toml"), "--only", "VisATB"]) == 130
    assert "begins" not in capsys.readouterr().out


def test_the_stopped_plan_goes_on_to_its_end(slow):
    write_project(slow)
    process = start(slow, LITTLE_SECONDS="0.3")
    begun(slow, 2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    code, out, _ = finish(slow)
    assert (code, out.splitlines()[-1]) == (0, "7 runs are done")
    assert not [line for line in journal(slow) if line["what"] in {"dirty", "mixed", "overlap"}]


def test_the_end_of_a_command_wakes_at_once_and_a_signal_is_told():
    bell = Bell([signal.SIGUSR1])
    try:
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(0.1)"])
        began = time.monotonic()
        while child.poll() is None:
            assert bell.wait(30) == []
        assert time.monotonic() - began < 10
        os.kill(os.getpid(), signal.SIGUSR1)
        assert bell.wait(30) == [signal.SIGUSR1]
        assert bell.wait(0) == []
    finally:
        bell.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_signal_that_was_ignored_stays_so_as_nohup_means_it():
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    bell = Bell([signal.SIGUSR1, signal.SIGUSR2])
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert bell.wait(0) == []
        os.kill(os.getpid(), signal.SIGUSR2)
        assert bell.wait(30) == [signal.SIGUSR2]
    finally:
        bell.close()
        after = signal.signal(signal.SIGUSR1, before)
    assert after == signal.SIG_IGN


def test_a_port_is_held_as_long_as_its_command_works_though_the_run_is_killed(slow):
    train = "echo {port} > port; mv port told; while test ! -e go; do sleep 0.02; done"
    write_project(slow, train=f"{train}{NAMES}")
    process = start(slow, "--only", "mini")
    wait_for((slow / "told").exists)
    process.kill()
    process.communicate()
    port = (slow / "told").read_text(encoding="utf-8").strip()
    (path,) = (slow / "visatb-output/locks").glob(f"*/port {port}.lock")
    assert locks.take(path) is None
    (slow / "go").touch()
    wait_for(lambda: locks.take(path)).release()


# --- a supervisor by itself -----------------------------------------------------------------------


def supervise(
    folder: Path,
    line: str,
    *,
    grace: float = 0.3,
    lock: int | None = None,
    needed: tuple[Needed, ...] = (),
) -> subprocess.Popen[str]:
    """The supervisor of one training, the model of which is "model"."""
    order = order_in(
        folder,
        line,
        needed=needed,
        grace=grace,
        locks=() if lock is None else ((lock, str(folder / "lock")),),
    )
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", supervisor.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=() if lock is None else (lock,),
    )
    process.stdin.write(order.to_json())
    process.stdin.close()
    process.stdin = None
    return process


def test_a_command_that_does_not_end_is_killed_after_the_grace_time(tmp_path):
    process = supervise(tmp_path, STUBBORN)
    wait_for((tmp_path / "train.log").exists)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    told = json.loads(process.communicate(timeout=10)[0])
    assert told == {"kind": "stopped", "message": "was stopped"}
    assert 0.3 <= time.monotonic() - asked < 6


@pytest.mark.parametrize("started_by", ["sh", "setsid sh"])
def test_what_a_command_started_is_asked_too_and_has_its_grace_time(tmp_path, started_by):
    worker = 'trap "sleep 0.3; touch saved; exit" TERM; sleep 30 & touch ready; wait'
    line = f"trap 'exit 1' TERM; {started_by} -c '{worker}' & wait"
    process = supervise(tmp_path, line, grace=5.0)
    wait_for((tmp_path / "ready").exists)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert (tmp_path / "saved").exists()


def test_a_second_sigterm_takes_nothing_from_the_grace_time_and_sigint_ends_it(tmp_path):
    for number, longest in ((signal.SIGTERM, 20.0), (signal.SIGINT, 1.0)):
        process = supervise(tmp_path, f"trap '' TERM; touch {number}; {STUBBORN}", grace=1.2)
        wait_for((tmp_path / str(int(number))).exists)
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        time.sleep(0.2)
        process.send_signal(number)
        process.communicate(timeout=30)
        lasted = time.monotonic() - asked
        assert lasted < longest
        assert (lasted >= 1.2) == (number == signal.SIGTERM)


def test_a_second_interrupt_ends_what_a_command_left_at_once(tmp_path):
    left = f"setsid sh -c \"trap '' TERM; touch ready; {STUBBORN.partition('; ')[2]}\""
    process = supervise(tmp_path, f"trap 'touch ended; exit 1' TERM; {left} & wait", grace=25.0)
    wait_for((tmp_path / "ready").exists)
    process.send_signal(signal.SIGTERM)
    wait_for((tmp_path / "ended").exists)
    time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    process.communicate(timeout=40)
    assert time.monotonic() - asked < 10


def test_a_signal_is_heard_while_a_large_file_is_read(tmp_path):
    # Whoever opens it reads it, and so listens already.
    os.mkfifo(tmp_path / "endless")
    endless = Needed(str(tmp_path / "endless"), "0" * 64, "what the plan made")
    process = supervise(tmp_path, "true", needed=(endless,))
    with (tmp_path / "endless").open("wb", buffering=0) as file, suppress(BrokenPipeError):
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            file.write(bytes(1 << 16))
    told = json.loads(process.communicate(timeout=10)[0])
    assert told == {"kind": "stopped", "message": "was stopped"}
    assert not (tmp_path / "train.log").exists()


@pytest.mark.parametrize(("host", "is_ended"), [(os.uname().nodename, True), ("another", False)])
def test_only_what_an_attempt_on_this_machine_left_is_ended(tmp_path, host, is_ended):
    # Its name is in the environment of a process here too: one that another machine cannot mean.
    left = subprocess.Popen(["/bin/sleep", "30"], env={leftovers.VARIABLE: "left"})
    lock = locks.take(tmp_path / "lock")
    lock.describe({"host": host, "attempt": "left"})
    try:
        supervise(tmp_path, "true", lock=lock.descriptor).communicate(timeout=20)
        assert (left.poll() is not None) == is_ended
    finally:
        left.kill()
        left.wait()


def test_locks_are_free_before_anybody_is_told_and_a_message_needs_no_reader(tmp_path):
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    missing = Needed("/nowhere/" + "x" * 200_000, "0" * 64, "what the plan made")
    process = supervise(tmp_path, "true", lock=lock, needed=(missing,))
    assert process.wait(20) == 0  # nobody has read yet
    again = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    told = json.loads(process.communicate()[0])
    assert (told["kind"], len(told["message"])) == ("trouble", 2007)


def test_what_a_failed_command_left_behind_is_ended(tmp_path):
    process = supervise(tmp_path, "sleep 60 & echo $! > left; exit 7")
    told = json.loads(process.communicate(timeout=10)[0])
    assert told["message"].startswith("failed with exit code 7; ")
    assert command_line(int((tmp_path / "left").read_text(encoding="utf-8"))) == ""


def test_a_daemon_that_a_command_left_behind_stays_and_holds_no_lock(tmp_path):
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    line = "mkdir model; touch model/a; sleep 60 & echo $! > left"
    process = supervise(tmp_path, line, lock=lock)
    told = json.loads(process.communicate(timeout=10)[0])
    daemon = int((tmp_path / "left").read_text(encoding="utf-8"))
    try:
        assert told["kind"] == "done"
        assert command_line(daemon) == "sleep 60"
        again = os.open(tmp_path / "lock", os.O_RDWR)
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        with suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGKILL)


def test_an_order_that_was_cut_off_begins_nothing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", supervisor.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    out, _ = process.communicate(b'{"plan": "p", "run": "mini", "line": "touch here')
    assert (process.returncode, out) == (1, b"")


def test_a_supervisor_imports_neither_numpy_nor_rich():
    code = (
        f"import runpy, sys, io\nsys.stdin = io.StringIO('')\n"
        f"try: runpy.run_path({supervisor.__file__!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numpy', 'rich', 'visatb.scores') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True)
    assert out.stdout == b"[]\n"

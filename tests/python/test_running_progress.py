"""What `visatb run` shows while it works."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from running_project import finish, write_project

from visatb.cli import run_display
from visatb.cli.run_display import Lines, duration
from visatb.procedure import load_plan, load_project
from visatb.running.book import Book
from visatb.running.progress import AtWork, Paces, Progress, progress_of, steps_in

BAR = "\r 10%|#   | 7/70 [00:01<00:09]\r 11%|#   | 8/70 [00:01<00:09]"


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (BAR, 8),
        (f"{BAR}\nEvaluating: 3/5\n", 8),
        (f"=== visatb run: mini: train: {BAR}\n=== visatb run: mini: train, again\n", None),
        (f"=== visatb run: mini: train, again\n{BAR}", 8),
        ("=== visatb run: mini: train: train.py --part 3/70 {a,b}\n", None),
        ("=== visatb run: mini: train: train.py --part 3/70", None),
        ("1/170 11/701 1.5/70 71/70 7/70/2", None),
        ("70/70", 70),
        ("", None),
    ],
)
def test_steps_are_read_from_the_last_progress_bar_of_the_attempt(tmp_path, text, steps):
    (tmp_path / "train.log").write_text(text, encoding="utf-8")
    assert steps_in(tmp_path / "train.log", 70) == steps


def test_a_log_that_is_not_there_or_without_end_tells_nothing(tmp_path):
    assert steps_in(tmp_path / "train.log", 70) is None
    assert steps_in(Path("/dev/zero"), 70) is None


@pytest.fixture
def book(tmp_path) -> Book:
    """Of three measuring runs of one step each, "mini" is done."""
    folder = write_project(tmp_path)
    assert finish(folder, "--only", "mini", LITTLE_SECONDS="0")[0] == 0
    project = load_project(folder / "visatb.toml")
    return Book(project, load_plan(project.output))


def test_time_is_estimated_from_what_was_done_and_is_at_work(book):
    stages = [stage for run in book.plan.runs[:3] for stage in book.stages[run.name]]
    train, evaluate = (book.done(stage) for stage in stages[:2])
    nothing = progress_of(book, stages, [], 1)
    assert (nothing.steps, nothing.all_steps, nothing.stages, nothing.all_stages) == (1, 3, 2, 6)
    assert nothing.seconds_left == pytest.approx(2 * train.seconds + 2 * evaluate.seconds)
    # It took 90 seconds to begin, and 5 for a step.
    at_work = AtWork(stages[2], "0", 95.0, 1, pace=(1, 5.0))
    one = progress_of(book, stages, [at_work], 1)
    assert one.steps == 2
    speed = (train.seconds + 5.0) / 2
    assert one.seconds_left == pytest.approx(speed + 2 * evaluate.seconds)


def test_no_estimate_is_shorter_than_what_is_at_work_takes_with_its_evaluation(book):
    stages = [stage for run in book.plan.runs[:3] for stage in book.stages[run.name]]
    train, evaluate = (book.done(stage) for stage in stages[:2])
    at_work = AtWork(stages[2], "0", 0.0, None)
    left = progress_of(book, stages, [at_work], 64).seconds_left
    assert left == pytest.approx(train.seconds + evaluate.seconds)


def test_the_speed_of_a_training_is_that_since_its_first_count_was_seen(book):
    stage, paces = book.stages["mini"][0], Paces()
    assert paces.of(stage, None, 100.0) == (0, 0.0)
    assert paces.of(stage, 3, 160.0) == (0, 0.0)
    assert paces.of(stage, 7, 170.0) == (4, 10.0)
    # Another attempt begins anew.
    assert paces.of(stage, 1, 300.0) == (0, 0.0)
    assert paces.of(stage, 2, 301.0) == (1, 1.0)


def test_what_is_done_is_not_counted_as_at_work_too(book):
    stages = [stage for run in book.plan.runs[:3] for stage in book.stages[run.name]]
    # Its marker is there, and its supervisor is not seen to have ended yet.
    ending = [AtWork(stage, "", 5.0, 1, pace=(1, 5.0)) for stage in stages[:2]]
    assert progress_of(book, stages, ending, 1) == progress_of(book, stages, [], 1)


def test_no_time_is_estimated_before_anything_tells(book):
    stages = [stage for run in book.plan.runs[1:3] for stage in book.stages[run.name]]
    assert progress_of(book, stages, [], 1).seconds_left is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (99, "99 s"),
        (100, "2 min"),
        (3600, "60 min"),
        (6300, "1 h 45 min"),
        (150_000, "41 h 40 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_times_are_said_in_words(seconds, text):
    assert duration(seconds) == text


def test_a_pipe_gets_a_line_of_the_whole_about_every_minute(capsys, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(run_display.time, "monotonic", lambda: clock[0])
    lines = Lines()
    progress = Progress(1234, 10_000, 3, 18, 3900.0, ())
    for clock[0] in (1001.0, 1059.0, 1061.0, 1062.0, 1120.0, 1122.0):
        lines.tick(progress)
    assert capsys.readouterr().out.splitlines() == [
        "1,234/10,000 steps (12%), 3/18 stages, 0 at work, 61 s gone, about 65 min left",
        "1,234/10,000 steps (12%), 3/18 stages, 0 at work, 2 min gone, about 65 min left",
    ]


@pytest.mark.parametrize(
    ("steps", "left", "line"),
    [
        (
            (12_345, 98_765),
            45_000.0,
            "12,345/98,765 steps (12%), 3/18 stages, 0 at work, about 12 h 30 min left",
        ),
        (
            (12_345_678, 100_000_000),
            45_000.0,
            "12,345,678/100,000,000 steps, 3/18 stages, 0 at work, about 12 h 30 min left",
        ),
        ((0, 98_765), None, "0/98,765 steps (0%), 3/18 stages, 0 at work, 3 h 05 min gone"),
    ],
)
def test_the_line_of_the_whole_fits_80_columns_and_tells_less_where_it_must(
    capsys, monkeypatch, steps, left, line
):
    clock = [1000.0]
    monkeypatch.setattr(run_display.time, "monotonic", lambda: clock[0])
    lines = Lines()
    clock[0] += 11_100
    lines.tick(Progress(*steps, 3, 18, left, ()))
    assert len(line) <= 80
    assert capsys.readouterr().out == f"{line}\n"


def test_a_terminal_folds_a_long_name_and_cuts_none(book, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    (mini, *_) = book.stages["mini"]
    name = "with_mini:" + "long_name_" * 9
    stage = replace(mini, run=replace(mini.run, name=name, steps=12_345))
    at_work = AtWork(stage, "0,1,2,3", 11_100.0, 6_789)
    picture = run_display.Picture()
    with picture._console.capture() as captured:
        picture._console.print(picture._drawn(Progress(1, 2, 3, 4, None, (at_work,))))
    rows = captured.get().splitlines()
    assert max(map(len, rows)) <= 60
    assert "".join(row.split(" ")[0] for row in rows[2:]).startswith(name)
    assert "6,789/12,345 (54%)  3 h 05 min" in rows[2]


def test_the_work_goes_on_where_its_lines_cannot_be_written(tmp_path):
    folder = write_project(tmp_path)
    environment = {**os.environ, "LITTLE_JOURNAL": str(folder / "journal"), "LITTLE_SECONDS": "0"}
    command = [sys.executable, "-m", "visatb", "run", "--only", "mini"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    process.stdout.close()
    assert process.wait(60) == 0
    assert (folder / "visatb-output/runs/mini/evaluate.done").exists()


def in_terminal(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """`visatb run` in a terminal, its errors in a file: exit code, what was shown, and errors."""
    reader, writer = pty.openpty()
    with (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "visatb", "run", *arguments],
            cwd=folder,
            env={**os.environ, "COLUMNS": "100", "LINES": "30", "TERM": "xterm"},
            stdout=writer,
            stderr=errors,
        )
    os.close(writer)
    # One that hangs is an error, and no end of the test.
    deadline = threading.Timer(60, process.kill)
    deadline.start()
    shown = b""
    while True:
        try:
            piece = os.read(reader, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    code = process.wait(60)
    deadline.cancel()
    os.close(reader)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    return code, text, (folder / "errors").read_text(encoding="utf-8")


def test_what_is_wrong_is_on_standard_error_too_where_that_is_not_the_terminal(tmp_path):
    folder = write_project(tmp_path, train="exit 7 # {data} {output} {weights}")
    code, shown, errors = in_terminal(folder, "--only", "mini")
    assert code == 5
    wrong = "visatb: mini: train: failed with exit code 7; "
    assert wrong in shown
    assert wrong in errors


def test_a_terminal_shows_the_whole_and_what_is_at_work_by_its_name(tmp_path):
    train = "printf '\\r 1/1'; sleep 1; mkdir {output}; touch {output}/m # {data} {weights}"
    evaluate = 'echo \'{{"a": {{"em": 1}}, "b": {{"em": 1}}}}\' > {scores} # {model}'
    folder = write_project(
        tmp_path,
        train=train,
        evaluate=evaluate,
        run="gpus = [4]\n",
        head='visatb_project = 1\nmethods = ["EW"]\n',
    )
    code, text, _ = in_terminal(folder, "--only", "with_mini:b")
    assert code == 0
    assert "with_mini:b: train begins on GPU 4" in text
    assert "0/1 steps (0%), 0/2 stages, 1 at work" in text
    assert re.search(r"with_mini:b: train +4 +1/1 \(100%\) +\d\.\d s", text)
    assert text.rstrip().endswith("1 run is done")

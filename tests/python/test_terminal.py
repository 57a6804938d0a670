"""The commands as processes: in a terminal, and where streams are closed, full or of odd text."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sample_files import sampled, write

import visatb
from visatb import cli
from visatb.cli import terminal, weights
from visatb.cli.progress import progress

PROCESS = [sys.executable, "-c", "import sys; from visatb.cli import main; sys.exit(main())"]
BY = ("by-out", "by-in", "by-diff")


@pytest.fixture
def sheets(examples, folder) -> Path:
    """The examples, in the working folder."""
    for file in examples.glob("*.*"):
        shutil.copy(file, folder)
    return folder


def long_names(count: int = 3) -> dict:
    """A score file of tasks with names of 28 characters and more."""
    tasks = ["visual-instruction-grounding", *(f"task-{i}-" + "x" * 60 for i in range(1, count))]
    template = visatb.score_template(tasks)
    for unit in [None, *tasks]:
        run = template["runs"]["with_mini"][unit] if unit else template["runs"]["mini"]
        for task in tasks:
            run[task]["score"] = 30.0 if unit is None else 70.0 if unit == task else 31.0
    return template


# --- in a terminal --------------------------------------------------------------------------------


def in_terminal(columns: int, *arguments: str) -> str:
    """What a terminal of that width is sent."""
    try:
        ours, theirs = os.openpty()
    except OSError as reason:
        pytest.skip(f"no pseudo-terminal here: {reason}")
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [*PROCESS, *arguments], stdout=theirs, stderr=subprocess.PIPE, env=environment
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0, process.stderr.read()
    process.stderr.close()
    return shown.decode().replace("\r\n", "\n")


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def test_a_terminal_sees_a_bold_header_and_narrow_gaps(sheets):
    shown = in_terminal(100, "weights", "full.json")
    assert shown.startswith("\x1b[1mtask")
    assert plain(shown)[:2] == [
        "task      weight outward inward difficulty by-out by-in by-diff",
        "caption   0.9518   0.150  0.050      0.200  1.054 1.137   0.808",
    ]
    assert not any("no room" in line for line in plain(shown))


def test_a_narrow_terminal_sees_every_name_and_loses_the_by_columns_first(sheets):
    lines = plain(in_terminal(60, "weights", "groups.json"))
    assert lines[0].split() == ["task", "group", "weight", "outward", "inward", "difficulty"]
    tasks = visatb.compute_weights("groups.json").tasks
    assert [line.split()[0] for line in lines[1 : 1 + len(tasks)]] == tasks
    assert lines[-1] == "no room for by-out, by-in, by-diff"
    assert max(len(line) for line in lines[: 1 + len(tasks)]) <= 60


@pytest.mark.parametrize("columns", [30, 50])
def test_a_very_narrow_terminal_loses_the_measures_too(sheets, columns):
    lines = plain(in_terminal(columns, "weights", "groups.json"))
    assert lines[0].split() == ["task", "group", "weight"]
    tasks = visatb.compute_weights("groups.json").tasks
    assert [line.split()[0] for line in lines[1 : 1 + len(tasks)]] == tasks


def test_eighty_columns_do_not_break_a_name_of_28_characters(folder):
    Path("scores.json").write_text(json.dumps(long_names(2)), encoding="utf-8")
    lines = plain(in_terminal(80, "weights", "scores.json"))
    assert lines[1].split()[0] == "visual-instruction-grounding"
    for line in lines[2:4]:
        assert len(line) <= 80
    assert lines[2].split()[0] + lines[3].strip() == "task-1-" + "x" * 60


def test_numbers_stay_whole_however_narrow_the_terminal_is(folder):
    Path("scores.json").write_text(json.dumps(long_names(2)), encoding="utf-8")
    lines = plain(in_terminal(20, "weights", "scores.json"))
    assert lines[0].split() == ["task", "weight"]
    assert lines[1].split()[0] == "visual-instruction-grounding"
    assert re.fullmatch(r"task-1-x{33} \d\.\d{4}", lines[2])
    assert lines[3] == "x" * 27


def test_the_interval_of_a_weight_is_the_last_to_go(sheets):
    document, values = sampled(json.loads(Path("full.json").read_text(encoding="utf-8")))
    write(document, values)
    header = ["task", "weight", "95%", "interval"]
    measures = ["outward", "inward", "difficulty"]
    for columns, expected in ((78, [*header, *measures, *BY]), (60, [*header, *measures])):
        assert plain(in_terminal(columns, "weights", "scores.json"))[0].split() == expected
    assert plain(in_terminal(35, "weights", "scores.json"))[0].split() == header
    assert plain(in_terminal(25, "weights", "scores.json"))[0].split() == header[:2]


def test_work_of_a_while_shows_how_far_it_is_and_clears_it(monkeypatch, capsys):
    now = iter([0.0, 1.9, 2.1, 2.2, 3.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(KeyError), progress("resampling") as tell:
        for share in (0.1, 0.5, 0.501, 0.998):
            tell(share)
        raise KeyError
    assert capsys.readouterr().err == ("\r\x1b[Kresampling: 50%\r\x1b[Kresampling: 99%\r\x1b[K")


def test_work_of_a_moment_shows_nothing_and_neither_does_a_pipe(monkeypatch, capsys):
    with progress("resampling") as tell:
        assert tell is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("resampling") as tell:
        tell(0.5)
    assert capsys.readouterr().err == ""


def test_wide_characters_count_for_two(monkeypatch):
    monkeypatch.setattr(terminal, "window_width", lambda: 30)
    columns = [terminal.Column("task"), terminal.Column("n", is_number=True, stays=0)]
    shown = terminal.render(columns, [["定位" * 7, "1"]])
    assert shown == f"task\n{'定位' * 7}\n\nno room for n\n"
    assert terminal.render(columns, [["定位" * 6, "1"]]).endswith("  1\n")


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_a_narrow_terminal_sees_every_task_of_an_evaluation(sheets, columns):
    lines = plain(in_terminal(columns, "evaluate", "results.json"))
    tasks = visatb.evaluate("results.json")["methods"]["VisATB"]["tasks"]
    shown = {line.split()[0] for line in lines if line}
    assert tasks.keys() <= shown
    assert {"STL", "EW", "TLA", "VisATB"} <= shown


# --- streams --------------------------------------------------------------------------------------


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of shell in which $visatb is the command."""
    command = " ".join(f"'{word}'" for word in PROCESS)
    return subprocess.run(
        ["/bin/sh", "-c", line.replace("$visatb", command)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "", **environment},
    )


@pytest.mark.parametrize(
    "arguments",
    ["weights full.json", "weights full.json --format json", "evaluate results.json", "--help"],
)
def test_a_full_disk_is_exit_code_3(sheets, arguments):
    run = shell(f"$visatb {arguments} >/dev/full")
    assert run.returncode == 3
    assert run.stderr.endswith("visatb: standard output: No space left on device\n")
    assert "Traceback" not in run.stderr
    assert "Exception ignored" not in run.stderr


@pytest.mark.parametrize("arguments", ["weights full.json", "--help", "template --tasks a,b"])
def test_a_closed_standard_output_swallows(sheets, arguments):
    run = shell(f"$visatb {arguments} >&-")
    assert run.returncode == 0
    assert "Traceback" not in run.stderr
    saved = shell("$visatb weights full.json -o weights.json >&-")
    assert saved.returncode == 0
    assert json.loads(Path("weights.json").read_text(encoding="utf-8"))


def test_python_without_buffers_notices_a_full_disk_too(sheets):
    for arguments in ("weights full.json", "--help"):
        run = shell(f"$visatb {arguments} >/dev/full", PYTHONUNBUFFERED="1")
        assert run.returncode == 3
        assert run.stderr.endswith("visatb: standard output: No space left on device\n")


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
def test_without_standard_error_nothing_but_the_result_is_on_standard_output(sheets, closed):
    run = shell(f"$visatb weights full.json --format shell --strict {closed}")
    weights = visatb.compute_weights("full.json").weights
    assert [float(word) for word in run.stdout.split()] == list(weights.values())
    assert run.returncode == 1
    for arguments, code in [("weights none.json", 3), ("weigh", 2), ("weights", 2)]:
        run = shell(f"$visatb {arguments} {closed}")
        assert (run.returncode, run.stdout, run.stderr) == (code, "", "")


def test_a_closed_standard_input_is_exit_code_3(sheets):
    run = shell("$visatb weights - <&-")
    assert (run.returncode, run.stdout) == (3, "")
    assert run.stderr == "visatb: standard input: closed\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([b"template", b"--tasks", b"a,\xff"], "visatb: tasks[1] = '\\udcff'; expected a name in"),
        ([b"evaluate", b"results.json", b"--baseline", b"\xff"], "visatb: baseline = '\\udcff'; "),
        ([b"weights", b"full.json", b"--form", b"\xff"], "argument --form: invalid choice: "),
        ([b"weights", b"full.json", b"--alphas", b"\xff"], "argument --alphas: \\udcff: expected"),
    ],
)
def test_arguments_that_are_not_utf_8_are_wrong_usage(sheets, arguments, message):
    run = subprocess.run([*PROCESS, *arguments], capture_output=True, check=False)
    assert (run.returncode, run.stdout) == (2, b"")
    assert message in run.stderr.decode()
    assert "Traceback" not in run.stderr.decode()


def test_files_whose_name_is_not_utf_8_are_files(sheets):
    shutil.copy("full.json", os.fsdecode(b"full\xff.json"))
    run = subprocess.run(
        [*PROCESS, "weights", b"full\xff.json", "-o", b"out\xff.json", "--format", "shell"],
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0
    assert run.stderr.startswith(b"visatb: warning: full\\xff.json: runs.")
    assert Path(os.fsdecode(b"out\xff.json")).exists()
    run = subprocess.run([*PROCESS, "weights", b"\xff"], capture_output=True, check=False)
    assert run.returncode == 3
    assert run.stderr == b"visatb: \\xff: No such file or directory\n"


def test_messages_are_escaped_where_their_encoding_lacks_a_character(sheets):
    run = shell("$visatb weights 定位.json", PYTHONIOENCODING="ascii:strict")
    assert (run.returncode, run.stderr) == (
        3,
        "visatb: \\u5b9a\\u4f4d.json: No such file or directory\n",
    )


# --- what messages may hold -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scores.csv", "run,task,metric,score\nmini,a,em,\x1b[2J\n"),
        ("scores.csv", 'run,task,metric,score\nmini,a,em,"\x1b]0;\nvisatb: all is well"\n'),
        ("scores.json", '{"visatb_scores": 1, "form": "\\u001b[2J\\n"}'),
        ("scores.json", '{"visatb_scores": 1, "\\u001b[2J": 1}'),
        ("sc\x1b[2Jores.json", "{}"),
        ("sc\nores.csv", ""),
    ],
)
def test_messages_cannot_steer_the_terminal(command, folder, name, content):
    Path(name).write_text(content, encoding="utf-8")
    run = command("weights", name)
    assert run.code == 3
    assert "\x1b" not in run.err
    assert run.err.count("\n") == 1
    run = command("weights", "missing-\x1b[2J")
    assert run.err == "visatb: missing-\\x1b[2J: No such file or directory\n"
    run = command("weights", name, "--temperature", "\x1b[2J")
    assert run.code == 2
    assert "\x1b" not in run.err


def test_the_list_of_what_was_tried_keeps_its_lines(command, sheets, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise visatb.LibraryError("Tried:\n  /a\x1b[2J\n  /b")

    monkeypatch.setattr(weights, "compute_weights", refuse)
    run = command("weights", "full.json")
    assert (run.code, run.err) == (4, "visatb: Tried:\n  /a\\x1b[2J\n  /b\n")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, ""),
        (MemoryError(), 4, "visatb: out of memory\n"),
        (OSError(5, "Input/output error"), 3, "visatb: standard output: Input/output error\n"),
        (UnicodeError("odd"), 2, "visatb: odd\n"),
        (visatb.UnsupportedError("visatb_scores_parse: no JSON"), 4, "visatb: no JSON\n"),
    ],
)
def test_every_end_has_its_exit_code(command, sheets, monkeypatch, error, code, message):
    def end(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(weights, "compute_weights", end)
    run = command("weights", "full.json")
    assert (run.code, run.out, run.err) == (code, "", message)


def test_another_stream_may_take_the_place_of_standard_output(monkeypatch, sheets):
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert cli.main(["template", "--tasks", "a,b"]) == 0
    assert json.loads(text.getvalue()) == visatb.score_template(["a", "b"])

"""The commands as a shell sees them: output, exit codes, messages."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import visatb

NEGATIVE = "runs.with_mini.grounding: negative contribution: grounding -> caption\n"


@pytest.fixture
def sheets(examples, folder) -> Path:
    """The examples, in the working folder."""
    for file in examples.glob("*.*"):
        shutil.copy(file, folder)
    return folder


# --- weights --------------------------------------------------------------------------------------


def test_weights_prints_a_plain_table_in_a_pipe(command, sheets):
    run = command("weights", "full.json")
    assert run.code == 0
    assert run.err == f"visatb: warning: full.json: {NEGATIVE}"
    assert run.out == (
        "task       weight  outward  inward  difficulty  by-out  by-in  by-diff\n"
        "caption    0.9518    0.150   0.050       0.200   1.054  1.137    0.808\n"
        "vqa        0.8843    0.200   0.150       0.143   1.165  0.931    0.720\n"
        "grounding  1.1639    0.000   0.150       0.500   0.781  0.931    1.472\n"
        "sharegpt   1.0000    fixed\n"
        "\n"
        "weight = 0.25 by-out + 0.25 by-in + 0.5 by-diff\n"
        "temperature 0.5 (from the scores file)\n"
    )


def test_weights_shows_the_groups_where_there_are_any(command, sheets):
    run = command("weights", "groups.json")
    lines = run.out.splitlines()
    assert lines[0].split()[:3] == ["task", "group", "weight"]
    assert lines[1].split()[:3] == ["textvqa", "reading", "1.2805"]
    assert lines[2].split()[:3] == ["textcaps", "reading", "1.2805"]
    assert lines[5].split()[:2] == ["refcoco", "0.5597"]
    assert lines[-1] == (
        "temperature 0.125 (automatic: lowest of 4 to 0.125 with all weights in range)"
    )


def test_weights_json_is_exactly_the_file_that_o_writes(command, sheets):
    run = command("weights", "full.json", "--format", "json", "-o", "weights.json")
    assert run.code == 0
    assert run.out.encode() == (sheets / "weights.json").read_bytes()
    assert json.loads(run.out)["weights"]["vqa"] == pytest.approx(0.8843100537, rel=1e-9)


def test_weights_csv_has_every_digit(command, sheets):
    rows = list(csv.DictReader(io.StringIO(command("weights", "full.json", "--format", "csv").out)))
    weights = visatb.compute_weights("full.json")
    assert {row["task"]: float(row["weight"]) for row in rows} == weights.weights
    assert float(rows[2]["difficulty"]) == weights.data["difficulty"]["grounding"]
    assert float(rows[0]["by_in"]) == weights.data["components"]["in"]["caption"]
    assert rows[3] == {
        "task": "sharegpt",
        "unit": "",
        "weight": "1.0",
        "outward": "",
        "inward": "",
        "difficulty": "",
        "by_out": "",
        "by_in": "",
        "by_difficulty": "",
    }


def test_weights_shell_is_one_line_in_the_order_of_the_tasks(command, sheets):
    run = command("weights", "full.json", "--format", "shell")
    assert run.out.endswith("\n")
    assert [float(word) for word in run.out.split(" ")] == list(
        visatb.compute_weights("full.json").weights.values()
    )


def test_the_sheet_gives_what_the_json_file_gives(command, sheets):
    from_sheet = command("weights", "full.csv", "--temperature", "0.5", "--format", "shell")
    assert from_sheet.out == command("weights", "full.json", "--format", "shell").out
    where = NEGATIVE.replace("runs.with_mini.grounding", "row 11, column run")
    assert from_sheet.err == f"visatb: warning: full.csv: {where}"


@pytest.mark.parametrize("name", ["full.json", "full.csv"])
def test_standard_input_may_be_json_or_csv(command, sheets, name):
    content = b"\n " + Path(name).read_bytes() if name == "full.json" else Path(name).read_bytes()
    run = command("weights", "-", "--temperature", "0.5", "--format", "shell", stdin=content)
    assert run.code == 0
    assert run.out == command("weights", "full.json", "--format", "shell").out
    assert run.err.startswith("visatb: warning: standard input: r")


def test_flags_win_over_the_file(command, sheets):
    run = command("weights", "full.json", "--alphas", "0,0,1", "--temperature", "auto")
    assert "weight = 0 by-out + 0 by-in + 1 by-diff\n" in run.out
    assert "temperature 0.5 (automatic: " in run.out
    run = command("weights", "full.json", "--temperature", "2")
    assert "temperature 2 (from --temperature)\n" in run.out
    run = command("weights", "full.json", "--form", "simple")
    assert (run.code, run.err) == (3, "visatb: full.json: runs.base: missing\n")


def test_alphas_that_are_a_little_off_are_scaled_with_a_warning(command, sheets):
    run = command("weights", "groups.json", "--alphas", "0.33,0.33,0.33")
    assert run.code == 0
    assert "weight = 0.3333 by-out + 0.3333 by-in + 0.3333 by-diff\n" in run.out
    assert "the alphas sum to 0.99; scaled to 1\n" in run.err


def test_strict_turns_warnings_into_exit_code_1_and_still_delivers(command, sheets):
    run = command("weights", "full.json", "--strict", "-o", "weights.json")
    assert run.code == 1
    assert run.out.startswith("task ")
    assert Path("weights.json").exists()
    assert command("weights", "groups.json", "--strict").code == 0


def test_a_negative_denominator_needs_its_flag(command, sheets):
    text = Path("full.csv").read_text(encoding="utf-8")
    Path("full.csv").write_text(text.replace("vqa,em,70", "vqa,em,59"), encoding="utf-8")
    run = command("weights", "full.csv", "--temperature", "1")
    assert run.code == 3
    assert run.err.startswith("visatb: full.csv: row 9, column score: training on vqa made its own")
    assert command(
        "weights", "full.csv", "--temperature", "1", "--allow-negative-denominator"
    ).code == 0  # fmt: skip


def test_names_cannot_steer_the_terminal(command, sheets):
    text = Path("full.json").read_text(encoding="utf-8").replace("grounding", "\\u001b[2J[red]")
    run = command("weights", "-", stdin=text)
    assert "\x1b" not in run.out + run.err
    assert "\\x1b[2J[red]" in run.out


def test_names_in_any_script_are_shown(command, sheets):
    text = Path("full.json").read_text(encoding="utf-8").replace("grounding", "定位")
    assert "\n定位 " in command("weights", "-", stdin=text).out


def test_a_table_of_thirty_long_names_has_a_line_a_task(command, folder):
    tasks = [f"visual-instruction-task-with-a-long-name-{index}" for index in range(30)]
    template = visatb.score_template(tasks)
    for unit in [None, *tasks]:
        run = template["runs"]["with_mini"][unit] if unit else template["runs"]["mini"]
        for task in tasks:
            run[task]["score"] = 30.0 if unit is None else 70.0 if unit == task else 31.0
    run = command("weights", "-", stdin=json.dumps(template))
    assert [line.split()[0] for line in run.out.splitlines()[1:31]] == tasks


# --- evaluate -------------------------------------------------------------------------------------


def test_evaluate_prints_a_summary_and_the_tasks(command, sheets):
    run = command("evaluate", "results.json")
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith(
        "Improvement over STL\n"
        "method    dI %  dE %  dI_zero %\n"
        "STL       0.00  0.00\n"
        "EW       +8.75  0.10       0.00\n"
        "TLA      +6.65  1.85      -3.73\n"
        "VisATB  +11.29  0.15      +1.87\n"
        "\n"
        "By task, percent\n"
        "task          STL      EW     TLA  VisATB\n"
        "ShareGPT4V   0.00   +9.81  -10.97  +11.83\n"
    )
    assert "\nMM-Vet               0.00   -1.03   +1.03\n" in run.out


def test_evaluate_json_is_the_librarys(command, sheets):
    run = command("evaluate", "results.json", "--format", "json")
    assert json.loads(run.out) == visatb.evaluate("results.json")


def test_evaluate_csv_has_a_row_a_method(command, sheets):
    run = command("evaluate", "results.json", "--format", "csv")
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(run.out))}
    methods = visatb.evaluate("results.json")["methods"]
    assert float(rows["VisATB"]["dI"]) == methods["VisATB"]["dI"]
    assert float(rows["TLA"]["ChartQA"]) == methods["TLA"]["tasks"]["ChartQA"]
    assert rows["STL"]["dI_zero"] == rows["STL"]["POPE"] == ""


def test_evaluate_takes_another_baseline_and_standard_input(command, sheets):
    text = Path("results.json").read_text(encoding="utf-8")
    run = command("evaluate", "-", "--baseline", "EW", stdin=text)
    assert run.code == 0
    assert "Improvement over EW\n" in run.out
    assert "\nEW       0.00  0.00       0.00\n" in run.out
    run = command("evaluate", "results.json", "--baseline", "LTS")
    assert run.code == 3
    assert run.err == 'visatb: results.json: baseline: "LTS" is not among the methods\n'


# --- template -------------------------------------------------------------------------------------


def test_template_prints_json_or_a_sheet(command):
    run = command("template", "--tasks", "a, b")
    assert json.loads(run.out) == visatb.score_template(["a", "b"])
    run = command("template", "--tasks", "a,b", "--form", "simple", "--csv")
    assert run.out == (
        "run,task,metric,score,higher_is_better\n"
        "base,a,score,,true\n"
        "base,b,score,,true\n"
        "only:a,a,score,,true\n"
        "only:a,b,score,,true\n"
        "only:b,a,score,,true\n"
        "only:b,b,score,,true\n"
        "mini_only:a,a,score,,true\n"
        "mini_only:b,b,score,,true\n"
    )


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ("", "standard input: runs.mini.a.score: expected a number, not null"),
        ("--csv", "standard input: row 2, column score: empty"),
    ],
)
def test_an_empty_template_is_no_score_file_yet(command, sheet, message):
    template = command("template", "--tasks", "a,b", *sheet.split()).out
    run = command("weights", "-", stdin=template)
    assert (run.code, run.err) == (3, f"visatb: {message}\n")


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "visatb: error: the following arguments are required: COMMAND"),
        (["weigh"], "visatb: error: argument COMMAND: invalid choice: 'weigh'"),
        (["weights"], "visatb weights: error: the following arguments are required: SCORES"),
        (
            ["weights", "full.json", "--temperature", "0"],
            "argument --temperature: 0: expected auto or a number above 0",
        ),
        (
            ["weights", "full.json", "--temperature", "nan"],
            "argument --temperature: nan: expected auto or a number above 0",
        ),
        (
            ["weights", "full.json", "--alphas", "1,2"],
            "argument --alphas: 1,2: expected three numbers, as 0.25,0.25,0.5",
        ),
        (
            ["weights", "full.json", "--alphas", "1,1,1"],
            "visatb: alphas sum to 3; expected 1 within 0.02",
        ),
        (
            ["weights", "full.json", "-o", "-"],
            "argument -o/--output: -: expected a file; --format json prints the same text",
        ),
        (["template", "--tasks", "a"], "visatb: tasks = ['a']; expected two or more names"),
    ],
)
def test_wrong_usage_is_exit_code_2(command, sheets, arguments, message):
    run = command(*arguments)
    assert run.code == 2
    assert run.out == ""
    assert message in run.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["weights", "none.json"], "none.json: No such file or directory"),
        (["weights", "."], ".: Is a directory"),
        (["evaluate", "none.json"], "none.json: No such file or directory"),
        (
            ["weights", "full.json", "-o", "none/weights.json"],
            "none/weights.json: cannot be written: No such file or directory",
        ),
        (
            ["weights", "results.json"],
            "results.json: visatb_scores: missing; there is visatb_results, so it is another file",
        ),
        (
            ["evaluate", "full.json"],
            "full.json: visatb_results: missing; there is visatb_scores, so it is another file",
        ),
        (
            ["weights", "empty.csv"],
            "empty.csv: empty; expected a header row with run, task, metric, score",
        ),
    ],
)
def test_bad_data_and_unreadable_files_are_exit_code_3(command, sheets, arguments, message):
    Path("empty.csv").touch()
    run = command(*arguments)
    assert (run.code, run.out, run.err) == (3, "", f"visatb: {message}\n")


def test_the_exit_codes_are_in_the_help(command):
    run = command("--help")
    assert run.code == 0
    assert "  3  a file cannot be read or written, or what it says is wrong\n" in run.out
    assert command("--version").out == f"visatb {visatb.__version__}\n"


# --- as a process ---------------------------------------------------------------------------------

PROCESS = [sys.executable, "-c", "import sys; from visatb.cli import main; sys.exit(main())"]


def test_a_reader_that_stops_early_is_no_error(sheets):
    process = subprocess.Popen(
        [*PROCESS, "weights", "full.json", "--format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_neither_torch_nor_a_locale_is_needed(sheets):
    text = Path("full.json").read_text(encoding="utf-8").replace("grounding", "定位")
    code = PROCESS[2].replace("import sys;", "import sys; sys.modules['torch'] = None;")
    run = subprocess.run(
        [sys.executable, "-c", code, "weights", "-", "--format", "csv"],
        input=text.encode(),
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "定位,定位,".encode() in run.stdout

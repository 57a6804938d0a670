"""`visatb plan` as a shell sees it: output, exit codes, messages."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from projects import PLAIN, samples, write_data

# What the environment that planned is called by, wherever a line is run.
VISATB = f"{shlex.quote(sys.executable)} -m visatb"
RUN = """
[run]
train = "train --data {data} --output {output} --weights {weights} --port {port}"
evaluate = "evaluate --model {model} --questions {questions} --scores {scores}"
gpus = [0, 1, 2, 3]
gpus_per_run = 2
"""
SPLITS = "splits = { validation = 0.1, test = 20 }\n"


@pytest.fixture
def project(folder):
    """A working folder with data.json and visatb.toml."""
    write_data(folder)
    (folder / "visatb.toml").write_text(SPLITS + PLAIN + RUN, encoding="utf-8")
    return folder


def test_plan_prints_subsets_runs_and_cost_and_warns_on_stderr(command, project):
    run = command("plan")
    assert run.code == 0
    assert run.out == (
        "3 to be weighed, full form\n"
        "task     train  large  mini  validation  test\n"
        "vqa        160     80    20          20    20\n"
        "caption    115     57    14          15    20\n"
        "ocr         70     35     8          10    20\n"
        "\n"
        "run                samples  steps  scored on\n"
        "mini                    42     11  every task\n"
        "with_mini:vqa          102     26  every task\n"
        "with_mini:caption       85     22  every task\n"
        "with_mini:ocr           69     18  every task\n"
        "EW                     345     87  every task\n"
        "VisATB                 345     87  every task\n"
        "\n"
        "measuring costs 0.86377 of a run on all 345 samples (298 samples, 77 of 87 steps); by "
        "formula 0.875\n"
        "written to visatb-output; next: visatb run visatb.toml\n"
    )
    lines = run.err.splitlines()
    assert lines[0] == (
        "visatb: warning: visatb.toml: tasks.vqa: mini subset of vqa: 20 samples, fewer than 1000"
    )
    assert lines[-1] == (
        "visatb: warning: visatb.toml: runs.with_mini:ocr: few steps: with_mini:ocr (18; the paper "
        "advises more than 100)"
    )
    assert len(lines) == 10


def test_plan_exits_with_1_under_strict_and_3_on_wrong_data(command, project):
    assert command("plan", "visatb.toml", "--strict").code == 1
    run = command("plan", "other.toml")
    assert (run.code, run.err) == (
        3,
        "visatb: other.toml: No such file or directory; expected a project file\n",
    )


def test_plan_json_is_exactly_the_file(command, project):
    run = command("plan", "--format", "json")
    assert run.out == (project / "visatb-output/plan.json").read_text(encoding="utf-8")


def test_plan_shell_prints_every_command_in_an_order_that_works(command, project):
    run = command("plan", "--format", "shell")
    lines = run.out.splitlines()
    output = f"{project}/visatb-output"
    assert lines[:15] == [
        "#!/bin/sh",
        "set -e",
        f"cd {project}",
        "",
        "# mini: 42 samples, 11 steps",
        f"mkdir -p {output}/runs/mini",
        "(",
        f"train --data {output}/data/train/mini.json --output {output}/runs/mini/model "
        f'--weights {output}/data/weights/equal.json --port "${{MASTER_PORT:-29500}}"',
        ") || exit",
        "(",
        f"evaluate --model {output}/runs/mini/model --questions {output}/data/validation "
        f"--scores {output}/runs/mini/evaluate.json",
        ") || exit",
        f"{VISATB} run {project}/visatb.toml --take=mini",
        "",
        "# with_mini:vqa: 102 samples, 26 steps",
    ]
    collects = [n for n, line in enumerate(lines) if line.endswith("--collect")]
    weights = next(n for n, line in enumerate(lines) if f"--weights {output}/weights.json" in line)
    measured = max(n for n, line in enumerate(lines) if "--take=with_mini" in line)
    assert measured < collects[0] < weights < collects[1] == len(lines) - 1
    checked = subprocess.run(["sh", "-n"], input=run.out, text=True, check=False)  # noqa: S607
    assert checked.returncode == 0


def script(project, command, tmp_path, train, evaluate="true # {model} {scores}"):
    """Runs the script of a plan, with a `visatb` that only says how it was called."""
    run = f"[run]\ntrain = {json.dumps(train)}\nevaluate = {json.dumps(evaluate)}\n"
    (project / "visatb.toml").write_text(PLAIN + run, encoding="utf-8")
    text = command("plan", "--format", "shell").out.replace(VISATB, "visatb")
    (tmp_path / "visatb").write_text('#!/bin/sh\necho visatb "$@"\n', encoding="utf-8")
    (tmp_path / "visatb").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    return subprocess.run(
        ["/bin/sh"], input=text, text=True, env=environment, capture_output=True, check=False
    )


NAMED = "# {data} {output} {weights}"


def test_plan_shell_gives_every_command_a_shell_of_its_own(command, project, tmp_path):
    (project / "src").mkdir()
    train = f"cd src && A=1 && pwd {NAMED}"
    ran = script(project, command, tmp_path, train, 'pwd; echo "A${A:-none}" # {model} {scores}')
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert lines[:4] == [
        f"{project}/src",
        str(project),
        "Anone",
        f"visatb run {project}/visatb.toml --take=mini",
    ]
    assert lines[-1] == f"visatb run {project}/visatb.toml --collect"


@pytest.mark.parametrize(
    ("train", "code"),
    [
        ("exit 3", 3),
        ("false", 1),
        ("false && true", 1),
        ("(exit 4) && true", 4),
        ("true\n(exit 5)", 5),
    ],
)
def test_plan_shell_stops_at_a_command_that_fails(command, project, tmp_path, train, code):
    ran = script(project, command, tmp_path, f"{train} {NAMED}", "echo asked # {model} {scores}")
    assert (ran.returncode, ran.stdout) == (code, "")


def test_plan_shell_goes_on_where_visatb_run_would(command, project, tmp_path):
    # A line that fails before the last one is nothing to `sh -c` either.
    ran = script(project, command, tmp_path, f"grep -q x /dev/null\ntrue {NAMED}")
    assert ran.returncode == 0


def test_plan_shell_names_runs_so_that_the_shell_takes_them_for_words(command, project, tmp_path):
    text = SPLITS + PLAIN.replace("tasks.ocr", 'tasks."o\'c r; $(touch x)"') + RUN
    rows = [
        row | {"task": "o'c r; $(touch x)"} if row["task"] == "ocr" else row for row in samples()
    ]
    write_data(project, rows)
    (project / "visatb.toml").write_text(text, encoding="utf-8")
    lines = command("plan", "--format", "shell").out.splitlines()
    (taken,) = [line for line in lines if "--take=" in line and "touch" in line]
    said = subprocess.run(
        ["/bin/sh", "-c", taken.replace(f"{VISATB} run", "printf '%s\\n'")],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert said[-1] == "--take=with_mini:o'c r; $(touch x)"


def test_plan_shell_refuses_questions_that_the_data_does_not_have(command, project):
    (project / "visatb.toml").write_text(PLAIN + RUN, encoding="utf-8")
    run = command("plan", "--format", "shell")
    assert (run.code, run.out) == (3, "")
    assert run.err == (
        "visatb: visatb.toml: the command that evaluates vqa names {questions}, and the data has "
        "no validation samples of it\n"
    )


@pytest.mark.parametrize("run", ["", "[run]\ngpus = [0]\n"])
def test_plan_without_commands_says_that_running_needs_some(command, project, run):
    (project / "visatb.toml").write_text(PLAIN + run, encoding="utf-8")
    ran = command("plan")
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == (
        "written to visatb-output; visatb.toml has no [run] with train and evaluate, "
        "which `visatb run` and `--format shell` need"
    )


def test_plan_needs_nothing_that_only_the_scoring_needs(command, project, monkeypatch):
    """Java and pycocoevalcap may be on the machine that runs alone."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    text = SPLITS + PLAIN.replace('"score"', '"cider"') + RUN.replace("scores", "answers")
    (project / "visatb.toml").write_text(text, encoding="utf-8")
    ran = command("plan")
    assert (ran.code, ran.out.splitlines()[-1][-28:]) == (0, "next: visatb run visatb.toml")


def test_plan_of_sizes_writes_nothing_and_has_no_commands(command, folder):
    tasks = "[tasks]\na = { samples = 32000 }\nb = { samples = 64000 }\n"
    (folder / "visatb.toml").write_text(f"visatb_project = 1\n{tasks}", encoding="utf-8")
    run = command("plan")
    assert run.out.endswith(
        "measuring costs 0.3125 of a run on all 96,000 samples (30,000 samples, 236 of 750 steps); "
        "by formula 0.3125\n"
    )
    assert [path.name for path in folder.iterdir()] == ["visatb.toml"]
    run = command("plan", "--format", "shell")
    assert (run.code, run.err) == (
        3,
        "visatb: visatb.toml: has sizes in place of data, so there is nothing to run\n",
    )

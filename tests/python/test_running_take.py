"""Results that were made elsewhere: by hand, on a cluster, or as answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running_project import (
    PYTHON,
    RESULTS,
    TASKS,
    finish,
    journal,
    markers,
    results,
    start,
    wait_for,
    write_project,
)

from visatb.procedure.section import either
from visatb.running import answers
from visatb.scoring import IDS, METRICS

MEASURED = {"mini": (50, 40), "with_mini:a": (60, 42), "with_mini:b": (51, 50)}


@pytest.fixture
def planned(folder, command) -> Path:
    """A planned project in the working folder."""
    write_project(folder)
    assert command("plan").code == 0
    return folder


def scores_of(a: float, b: float) -> str:
    return json.dumps({"a": {"em": a}, "b": {"em": b}})


def test_scores_of_all_measuring_runs_that_were_made_elsewhere_make_weights(planned, command):
    for name, (a, b) in MEASURED.items():
        Path("s.json").write_text(scores_of(a, b), encoding="utf-8")
        assert command("run", "--take", f"{name}=s.json").out == f"{name}: taken in\n"
    collected = command("run", "--collect")
    assert collected.code == 0
    assert collected.err.endswith(
        "visatb: nothing to compare yet; without a result are STL:a, STL:b, EW, VisATB\n"
    )
    scores = json.loads(Path("visatb-output/scores.json").read_bytes())
    assert scores["runs"]["with_mini"]["a"] == {"a": {"em": 60}, "b": {"em": 42}}
    assert Path("visatb-output/weights.json").exists()


def test_collecting_says_which_runs_the_weights_wait_for(planned, command):
    collected = command("run", "--collect")
    assert collected.code == 3
    assert collected.err == (
        "visatb: no weights yet: without a result are mini, with_mini:a, with_mini:b\n"
        "visatb: nothing to compare yet; without a result are STL:a, STL:b, EW, VisATB\n"
    )
    assert not Path("visatb-output/scores.json").exists()


def test_a_result_is_taken_once_and_only_an_equal_one_again(planned, command):
    Path("s.json").write_text(scores_of(50, 40), encoding="utf-8")
    Path("other.json").write_text(scores_of(50, 41), encoding="utf-8")
    assert command("run", "--take", "mini=s.json").code == 0
    before = markers(planned)
    assert command("run", "--take", "mini=s.json").out == "mini: is there already, and the same\n"
    refused = command("run", "--take", "mini=other.json")
    assert refused.code == 3
    assert refused.err == (
        "visatb: mini: has another result already; expected visatb-output/runs/mini to be removed "
        "first\n"
    )
    assert markers(planned) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": {"em": 1}}', 's.json: the task "b" is missing'),
        (
            '{"visatb_run_scores": 1, "plan": "other", "scores": {"a": {"em": 1}, "b": {"em": 1}}}',
            "s.json: scores of another plan",
        ),
        (
            '{"visatb_run_scores": 1, "run": "base", "scores": {"a": {"em": 1}, "b": {"em": 1}}}',
            's.json: scores of the run "base"; expected "mini"',
        ),
    ],
)
def test_a_wrong_file_is_not_taken(planned, command, content, message):
    Path("s.json").write_text(content, encoding="utf-8")
    ran = command("run", "--take", "mini=s.json")
    assert (ran.code, ran.err) == (3, f"visatb: {message}\n")
    assert markers(planned) == {}


def test_what_is_not_there_is_not_taken(planned, command):
    ran = command("run", "--take", "mini=s.json")
    assert (ran.code, ran.err) == (3, "visatb: s.json: No such file or directory\n")
    ran = command("run", "--take", "mini")
    assert ran.err == "visatb: visatb-output/runs/mini/evaluate.json: was not written\n"


def test_a_result_of_visatb_is_not_taken_before_there_are_weights(planned, command):
    Path("s.json").write_text(scores_of(50, 40), encoding="utf-8")
    ran = command("run", "--take", "VisATB=s.json")
    assert (ran.code, ran.err) == (
        3,
        "visatb: VisATB: visatb-output/weights.json is not there yet, so nothing was trained with "
        "it\n",
    )


def test_a_file_that_cannot_be_read_is_not_taken(planned, command):
    ran = command("run", "--take", f"mini={'x' * 5000}")
    assert (ran.code, ran.err) == (3, f"visatb: {'x' * 197}...: File name too long\n")
    Path("s.json").write_text(scores_of(50, 40), encoding="utf-8")
    Path("visatb-output/runs").write_text("", encoding="utf-8")
    ran = command("run", "--take", "mini=s.json")
    assert (ran.code, ran.err) == (
        3,
        "visatb: visatb-output/runs/mini: cannot be written: Not a directory\n",
    )


def test_scores_by_sample_are_taken_only_of_the_samples_of_the_split(planned, command):
    values = {f"av{number}": 1 for number in range(5)}
    for broken, message in (
        ({**values, "other": 1}, '"other" is no sample of it in '),
        (dict(list(values.items())[1:]), '4 of 5 samples; "av0" is missing'),
    ):
        Path("s.json").write_text(
            json.dumps({"a": {"em": broken}, "b": {"em": 1}}), encoding="utf-8"
        )
        ran = command("run", "--take", "mini=s.json")
        assert ran.code == 3
        assert ran.err.startswith(f"visatb: s.json: a.em: {message}")
    Path("s.json").write_text(json.dumps({"a": {"em": values}, "b": {"em": 1}}), encoding="utf-8")
    assert command("run", "--take", "mini=s.json").code == 0


def test_what_a_failed_evaluation_wrote_is_not_taken_as_its_result(tmp_path):
    evaluate = """echo '{{"a": {{"em": 1}}, "b": {{"em": 1}}}}' > {scores}; exit 4 # {model}"""
    folder = write_project(tmp_path, evaluate=evaluate)
    assert finish(folder, "--only", "mini", LITTLE_SECONDS="0")[0] == 5
    code, _, err = finish(folder, "--take", "mini")
    assert (code, err) == (
        3,
        "visatb: mini: evaluate: failed here; where what it wrote was made anew since, expected "
        "visatb-output/runs/mini/evaluate.failed to be removed\n",
    )
    (folder / "visatb-output/runs/mini/evaluate.failed").unlink()
    assert finish(folder, "--take", "mini")[1] == "mini: taken in\n"


def test_what_an_evaluation_of_an_earlier_training_wrote_is_not_taken(tmp_path):
    folder = write_project(tmp_path)
    assert finish(folder, "--only", "mini", LITTLE_SECONDS="0")[0] == 0
    run = folder / "visatb-output/runs/mini"
    training = json.loads((run / "train.done").read_bytes())
    for trained in ({**training, "attempt": "another"}, None):
        (run / "train.done").unlink(missing_ok=True)
        if trained is not None:
            (run / "train.done").write_text(json.dumps(trained), encoding="utf-8")
        code, _, err = finish(folder, "--take", "mini")
        assert (code, err) == (
            3,
            "visatb: mini: evaluate: was of an earlier training, or other tasks; "
            "where what it wrote was made anew since, expected "
            "visatb-output/runs/mini/evaluate.done to be removed\n",
        )
    (run / "evaluate.done").unlink()
    assert finish(folder, "--take", "mini")[1] == "mini: taken in\n"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("data/validation/a.json", "mini"),
        ("subsets/validation/a.txt", "mini"),
        ("subsets/validation/a.txt", "mini=s.json"),
    ],
)
def test_nothing_is_taken_that_is_held_against_other_samples_than_the_plans(
    planned, command, name, wanted
):
    Path("s.json").write_text(scores_of(50, 40), encoding="utf-8")
    Path("visatb-output/runs/mini").mkdir(parents=True)
    shutil.copy("s.json", "visatb-output/runs/mini/evaluate.json")
    changed = Path("visatb-output") / name
    before = changed.read_bytes()
    changed.write_bytes(before + b"\n")
    ran = command("run", "--take", wanted)
    assert (ran.code, ran.err) == (
        3,
        f"visatb: visatb-output/{name}: is not what the plan made; `visatb plan` makes it again\n",
    )
    assert markers(planned) == {}
    changed.write_bytes(before)
    assert command("run", "--take", wanted).code == 0


def test_a_run_that_is_at_work_is_not_taken(tmp_path):
    folder = write_project(tmp_path, run="jobs = 1\n")
    process = start(folder, "--only", "mini", LITTLE_SECONDS="1.0")
    wait_for(lambda: journal(folder))
    (folder / "s.json").write_text(scores_of(50, 40), encoding="utf-8")
    code, _, err = finish(folder, "--take", "mini=s.json")
    assert (code, err) == (
        3,
        "visatb: mini: train is at work; its result cannot be taken in\n",
    )
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_taken_runs_are_not_trained_and_the_others_go_on_with_them(tmp_path):
    folder = write_project(tmp_path)
    for name, (a, b) in MEASURED.items():
        (folder / "s.json").write_text(scores_of(a, b), encoding="utf-8")
        assert finish(folder, "--take", f"{name}=s.json")[0] == 0
    code, out, _ = finish(folder, LITTLE_SECONDS="0")
    assert (code, out.splitlines()[-1]) == (0, "7 runs are done")
    assert {line["run"] for line in journal(folder)} == {"STL:a", "STL:b", "EW", "VisATB"}


def test_the_shell_script_of_a_plan_comes_to_what_run_comes_to(tmp_path):
    one = write_project(tmp_path / "one")
    other = write_project(tmp_path / "other")
    environment = {**os.environ, "LITTLE_JOURNAL": str(other / "journal"), "LITTLE_SECONDS": "0"}
    visatb = [sys.executable, "-m", "visatb"]
    script = subprocess.run(
        [*visatb, "plan", "--format", "shell"], cwd=other, capture_output=True, check=True
    ).stdout
    # Its "visatb" is the one under test.
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "visatb").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m visatb "$@"\n', encoding="utf-8"
    )
    (programs / "visatb").chmod(0o755)
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    ran = subprocess.run(
        ["/bin/sh"], input=script, cwd=other, env=environment, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert finish(one, LITTLE_SECONDS="0")[0] == 0
    assert results(other) == results(one)
    runs = (other / "visatb-output/runs").iterdir()
    assert set(markers(other)) == {f"{run.name}/taken.done" for run in runs}


# --- answers --------------------------------------------------------------------------------------

OTHERS = ("av1", "av2", "av3", "av4")
MATCHED = TASKS.replace("em", "exact_match")
EVALUATE = f"{PYTHON} answer {{model}} {{answers}} {{questions}} {{tasks}}"


def test_answers_are_scored_against_the_samples_of_the_split(tmp_path):
    folder = write_project(tmp_path / "p", tasks=MATCHED, evaluate=EVALUATE)
    code, out, err = finish(folder, LITTLE_SECONDS="0")
    assert (code, out.splitlines()[-1]) == (0, "7 runs are done"), err
    for name in RESULTS:
        assert (folder / "visatb-output" / name).exists()
    mini = json.loads((folder / "visatb-output/scores.json").read_bytes())["runs"]["mini"]
    assert mini == {"a": {"exact_match": 20.0}, "b": {"exact_match": 20.0}}
    assert json.loads((folder / "visatb-output/scores.json").read_bytes())["per_sample"]


def test_answers_that_cannot_be_scored_are_not_done(tmp_path):
    line = 'echo \'{{"id": 1, "text": "x"}}\''
    evaluate = (
        f"mkdir {{answers}}; for t in a b; do {line} > {{answers}}/$t.jsonl; done # {{model}}"
    )
    folder = write_project(tmp_path / "p", tasks=MATCHED, evaluate=evaluate)
    code, _, err = finish(folder, "--only", "mini", LITTLE_SECONDS="0")
    assert (code, err) == (
        5,
        "visatb: mini: evaluate: ended well, but visatb-output/runs/mini/answers/a.jsonl: line 1: "
        "id 1 has no reference in visatb-output/data/validation/a.json; the ids of the two files "
        "do not match: the references have 5, first av0\n",
    )
    write_project(tmp_path / "p", tasks=MATCHED, evaluate="true # {model} {answers}")
    code, _, err = finish(folder, "--only", "mini", LITTLE_SECONDS="0")
    assert err == (
        "visatb: mini: evaluate: ended well, but visatb-output/runs/mini/answers/a.jsonl: was not "
        "written\n"
    )


def test_answers_in_a_runs_folder_are_taken_in(tmp_path):
    folder = write_project(tmp_path / "p", tasks=MATCHED, evaluate=EVALUATE)
    assert finish(folder, "--only", "mini", LITTLE_SECONDS="0")[0] == 0
    there = folder / "visatb-output/runs/mini"
    for marker in there.glob("*.done"):
        marker.unlink()
    code, out, err = finish(folder, "--take", "mini")
    assert (code, out) == (0, "mini: taken in\n"), err
    taken = json.loads((there / "taken.done").read_bytes())
    assert taken["scores"]["a"]["exact_match"] == {"av0": 100.0} | dict.fromkeys(OTHERS, 0.0)
    shutil.rmtree(there / "answers")
    assert finish(folder, "--only", "mini")[:2] == (0, "1 run is done\n")


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            '"em"',
            f'answers cannot be scored by "em"; expected {either(METRICS)}, or a command that '
            "names {scores}",
        ),
        (
            '{name = "exact_match", higher_is_better = false}',
            "of exact_match, higher is better",
        ),
    ],
)
def test_metrics_that_answers_cannot_be_scored_by_are_refused_before_anything_is_planned(
    folder, command, metric, message
):
    tasks = f'[tasks.a]\nmetrics = [{metric}]\n[tasks.b]\nmetrics = ["exact_match"]\n'
    refused = (3, f"visatb: visatb.toml: tasks.a.metrics: {message}\n")
    write_project(folder, tasks=tasks, evaluate=EVALUATE)
    for arguments in (["plan"], ["plan", "--format", "shell"], ["run"]):
        ran = command(*arguments)
        assert (ran.code, ran.err) == refused
    assert not Path("visatb-output").exists() or not list(Path("visatb-output").glob("[!l]*"))

    # A command that scores may call its metrics what it likes; then it is another's.
    write_project(folder, tasks=tasks)
    assert command("plan").code == 0
    write_project(folder, tasks=tasks, evaluate=EVALUATE)
    for arguments in (["run"], ["run", "--take", "mini"]):
        ran = command(*arguments)
        assert (ran.code, ran.err) == refused
    assert not Path("visatb-output/runs").exists()


def test_an_id_by_which_answers_cannot_be_matched_is_refused_before_anything_is_planned(
    folder, command
):
    tasks = "".join(f'[tasks.{name}]\nmetrics = ["exact_match"]\n' for name in "ab")
    write_project(folder, tasks=tasks, evaluate=EVALUATE)
    text = Path("visatb.toml").read_text(encoding="utf-8")
    Path("visatb.toml").write_text(text.replace("[data]\n", '[data]\nid = "uid"\n'), "utf-8")
    assert 'id = "uid"' in Path("visatb.toml").read_text(encoding="utf-8")
    refused = command("plan")
    assert (refused.code, refused.err) == (
        3,
        'visatb: visatb.toml: data.id: "uid", by which answers are not matched with samples; '
        f"expected {either(IDS)}, or a command that names {{scores}}\n",
    )


@pytest.mark.parametrize("safe", ["", "1"])
def test_answers_are_scored_by_the_visatb_that_runs_whatever_is_on_the_path(tmp_path, safe):
    (tmp_path / "other/visatb").mkdir(parents=True)
    (tmp_path / "other/visatb/__init__.py").write_text("raise SystemExit(9)", encoding="utf-8")
    review = {"question_id": 1, "tuple": [8, 6], "content": "x", "category": "conv"}
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(review)}\n", encoding="utf-8")
    wanted = {"path": str(tmp_path), "asked": {"a": ["judge"]}, "references": {}}
    ran = subprocess.run(
        [sys.executable, answers.__file__],
        input=json.dumps(wanted),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "other"), "PYTHONSAFEPATH": safe},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout)["scores"] == {"a": {"judge": {"1": 75.0}}}


def test_what_scores_answers_imports_nothing_from_its_own_folder():
    code = (
        f"import runpy, sys\nsys.path.insert(0, {str(Path(answers.__file__).parent)!r})\n"
        f"runpy.run_path({answers.__file__!r})['_load']()\nimport inputs"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "No module named 'inputs'" in ran.stderr


def test_reviews_of_a_judge_need_no_samples(tmp_path):
    review = {"question_id": 1, "tuple": [8, 6], "content": "x", "category": "conv"}
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(review)}\n", encoding="utf-8")
    scores, _ = answers.score_folder(tmp_path, {"a": ["judge"]}, {})
    assert scores == {"a": {"judge": {"1": 75.0}}}


def test_what_a_metric_needs_and_is_not_installed_is_said_before_anything_is_trained(
    folder, command, monkeypatch
):
    for name in [name for name in sys.modules if name.startswith("pycocoevalcap.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    tasks = '[tasks.a]\nmetrics = ["cider"]\n[tasks.b]\nmetrics = ["exact_match"]\n'
    write_project(folder, tasks=tasks, evaluate=EVALUATE)
    assert command("plan").code == 0
    ran = command("run")
    assert (ran.code, ran.err.startswith("visatb: cider needs ")) == (4, True)
    assert not Path("visatb-output/runs").exists()

"""Empty score files: right for their form, refused until they are filled in."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

import visatb
from visatb.template import score_template_csv, score_template_json

TASKS = ["caption", "visual qa", "ocr"]


def score_of(run: str, unit: str, task: str) -> float:
    """Scores that weights can be made from: a run is best at the task it is about."""
    if unit not in {"", task}:
        return 45.0
    return {"base": 30.0, "mini": 30.0, "mini_only": 40.0}.get(run, 70.0)


@pytest.mark.parametrize("form", ["full", "simple", "precise"])
def test_a_filled_template_gives_weights(form):
    template = visatb.score_template(TASKS, form)
    for run, sets in template["runs"].items():
        by_unit = {"": sets} if run in {"base", "mini"} else sets
        for unit, tasks in by_unit.items():
            for task, metrics in tasks.items():
                metrics["score"] = score_of(run, unit, task)
    weights = visatb.compute_weights(template, temperature=1.0)
    assert list(weights.weights) == TASKS
    assert sum(weights.weights.values()) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("form", "first"),
    [
        ("full", "runs.mini.caption.score"),
        ("simple", "runs.base.caption.score"),
        ("precise", "runs.mini.caption.score"),
    ],
)
def test_an_empty_template_is_refused_at_its_first_empty_place(form, first):
    with pytest.raises(visatb.DataError) as error:
        visatb.compute_weights(visatb.score_template(TASKS, form))
    assert str(error.value) == f"scores: {first}: expected a number, not null"


def test_an_empty_sheet_is_refused_at_its_first_empty_cell(folder):
    Path("scores.csv").write_text(score_template_csv(TASKS), encoding="utf-8")
    with pytest.raises(visatb.DataError, match=r"^scores\.csv: row 2, column score: empty$"):
        visatb.compute_weights("scores.csv")


@pytest.mark.parametrize("form", ["full", "simple", "precise"])
def test_a_filled_sheet_gives_weights_and_tells_its_form(folder, form):
    rows = list(csv.DictReader(io.StringIO(score_template_csv(TASKS, form))))
    for row in rows:
        run, _, unit = row["run"].partition(":")
        row["score"] = str(score_of(run, unit, row["task"]))
    with Path("scores.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    weights = visatb.compute_weights("scores.csv", temperature=1.0)
    assert sum(weights.weights.values()) == pytest.approx(3.0)


def test_the_simple_form_scores_everything_but_the_mini_runs():
    runs = visatb.score_template(["a", "b"], "simple")["runs"]
    empty = {"score": None}
    assert runs == {
        "base": {"a": empty, "b": empty},
        "only": {"a": {"a": empty, "b": empty}, "b": {"a": empty, "b": empty}},
        "mini_only": {"a": {"a": empty}, "b": {"b": empty}},
    }


def test_the_note_says_what_every_run_is():
    note = visatb.score_template(TASKS, "full")["note"]
    assert note == (
        "Replace every null by a validation score. mini: trained on the mini subsets of all tasks; "
        "with_mini.X: trained on X's large subset and everyone's mini subset."
    )


def test_the_text_is_the_template():
    assert json.loads(score_template_json(TASKS)) == visatb.score_template(TASKS)


@pytest.mark.parametrize(
    ("tasks", "form", "message"),
    [
        (["a"], "full", "tasks = ['a']; expected two or more names"),
        ("ab", "full", "tasks = 'ab'; expected two or more names"),
        (["a", ""], "full", "task '': a name is neither empty nor has spaces around it"),
        (["a", "b", "a"], "full", 'task "a" is there twice'),
        ([1, 2], "full", "tasks[0] = 1; expected a name"),
        (7, "full", "tasks = 7; expected two or more names"),
        (["a", "\udcff"], "full", "tasks[1] = '\\udcff'; expected a name in UTF-8"),
        (["a", "b\0c"], "full", "tasks[1] = 'b\\x00c'; a name has no NUL in it"),
        (["a", "b"], "half", 'form = \'half\'; expected "full", "simple" or "precise"'),
    ],
)
def test_tasks_and_form_are_checked(tasks, form, message):
    with pytest.raises(visatb.ArgumentError) as error:
        visatb.score_template(tasks, form)
    assert str(error.value) == message


def test_groups_are_trained_as_one_and_fixed_weights_are_not_scored(command, folder):
    mixed = ("--tasks", "qa,ocr,box,chat", "--group", "text=qa,ocr", "--fixed", "chat=1.5")
    sheet = command("template", *mixed, "--csv").out
    rows = list(csv.DictReader(io.StringIO(sheet)))
    assert {row["run"] for row in rows} == {"mini", "with_mini:text", "with_mini:box", ""}
    assert len(rows) == 3 + 2 * 3 + 1
    for row in rows:
        if row["run"]:
            own = {"qa": "with_mini:text", "ocr": "with_mini:text", "box": "with_mini:box"}
            row["score"] = "60" if row["run"] == own[row["task"]] else "40"
    with Path("scores.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    weights = visatb.compute_weights("scores.csv").weights
    assert weights["qa"] == weights["ocr"]
    assert weights["chat"] == 1.5

    document = json.loads(command("template", *mixed).out)
    assert set(document["runs"]["with_mini"]) == {"text", "box"}
    assert document["tasks"][3] == {"name": "chat", "fixed_weight": 1.5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--group", "text"], "text: expected a name and its tasks, as text=ocr,qa"),
        (["--fixed", "a"], "a: expected a task and its weight, as chat=1.0"),
        (["--group", "g=x"], '"x" is not among the tasks a, b, c'),
        (["--group", "g=a", "--fixed", "a=1"], 'task "a" has a fixed weight, so it is in no group'),
        (["--group", "g=a,b,c"], "expected two or more to be weighed"),
    ],
)
def test_groups_that_cannot_be_are_refused(command, arguments, message):
    run = command("template", "--tasks", "a,b,c", *arguments)
    assert run.code == 2
    assert message in run.err

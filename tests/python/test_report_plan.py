"""Which plans the report shows beside weights, and which it refuses."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from projects import planned, write_data
from report_cases import change, make_folder, plan_for, refusal, results_for, save

import visatb
from visatb.csv_scores import convert
from visatb.procedure.plan import Cost, PlanWarning, Run
from visatb.report import write_report
from visatb.report.gather import gather


@pytest.fixture
def three(scores, folder) -> Path:
    """The working folder with weights.json and the scores.json that it was made from."""
    return make_folder(folder, scores)


def test_a_plan_beside_its_weights_is_shown(three, scores):
    save(Path("plan.json"), plan_for(scores))
    assert gather(".").plan.form == "full"
    Path("scores.json").unlink()
    assert gather(".").weights.fixed == {"sharegpt": 1.0}


def test_what_plan_and_weights_both_warn_of_is_said_once(three, scores):
    scores["tasks"][0]["samples"] = 2000
    scores["sampling"] = {"large": 0.25, "mini": 0.03125, "seed": 3, "batch_size": 128}
    make_folder(Path(), scores)
    said = "mini subset of caption: 62 samples, fewer than 1000"
    warnings = tuple(
        PlanWarning("few_mini_samples", "tasks.caption", text) for text in (said, "another")
    )
    save(Path("plan.json"), plan_for(scores, warnings=warnings))
    found = [warning["message"] for warning in gather(".").warnings]
    assert (found.count(said), found.count("another")) == (1, 1)


def test_a_plan_as_visatb_plan_writes_it_is_read(folder):
    write_data(folder)
    plan = planned(folder)
    names = [task["name"] for task in plan.tasks]
    scores = {
        "visatb_scores": 1,
        "form": "full",
        "tasks": [
            {"name": n, "metrics": t["metrics"]} for n, t in zip(names, plan.tasks, strict=True)
        ],
        "runs": {
            "mini": {n: {"score": 50} for n in names},
            "with_mini": {u: {n: {"score": 60 if n == u else 52} for n in names} for u in names},
        },
        "sampling": {"large": 0.5, "mini": 0.125, "seed": 0, "batch_size": 4},
    }
    make_folder(folder, scores)
    plan.save(folder)
    found = gather(".").plan
    assert found.identity == plan.identity
    assert found.sampling == {"large": 0.5, "mini": 0.125, "seed": 0, "batch_size": 4, "epochs": 1}
    assert [run.name for run in found.runs] == [run.name for run in plan.runs]


def test_an_edited_plan_is_refused(three, scores):
    save(Path("plan.json"), plan_for(scores))
    change("sampling/mini", 0.25, "plan.json")
    assert refusal(visatb.DataError) == (
        "plan.json: was changed after it was made; `visatb plan` makes it again"
    )
    change("visatb_plan", 2, "plan.json")
    assert refusal(visatb.DataError) == "plan.json: visatb_plan: 2; expected 1"
    save(Path("plan.json"), {"visatb_plan": 1})
    assert refusal(visatb.DataError) == (
        "plan.json: was changed after it was made; `visatb plan` makes it again"
    )


def of_task(scores, which, **changed):
    """The plan's tasks, one of them changed; a value of ... is taken away."""
    tasks = [
        {**task, **changed} if task["name"] == which else task for task in plan_for(scores)["tasks"]
    ]
    return tuple({k: v for k, v in task.items() if v is not ...} for task in tasks)


OTHER = "so this is another plan"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"form": "precise"}, f"form: precise, and full in the scores, {OTHER}"),
        ({"tasks": ("vqa", {"name": "gqa"})}, f"tasks: not those of the weights, {OTHER}"),
        ({"tasks": ("vqa", {"group": "text"})}, f"tasks: not grouped as in the scores, {OTHER}"),
        ({"tasks": ("vqa", {"fixed_weight": 1})}, f"tasks: not grouped as in the scores, {OTHER}"),
        (
            {"tasks": ("sharegpt", {"fixed_weight": 2.5})},
            'tasks: "sharegpt" has the fixed weight 2.5, and 1 in the weights file, ' + OTHER,
        ),
        (
            {"tasks": ("vqa", {"metrics": [{"name": "anls", "higher_is_better": True}]})},
            f'tasks: "vqa" has other metrics than in the scores, {OTHER}',
        ),
        (
            {"tasks": ("vqa", {"metrics": [{"name": "em", "higher_is_better": False}]})},
            f'tasks: "vqa" has other metrics than in the scores, {OTHER}',
        ),
    ],
)  # fmt: skip
def test_a_plan_of_other_scores_is_refused(three, scores, changes, problem):
    if "tasks" in changes:
        changes = {"tasks": of_task(scores, changes["tasks"][0], **changes["tasks"][1])}
    save(Path("plan.json"), plan_for(scores, **changes))
    assert refusal(visatb.DataError) == f"plan.json: {problem}"


@pytest.mark.parametrize("key", ["large", "mini", "seed", "batch_size"])
def test_a_plan_of_other_sampling_is_refused_where_the_scores_tell(scores, folder, key):
    sampling = {"large": 0.25, "mini": 0.03125, "seed": 3, "batch_size": 128}
    make_folder(folder, {**scores, "sampling": sampling})
    save(Path("plan.json"), plan_for(scores))
    assert gather(".").plan.sampling == {**sampling, "epochs": 1}
    other = sampling[key] * 2
    save(Path("plan.json"), plan_for(scores, sampling={**sampling, "epochs": 1, key: other}))
    assert refusal(visatb.DataError) == (
        f"plan.json: sampling.{key}: {other:g}, and {sampling[key]:g} in the scores, {OTHER}"
    )
    # Scores of several epochs do not say the batch size.
    make_folder(folder, {**scores, "sampling": {k: v for k, v in sampling.items() if k != key}})
    assert gather(".").plan.sampling[key] == other


def test_a_plan_beside_a_sheet_has_the_form_that_its_runs_tell(examples, folder):
    sheet = (examples / "full.csv").read_bytes()
    Path("scores.csv").write_bytes(sheet)
    visatb.compute_weights("scores.csv").save("weights.json")
    scores = convert(sheet, "scores.csv").document
    save(Path("plan.json"), plan_for(scores))
    assert gather(".").plan.form == "full"
    save(Path("plan.json"), plan_for(scores, form="simple"))
    assert refusal(visatb.DataError) == (
        f"plan.json: form: simple, and full in the scores, {OTHER}"
    )


def test_the_form_is_that_of_the_scores_also_where_the_weights_were_made_by_another(worked, folder):
    scores = worked("precise")
    make_folder(folder, scores)
    visatb.compute_weights("scores.json", form="full").save("weights.json")
    save(Path("plan.json"), plan_for(scores, form="precise"))
    assert gather(".").scores.form == "full"


def test_a_plan_that_weighs_a_fixed_task_is_refused_without_scores_too(three, scores):
    tasks = of_task(scores, "sharegpt", fixed_weight=..., metrics=[])
    save(Path("plan.json"), plan_for(scores, tasks=tasks))
    Path("scores.json").unlink()
    assert refusal(visatb.DataError) == (
        'weights.json: contribution: no unit "sharegpt", which the plan or the scores weigh '
        "sharegpt with"
    )


RUN = Run("mini", "measure", "EW", "data/0.json", 1250, 10, "validation", ("vqa",))
COST = Cost(0.3, 0.3, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"form": "half"}, 'form: expected "full", "simple" or "precise"'),
        ({"cost": Cost(**{**asdict(COST), "counted": "x"})}, 'cost.counted: "x"; expected a num'),
        ({"runs": (Run(**{**asdict(RUN), "steps": None}),)}, "runs[0].steps: null; expected a num"),
        ({"inputs": ({"name": "a", "sha256": 5},)}, "inputs[0].sha256: 5; expected text"),
        ({"tasks": ({"metrics": []},)}, "tasks[0].name: missing"),
        ({"sampling": 3}, "sampling: 3; expected an object"),
        ({"seed": 1.5}, "seed: 1.5; expected a whole number of 0 or more"),
    ],
)
def test_a_wrong_plan_is_named_with_its_place(three, scores, changes, problem):
    save(Path("plan.json"), plan_for(scores, **changes))
    assert refusal(visatb.DataError).startswith(f"plan.json: {problem}")


def test_a_refused_plan_leaves_the_page_as_it_was(three, scores):
    page = write_report(".").page
    before = page.read_bytes()
    save(Path("plan.json"), plan_for(scores, form="simple"))
    assert OTHER in refusal(visatb.DataError, output="report.html")
    assert page.read_bytes() == before


# --- of which plan --------------------------------------------------------------------------------


MINE, OTHERS = "ab" * 32, "cd" * 32


def of_plan(folder: Path, scores: dict, plan: str) -> dict:
    """The scores of a plan, with the weights made from them."""
    make_folder(folder, {**scores, "plan": plan})
    return {**results_for(["vqa", "caption"], ["STL", "EW"]), "plan": plan}


def mixed(one: str, other: str, own: str, that: str) -> str:
    return (
        f"{one}: of another plan than {other}: the identity of its own begins with {own[:12]}, of "
        f"that one with {that[:12]}; expected files of one"
    )


def test_files_of_one_plan_are_shown_and_those_that_name_none(folder, scores):
    plan = save(Path("plan.json"), plan_for(scores))
    identity = json.loads(plan.read_bytes())["identity"]
    results = of_plan(folder, scores, identity)
    save(Path("results.json"), results)
    assert gather(".").weights.tasks
    del results["plan"]
    save(Path("results.json"), results)
    change("plan", ...)
    assert gather(".").results is not None


def test_weights_of_another_plan_are_refused(folder, scores):
    identity = json.loads(save(Path("plan.json"), plan_for(scores)).read_bytes())["identity"]
    of_plan(folder, scores, OTHERS)
    assert refusal(visatb.DataError) == mixed("weights.json", "plan.json", OTHERS, identity)
    Path("scores.json").unlink()
    assert refusal(visatb.DataError) == mixed("weights.json", "plan.json", OTHERS, identity)


def test_results_of_another_plan_are_refused_also_where_the_plan_is_not_there(folder, scores):
    results = of_plan(folder, scores, MINE)
    save(Path("results.json"), {**results, "plan": OTHERS})
    assert refusal(visatb.DataError) == mixed("results.json", "weights.json", OTHERS, MINE)
    change("plan", ...)
    assert gather(".").results is not None
    identity = json.loads(save(Path("plan.json"), plan_for(scores)).read_bytes())["identity"]
    assert refusal(visatb.DataError) == mixed("results.json", "plan.json", OTHERS, identity)


def test_a_plan_that_is_no_text_is_refused(folder, scores):
    of_plan(folder, scores, MINE)
    change("plan", 5)
    assert refusal(visatb.DataError) == "weights.json: plan: 5; expected text"

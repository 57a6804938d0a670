"""`visatb run` from a plan to scores, weights and results."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from running_project import (
    EVALUATE,
    HEAD,
    TASKS,
    TRAIN,
    finish,
    journal,
    markers,
    results,
    write_project,
)

import visatb
from visatb.cli import main
from visatb.running import locks

MEASURING = ("mini", "with_mini:a", "with_mini:b")
ALL_KINDS = """\
methods = ["STL", "EW", "VisATB", {name = "difficulty", alphas = [0.0, 0.0, 1.0]}, "TLA"]
"""
SOME_KINDS = 'methods = ["EW", {name = "difficulty", alphas = [0.0, 0.0, 1.0]}]\n'
ALL_TASKS = """\
[tasks.a]
metrics = ["em"]
group = "g"
[tasks.b]
metrics = ["em"]
group = "g"
[tasks.c]
metrics = ["em"]
[tasks.f]
fixed_weight = 2.0
[tasks.z]
metrics = ["em"]
zero_shot = true
[weights]
alphas = [0.3, 0.3, 0.4]
temperature = 1.0
range = [0.1, 9.0]
"""


MADE = """\
weights.json and results.json are in visatb-output
`visatb report visatb-output` draws them
"""


@pytest.fixture(scope="module")
def carried_out(tmp_path_factory) -> Path:
    """A project that is done; not to be changed."""
    folder = write_project(tmp_path_factory.mktemp("running") / "done")
    code, _, err = finish(folder, LITTLE_SECONDS="0")
    assert code == 0, err
    return folder


@pytest.fixture
def done(carried_out, tmp_path) -> Path:
    """A project that is done, to be changed."""
    return Path(shutil.copytree(carried_out, tmp_path / "done"))


def output(folder: Path, name: str) -> dict:
    return json.loads((folder / "visatb-output" / name).read_bytes())


@pytest.mark.parametrize(
    ("form", "kinds", "baseline"),
    [
        ("full", SOME_KINDS, "EW"),
        ("simple", SOME_KINDS, "EW"),
        ("precise", ALL_KINDS, "STL"),
    ],
    ids=["full", "simple", "precise"],
)
def test_every_form_and_kind_of_task_and_method_comes_to_weights_and_results(
    tmp_path, form, kinds, baseline
):
    head = f'visatb_project = 1\nform = "{form}"\n{kinds}'
    run = 'jobs = 3\nbase_model = "base"\n'
    folder = write_project(tmp_path / form, head=head, tasks=ALL_TASKS, names="abcfz", run=run)
    code, out, err = finish(folder, LITTLE_SECONDS="0")
    assert (code, err.count("no weights")) == (0, 0), err
    assert out.splitlines()[-1].endswith(" runs are done")

    there = folder / "visatb-output"
    scores = output(folder, "scores.json")
    assert scores["form"] == form
    assert scores["plan"] == output(folder, "plan.json")["identity"]
    assert [task["name"] for task in scores["tasks"]] == ["a", "b", "c", "f"]
    assert scores["tasks"][0] == {
        "name": "a",
        "metrics": [{"name": "em", "higher_is_better": True}],
        "group": "g",
        "samples": 64,
    }
    assert scores["tasks"][3]["fixed_weight"] == 2.0
    assert scores["alphas"] == {"out": 0.3, "in": 0.3, "difficulty": 0.4}
    assert (scores["temperature"], scores["range"]) == (1.0, [0.1, 9.0])
    assert scores["sampling"] == {"large": 0.25, "mini": 0.03125, "seed": 0, "batch_size": 128}

    weights = visatb.compute_weights(there / "scores.json")
    assert weights.to_json() == (there / "weights.json").read_text(encoding="utf-8")
    variant = visatb.compute_weights(there / "scores.json", alphas=[0, 0, 1])
    assert variant.to_json() == (there / "weights/difficulty.json").read_text(encoding="utf-8")
    evaluation = visatb.evaluate(there / "results.json")
    every = ["STL", "EW", "VisATB", "difficulty", "TLA"]
    assert evaluation["baseline"] == baseline
    assert list(evaluation["methods"]) == (every if kinds is ALL_KINDS else ["EW", "difficulty"])
    assert list(evaluation["methods"]["difficulty"]["tasks"]) == ["a", "b", "c", "z"]
    assert "dI_zero" in evaluation["methods"]["difficulty"]


def test_a_run_trains_with_the_weights_of_its_method_on_its_own_data(carried_out):
    there = carried_out / "visatb-output"
    for run, weights in (("mini", "data/weights/equal.json"), ("VisATB", "weights.json")):
        marker = json.loads((there / f"runs/{run}/train.done").read_bytes())
        assert marker["weights"] == hashlib.sha256((there / weights).read_bytes()).hexdigest()
        copy = there / f"runs/{run}/weights.json"
        assert copy.read_bytes() == (there / weights).read_bytes()
        assert str(copy) in marker["command"]
    model = output(carried_out, "runs/with_mini.a/model/model.json")
    assert model["counts"] == {"a": 16, "b": 2}


def test_a_score_is_the_mean_over_its_samples_which_are_kept(carried_out):
    scores = output(carried_out, "scores.json")
    assert scores["per_sample"] == "per_sample.jsonl"
    text = (carried_out / "visatb-output/per_sample.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["run"], line["task"]) for line in lines] == [
        (run, task) for task in "ab" for run in ("mini", "with_mini:a", "with_mini:b")
    ]
    for line in lines:
        kind, _, unit = line["run"].partition(":")
        of_run = scores["runs"][kind][unit] if unit else scores["runs"][kind]
        values = line["values"].values()
        assert of_run[line["task"]][line["metric"]] == pytest.approx(sum(values) / 5, rel=1e-12)
        assert list(line["values"]) == [f"{line['task']}v{number}" for number in range(5)]


def test_measuring_goes_first_and_a_model_is_scored_before_more_is_trained(tmp_path):
    folder = write_project(tmp_path / "p", run="jobs = 1\n")
    assert finish(folder, LITTLE_SECONDS="0")[0] == 0
    begun = [(line["run"], line["stage"]) for line in journal(folder) if line["what"] == "begin"]
    runs = ["mini", "with_mini:a", "with_mini:b", "STL:a", "STL:b", "EW", "VisATB"]
    assert begun == [(run, stage) for run in runs for stage in ("train", "evaluate")]


def test_a_second_start_does_nothing_and_changes_nothing(done):
    before, noted, marked = results(done), len(journal(done)), markers(done)
    code, out, _ = finish(done)
    assert (code, out) == (0, f"{MADE}7 runs are done\n")
    assert (results(done), len(journal(done)), markers(done)) == (before, noted, marked)


def test_only_some_runs_are_done_and_weights_are_waited_for(tmp_path):
    folder = write_project(tmp_path / "p")
    code, out, _ = finish(folder, "--only", "EW", "VisATB")
    assert code == 3
    assert out.splitlines()[-1] == "1 run is done; waiting for weights: VisATB"
    assert "draws" not in out
    assert set(markers(folder)) == {"EW/train.done", "EW/evaluate.done"}
    code, out, _ = finish(folder, "--only", "mini", "--only", *MEASURING[1:])
    assert (code, out.splitlines()[-3:]) == (
        0,
        [
            "weights.json is in visatb-output",
            "`visatb report visatb-output` draws it",
            "3 runs are done",
        ],
    )
    assert (folder / "visatb-output/weights.json").exists()


def test_the_end_names_the_output_as_it_is_nearest_and_as_a_shell_takes_it(carried_out, tmp_path):
    shutil.copytree(carried_out, tmp_path / "a project")
    (tmp_path / "elsewhere").mkdir()
    _, out, _ = finish(tmp_path / "elsewhere", "../a project/visatb.toml")
    assert out.splitlines()[:2] == [
        "weights.json and results.json are in ../a project/visatb-output",
        "`visatb report '../a project/visatb-output'` draws them",
    ]


def test_collecting_names_what_was_made_too(done):
    assert finish(done, "--collect") == (0, MADE, "")


def test_what_was_made_is_not_named_where_something_is_wrong_or_no_longer_measured(done):
    path = done / "visatb-output/runs/VisATB/train.done"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"weights": "other"}))
    code, out, _ = finish(done)
    assert (code, out) == (3, "6 runs are done\n")
    assert finish(done, "--collect")[:2] == (3, "")
    shutil.rmtree(done / "visatb-output/runs/mini")
    code, out, _ = finish(done, "--only", "EW")
    assert (code, out) == (0, "1 run is done\n")


def test_weights_and_results_name_their_plan(carried_out, tmp_path):
    there = carried_out / "visatb-output"
    identity = output(carried_out, "plan.json")["identity"]
    for name in ("scores.json", "weights.json", "results.json"):
        assert output(carried_out, name)["plan"] == identity
    visatb.compute_weights(there / "scores.json").save(tmp_path / "weights.json")
    assert (tmp_path / "weights.json").read_bytes() == (there / "weights.json").read_bytes()
    visatb.load_weights(there / "weights.json", ["b", "a"])


def test_gpus_are_given_out_two_by_two_and_ports_differ(tmp_path):
    train = f"echo {{gpus}} {{gpu_count}}; LITTLE_PORT={{port}} {TRAIN}"
    run = "gpus = [0, 1, 2, 3]\ngpus_per_run = 2\n"
    folder = write_project(tmp_path / "p", train=train, run=run)
    assert finish(folder, "--only", *MEASURING, LITTLE_SECONDS="0.3")[0] == 0
    noted = journal(folder)
    assert {line["what"] for line in noted} == {"begin", "end"}
    begun = [line for line in noted if line["what"] == "begin"]
    assert {line["gpus"] for line in begun} == {"0,1", "2,3"}
    # Both begin before one of them ends.
    first, second = noted[:2]
    assert {first["run"], second["run"]} == {"mini", "with_mini:a"}
    assert first["gpus"] != second["gpus"]
    assert first["port"] != second["port"]
    log = (folder / "visatb-output/runs/mini/train.log").read_text(encoding="utf-8")
    (of_mini,) = (one["gpus"] for one in (first, second) if one["run"] == "mini")
    assert f"{of_mini} 2\n" in log


def test_steps_of_several_epochs_are_not_given_to_the_library_as_those_of_one(tmp_path):
    head = f"{HEAD}[sampling]\nepochs = 2\n"
    folder = write_project(tmp_path / "p", head=head)
    assert finish(folder, "--only", *MEASURING, LITTLE_SECONDS="0")[0] == 0
    assert output(folder, "scores.json")["sampling"] == {"large": 0.25, "mini": 0.03125, "seed": 0}


def test_without_zero_shot_baseline_zero_shot_tasks_are_not_compared(tmp_path):
    head = 'visatb_project = 1\nmethods = ["STL", "VisATB"]\n'
    tasks = TASKS + '[tasks.z]\nmetrics = ["em"]\nzero_shot = true\n'
    folder = write_project(tmp_path / "p", head=head, tasks=tasks, names="abz")
    assert finish(folder, LITTLE_SECONDS="0")[0] == 0
    found = output(folder, "results.json")
    assert [task["name"] for task in found["tasks"]] == ["a", "b"]
    assert "zero_shot_baseline" not in found
    visatb.evaluate(folder / "visatb-output/results.json")


def test_an_evaluation_by_task_is_a_stage_of_its_own_with_its_own_files(tmp_path):
    evaluate = EVALUATE.replace("{tasks} {run} evaluate", "{task} {run} evaluate.{task}")
    folder = write_project(tmp_path / "p", evaluate=evaluate)
    assert finish(folder, "--only", "mini", LITTLE_SECONDS="0")[0] == 0
    names = {name.partition("/")[2] for name in markers(folder)}
    assert names == {"train.done", "evaluate.a.done", "evaluate.b.done"}
    assert (folder / "visatb-output/runs/mini/evaluate.a.log").exists()


def test_scores_without_samples_make_no_file_of_samples(tmp_path):
    evaluate = (
        "n=$(grep -o '\"a\"' {model}/model.json | wc -l); "
        'printf \'{{"a": {{"em": %s}}, "b": {{"em": %s}}}}\' 1$(cksum < {model}/model.json '
        "| cut -c1-2) 2$n > {scores}"
    )
    folder = write_project(tmp_path / "p", evaluate=evaluate)
    finish(folder, "--only", *MEASURING)
    assert "per_sample" not in output(folder, "scores.json")
    assert not (folder / "visatb-output/per_sample.jsonl").exists()


def test_a_partial_training_is_kept_for_its_command_only_if_it_began_with_the_same(tmp_path):
    train = "mkdir -p {output}; date +%N > {output}/$$; exit 1 # {data} {weights}"
    folder = write_project(tmp_path / "p", train=train, run="keep_partial = true\n")
    model = folder / "visatb-output/runs/mini/model"
    for count in (1, 2):
        assert finish(folder, "--only", "mini")[0] == 5
        assert len(list(model.iterdir())) == count
    (folder / "visatb-output/runs/mini/train.begun").write_text("other", encoding="utf-8")
    finish(folder, "--only", "mini")
    assert len(list(model.iterdir())) == 1


def test_a_removed_training_is_done_again_with_its_evaluation(done):
    before, noted = results(done), len(journal(done))
    (done / "visatb-output/runs/EW/train.done").unlink()
    assert finish(done)[0] == 0
    assert results(done) == before
    again = [(line["run"], line.get("stage")) for line in journal(done)[noted:]]
    assert again == [("EW", "train")] * 2 + [("EW", "evaluate")] * 2


def test_weights_that_were_made_from_these_scores_stay_as_they_are(done):
    there = done / "visatb-output"
    path = there / "weights.json"
    text = path.read_text(encoding="utf-8")
    # The last digit, as another machine may have it.
    weight = json.loads(text)["weights"]["a"]
    other = text.replace(f"{weight}", f"{weight + 1e-15}", 1)
    assert other != text
    path.write_text(other, encoding="utf-8")
    (there / "runs/VisATB/train.done").unlink()
    assert finish(done, LITTLE_SECONDS="0")[0] == 0
    assert path.read_text(encoding="utf-8") == other
    # What is of other scores is made anew, and then what was trained with it is told.
    path.write_text(other.replace('"scores_sha256": "', '"scores_sha256": "0'), encoding="utf-8")
    code, _, err = finish(done, LITTLE_SECONDS="0")
    assert path.read_text(encoding="utf-8") == text
    assert (code, "VisATB: was trained with other weights" in err) == (3, True)


def test_a_copy_of_a_project_keeps_its_weights_whatever_the_times_of_its_files(done):
    path = done / "visatb-output/weights.json"
    text = path.read_text(encoding="utf-8")
    weight = json.loads(text)["weights"]["a"]
    other = text.replace(f"{weight}", f"{weight + 1e-15}", 1)
    path.write_text(other, encoding="utf-8")
    os.utime(path, (1.0, 1.0))
    shutil.rmtree(done / "visatb-output/runs/VisATB")
    assert finish(done, "--collect")[0] == 0
    assert path.read_text(encoding="utf-8") == other


def test_weights_whose_intervals_are_of_other_samples_are_made_anew(done):
    path = done / "visatb-output/weights.json"
    before = path.read_bytes()
    weights = json.loads(before)
    weights["per_sample_sha256"] = "0" * 64
    weights["intervals"]["refused"] = 7
    path.write_text(json.dumps(weights), encoding="utf-8")
    assert finish(done, "--collect")[0] == 0
    assert path.read_bytes() == before


def test_weights_are_made_of_a_result_that_another_added_last(done, monkeypatch):
    there = done / "visatb-output"
    shutil.rmtree(there / "runs/VisATB")
    last = there / "runs/with_mini.b/evaluate.done"
    content = last.read_bytes()
    last.unlink()
    inner = locks.take

    def take_late(path: Path) -> locks.Lock | None:
        if path == there / "locks/with_mini.b/evaluate.lock":
            last.write_bytes(content)
        return inner(path)

    monkeypatch.setattr(locks, "take", take_late)
    monkeypatch.setenv("LITTLE_JOURNAL", str(done / "journal"))
    assert main(["run", str(done / "visatb.toml")]) == 0
    assert (there / "runs/VisATB/evaluate.done").exists()


def test_what_killed_writers_left_is_removed(done):
    there = done / "visatb-output"
    parts = ["scores.json", "weights.json", "results.json", "runs/EW/evaluate.done"]
    parts += ["runs/EW/evaluate.failed", "runs/EW/evaluate.begun"]
    for name in parts:
        (there / f"{name}.12345-0.part").write_text("half", encoding="utf-8")
    (there / "runs/EW/evaluate.done").unlink()
    (there / "weights.json").unlink()
    assert finish(done, LITTLE_SECONDS="0")[0] == 0
    assert not list(there.rglob("*.part"))


def test_results_are_not_there_without_the_runs_they_were_of(done):
    shutil.rmtree(done / "visatb-output/runs/STL.a")
    assert finish(done, "--collect")[0] == 0
    assert not (done / "visatb-output/results.json").exists()


def test_a_dry_run_says_what_is_done_and_starts_nothing(tmp_path):
    folder = write_project(tmp_path / "p")
    assert finish(folder, "--only", "mini")[0] == 0
    noted = len(journal(folder))
    code, out, _ = finish(folder, "--dry-run")
    assert code == 0
    rows = [line.split(maxsplit=1) for line in out.splitlines()]
    assert rows[1:4] == [
        ["mini", "done"],
        ["with_mini:a", "train to be done, evaluate to be done"],
        ["with_mini:b", "train to be done, evaluate to be done"],
    ]
    assert rows[-1][1] == "train to be done, evaluate to be done, waits for the weights"
    assert len(journal(folder)) == noted

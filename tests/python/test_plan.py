"""What a plan promises: which samples go where, which runs there are, what they cost."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
from projects import PLAIN, SAMPLING, SIZES, TASKS, ids, planned, read, samples, write_data

import visatb
from visatb.procedure import load_plan

SPLITS = "splits = { validation = 0.1, test = 20 }\n"


@pytest.fixture
def data(tmp_path):
    """A folder with data.json: vqa 200, caption 150, ocr 100 samples."""
    write_data(tmp_path)
    return tmp_path


def of(plan, name):
    return plan.run(name)


# --- splits and subsets ---------------------------------------------------------------------------


def test_mini_lies_in_large_which_lies_in_all_at_one_rate_for_every_task(data):
    planned(data)
    for task, size in SIZES.items():
        every, large, mini = (ids(data, task, subset) for subset in ("all", "large", "mini"))
        assert mini < large < every
        assert (len(every), len(large), len(mini)) == (size, size // 2, size // 8)


def test_data_without_splits_is_dealt_into_three_without_a_sample_in_two(data):
    planned(data, SPLITS + PLAIN)
    for task, size in SIZES.items():
        train = ids(data, task, "all")
        validation, test = (ids(data, task, "", split) for split in ("validation", "test"))
        assert (len(validation), len(test)) == (size // 10, 20)
        assert len(train | validation | test) == size == len(train) + len(validation) + len(test)
        asked = read(data, f"data/validation/{task}.json")
        assert {str(sample["id"]) for sample in asked} == validation


def test_the_same_seed_gives_the_same_bytes_whatever_the_order_of_the_file(data):
    first = planned(data, SPLITS + PLAIN)
    shuffled = samples()[::-1]
    (data / "again").mkdir()
    write_data(data / "again", shuffled)
    again = planned(data / "again", SPLITS + PLAIN)
    assert [subset.sha256 for subset in first.subsets] == [s.sha256 for s in again.subsets]


def test_another_seed_draws_other_samples(data):
    planned(data)
    first = ids(data, "vqa", "mini")
    planned(data, "seed = 1\n" + PLAIN)
    assert ids(data, "vqa", "mini") != first


def test_the_draw_of_one_task_does_not_depend_on_the_others(data):
    planned(data)
    first = ids(data, "vqa", "mini")
    write_data(data, samples({**SIZES, "ocr": 500}))
    planned(data)
    assert ids(data, "vqa", "mini") == first
    # And two tasks with the same ids are dealt differently.
    assert not ids(data, "caption", "mini") <= first


def test_what_shares_a_picture_stays_in_one_split(data):
    text = PLAIN.replace('train = "data.json"', 'train = "data.json", together = "image"')
    planned(data, SPLITS + text)
    pictures = {
        split: {
            sample["image"] for task in SIZES for sample in read(data, f"data/{split}/{task}.json")
        }
        for split in ("validation", "test")
    }
    pictures["train"] = {sample["image"] for sample in read(data, "data/train/all.json")}
    assert not pictures["validation"] & pictures["test"]
    assert not pictures["train"] & (pictures["validation"] | pictures["test"])
    # A share, and a number, of all pictures.
    assert (len(pictures["validation"]), len(pictures["test"])) == (10, 20)


def test_lists_and_files_have_the_hashes_that_the_plan_says(data):
    plan = planned(data, SPLITS + PLAIN)
    output = data / "visatb-output"
    assert len(plan.subsets) == 15
    for one in (*plan.subsets, *plan.materials):
        content = (output / one.file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one.sha256
    assert plan.inputs == (
        {
            "name": "data.json",
            "sha256": hashlib.sha256((data / "data.json").read_bytes()).hexdigest(),
        },
    )


def test_a_run_is_given_the_samples_of_its_subsets_as_they_were(data):
    planned(data)
    by_key = {(sample["task"], sample["id"]): sample for sample in samples()}
    found = read(data, "data/train/with_mini.vqa.json")
    assert all(sample == by_key[sample["task"], sample["id"]] for sample in found)
    for task in SIZES:
        mine = {str(sample["id"]) for sample in found if sample["task"] == task}
        assert mine == ids(data, task, "large" if task == "vqa" else "mini")


# --- runs -----------------------------------------------------------------------------------------

FULL = ["mini", "with_mini:vqa", "with_mini:caption", "with_mini:ocr"]
ALONE = [f"{kind}:{task}" for task in ("vqa", "caption", "ocr") for kind in ("only", "mini_only")]


@pytest.mark.parametrize(
    ("form", "runs"), [("full", FULL), ("simple", ["base", *ALONE]), ("precise", FULL + ALONE)]
)
def test_a_form_has_the_runs_that_its_scores_need(data, form, runs):
    plan = planned(data, f'form = "{form}"\n' + PLAIN)
    assert [run.name for run in plan.runs] == [*runs, "EW", "VisATB"]
    template = visatb.score_template(list(SIZES), form)["runs"]
    wanted = {
        name if not isinstance(next(iter(scores.values())).get("score", 0), int) else f"{name}:{u}"
        for name, scores in template.items()
        for u in scores
    }
    assert {run.name for run in plan.runs if run.purpose == "measure"} == wanted
    for run in plan.runs[:-2]:
        kind, _, unit = run.name.partition(":")
        asked = template[kind][unit] if unit else template[kind]
        assert set(run.scores) == set(asked)


def test_runs_take_their_subsets_and_count_their_steps(data):
    plan = planned(data, 'form = "precise"\nmethods = ["STL", "EW"]\n' + PLAIN)
    # 25 + 18 + 12 mini, 100 + 75 + 50 large, batches of 4.
    lengths = {run.name: (run.samples, run.steps) for run in plan.runs}
    assert lengths == {
        "mini": (55, 14),
        "with_mini:vqa": (130, 33),
        "with_mini:caption": (112, 28),
        "with_mini:ocr": (93, 24),
        "only:vqa": (100, 25),
        "mini_only:vqa": (25, 7),
        "only:caption": (75, 19),
        "mini_only:caption": (18, 5),
        "only:ocr": (50, 13),
        "mini_only:ocr": (12, 3),
        "STL:vqa": (200, 50),
        "STL:caption": (150, 38),
        "STL:ocr": (100, 25),
        "EW": (450, 113),
    }


def test_epochs_multiply_the_steps(data):
    plan = planned(data, PLAIN.replace("batch_size = 4", "batch_size = 4\nepochs = 3"))
    assert of(plan, "mini").steps == 3 * 14


def test_a_group_is_one_unit_and_stl_trains_each_of_its_tasks(data):
    text = PLAIN.replace("[tasks.caption]", '[tasks.caption]\ngroup = "text"')
    text = text.replace("[tasks.ocr]", '[tasks.ocr]\ngroup = "text"')
    plan = planned(data, 'methods = ["STL"]\n' + text)
    assert [run.name for run in plan.runs] == [
        "mini",
        "with_mini:vqa",
        "with_mini:text",
        "STL:vqa",
        "STL:caption",
        "STL:ocr",
    ]
    assert of(plan, "with_mini:text").samples == 25 + 75 + 50


def test_a_fixed_task_joins_every_measuring_run_with_its_mini_subset_and_is_not_scored(data):
    text = PLAIN.replace('[tasks.ocr]\nmetrics = ["score"]', "[tasks.ocr]\nfixed_weight = 1.5")
    plan = planned(data, SPLITS + 'form = "precise"\nmethods = ["STL", "EW"]\n' + text)
    assert len(ids(data, "ocr", "all")) == 100  # none of it is kept for scores
    sizes = {run.name: run.samples for run in plan.runs}
    assert sizes["mini"] == 20 + 14 + 12
    assert sizes["only:vqa"] == 80 + 12
    assert sizes["mini_only:vqa"] == 20 + 12
    assert sizes["STL:vqa"] == 160
    assert sizes["EW"] == 160 + 115 + 100
    assert not any("ocr" in run.scores or "ocr" in run.name for run in plan.runs)
    weights = data / "visatb-output/data/weights/equal.json"
    assert visatb.load_weights(weights, ["ocr", "vqa"]).tolist() == [1.5, 1.0]


def test_a_zero_shot_task_is_asked_in_the_end_only(data):
    plan = planned(data, PLAIN + '[tasks.mme]\nzero_shot = true\nmetrics = ["score"]\n')
    assert [run.name for run in plan.runs if "mme" in run.scores] == ["EW", "VisATB"]


# --- cost and advice ------------------------------------------------------------------------------

ACADEMIC = {
    "vqav2": 98,
    "okvqa": 41,
    "ocrvqa": 83,
    "gqa": 72,
    "chartqa": 18,
    "refcoco": 80,
    "caption": 41,
}


def sized(sizes, form="full", extra=""):
    tasks = "\n".join(f"[tasks.{name}]\nsamples = {size}" for name, size in sizes.items())
    return f'visatb_project = 1\nform = "{form}"\n{extra}\n{tasks}\n'


def test_the_academic_benchmark_has_116_steps_in_its_mini_run_and_a_small_chartqa(tmp_path):
    text = sized({name: 1000 * size for name, size in ACADEMIC.items()})
    plan = planned(tmp_path, text + "[tasks.sharegpt]\nsamples = 41000\nfixed_weight = 1.0\n")
    assert of(plan, "mini").steps == 116
    assert [warning.message for warning in plan.warnings] == [
        "mini subset of chartqa: 562 samples, fewer than 1000",
        "large subset of chartqa: 4500 samples, fewer than 10000",
    ]
    assert not (tmp_path / "visatb-output").exists()


@pytest.mark.parametrize(
    ("form", "cost"), [("full", 0.40625), ("simple", 0.28125), ("precise", 0.6875)]
)
def test_the_cost_by_formula_is_the_counted_one_where_nothing_is_rounded(tmp_path, form, cost):
    plan = planned(tmp_path, sized({f"task{n}": 32000 * n for n in range(1, 6)}, form))
    assert plan.cost.formula == plan.cost.counted == cost


def test_measured_cost_counts_what_was_rounded_and_what_is_fixed(data):
    text = PLAIN.replace('[tasks.ocr]\nmetrics = ["score"]', "[tasks.ocr]\nfixed_weight = 1")
    cost = planned(data, text).cost
    assert cost.measuring_samples == (25 + 18 + 12) + (100 + 18 + 12) + (25 + 75 + 12)
    assert cost.counted == cost.measuring_samples / 450
    assert cost.formula == 0.5 + 2 / 8


@pytest.mark.parametrize(
    ("batch_size", "warned"), [(100, ["mini (100; the paper advises more than 100)"]), (99, [])]
)
def test_a_run_of_100_steps_or_fewer_is_warned_of(tmp_path, batch_size, warned):
    text = sized({"a": 5000, "b": 5000}, extra='sampling = {large="9/10", mini=1.0}')
    text = text.replace(
        'large="9/10", mini=1.0', f'large=1.0, mini="99/100", batch_size={batch_size}'
    )
    plan = planned(tmp_path, text.replace("5000", "50000").replace("99/100", "1/10"))
    few = [w.message for w in plan.warnings if w.code == "few_steps"]
    assert few == [f"few steps: {one}" for one in warned]


def test_the_plan_warns_as_the_weights_will(data):
    plan = planned(data)
    runs = visatb.score_template(list(SIZES))["runs"]
    number = iter(range(1, 100))

    def filled(value):
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        return 50.0 + next(number)

    document = {
        "visatb_scores": 1,
        "form": "full",
        "tasks": [{k: v for k, v in t.items() if k != "validation"} for t in plan.tasks],
        "runs": filled(runs),
        "sampling": {k: v for k, v in plan.sampling.items() if k != "epochs"},
    }
    weights = visatb.compute_weights(document, allow_negative_denominator=True)
    mine = [w.message for w in plan.warnings]
    theirs = [w.message for w in weights.warnings if w.code.startswith("few_")]
    assert sorted(mine) == sorted(theirs)
    assert len(mine) == 3 + 3 + 4


# --- plan.json ------------------------------------------------------------------------------------


def test_a_plan_is_read_as_it_was_written(data):
    plan = planned(data, SPLITS + PLAIN)
    assert load_plan(data / "visatb-output") == plan


def test_a_plan_that_was_edited_is_refused(data):
    planned(data)
    path = data / "visatb-output/plan.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["sampling"]["mini"] = 0.25
    path.write_text(json.dumps(content), encoding="utf-8")
    message = f"{path}: was changed after it was made; `visatb plan` makes it again"
    with pytest.raises(visatb.DataError, match=re.escape(message)):
        load_plan(data / "visatb-output")


def test_what_scores_depend_on_makes_another_plan(data):
    first = planned(data)
    found = {first.identity}
    # Other content under the same ids.
    rows = samples()
    rows[0]["conversations"][1]["value"] = "other"
    write_data(data, rows)
    plan = planned(data)
    assert [one.sha256 for one in plan.subsets] == [one.sha256 for one in first.subsets]
    found.add(plan.identity)
    write_data(data)
    lower = '[{name = "score", higher_is_better = false}]'
    for text in (
        PLAIN.replace('["score"]', lower, 1),
        PLAIN + '[run]\nbase_model = "llava-7b"\n',
        PLAIN + '[run]\nbase_model = "llava-13b"\n',
        'form = "precise"\n' + PLAIN,
        "seed = 1\n" + PLAIN,
        PLAIN.replace("batch_size = 4", "batch_size = 8"),
    ):
        found.add(planned(data, text).identity)
    assert len(found) == 8
    assert planned(data).identity == first.identity


def test_what_files_are_called_and_what_trains_makes_no_other_plan(data):
    first = planned(data)
    (data / "renamed.json").write_bytes((data / "data.json").read_bytes())
    for name in ("./data.json", "renamed.json"):
        assert planned(data, PLAIN.replace("data.json", name)).identity == first.identity
    run = "train = 'a {data} {output} {weights}'\nevaluate = 'b {model} {scores}'\n"
    assert planned(data, f"{PLAIN}[run]\n{run}").identity == first.identity


def test_a_file_of_samples_is_on_the_disk_before_the_plan_is(data, monkeypatch):
    kept = []
    inner = os.fsync

    def keep(descriptor):
        kept.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        inner(descriptor)

    monkeypatch.setattr(os, "fsync", keep)
    plan = planned(data)
    assert {Path(one.file).name for one in plan.materials} <= set(kept[:-1])
    assert kept.index("mini.json") < max(n for n, name in enumerate(kept) if "plan" in name)


def test_methods_may_be_added_without_making_another_plan_of_it(data):
    first = planned(data)
    (data / "visatb-output/runs/mini").mkdir(parents=True)
    again = planned(data, 'methods = ["STL", "EW", "VisATB"]\n' + PLAIN)
    assert again.identity == first.identity
    assert (data / "visatb-output/data/train/STL.vqa.json").exists()


def test_another_plan_does_not_take_the_place_of_one_whose_runs_have_begun(data):
    planned(data)
    (data / "visatb-output/runs/mini").mkdir(parents=True)
    before = (data / "visatb-output/plan.json").read_bytes()
    message = (
        f"{data}/visatb-output/runs: holds runs of another plan (other data, tasks, sampling, seed "
        f"or form); name another output in {data}/visatb.toml to keep them, or remove that folder"
    )
    with pytest.raises(visatb.DataError, match=re.escape(message)):
        planned(data, "seed = 1\n" + PLAIN)
    assert (data / "visatb-output/plan.json").read_bytes() == before
    assert sorted(path.name for path in (data / "visatb-output").iterdir()) == [
        "data",
        "plan.json",
        "runs",
        "subsets",
    ]


def test_another_plan_replaces_one_that_was_not_begun(data):
    planned(data, 'methods = ["STL"]\n' + PLAIN)
    planned(data, "seed = 1\n" + PLAIN)
    assert not (data / "visatb-output/data/train/STL.vqa.json").exists()
    assert load_plan(data / "visatb-output").seed == 1


def test_a_folder_that_no_plan_made_is_not_touched(data):
    mine = data / "visatb-output/data"
    mine.mkdir(parents=True)
    (mine / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(visatb.DataError, match=f"{mine}: is there already, and no plan made it"):
        planned(data)
    assert [path.name for path in (data / "visatb-output").iterdir()] == ["data"]
    assert (mine / "thesis.tex").read_text(encoding="utf-8") == "mine"


def test_what_was_cut_off_while_a_plan_moved_in_is_made_again(data):
    plan = planned(data)
    (data / "visatb-output/data/train/mini.json").unlink()
    assert planned(data) == plan
    assert len(read(data, "data/train/mini.json")) == 55


def test_a_disk_that_is_full_leaves_the_earlier_plan(data, monkeypatch):
    from visatb.procedure import records

    planned(data)
    before = {p: p.read_bytes() for p in (data / "visatb-output").rglob("*.json")}

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(visatb.FileError, match=r"cannot be written: No space left on device$"):
        planned(data, "seed = 1\n" + PLAIN)
    assert {p: p.read_bytes() for p in (data / "visatb-output").rglob("*.json")} == before
    assert not list((data / "visatb-output").glob("*.part"))


def test_names_that_no_file_could_have_get_files_of_their_own(data):
    names = ["a/b", "A/B", "..", "a b", "Österreich" * 30, "a%2Fb"]
    rows = [{"id": n, "task": task} for task in names for n in range(16)]
    write_data(data, rows)
    tasks = "".join(f'[tasks."{name}"]\nmetrics = ["score"]\n' for name in names)
    plan = planned(data, PLAIN.replace(TASKS, tasks))
    files = [subset.file for subset in plan.subsets]
    assert len({file.lower() for file in files}) == len(files) - 3  # a/b and A/B differ by case
    assert all((data / "visatb-output" / file).is_file() for file in files)
    assert {len(run.folder.encode()) < 250 for run in plan.runs} == {True}


def test_sampling_says_what_it_was_made_with(data):
    assert SAMPLING in PLAIN
    assert planned(data).sampling == {
        "large": 0.5,
        "mini": 0.125,
        "seed": 0,
        "batch_size": 4,
        "epochs": 1,
    }

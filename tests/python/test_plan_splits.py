"""Splits that the data has, and those that are dealt: no sample is in two, and none is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from projects import PLAIN, SIZES, ids, planned, read, samples, write_data

import visatb
from visatb.procedure import load_project, reading
from visatb.procedure.materials import Writer
from visatb.procedure.reading import Portion, read_portions

TOGETHER = PLAIN.replace('"data.json"', '"data.json", together = "image"')
WITH_FILES = PLAIN.replace('"data.json"', '"data.json", validation = "val.json"')


def write(name, rows):
    Path(name).write_text(json.dumps(rows), encoding="utf-8")


def of(tasks, count, first=1000):
    """Samples with ids and pictures of their own."""
    return [
        {"id": first + n, "task": task, "image": f"{first + n}.jpg"}
        for task in tasks
        for n in range(count)
    ]


def refusal_of(folder, text):
    with pytest.raises(visatb.DataError) as refusal:
        planned(folder, text)
    assert not Path("visatb-output").exists()
    return str(refusal.value).removeprefix(f"{folder}/visatb.toml: ")


@pytest.fixture
def data(folder):
    """A working folder with data.json and val.json, which has 10 more samples of each task."""
    write_data(folder)
    write("val.json", of(SIZES, 10))
    return folder


# --- splits of the data's own ---------------------------------------------------------------------


def test_a_field_and_files_that_both_say_the_split_are_refused(data):
    write("val.json", [row | {"part": "val"} for row in of(SIZES, 10)])
    write_data(data, [row | {"part": "val" if row["id"] < 5 else "train"} for row in samples()])
    text = WITH_FILES.replace('"val.json"', '"val.json", split = "part"')
    message = (
        "data.split: the data has splits of its own, train and validation; expected one or the "
        "other"
    )
    assert refusal_of(data, text) == message
    tasks = text.replace(', validation = "val.json"', "")
    tasks = tasks.replace("[tasks.ocr]", '[tasks.ocr]\nvalidation = "val.json"')
    write("val.json", [row | {"part": "val"} for row in of(["ocr"], 10)])
    assert refusal_of(data, tasks) == message


def test_a_portion_is_of_one_table_whatever_says_the_splits(data, monkeypatch):
    # Without the refusal above, the earlier portion would be lost.
    monkeypatch.setattr(reading, "_check_splits", lambda *_: None)
    write("val.json", [row | {"part": "train"} for row in of(SIZES, 10)])
    write_data(data, [row | {"part": "train"} for row in samples()])
    text = WITH_FILES.replace('"val.json"', '"val.json", split = "part"')
    assert refusal_of(data, text) == "the samples of vqa in one split come from two places"


def test_what_is_written_is_what_is_listed_or_it_is_refused(data, tmp_path):
    Path("visatb.toml").write_text(WITH_FILES, encoding="utf-8")
    portions, _ = read_portions(load_project("visatb.toml"))

    def write_all(broken):
        writer = Writer(tmp_path / "new", broken, {})
        writer.write_lists()
        writer.write_questions()

    write_all(portions)
    vqa = portions["validation"]["vqa"]
    other = portions["train"]["vqa"].table
    moved = [sample._replace(place=sample.place + 1) for sample in vqa.samples]
    twice = [*vqa.samples, vqa.samples[0]]
    for broken in (
        Portion(other, vqa.samples),
        Portion(vqa.table, moved),
        Portion(vqa.table, twice),
    ):
        with pytest.raises(visatb.DataError) as refusal:
            write_all({"validation": {"vqa": broken}})
        assert str(refusal.value) == (
            "data/validation/vqa.json: would hold other samples than its lists name"
        )


@pytest.mark.parametrize("again", ["data.json", "./data.json", "link.json"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_same_file_twice_is_refused_under_any_name(data, again, split):
    Path("link.json").symlink_to("data.json")
    text = PLAIN.replace('"data.json"', f'"data.json", {split} = "{again}"')
    assert refusal_of(data, text) == f"{again} is there twice"
    text = PLAIN.replace('"data.json"', f'["data.json", "{again}"]')
    assert refusal_of(data, text) == f"{again} is there twice"


def test_an_id_in_two_splits_is_refused_and_may_be_numbered(data):
    write("val.json", of(["vqa"], 3, first=198) + of(["ocr"], 5))
    numbering = (
        "expected other samples in every split, with ids of their own (data.number_records = true "
        "numbers them)"
    )
    assert refusal_of(data, WITH_FILES) == (
        'id "198" of task "vqa" is in train and in validation, and 1 more are in two splits; '
        f"{numbering}"
    )
    write("val.json", of(["vqa"], 1, first=199))
    assert refusal_of(data, WITH_FILES) == (
        f'id "199" of task "vqa" is in train and in validation; {numbering}'
    )
    planned(data, WITH_FILES.replace('"val.json"', '"val.json", number_records = true'))
    assert ids(data, "vqa", "", "validation") == {"450"}


def test_several_files_are_numbered_on(data):
    write_data(data, [{"task": row["task"]} for row in samples()])
    write("more.json", [{"task": "vqa"}] * 5)
    write("val.json", [{"task": "ocr"}] * 2)
    files = '["data.json", "more.json"], validation = "val.json", number_records = true'
    planned(data, PLAIN.replace('"data.json"', files))
    assert {str(n) for n in range(450, 455)} <= ids(data, "vqa", "all")
    assert sum(len(ids(data, task, "all")) for task in SIZES) == 455
    assert ids(data, "ocr", "", "validation") == {"455", "456"}


# --- what belongs together ------------------------------------------------------------------------


def test_a_picture_in_two_splits_of_the_datas_own_is_refused(data):
    rows = of(SIZES, 10)
    rows[3]["image"], rows[4]["image"] = "3.jpg", "5.jpg"
    write("val.json", rows)
    text = WITH_FILES.replace('"val.json"', '"val.json", together = "image"')
    assert refusal_of(data, text) == (
        'data.together: "3.jpg" of "image" is in train and in validation, and 1 more are in two '
        "splits; expected each in one split"
    )
    write("val.json", of(SIZES, 10))
    planned(data, text)


def test_a_picture_in_two_splits_that_a_field_says_is_refused(data):
    rows = [row | {"part": "val" if row["id"] in (6, 7) else "train"} for row in samples()]
    write_data(data, rows)
    text = PLAIN.replace('"data.json"', '"data.json", split = "part", together = "image"')
    planned(data, text)
    rows[0]["part"] = "val"
    write_data(data, rows)
    (data / "visatb-output").rename(data / "elsewhere")
    assert refusal_of(data, text) == (
        'data.together: "0.jpg" of "image" is in validation and in train; expected each in one '
        "split"
    )


def test_together_needs_a_split_of_all_tasks_or_of_none(data):
    write("val.json", of(["caption"], 10))
    text = WITH_FILES.replace('"val.json"', '"val.json", together = "image"')
    some = "splits = { validation = 0.1, test = 0.1 }\n" + text
    assert refusal_of(data, some) == (
        "data.together: caption has validation samples of its own, and vqa has none; expected all "
        "tasks to have some, or none"
    )
    # Where none is asked for, none is dealt.
    planned(data, "splits = { test = 0.1 }\n" + text)
    assert not Path("visatb-output/subsets/validation/vqa.txt").exists()
    pictures = [row["image"] for row in read(data, "data/test/vqa.json")]
    assert (len(pictures), len(set(pictures))) == (20, 10)


def test_what_all_tasks_have_is_not_dealt_and_the_rest_is(data):
    text = WITH_FILES.replace('"val.json"', '"val.json", together = "image"')
    planned(data, "splits = { validation = 0.5, test = 0.1 }\n" + text)
    assert len(ids(data, "ocr", "", "validation")) == 10
    assert len(ids(data, "vqa", "", "test")) == 20


def test_a_zero_shot_tasks_file_leaves_the_others_to_be_dealt(data):
    write("mme.json", of(["mme"], 5))
    zero_shot = '[tasks.mme]\nzero_shot = true\nmetrics = ["score"]\ntest = "mme.json"\n'
    planned(data, "splits = { test = 0.1 }\n" + TOGETHER + zero_shot)
    assert len(ids(data, "mme", "", "test")) == 5
    assert len(ids(data, "vqa", "", "test")) == 20


# --- how splits are dealt -------------------------------------------------------------------------


def test_two_tasks_with_the_same_ids_are_split_differently(data):
    rows = [{"id": n, "task": task} for task in SIZES for n in range(100)]
    write_data(data, rows)
    planned(data, "splits = { validation = 20 }\n" + PLAIN)
    vqa, caption = (ids(data, task, "", "validation") for task in ("vqa", "caption"))
    assert len(vqa) == len(caption) == 20
    assert vqa != caption


def test_lists_are_sorted(data):
    plan = planned(data, "splits = { validation = 20 }\n" + PLAIN)
    for subset in plan.subsets:
        lines = Path("visatb-output", subset.file).read_text(encoding="utf-8").splitlines()
        assert lines == sorted(lines)


def test_a_sample_that_is_added_moves_only_those_at_the_boundaries(data):
    planned(data)
    before = {subset: ids(data, "vqa", subset) for subset in ("large", "mini")}
    write_data(data, samples({**SIZES, "vqa": 203}))
    planned(data)
    for subset, was in before.items():
        is_ = ids(data, "vqa", subset)
        assert len(was - is_) + len(is_ - was) <= 2 * 3


@pytest.mark.parametrize("splits", ["validation = 100000", "validation = 0.7, test = 0.7"])
def test_splits_that_take_all_samples_are_refused(data, splits):
    assert refusal_of(data, f"splits = {{ {splits} }}\n" + PLAIN) == (
        "tasks.vqa: the splits take all of its 200 samples, and leave none to train"
    )


@pytest.mark.parametrize("more", ["", ', together = "image"'])
def test_a_split_that_no_field_says_is_dealt_as_of_files(folder, more):
    rows = samples()
    tested = [row for row in rows if row["id"] >= 90]
    trained = [row for row in rows if row["id"] < 90]
    write_data(folder, trained)
    write("test.json", tested)
    asked = "splits = { validation = 0.1 }\n" + PLAIN
    files = planned(folder, asked.replace('"data.json"', f'"data.json", test = "test.json"{more}'))
    Path("visatb-output").rename("of_files")
    said = [row | {"part": "train"} for row in trained] + [row | {"part": "test"} for row in tested]
    write_data(folder, said)
    field = planned(folder, asked.replace('"data.json"', f'"data.json", split = "part"{more}'))
    assert field.subsets == files.subsets
    assert len(ids(folder, "vqa", "", "validation")) == (8 if more else 9)
    # What a task has of a split by the field is all of it; others get theirs.
    write_data(
        folder, [r | {"part": "val"} if r["id"] == 5 and r["task"] == "ocr" else r for r in said]
    )
    if not more:
        planned(folder, asked.replace('"data.json"', '"data.json", split = "part"'))
        assert ids(folder, "ocr", "", "validation") == {"5"}
        assert len(ids(folder, "vqa", "", "validation")) == 9


def test_texts_among_pictures_are_dealt_task_by_task(folder):
    rows = [
        {key: row[key] for key in row if key != "image" or row["task"] != "ocr"}
        for row in samples()
    ]
    write_data(folder, rows)
    text = TOGETHER.replace(
        '[tasks.caption]\nmetrics = ["score"]', "[tasks.caption]\nfixed_weight = 1"
    )
    planned(folder, "splits = { validation = 0.1 }\n" + text)
    assert len(ids(folder, "ocr", "", "validation")) == 10
    pictures = {row["image"] for row in read(folder, "data/validation/vqa.json")}
    assert len(pictures) == 10
    trained = read(folder, "data/train/all.json")
    assert not pictures & {row["image"] for row in trained if "image" in row}
    assert len([row for row in trained if row["task"] == "ocr"]) == 90


def test_a_split_that_leaves_a_task_without_samples_is_refused(data):
    assert refusal_of(data, "splits = { validation = 0.001 }\n" + PLAIN) == (
        "splits.validation: 1/1000 leaves no validation sample of vqa; expected more"
    )

"""The shapes in which a plan takes data: JSON, JSONL, a file a task, a Hugging Face data set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from projects import PLAIN, SAMPLING, SIZES, ids, planned, read, samples

import visatb


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def rows_of(task):
    return [row for row in samples() if row["task"] == task]


def others(rows):
    """The same with ids of their own."""
    return [row | {"id": 1000 + row["id"]} for row in rows]


def test_json_lines_become_json_lines(tmp_path):
    lines(tmp_path / "data.jsonl", samples())
    plan = planned(tmp_path, PLAIN.replace("data.json", "data.jsonl"))
    assert plan.run("mini").data == "data/train/mini.jsonl"
    text = (tmp_path / "visatb-output/data/train/mini.jsonl").read_text(encoding="utf-8")
    assert len([json.loads(line) for line in text.splitlines()]) == 55


def test_a_line_that_was_cut_is_refused(folder):
    lines(folder / "data.jsonl", samples())
    text = (folder / "data.jsonl").read_text(encoding="utf-8")
    (folder / "data.jsonl").write_text(text[:-30], encoding="utf-8")
    with pytest.raises(visatb.DataError, match=r"^data.jsonl: line 450: not JSON: "):
        planned(folder, PLAIN.replace("data.json", "data.jsonl"))


def test_one_file_a_task_needs_no_task_in_its_samples_and_gets_it(tmp_path):
    tasks = ""
    for task in SIZES:
        rows = [{key: row[key] for key in row if key != "task"} for row in rows_of(task)]
        (tmp_path / f"{task}.json").write_text(json.dumps(rows), encoding="utf-8")
        tasks += f'[tasks.{task}]\ntrain = "{task}.json"\nmetrics = ["score"]\n'
    planned(tmp_path, f"visatb_project = 1\n{SAMPLING}{tasks}")
    path = tmp_path / "visatb-output/data/train/all.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    assert {(row["task"], row["id"]) for row in found} == {
        (row["task"], row["id"]) for row in samples()
    }


def test_a_tasks_file_with_samples_of_another_is_refused(folder):
    tasks = "".join(f'[tasks.{task}]\ntrain = "vqa.json"\n' for task in ("vqa",))
    tasks += '[tasks.ocr]\ntrain = "ocr.json"\n'
    for name in ("vqa", "ocr"):
        (folder / f"{name}.json").write_text(json.dumps(rows_of("vqa")), encoding="utf-8")
    with pytest.raises(visatb.DataError) as refusal:
        planned(folder, f"visatb_project = 1\n{SAMPLING}{tasks}")
    assert str(refusal.value) == (
        'ocr.json: record 1: task is "vqa"; expected "ocr", whose file this is'
    )


def test_splits_of_their_own_are_kept_and_only_what_lacks_one_is_dealt(tmp_path):
    lines(tmp_path / "data.jsonl", samples())
    lines(tmp_path / "val.jsonl", others(rows_of("vqa")[:40] + rows_of("ocr")[:30]))
    text = PLAIN.replace('"data.json"', '"data.jsonl", validation = "val.jsonl"')
    planned(tmp_path, "splits = { validation = 10 }\n" + text)
    sizes = {task: len(ids(tmp_path, task, "", "validation")) for task in SIZES}
    assert sizes == {"vqa": 40, "caption": 10, "ocr": 30}
    assert {task: len(ids(tmp_path, task, "all")) for task in SIZES} == {**SIZES, "caption": 140}


def test_a_field_may_say_the_split(tmp_path):
    rows = [row | {"part": "val" if row["id"] % 10 == 0 else "train"} for row in samples()]
    lines(tmp_path / "data.jsonl", rows)
    planned(tmp_path, PLAIN.replace('"data.json"', '"data.jsonl", split = "part"'))
    assert ids(tmp_path, "ocr", "", "validation") == {str(n) for n in range(0, 100, 10)}
    rows[7]["part"] = "holdout"
    lines(tmp_path / "data.jsonl", rows)
    with pytest.raises(visatb.DataError, match='line 8: "holdout" is no split; expected train, va'):
        planned(tmp_path, PLAIN.replace('"data.json"', '"data.jsonl", split = "part"'))


def test_other_names_of_the_fields(tmp_path):
    rows = [{"question_id": row["id"], "source": row["task"]} for row in samples()]
    lines(tmp_path / "data.jsonl", rows)
    fields = '"data.jsonl", id = "question_id", task = "source"'
    assert planned(tmp_path, PLAIN.replace('"data.json"', fields)).run("mini").samples == 55


@pytest.mark.parametrize("field", ["id", "sample"])
@pytest.mark.parametrize("has_ids", [True, False])
def test_what_is_written_of_numbered_samples_has_their_numbers_for_ids(tmp_path, field, has_ids):
    rows = [row if has_ids else {**row, "id": None} for row in samples()]
    rows = [{key: value for key, value in row.items() if value is not None} for row in rows]
    (tmp_path / "data.json").write_text(json.dumps(rows), encoding="utf-8")
    fields = f'"data.json", number_records = true, id = "{field}"'
    text = PLAIN.replace('"data.json"', fields)
    plan = planned(tmp_path, "splits = { validation = 0.1 }\n" + text)
    listed = ids(tmp_path, "vqa", "", "validation")
    asked = read(tmp_path, "data/validation/vqa.json")
    assert {row[field] for row in asked} == listed
    trained = read(tmp_path, plan.run("mini").data)
    by_task = {task: ids(tmp_path, task, "mini") for task in SIZES}
    assert all(row[field] in by_task[row["task"]] for row in trained)
    # The numbers are the places in the file; what else a sample says stays.
    for row in asked + trained:
        whole = rows[int(row[field])]
        assert row == {**whole, field: row[field]}


def test_samples_that_have_ids_are_written_as_they_were(tmp_path):
    lines(tmp_path / "data.jsonl", samples())
    planned(tmp_path, PLAIN.replace("data.json", "data.jsonl"))
    written = (tmp_path / "visatb-output/data/train/all.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in written.splitlines()] == samples()


@pytest.mark.parametrize("char", ["\xa0", "\u3000", "\u200d", "\xad", "\u200b"])
def test_an_id_may_have_any_space_or_joiner_in_it(folder, char):
    rows = [{**row, "id": f"a{char}{row['id']}"} for row in samples()]
    (folder / "data.json").write_text(json.dumps(rows), encoding="utf-8")
    planned(folder)
    listed = Path("visatb-output/subsets/train/vqa.all.txt").read_text(encoding="utf-8")
    assert set(listed.splitlines()) == {row["id"] for row in rows if row["task"] == "vqa"}


@pytest.mark.parametrize("char", ["\n", "\x85", "\u2028", "\u2029", "\ud800", "\0"])
def test_an_id_that_is_no_line_is_refused(folder, char):
    rows = [{**row, "id": f"a{char}{row['id']}"} for row in samples()]
    (folder / "data.json").write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(visatb.DataError) as refusal:
        planned(folder)
    assert str(refusal.value) == (
        'data.json: record 1: "id" has a control character or half a character in it'
    )


# --- Hugging Face's -------------------------------------------------------------------------------

HUGGING_FACE = PLAIN.replace('train = "data.json"', 'hugging_face = "saved"')


@pytest.fixture
def datasets(monkeypatch):
    module = pytest.importorskip("datasets")
    module.disable_progress_bars()
    return module


def saved(datasets, folder, **splits):
    names = list(SIZES)
    made = {}
    for split, rows in splits.items():
        plain = [
            {"id": row["id"], "task": names.index(row["task"]), "text": row.get("text", "train")}
            for row in rows
        ]
        features = datasets.Features(
            id=datasets.Value("int64"),
            task=datasets.ClassLabel(names=names),
            text=datasets.Value("string"),
        )
        made[split] = datasets.Dataset.from_list(plain, features=features)
    datasets.DatasetDict(made).save_to_disk(str(folder / "saved"))


def test_a_data_set_keeps_its_splits_and_becomes_folders_that_datasets_loads(datasets, tmp_path):
    saved(datasets, tmp_path, train=samples(), validation=others(rows_of("vqa")[:40]))
    plan = planned(tmp_path, HUGGING_FACE)
    assert [(one.split, one.samples) for one in plan.subsets[-1:]] == [("validation", 40)]
    made = datasets.load_dataset(
        str(tmp_path / "visatb-output" / plan.run("mini").data), cache_dir=str(tmp_path / "cache")
    )["train"]
    found = {
        task: {str(row["id"]) for row in made if row["task"] == n} for n, task in enumerate(SIZES)
    }
    assert found == {task: ids(tmp_path, task, "mini") for task in SIZES}


def test_a_data_set_is_dealt_as_the_same_data_in_a_file(datasets, tmp_path):
    (tmp_path / "file").mkdir()
    lines(tmp_path / "file/data.jsonl", samples())
    file = planned(tmp_path / "file", PLAIN.replace("data.json", "data.jsonl"))
    saved(datasets, tmp_path, train=samples())
    assert [one.sha256 for one in planned(tmp_path, HUGGING_FACE).subsets] == [
        one.sha256 for one in file.subsets
    ]


def test_a_data_set_in_other_pieces_is_the_same_plan(datasets, tmp_path):
    saved(datasets, tmp_path, train=samples())
    first = planned(tmp_path, HUGGING_FACE)
    whole = datasets.load_from_disk(str(tmp_path / "saved"))
    whole.save_to_disk(str(tmp_path / "pieces"), num_shards={"train": 3})
    again = planned(tmp_path, HUGGING_FACE.replace('"saved"', '"pieces"'))
    assert [one["sha256"] for one in again.inputs] == [one["sha256"] for one in first.inputs]


@pytest.mark.parametrize(
    ("splits", "changes", "message"),
    [
        ({"train": samples(), "val": rows_of("vqa")[:1], "validation": rows_of("ocr")[:1]}, "",
         "saved: two splits are both validation"),
        ({"train": samples(), "validation": rows_of("vqa")[3:5]}, "",
         'id "3" of task "vqa" is in train and in validation, and 1 more are in two splits; '
         "expected other samples in every split, with ids of their own (data.number_records = true "
         "numbers them)"),
        ({"train": samples(), "validation": others(samples())}, ', split = "text"',
         "data.split: the data has splits of its own, train and validation; expected one or the "
         "other"),
        ({"train": [row | {"text": f"a\n{row['id']}"} for row in samples()]}, ', id = "text"',
         'saved: train: row 0: "text" has a control character or half a character in it'),
    ],
)  # fmt: skip
def test_a_data_set_that_is_wrong_is_refused(datasets, folder, splits, changes, message):
    saved(datasets, folder, **splits)
    with pytest.raises(visatb.DataError) as refusal:
        planned(folder, HUGGING_FACE.replace('"saved"', f'"saved"{changes}'))
    assert str(refusal.value).removeprefix(f"{folder}/visatb.toml: ") == message


@pytest.mark.parametrize(("label", "shown"), [(-1, "-1"), (None, "None")])
def test_a_row_without_a_label_is_refused(datasets, folder, label, shown):
    saved(datasets, folder, train=samples())
    broken = datasets.load_from_disk(str(folder / "saved"))["train"]
    rows = [row | {"task": label} if n == 7 else row for n, row in enumerate(broken)]
    datasets.Dataset.from_list(rows, features=broken.features).save_to_disk(str(folder / "odd"))
    with pytest.raises(visatb.DataError) as refusal:
        planned(folder, HUGGING_FACE.replace('"saved"', '"odd"'))
    assert (
        str(refusal.value) == f"odd: train: row 7: \"task\" is '{shown}'; expected a label, 0 to 2"
    )


def test_a_wrong_value_that_rows_share_is_named_by_its_row(datasets, folder):
    rows = [
        {"id": n, "task": task, "image": None if n < 3 else -0.5 if n == 5 else 1.0}
        for task in SIZES
        for n in range(SIZES[task])
    ]
    datasets.Dataset.from_list(rows).save_to_disk(str(folder / "saved"))
    with pytest.raises(visatb.DataError, match="row 3: "):
        planned(folder, HUGGING_FACE.replace('"saved"', '"saved", together = "image"'))


def test_the_rows_of_a_data_set_are_numbered_on(datasets, folder):
    saved(datasets, folder, train=samples(), validation=rows_of("vqa")[:2])
    plan = planned(folder, HUGGING_FACE.replace('"saved"', '"saved", number_records = true'))
    assert ids(folder, "vqa", "", "validation") == {"450", "451"}
    loaded = datasets.load_dataset
    for file, count in ((plan.run("mini").data, 55), ("data/validation/vqa", 2)):
        rows = loaded(str(folder / "visatb-output" / file), cache_dir=str(folder / "c"))["train"]
        assert rows.column_names == ["task", "text", "id"]
        assert rows.num_rows == count
    assert set(rows["id"]) == {"450", "451"}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("task", "data.task = one of them"),
        ("split", "data.split = one of them"),
        ("together", "data.together = one of them"),
        ("id", "data.id = one of them, or data.number_records = true"),
    ],
)
def test_a_data_set_without_the_column_is_refused(datasets, folder, setting, expected):
    saved(datasets, folder, train=samples())
    with pytest.raises(visatb.DataError) as refusal:
        planned(folder, HUGGING_FACE.replace('"saved"', f'"saved", {setting} = "source"'))
    assert str(refusal.value) == (
        f'saved: train: no column "source"; there are id, task, text; expected {expected}'
    )


def test_a_column_that_rows_share_may_be_empty_in_some(datasets, tmp_path):
    rows = [
        {"id": n, "task": task, "image": f"{n // 2}.jpg" if task == "vqa" else None}
        for task in SIZES
        for n in range(SIZES[task])
    ]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    text = HUGGING_FACE.replace('"saved"', '"saved", together = "image"')
    planned(tmp_path, "splits = { validation = 0.1 }\n" + text)
    sizes = {task: len(ids(tmp_path, task, "", "validation")) for task in SIZES}
    assert sizes == {"vqa": 20, "caption": 15, "ocr": 10}

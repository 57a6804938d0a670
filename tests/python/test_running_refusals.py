"""What goes wrong in a run: said once and clearly, and never taken for done."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
from running_project import HEAD, finish, journal, markers, write_project

from visatb import DataError, FileError
from visatb.per_sample import read_per_sample
from visatb.procedure import load_plan
from visatb.running.markers import Marker, read_marker
from visatb.running.results_in import check_ids, read_scores

ASKED = {"vqa": ["em"], "cap": ["cider", "bleu"]}
RIGHT = '{"vqa": {"em": {"1": 100, "2": 0}}, "cap": {"cider": 1.25, "bleu": 30}}'


# Braces that a command has for itself.
BRACES = str.maketrans({"{": "{{", "}": "}}"})


# --- what an evaluation writes --------------------------------------------------------------------


def test_scores_are_numbers_or_numbers_by_sample_alone_or_wrapped(folder):
    Path("s.json").write_text(RIGHT, encoding="utf-8")
    assert read_scores(Path("s.json"), "p", "mini", ASKED) == json.loads(RIGHT)
    for wrapping in ({}, {"plan": "p"}, {"plan": "p", "run": "mini"}):
        content = {"visatb_run_scores": 1, **wrapping, "scores": json.loads(RIGHT)}
        Path("s.json").write_text(json.dumps(content), encoding="utf-8")
        assert read_scores(Path("s.json"), "p", "mini", ASKED) == json.loads(RIGHT)


@pytest.mark.parametrize(("number", "is_score"), [("9e149", True), ("1e150", False)])
def test_what_is_a_score_here_is_one_in_a_file_of_samples_too(folder, number, is_score):
    line = {"run": "mini", "task": "vqa", "metric": "em", "values": {"1": json.loads(number)}}
    Path("values.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    Path("s.json").write_text(f'{{"vqa": {{"em": {{"1": {number}}}}}}}', encoding="utf-8")
    for read in (
        lambda: read_scores(Path("s.json"), "p", "mini", {"vqa": ["em"]}),
        lambda: list(read_per_sample("values.jsonl")),
    ):
        with nullcontext() if is_score else pytest.raises(DataError):
            read()


def wrapped(**members: object) -> str:
    return json.dumps({"visatb_run_scores": 1, "scores": json.loads(RIGHT), **members})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "s.json: empty"),
        (" \n", "s.json: empty"),
        (RIGHT[:40], "s.json: cut off: the file was not written to its end"),
        (RIGHT[:-1] + "\n", "s.json: cut off: the file was not written to its end"),
        (
            RIGHT[:8] + RIGHT[9:],
            "s.json: not JSON: Expecting ',' delimiter: line 1 column 13 (char 12)",
        ),
        (RIGHT + "x", "s.json: not JSON: Extra data: line 1 column 72 (char 71)"),
        ("[1]", "s.json: expected an object, {task: {metric: number}}"),
        ("[" * 9999, "s.json: not JSON: maximum recursion depth exceeded"),
        (b"\xff{}", "s.json: not UTF-8"),
        (RIGHT.replace("1.25", "NaN"), "s.json: NaN is no score; expected a finite number"),
        (
            RIGHT.replace("1.25", "-Infinity"),
            "s.json: -Infinity is no score; expected a finite number",
        ),
        (
            RIGHT.replace("1.25", "1e999"),
            "s.json: cap.cider: Infinity; expected a finite number, or one for every sample",
        ),
        (
            RIGHT.replace("1.25", "1e150"),
            "s.json: cap.cider: 1e+150; expected a finite number, or one for every sample",
        ),
        (
            RIGHT.replace("1.25", "1" + "0" * 400),
            f"s.json: cap.cider: 1{'0' * 39}; expected a finite number, or one for every sample",
        ),
        (
            RIGHT.replace("1.25", '"1.25"'),
            's.json: cap.cider: "1.25"; expected a finite number, or one for every sample',
        ),
        (
            RIGHT.replace("1.25", "true"),
            "s.json: cap.cider: true; expected a finite number, or one for every sample",
        ),
        (
            RIGHT.replace("1.25", "null"),
            "s.json: cap.cider: null; expected a finite number, or one for every sample",
        ),
        (RIGHT.replace("1.25", "{}"), "s.json: cap.cider: no samples in it"),
        (
            RIGHT.replace('"2": 0', '"2": "0"'),
            's.json: vqa.em: sample "2" has "0"; expected a finite number',
        ),
        (
            RIGHT.replace('"2"', '"x\\u0000y"'),
            's.json: vqa.em: sample "x\\u0000y"; a name has no NUL in it',
        ),
        (RIGHT.replace('"2"', '"1"'), 's.json: "1" is there twice'),
        (RIGHT.replace('"vqa"', '"cap"', 1), 's.json: "cap" is there twice'),
        (RIGHT.replace('"vqa"', '"ocr"', 1), 's.json: the task "vqa" is missing; there is ocr'),
        (RIGHT[:-1] + ', "ocr": {}}', 's.json: "ocr" is no task that was asked; expected vqa, cap'),
        (
            RIGHT.replace('"bleu": 30', '"x": 1'),
            's.json: cap: the metric "bleu" is missing; there is x',
        ),
        (
            RIGHT.replace('"bleu": 30', '"bleu": 30, "rouge": 1'),
            's.json: cap: "rouge" is no metric that was asked; expected cider, bleu',
        ),
        ('{"vqa": 1, "cap": 2}', "s.json: vqa: expected an object with a metric in every key"),
        (wrapped(plan="q"), "s.json: scores of another plan"),
        (wrapped(run="base"), 's.json: scores of the run "base"; expected "mini"'),
        (wrapped(visatb_run_scores=2), "s.json: visatb_run_scores: 2; expected 1"),
        (wrapped(model="m"), 's.json: "model" is unknown beside visatb_run_scores'),
        (wrapped(scores=1), "s.json: scores: expected an object, {task: {metric: number}}"),
    ],
)
def test_wrong_scores_are_refused_with_place_and_reason(folder, content, message):
    Path("s.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read_scores(Path("s.json"), "p", "mini", ASKED)
    found = re.sub(r"(depth exceeded).*", r"\1", str(caught.value))
    assert found == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"1": 1}, 's.json: vqa.em: 1 of 2 samples; "2" is missing'),
        ({"1": 1, "3": 2}, 's.json: vqa.em: "3" is no sample of it in ids.txt'),
    ],
)
def test_scores_by_sample_are_of_the_samples_that_were_asked(folder, values, message):
    Path("ids.txt").write_text("1\n2\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        check_ids({"vqa": {"em": values}}, "s.json", {"vqa": Path("ids.txt")})
    check_ids({"vqa": {"em": {"2": 1, "1": 0}, "one": 3}}, "s.json", {"vqa": Path("ids.txt")})


def test_a_list_of_ids_that_is_not_utf8_is_named(folder):
    Path("ids.txt").write_bytes(b"\xff\n")
    with pytest.raises(DataError, match=r"^ids\.txt: not UTF-8$"):
        check_ids({"vqa": {"em": {"1": 1}}}, "s.json", {"vqa": Path("ids.txt")})


def test_scores_by_sample_of_other_samples_are_not_done(tmp_path):
    values = json.dumps({"a": {"em": {"other": 1}}, "b": {"em": 1}}).translate(BRACES)
    evaluate = f"echo '{values}' > {{scores}} # {{model}} {{questions}}"
    folder = write_project(tmp_path, evaluate=evaluate)
    code, _, err = finish(folder, "--only", "mini", LITTLE_SECONDS="0")
    assert (code, err) == (
        5,
        "visatb: mini: evaluate: ended well, but visatb-output/runs/mini/evaluate.json: a.em: "
        '"other" is no sample of it in visatb-output/subsets/validation/a.txt\n',
    )
    assert set(markers(folder)) == {"mini/train.done"}


# --- commands -------------------------------------------------------------------------------------


def wrong(command: str) -> str:
    """A command that names what it must."""
    return f"{command} # {{data}} {{output}} {{weights}} {{model}} {{scores}}"


def of_kind(command: str, kind: str) -> str:
    names = {"train": "{data} {output} {weights}", "evaluate": "{model} {scores}"}
    return f"{command} # {names[kind]}"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("true", "ended well, but visatb-output/runs/mini/evaluate.json: was not written"),
        (
            "printf '{{\"a\": {{' > {scores}",
            "ended well, but visatb-output/runs/mini/evaluate.json: cut off: the file was not "
            "written to its end",
        ),
        (
            'echo \'{{"a": {{"em": 1}}}}\' > {scores}',
            'ended well, but visatb-output/runs/mini/evaluate.json: the task "b" is missing',
        ),
        (
            "echo one; printf '\\r 1/2\\r 2/2\\n'; echo two >&2; exit 3",
            "failed with exit code 3; the end of visatb-output/runs/mini/evaluate.log:\n"
            "  one\n   2/2\n  two",
        ),
        (
            "kill -9 $$",
            "failed with exit code 137; visatb-output/runs/mini/evaluate.log says nothing",
        ),
    ],
)
def test_an_evaluation_that_did_not_do_its_work_is_not_done(tmp_path, command, message):
    folder = write_project(tmp_path, evaluate=of_kind(command, "evaluate"))
    code, out, err = finish(folder, "--only", "mini", LITTLE_SECONDS="0")
    assert (code, err) == (5, f"visatb: mini: evaluate: {message}\n")
    assert out.splitlines()[-1] == "0 runs are done; unfinished: mini"
    assert set(markers(folder)) == {"mini/train.done"}
    # Set right, it is done, and the training not again.
    write_project(folder)
    assert finish(folder, "--only", "mini", LITTLE_SECONDS="0")[0] == 0
    assert [line["stage"] for line in journal(folder) if line["what"] == "end"] == [
        "train",
        "evaluate",
    ]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("true", "ended well, but visatb-output/runs/mini/model: was not written"),
        ("mkdir {output}", "ended well, but visatb-output/runs/mini/model: is empty"),
        (
            "echo no memory; false",
            "failed with exit code 1; the end of visatb-output/runs/mini/train.log:\n  no memory",
        ),
    ],
)
def test_a_training_that_did_not_do_its_work_is_not_done(tmp_path, command, message):
    folder = write_project(tmp_path, train=of_kind(command, "train"))
    code, _, err = finish(folder, "--only", "mini")
    assert (code, err) == (5, f"visatb: mini: train: {message}\n")
    assert markers(folder) == {}


def test_other_runs_go_on_after_one_failed_and_the_weights_wait(tmp_path):
    folder = write_project(tmp_path)
    text = (folder / "visatb.toml").read_text(encoding="utf-8")
    broken = text.replace('train = "', 'train = "test {run} != with_mini:a || exit 9; ', 1)
    broken = text.replace("train {data}", "$(test {run} = with_mini:a || echo train) {data}")
    (folder / "visatb.toml").write_text(broken, encoding="utf-8")
    code, out, err = finish(folder, LITTLE_SECONDS="0")
    assert code == 5
    assert err.startswith("visatb: with_mini:a: train: failed with exit code 1; the end of ")
    assert out.splitlines()[-1] == (
        "5 runs are done; unfinished: with_mini:a; waiting for weights: VisATB"
    )
    assert (folder / "visatb-output/results.json").exists()
    assert not (folder / "visatb-output/scores.json").exists()
    (folder / "visatb.toml").write_text(text, encoding="utf-8")
    code, out, _ = finish(folder, LITTLE_SECONDS="0")
    assert (code, out.splitlines()[-1]) == (0, "7 runs are done")


def test_scores_that_carry_no_weights_are_refused_and_other_runs_go_on(tmp_path):
    evaluate = 'echo \'{{"a": {{"em": 1}}, "b": {{"em": 1}}}}\' > {scores} # {model}'
    head = HEAD.replace('"STL", ', "")
    folder = write_project(tmp_path, head=head, evaluate=evaluate)
    code, out, err = finish(folder, LITTLE_SECONDS="0")
    assert code == 3
    assert err.startswith("visatb: no weights for VisATB: ")
    assert "scores.json: " in err
    assert out.splitlines()[-1] == "4 runs are done; waiting for weights: VisATB"
    assert not (folder / "visatb-output/weights.json").exists()


# --- what was changed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"VisATB"]',
            '"VisATB", "DWA"]',
            'methods: was ["STL", "EW", "VisATB"] when the plan was made, and is ["STL", "EW", '
            '"VisATB", "DWA"]',
        ),
        (
            "[data]",
            "[sampling]\nmini = 0.125\n[data]",
            "sampling.mini: was 0.03125 when the plan was made, and is 0.125",
        ),
        ("[data]", "seed = 3\n[data]", "seed: was 0 when the plan was made, and is 3"),
        (
            "[tasks.b]",
            "[tasks.b]\nfixed_weight = 1.0\n[tasks.c]\nmetrics = ['em']\n[tasks.d]",
            'tasks: was ["a", "b"] when the plan was made, and is ["a", "b", "c", "d"]',
        ),
        (
            'metrics = ["em"]\n[tasks.b]',
            "metrics = [{name = 'em', higher_is_better = false}]\n[tasks.b]",
            'tasks.a.metrics: was [{"name": "em", "higher_is_better": true}] when the plan was '
            'made, and is [{"name": "em", "higher_is_better": false}]',
        ),
        (
            'test = "test.json"',
            'test = "other.json"',
            'data.test: was ["test.json"] when the plan was made, and is ["other.json"]',
        ),
        (
            "[data]",
            "[splits]\ntest = 0.05\n[data]",
            "splits.test: was 0 when the plan was made, and is 0.05",
        ),
        (
            "[data]",
            "[data]\nnumber_records = true",
            "data.number_records: was false when the plan was made, and is true",
        ),
        (
            "[run]",
            '[run]\nbase_model = "llava"',
            'run.base_model: was "" when the plan was made, and is "llava"',
        ),
    ],
)
def test_a_project_that_changed_since_its_plan_is_refused(folder, command, old, new, message):
    write_project(folder)
    assert command("plan").code == 0
    text = Path("visatb.toml").read_text(encoding="utf-8")
    assert old in text
    Path("visatb.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    ran = command("run")
    assert ran.code == 3
    assert ran.err == f"visatb: visatb.toml: {message}; run `visatb plan` again\n"
    assert not Path("visatb-output/runs").exists()


def test_once_runs_have_begun_no_plan_is_advised_that_would_be_refused(folder, command):
    write_project(folder)
    assert command("plan").code == 0
    (folder / "visatb-output/runs/mini").mkdir(parents=True)
    text = Path("visatb.toml").read_text(encoding="utf-8")
    Path("visatb.toml").write_text(f"seed = 3\n{text}", encoding="utf-8")
    assert command("run").err == (
        "visatb: visatb.toml: seed: was 0 when the plan was made, and is 3; its runs have begun, "
        "so put it back, or name another output\n"
    )
    more = text.replace('"VisATB"]', '"VisATB", "DWA"]')
    Path("visatb.toml").write_text(more, encoding="utf-8")
    assert command("run").err.endswith("; run `visatb plan` again\n")
    assert command("plan").code == 0


@pytest.mark.parametrize("name", ["train/mini.json", "weights/equal.json"])
def test_a_material_that_changed_is_no_longer_used(tmp_path, name):
    folder = write_project(tmp_path)
    finish(folder, "--dry-run")
    with (folder / "visatb-output/data" / name).open("a", encoding="utf-8") as file:
        file.write(" ")
    code, _, err = finish(folder, "--only", "mini")
    assert code == 3
    assert err == (
        f"visatb: mini: train: visatb-output/data/{name}: is not what the plan made; "
        "`visatb plan` makes it again\n"
    )
    assert journal(folder) == []


def test_scores_are_held_against_no_other_ids_than_the_plans(tmp_path):
    folder = write_project(tmp_path)
    finish(folder, "--dry-run")
    ids = folder / "visatb-output/subsets/validation/a.txt"
    ids.write_text("x\ny", encoding="utf-8")
    code, _, err = finish(folder, "--only", "mini", LITTLE_SECONDS="0")
    assert (code, err) == (
        3,
        "visatb: mini: evaluate: visatb-output/subsets/validation/a.txt: is not what the plan "
        "made; `visatb plan` makes it again\n",
    )
    assert set(markers(folder)) == {"mini/train.done"}


def test_a_planning_that_was_cut_off_is_made_up_for(tmp_path):
    folder = write_project(tmp_path)
    finish(folder, "--dry-run")
    (folder / "visatb-output/data/train/mini.json").unlink()
    assert finish(folder, "--only", "mini", LITTLE_SECONDS="0")[0] == 0


def test_weights_that_changed_after_their_training_are_not_mixed_with_it(tmp_path):
    head = HEAD.replace('"STL"', '"TLA"')
    folder = write_project(tmp_path, head=head)
    assert finish(folder, LITTLE_SECONDS="0")[0] == 0
    before = compared(folder)
    assert before == ["TLA", "EW", "VisATB"]
    write_project(folder, head=f"{head}[weights]\nalphas = [0.0, 0.0, 1.0]\n")
    code, out, err = finish(folder)
    assert code == 3
    assert err == (
        "visatb: VisATB: was trained with other weights than visatb-output/weights.json now holds; "
        "expected visatb-output/runs/VisATB to be removed, and it is trained again\n"
    )
    assert out == "5 runs are done\n"
    assert compared(folder) == ["TLA", "EW"]
    write_project(folder, head=head)
    assert finish(folder)[0] == 0
    assert compared(folder) == before


def compared(folder: Path) -> list[str]:
    return list(json.loads((folder / "visatb-output/results.json").read_bytes())["methods"])


def test_markers_of_another_plan_are_refused(tmp_path):
    folder = write_project(tmp_path)
    assert finish(folder, "--only", "mini", LITTLE_SECONDS="0")[0] == 0
    path = folder / "visatb-output/runs/mini/train.done"
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, "plan": "other"}), encoding="utf-8")
    code, out, err = finish(folder)
    assert (code, out) == (3, "")
    assert err == (
        "visatb: visatb-output/runs/mini/train.done: of another plan; expected "
        "visatb-output/runs/mini to be removed, or another output in the project\n"
    )
    path.write_text("{", encoding="utf-8")
    assert finish(folder)[2].startswith("visatb: visatb-output/runs/mini/train.done: not JSON: ")


@pytest.mark.parametrize(
    "broken",
    [
        {"scores": None},
        {"scores": {"a": 1}},
        {"scores": {"a": {"em": None}}},
        {"scores": {"a": {"em": {}}}},
        {"scores": {"a": {"em": {"1": "x"}}}},
        {"attempt": 7},
        {"began": "now"},
        {"steps": 1.5},
        {"visatb_done": 2},
        {"more": 1},
    ],
)
def test_a_marker_of_another_make_is_refused(folder, broken):
    marker = Marker("p", "mini", "evaluate", "0", "true", "h", 1, 2.5, scores={"a": {"em": 1}})
    marker.save(Path("m.done"))
    assert read_marker(Path("m.done"), "p") == marker
    content = json.loads(Path("m.done").read_bytes())
    Path("m.done").write_text(json.dumps({**content, **broken}), encoding="utf-8")
    with pytest.raises(DataError, match=r"^m\.done: not as `visatb run` writes it$"):
        read_marker(Path("m.done"), "p")


@pytest.mark.parametrize("option", ["--only", "--take"])
def test_an_unknown_run_is_refused(folder, command, option):
    write_project(folder)
    assert command("plan").code == 0
    ran = command("run", option, "minor")
    assert ran.code == 3
    assert ran.err == (
        'visatb: "minor" is no run of this plan; there are mini, with_mini:a, with_mini:b, STL:a, '
        "STL:b, EW, VisATB\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "0,0"], "--gpus 0,0: one of them is there twice"),
        (["--gpus", "0"], "--gpus 0: a command of this project takes 2 (run.gpus_per_run)"),
        (
            ["--gpus", "0-3"],
            "--gpus 0-3: 0-3; expected the number of a GPU, or its name, as GPU-... or MIG-...",
        ),
        (["--jobs", "0"], "--jobs 0: expected 1 or more"),
        (["--take", "mini="], "--take mini=: expected a file after the ="),
        (["--take", "mini", "--dry-run"], "--take and --dry-run do not go together"),
        (["--collect", "--dry-run"], "--collect and --dry-run do not go together"),
        (["--only", "mini", "--take", "mini"], "--take and --only do not go together"),
        (["--only", "mini", "--collect"], "--collect and --only do not go together"),
    ],
)
def test_wrong_options_are_refused(folder, command, arguments, message):
    write_project(folder, run="gpus_per_run = 2\n")
    assert command("plan").code == 0
    ran = command("run", *arguments)
    assert (ran.code, ran.err) == (2, f"visatb: {message}\n")


def test_several_gpus_a_command_of_none_that_are_listed_are_refused(folder, command):
    write_project(folder, run="gpus_per_run = 2\n")
    assert command("plan").code == 0
    ran = command("run")
    assert (ran.code, ran.err) == (
        3,
        "visatb: visatb.toml: run.gpus_per_run: 2, and no GPUs are listed; expected gpus = [0, 1, "
        "...] there, or --gpus 0,1\n",
    )
    assert command("run", "--dry-run").code == 0


def test_a_project_of_sizes_has_nothing_to_run(folder, command):
    tasks = "[tasks.a]\nsamples = 90\n[tasks.b]\nsamples = 90\n"
    Path("visatb.toml").write_text(f"visatb_project = 1\n{tasks}", encoding="utf-8")
    ran = command("run")
    assert (ran.code, ran.err) == (
        3,
        "visatb: visatb.toml: has sizes in place of data, so there is nothing to run\n",
    )


# --- places --------------------------------------------------------------------------------------


def test_a_marker_names_everything_it_was_made_with(folder):
    marker = Marker("p", "mini", "train", "0123", "true", "host", 1.0, 3.5, weights="w", steps=7)
    marker.save(Path("train.done"))
    content = json.loads(Path("train.done").read_bytes())
    assert content["visatb_done"] == 1
    assert {key: content[key] for key in ("plan", "run", "stage", "command", "weights")} == {
        "plan": "p",
        "run": "mini",
        "stage": "train",
        "command": "true",
        "weights": "w",
    }
    assert marker.seconds == 2.5


def test_a_folder_that_takes_no_locks_is_said(folder, command):
    write_project(folder)
    Path("visatb-output").mkdir()
    Path("visatb-output/locks").write_text("", encoding="utf-8")
    ran = command("run")
    assert ran.code == 3
    assert ran.err.startswith("visatb: visatb-output/locks/plan.lock: cannot be written: ")


def test_the_plan_of_the_folder_is_the_one_that_is_run(folder, command):
    write_project(folder)
    ran = command("run", "--dry-run")
    assert ran.out.startswith("planned 7 runs into ")
    assert len(load_plan("visatb-output").runs) == 7
    assert command("run", "--dry-run").out.startswith("run ")
    with pytest.raises(FileError):
        load_plan("elsewhere")

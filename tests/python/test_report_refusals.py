"""What the report refuses, with its exact message; and that it then writes nothing."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from report_cases import add_intervals, make_folder, plan_for, results_for, save

import visatb
from visatb import _json_path
from visatb.report import write_report
from visatb.report.gather import gather


@pytest.fixture
def three(scores, folder) -> Path:
    """The working folder with weights.json and the scores.json that it was made from."""
    return make_folder(folder, scores)


def weights() -> dict:
    return json.loads(Path("weights.json").read_text(encoding="utf-8"))


def change(path: str, value: object, file: str = "weights.json") -> None:
    """Sets, or with ... removes, what stands at a path of keys joined by "/"."""
    document = json.loads(Path(file).read_text(encoding="utf-8"))
    *way, last = path.split("/")
    place = document
    for key in way:
        place = place[int(key) if isinstance(place, list) else key]
    key = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[key]
    else:
        place[key] = value
    save(Path(file), document)


def refusal(error: type[Exception], path: str = "weights.json", **options: str) -> str:
    """The message; nothing was written."""
    before = {file: file.read_bytes() for file in Path().rglob("*") if file.is_file()}
    with pytest.raises(error) as raised:
        gather(path, **options) if not options.keys() & {"output"} else write_report(
            path, **options
        )
    assert {file: file.read_bytes() for file in Path().rglob("*") if file.is_file()} == before
    return str(raised.value)


# --- which file it is -----------------------------------------------------------------------------


def test_a_folder_without_weights(folder):
    assert refusal(visatb.FileError, ".") == (
        ".: no weights.json in this folder; `visatb weights SCORES -o weights.json` makes one"
    )


def test_a_file_that_is_not_there(three):
    assert refusal(visatb.FileError, "w.json") == "w.json: No such file or directory"
    for option in ("scores", "plan", "results"):
        message = refusal(visatb.FileError, **{option: "x.json"})
        assert message == "x.json: No such file or directory"


def test_names_that_no_file_can_have(three):
    long = "x" * 300
    assert refusal(visatb.FileError, long) == f"{long}: File name too long"
    assert refusal(visatb.FileError, output=long) == (
        f"{long}: cannot be written: File name too long"
    )
    assert refusal(visatb.ArgumentError, "a\0b") == (r"path = 'a\x00b'; no file can have this name")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"visatb_scores": 1}', "scores; expected weights, as `visatb weights -o weights.json`"),
        ('{"visatb_results": 1}', "results; expected weights, as"),
        ('{"visatb_plan": 1}', "a plan; expected weights, as"),
        ('{"a": 1}', 'no "visatb_weights" in it; expected weights, as'),
        ("[1]", 'no "visatb_weights" in it; expected weights, as'),
        ('{"visatb_weights": 2}', "visatb_weights: 2; expected 1"),
        ('{"visatb_weights": true}', "visatb_weights: true; expected 1"),
        ("", "not JSON: line 1, column 1: Expecting value"),
        ("run,task,metric,score\n", "not JSON: line 1, column 1: Expecting value"),
        ('{"visatb_weights": 1, "tasks": [', "not JSON: line 1, column 33: Expecting value"),
        ('{"visatb_weights": 1} x', "not JSON: line 1, column 23: Extra data"),
        ('{"visatb_weights": 1, "a": NaN}', "NaN is no number"),
        ('{"visatb_weights": 1, "a": 1, "a": 2}', 'the key "a" stands twice in one object'),
        ("[" * 100_000, "nested too deeply"),
        (f'{{"a": {"9" * 5000}}}', "not JSON: a number of too many digits"),
    ],
)  # fmt: skip
def test_another_kind_of_file(folder, content, problem):
    Path("weights.json").write_text(content, encoding="utf-8")
    assert refusal(visatb.DataError).startswith(f"weights.json: {problem}")


def test_bytes_that_are_not_utf_8(folder):
    Path("weights.json").write_bytes(b'{"visatb_weights": 1, "a": "\xff"}')
    assert refusal(visatb.DataError) == "weights.json: byte 28 is not UTF-8"


# --- what a weights file says ---------------------------------------------------------------------


CHANGED = "of it, so it was changed after `visatb weights` wrote it"


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("tasks", ..., "tasks: missing"),
        ("tasks", "vqa", 'tasks: "vqa"; expected a list'),
        ("tasks/1", 7, "tasks[1]: 7; expected text"),
        ("tasks/1", "caption", 'tasks[1]: "caption" stands there twice'),
        ("weights/vqa", ..., "weights.vqa: missing"),
        ("weights/vqa", "0.9", 'weights.vqa: "0.9"; expected a number'),
        ("weights/vqa", True, "weights.vqa: true; expected a number"),
        ("weights/vqa", 10**400, f"weights.vqa: 1{'0' * 59}...; expected a number"),
        ("contribution", [], "contribution: []; expected an object"),
        (
            "contribution",
            {"vqa": {"vqa": 1}},
            "contribution: too few units, 1; expected two or more",
        ),
        ("contribution/vqa/caption", None, "contribution.vqa.caption: null; expected a number"),
        ("outward", {}, "outward.caption: missing"),
        ("alphas/out", 0.5, "the alphas sum to 1.25; expected 1 within 0.02"),
        ("temperature", 0, "temperature: 0; expected a number above 0"),
        ("warnings", ..., "warnings: missing"),
        ("warnings/0/code", 3, "warnings[0].code: 3; expected text"),
        ("scores_sha256", None, "scores_sha256: null; expected text"),
        ("intervals", 1, "intervals.outward: missing"),
    ],
)
def test_wrong_values_are_named_with_their_place(three, path, value, problem):
    Path("scores.json").unlink()
    change(path, value)
    assert refusal(visatb.DataError) == f"weights.json: {problem}"


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("weights/vqa", 0.9, "weights.vqa: 0.9; the file's other numbers make 0.884310054"),
        ("contribution/vqa/caption", 0.5, "outward.vqa: 0.2; the file's other numbers make 0.35"),
        ("difficulty/vqa", 0.3, "components.difficulty.caption: 0.80772794; the file's other "
                                "numbers make 0.741927539"),
        ("components/in/vqa", 1.5, "components.in.vqa: 1.5; the file's other numbers make "
                                   "0.93127132"),
        ("temperature", 1, "components.out.caption: 1.05411506; the file's other numbers make "
                           "1.03022718"),
    ],
)  # fmt: skip
def test_numbers_that_contradict_each_other_are_not_drawn(three, path, value, problem):
    Path("scores.json").unlink()
    change(path, value)
    assert refusal(visatb.DataError) == f"weights.json: {problem} {CHANGED}"


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("weights/vqa", ..., "intervals.weights.vqa: missing"),
        ("weights/vqa", [1], "intervals.weights.vqa: expected two numbers: low, high"),
        ("weights/vqa", ["a", 1], 'intervals.weights.vqa[0]: "a"; expected a number'),
        ("difficulty/vqa", 3, "intervals.difficulty.vqa: 3; expected a list"),
        ("resamples", ..., "intervals.resamples: missing"),
        ("apart", [["vqa"]], "intervals.apart[0][1]: missing"),
        ("apart", [["vqa", "x"]], 'intervals.apart[0]: no task is called "x"'),
    ],
)
def test_wrong_intervals_are_named_with_their_place(scores, folder, path, value, problem):
    make_folder(folder, scores, add_intervals)
    change(f"intervals/{path}", value)
    assert refusal(visatb.DataError) == f"weights.json: {problem}"


def test_a_key_that_would_be_misread_stands_in_quotes(three):
    text = Path("weights.json").read_text(encoding="utf-8").replace('"vqa"', '"a.b \\"c"')
    Path("weights.json").write_text(text, encoding="utf-8")
    Path("scores.json").unlink()
    change('weights/a.b "c', "x")
    assert refusal(visatb.DataError) == (
        'weights.json: weights["a.b \\"c"]: "x"; expected a number'
    )


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("tasks", 2, "metrics", 0, "name"), "tasks[2].metrics[0].name"),
        (("runs", "visual qa", "a.b", "c"), 'runs["visual qa"]["a.b"].c'),
        (("", 'say "x"', "\n"), r'[""]["say \"x\""]["\n"]'),
    ],
)
def test_a_path_is_spelled_as_the_library_spells_it(path, text):
    assert _json_path.spell(path) == text
    assert _json_path.parse(text) == path


def test_groups_of_one_weight_cannot_be_told_without_the_scores(examples, folder):
    scores = json.loads((examples / "groups.json").read_text(encoding="utf-8"))
    scores["temperature"] = 1e15  # where all weigh 1
    make_folder(folder, scores)
    assert visatb.report.write_report(".").page.exists()
    Path("scores.json").unlink()
    assert refusal(visatb.DataError) == (
        "weights.json: weights.textvqa: reading and reasoning have this weight, so its group "
        "cannot be told; give the score file too (--scores)"
    )


# --- files that do not belong together ------------------------------------------------------------


def test_scores_of_other_weights_are_not_mixed_in(three):
    made = weights()["scores_sha256"]
    change("runs/mini/vqa/em", 61, "scores.json")
    found = hashlib.sha256(Path("scores.json").read_bytes()).hexdigest()
    assert refusal(visatb.DataError) == (
        "scores.json: not the scores that weights.json was made from: its SHA-256 begins with "
        f"{found[:12]}, that of the right ones with {made[:12]}"
    )


def test_weights_that_the_scores_do_not_make_are_refused(three):
    # Consistent in itself, and of the right hash, but of other scores.
    other = json.loads(Path("scores.json").read_text(encoding="utf-8"))
    other["runs"]["mini"]["vqa"]["em"] += 1
    changed = visatb.compute_weights(other).data
    save(Path("weights.json"), {**changed, "scores_sha256": weights()["scores_sha256"]})
    assert refusal(visatb.DataError) == (
        "weights.json: its scores make other weights in every form, so it was changed after "
        "`visatb weights` wrote it"
    )


def test_weights_of_other_tasks_than_their_scores(three):
    changed = Path("weights.json").read_text(encoding="utf-8").replace('"vqa"', '"gqa"')
    Path("weights.json").write_text(changed, encoding="utf-8")
    assert refusal(visatb.DataError) == (
        "weights.json: tasks: not those of the scores that it says it was made from"
    )


def test_a_plan_of_other_tasks(three):
    plan = plan_for(weights())
    plan["tasks"][0]["name"] = "other"
    save(Path("plan.json"), plan)
    assert refusal(visatb.DataError) == (
        "plan.json: tasks: not those of the weights, so this is another plan"
    )


def test_a_plan_that_weighs_a_fixed_task(three):
    save(Path("plan.json"), plan_for(weights()))
    Path("scores.json").unlink()
    assert gather(".").weights.fixed == {"sharegpt": 1.0}
    change("tasks/3/fixed_weight", ..., "plan.json")
    assert refusal(visatb.DataError) == (
        'weights.json: contribution: no unit "sharegpt", which the plan or the scores weigh '
        "sharegpt with"
    )


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("identity", ..., "identity: missing"),
        ("form", "half", 'form: expected "full", "simple" or "precise"'),
        ("cost/counted", "x", 'cost.counted: "x"; expected a number'),
        ("runs/1/steps", None, "runs[1].steps: null; expected a number"),
        ("inputs/0/sha256", 5, "inputs[0].sha256: 5; expected text"),
        ("tasks/0/name", ..., "tasks[0].name: missing"),
        ("sampling", 3, "sampling: 3; expected an object"),
    ],
)
def test_a_wrong_plan(three, path, value, problem):
    save(Path("plan.json"), plan_for(weights()))
    change(path, value, "plan.json")
    assert refusal(visatb.DataError) == f"plan.json: {problem}"


def test_results_of_other_tasks_and_wrong_results(three):
    save(Path("r.json"), results_for(["a", "b"], ["EW"]))
    assert refusal(visatb.DataError, results="r.json") == (
        "r.json: tasks: none of them has a weight, so these are other results"
    )
    change("methods/EW/a/em", ..., "r.json")
    assert refusal(visatb.DataError, results="r.json") == "r.json: methods.EW.a.em: missing"
    assert refusal(visatb.DataError, results="scores.json") == (
        "scores.json: scores; expected results, as `visatb evaluate` reads them"
    )


# --- what is written ------------------------------------------------------------------------------


def test_the_page_takes_the_place_of_no_file_that_it_is_made_from(three):
    Path("link.html").symlink_to("weights.json")
    for name in ("weights.json", "link.html", "scores.json"):
        assert refusal(visatb.ArgumentError, output=name) == (
            f"output = {name}: the report is made from this file"
        )


def test_a_page_that_cannot_be_written_leaves_what_was_there(three):
    Path("report.html").write_text("before", encoding="utf-8")
    message = refusal(visatb.FileError, output="missing/report.html")
    assert message == "missing/report.html: cannot be written: No such file or directory"
    change("weights/vqa", 2)
    with pytest.raises(visatb.DataError):
        write_report(".")
    assert Path("report.html").read_text(encoding="utf-8") == "before"


def test_a_folder_for_figures_that_is_a_file(three):
    Path("figures").write_text("", encoding="utf-8")
    with pytest.raises(visatb.FileError, match=r"^figures: cannot be made: File exists$"):
        write_report(".", figures="figures")
    assert not Path("report.html").exists()


@pytest.mark.parametrize(
    ("missing", "problem"),
    [
        (["matplotlib"], "matplotlib is not installed, which the report is drawn with: "
                         "pip install 'matplotlib>=3.8'"),
        (["matplotlib", "jinja2"], "matplotlib and jinja2 are not installed, which the report is "
                                   "drawn with: pip install 'matplotlib>=3.8' 'jinja2>=3.1'"),
    ],
)  # fmt: skip
def test_what_it_is_drawn_with_may_be_missing(three, missing, problem):
    code = (
        f"import sys\nfor name in {missing!r}: sys.modules[name] = None\n"
        "from visatb.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "report", "."], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (4, "", f"visatb: {problem}\n")
    assert not Path("report.html").exists()


def test_no_torch_and_no_matplotlib_for_the_rest(three):
    code = (
        "import sys\nfor name in ('torch', 'matplotlib', 'jinja2'): sys.modules[name] = None\n"
        "from visatb.cli import main\nsys.exit(main(['weights', 'scores.json']))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout[:5]) == (0, "task ")


def test_it_works_without_torch(three):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from visatb.report import write_report; write_report('.')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert Path("report.html").exists()


# --- the command ----------------------------------------------------------------------------------


def test_the_command_names_what_it_wrote(command, three):
    run = command("report", ".", "--figures", "figures")
    assert (run.code, run.out, run.err) == (0, "report.html\nfigures: 8 figures\n", "")
    run = command("report", "weights.json", "-o", "other.html")
    assert (run.code, run.out) == (0, "other.html\n")
    assert Path("other.html").read_bytes() == Path("report.html").read_bytes()


def test_the_commands_exit_codes(command, three):
    run = command("report", "scores.json")
    assert run.code == 3
    assert run.err == (
        "visatb: scores.json: scores; expected weights, as `visatb weights -o weights.json` writes "
        "them\n"
    )
    run = command("report", ".", "-o", "weights.json")
    assert run.code == 2
    assert run.err == "visatb: output = weights.json: the report is made from this file\n"
    run = command("report", "-")
    assert run.code == 2
    assert run.err.endswith("argument PATH: -: expected a file\n")
    run = command("report", "missing")
    assert (run.code, run.err) == (3, "visatb: missing: No such file or directory\n")
    assert re.search(r"--scores SCORES", command("report", "--help").out)

"""What the report refuses, with its exact message; and that it then writes nothing.

Plans have a file of their own, test_report_plan.py, and so has what is written.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from report_cases import add_intervals, change, make_folder, refusal, results_for, save, weights
from sample_files import sampled
from sample_files import write as write_files

import visatb
from visatb import _json_path
from visatb.report.gather import gather


@pytest.fixture
def three(scores, folder) -> Path:
    """The working folder with weights.json and the scores.json that it was made from."""
    return make_folder(folder, scores)


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
        ("intervals", 1, "intervals.confidence: missing"),
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
        ("difficulty/vqa", [None, 3], "intervals.difficulty.vqa[0]: null; expected a number"),
        ("weights/vqa", [1.2, 1.1], "intervals.weights.vqa: 1.2 to 1.1; expected the lower end f"),
        ("outward/vqa", [0.3, 0.2], "intervals.outward.vqa: 0.3 to 0.2; expected the lower end f"),
        ("resamples", ..., "intervals.resamples: missing"),
        ("resamples", 2000.7, "intervals.resamples: 2000.7; expected a whole number of 1 or more"),
        ("resamples", True, "intervals.resamples: true; expected a whole number of 1 or more"),
        ("resamples", 0, "intervals.resamples: 0; expected a whole number of 1 or more"),
        ("seed", -1, "intervals.seed: -1; expected a whole number of 0 or more"),
        ("refused", 2001, "intervals.refused: 2001 of 2000 resamples"),
        ("confidence", 95, "intervals.confidence: 95; expected a number between 0 and 1"),
        ("confidence", 1, "intervals.confidence: 1; expected a number between 0 and 1"),
        ("confidence", 0, "intervals.confidence: 0; expected a number between 0 and 1"),
        ("apart_from_one", [], 'intervals.apart_from_one: the intervals of "weights" say otherwi'
                               'se of "grounding"'),
        ("apart_from_one", ["grounding", "vqa"], "intervals.apart_from_one: the intervals of "
                                                 '"weights" say otherwise of "vqa"'),
        ("apart_from_one", ["grounding"] * 2, "intervals.apart_from_one: the intervals of "
                                              '"weights" say otherwise of "grounding"'),
        ("weights/vqa", [1.01, 1.1], "intervals.apart_from_one: the intervals of \"weights\" say "
                                     'otherwise of "vqa"'),
        ("apart", [["vqa"]], "intervals.apart[0][1]: missing"),
        ("apart", [["vqa", "caption", "grounding"]], "intervals.apart[0]: expected two tasks"),
        ("apart", [["vqa", "x"]], 'intervals.apart[0]: no task that was weighed is called "x"'),
        ("apart", [["vqa", "sharegpt"]], "intervals.apart[0]: no task that was weighed is called"),
        ("apart", [["vqa", "vqa"]], "intervals.apart[0]: expected tasks of two units"),
        ("apart", [["vqa", "caption"], ["caption", "vqa"]], "intervals.apart[1]: stands there twi"),
        ("weights/caption", None, "intervals.apart[0]: no interval holds for the weight of "
                                  '"caption"'),
    ],
)  # fmt: skip
def test_wrong_intervals_are_named_with_their_place(scores, folder, path, value, problem):
    make_folder(folder, scores, add_intervals)
    change(f"intervals/{path}", value)
    assert refusal(visatb.DataError).startswith(f"weights.json: {problem}")


@pytest.mark.parametrize("name", ["full", "precise", "groups"])
@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_intervals_that_were_made_are_what_the_report_takes(worked, folder, name, noise):
    document, values = sampled(worked(name), noise=noise)
    write_files(document, values)
    visatb.compute_weights("scores.json", resamples=200).save("weights.json")
    said = weights()["intervals"]
    found = gather(".").weights.intervals
    assert (found.resamples, found.refused) == (200, said["refused"])
    assert bool(found.apart_from_one) == bool(said["apart_from_one"])
    assert bool(found.pairs_apart) == bool(said["apart"])


@pytest.fixture
def grouped(worked, folder) -> list[list[str]]:
    """Pairs that are told apart in the files of the working folder, tasks of a group among them."""
    write_files(*sampled(worked("groups"), noise=0.02))
    visatb.compute_weights("scores.json", resamples=200).save("weights.json")
    pairs = weights()["intervals"]["apart"]
    assert ["textvqa", "refcoco"] in pairs
    assert ["textcaps", "refcoco"] in pairs
    return pairs


def test_tasks_of_one_group_have_one_interval(grouped):
    change("intervals/weights/textvqa/0", 0.5)
    assert refusal(visatb.DataError) == (
        "weights.json: intervals.weights.textcaps: not that of another task of reading"
    )


def test_tasks_of_one_group_are_told_apart_together(grouped):
    change("intervals/apart", [pair for pair in grouped if pair != ["textcaps", "refcoco"]])
    assert refusal(visatb.DataError) == (
        'weights.json: intervals.apart: lacks "textcaps" and "refcoco", whose groups are told apart'
    )
    change("intervals/apart", [["textvqa", "textcaps"]])
    assert refusal(visatb.DataError) == (
        "weights.json: intervals.apart[0]: expected tasks of two units"
    )


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


# --- what it is drawn with ------------------------------------------------------------------------


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


def test_without_a_path_the_folder_of_the_project_here_is_drawn(command, three):
    tasks = "[tasks.a]\nsamples = 90\n[tasks.b]\nsamples = 90\n"
    Path("visatb.toml").write_text(f"visatb_project = 1\noutput = 'out'\n{tasks}", "utf-8")
    Path("out").mkdir()
    for name in ("weights.json", "scores.json"):
        Path(name).rename(f"out/{name}")
    run = command("report")
    assert (run.code, run.out, run.err) == (0, "out/report.html\n", "")


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
    assert command("report").err == (
        "visatb: visatb.toml: No such file or directory; expected a project file\n"
    )
    run = command("report", "-")
    assert run.code == 2
    assert run.err.endswith("argument PATH: -: expected a file\n")
    run = command("report", "missing")
    assert (run.code, run.err) == (3, "visatb: missing: No such file or directory\n")
    assert re.search(r"--scores SCORES", command("report", "--help").out)

"""Weights with intervals: the files, and what is refused of them."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import threading
from pathlib import Path

import pytest
from sample_files import sampled, shift, write
from slow_bootstrap import about

import visatb
from visatb._json_path import parse, spell

FEW = {"resamples": 60, "confidence": 0.9}


# --- the file -------------------------------------------------------------------------------------


def of_samples() -> str:
    return hashlib.sha256(Path("answers.jsonl").read_bytes()).hexdigest()


def test_the_file_is_the_librarys_with_two_members_more(full_files):
    plain = visatb.compute_weights("scores.json", intervals=False)
    weights = visatb.compute_weights("scores.json", **FEW)
    assert plain.intervals is None
    assert weights.to_json().startswith(
        plain.to_json().removesuffix("\n}\n")
        + f',\n  "per_sample_sha256": "{of_samples()}",\n  "intervals": {{\n'
    )
    assert weights.to_json().endswith("\n  }\n}\n")
    more = {"per_sample_sha256": of_samples(), "intervals": weights.intervals}
    assert json.loads(weights.to_json()) == {**plain.data, **more}
    weights.save("weights.json")
    assert visatb.load_weights("weights.json").tolist() == pytest.approx(
        list(weights.weights.values()), rel=1e-7
    )


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda w: pickle.loads(pickle.dumps(w))])
def test_a_copy_has_its_intervals(full_files, duplicate):
    weights = visatb.compute_weights("scores.json", **FEW)
    copied = duplicate(weights)
    assert copied.intervals == weights.intervals
    assert copied.warnings == weights.warnings


@pytest.mark.parametrize(
    "path",
    [
        ("runs", "with_mini", "visual qa", "a.b", "em"),
        ("tasks", 2, "metrics", 0, "name"),
        ("runs", "mini", "[x]", 'q"\\\n', ""),
        ("看", ":"),
    ],
)
def test_a_path_that_is_spelled_is_parsed_again(path):
    assert parse(spell(path)) == path
    assert spell(("runs", "with_mini", "vqa", "a.b")) == 'runs.with_mini.vqa["a.b"]'


# --- which file of scores by sample ---------------------------------------------------------------


def test_the_file_is_looked_for_beside_the_score_file(full_files, folder, monkeypatch):
    expected = visatb.compute_weights("scores.json", **FEW).intervals
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert visatb.compute_weights("../scores.json", **FEW).intervals == expected
    assert visatb.compute_weights(folder / "scores.json", **FEW).intervals == expected
    # A dict has no folder.
    weights = visatb.compute_weights(full_files[0], **FEW)
    assert weights.intervals is None
    assert weights.warnings[-1] == visatb.ScoreWarning(
        "no_intervals",
        "per_sample",
        "no intervals: answers.jsonl: No such file or directory",
    )


def test_another_file_may_be_given(full_files):
    document, _ = full_files
    expected = visatb.compute_weights("scores.json", **FEW).intervals
    Path("answers.jsonl").rename("other.jsonl")
    del document["per_sample"]
    assert visatb.compute_weights(document, **FEW).intervals is None
    given = visatb.compute_weights(document, per_sample=Path("other.jsonl"), **FEW)
    assert given.intervals == expected


def test_scores_by_sample_may_come_out_of_a_pipe(full_files):
    expected = visatb.compute_weights("scores.json", **FEW).to_json()
    reader, writer = os.pipe()
    content = Path("answers.jsonl").read_bytes()
    thread = threading.Thread(target=lambda: (os.write(writer, content), os.close(writer)))
    thread.start()
    given = visatb.compute_weights("scores.json", per_sample=f"/dev/fd/{reader}", **FEW)
    thread.join()
    os.close(reader)
    assert given.to_json() == expected


def test_a_sheet_may_have_one_too(worked, folder, examples):
    document, values = sampled(worked("full"))
    rows = ["run,task,metric,score,higher_is_better"]
    rows += [
        f"{run},{task},{m},{sum(v.values()) / len(v)!r},true"
        for (run, task, m), v in values.items()
    ]
    Path("scores.csv").write_text("\n".join(rows), encoding="utf-8")
    write(document, values)
    given = {"temperature": 0.5, "per_sample": "answers.jsonl", **FEW}
    sheet = visatb.compute_weights("scores.csv", **given)
    assert sheet.intervals == about(visatb.compute_weights("scores.json", **given).intervals)
    shift(values, ("with_mini:vqa", "vqa", "em"), 1.0)
    write(document, values)
    with pytest.raises(visatb.DataError, match=r"line 8: .*: scores\.csv says "):
        visatb.compute_weights("scores.csv", **given)


def test_intervals_that_are_asked_for_need_a_file(full_files):
    document, _ = full_files
    with pytest.raises(visatb.FileError) as missing:
        visatb.compute_weights({**document, "per_sample": "none.jsonl"}, intervals=True)
    assert str(missing.value) == "none.jsonl: No such file or directory"
    with pytest.raises(visatb.FileError):
        visatb.compute_weights("scores.json", per_sample="none.jsonl")
    del document["per_sample"]
    with pytest.raises(visatb.DataError) as unnamed:
        visatb.compute_weights(document, intervals=True)
    assert str(unnamed.value) == (
        "scores: per_sample: missing; intervals need a file of scores by sample"
    )
    with pytest.raises(visatb.DataError) as nameless:
        visatb.compute_weights({**document, "per_sample": ""})
    assert str(nameless.value) == "scores: per_sample: no file can have this name"


def test_a_score_without_values_is_named_and_only_refused_where_intervals_were_asked_for(
    full_files,
):
    document, values = full_files
    plain = visatb.compute_weights("scores.json", intervals=False)
    del values["with_mini:grounding", "vqa", "em"]
    write(document, values)
    message = (
        "answers.jsonl: no line for run with_mini:grounding, task vqa, metric em, which the full "
        "form needs"
    )
    with pytest.raises(visatb.DataError) as caught:
        visatb.compute_weights("scores.json", intervals=True)
    assert str(caught.value) == message
    weights = visatb.compute_weights("scores.json")
    assert weights.data == {**plain.data, "per_sample_sha256": of_samples()}
    assert weights.warnings == [
        *plain.warnings,
        visatb.ScoreWarning("no_intervals", "per_sample", f"no intervals: {message}"),
    ]


def test_lines_that_the_form_does_not_need_are_checked_and_may_be_missing(worked, folder):
    document, values = sampled(worked("precise"))
    document["form"] = "full"
    kept = {key: v for key, v in values.items() if not key[0].startswith("only")}
    write(document, kept)
    assert visatb.compute_weights("scores.json", **FEW).intervals is not None
    shift(kept, ("mini_only:vqa", "vqa", "em"), 1.0)
    write(document, kept)
    with pytest.raises(visatb.DataError, match="values of another file"):
        visatb.compute_weights("scores.json", **FEW)


# --- what is refused ------------------------------------------------------------------------------


def line(run="with_mini:vqa", task="vqa", metric="em", **values):
    return json.dumps({"run": run, "task": task, "metric": metric, "values": values})


def small(document):
    """A line for the run mini of vqa with three samples, whose mean becomes the score."""
    document["runs"]["mini"]["vqa"]["em"] = 40.0
    document["runs"]["with_mini"]["vqa"]["vqa"]["em"] = 60.9
    return line(run="mini", a=0, b=20, c=100)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            line(run="with_mini:ocr", a=1, b=2),
            "unknown run with_mini:ocr; scores.json has no scores of it",
        ),
        (line(run="base", a=1, b=2), "unknown run base; scores.json has no scores of it"),
        (line(task="ocr", a=1, b=2), "unknown task ocr; it is not in scores.json"),
        (line(metric="f1", a=1, b=2), "unknown metric f1 of task vqa"),
        (
            line(run="mini_only:vqa", task="caption", metric="cider", a=1, b=2),
            "scores.json has no score of run mini_only:vqa, task caption, metric cider",
        ),
        (line(a=60.9), "values: one sample; a resample is drawn from two or more"),
        (
            line(a=60.9, b=60.9),
            "values: c is missing, which line 1 (run mini) has; the runs of vqa need the same "
            "samples",
        ),
        (
            line(a=1, b=2, c=3, d=4),
            "values: d is not in line 1 (run mini); the runs of vqa need the same samples",
        ),
        (
            line(a=61, b=61.2, c=61.4),
            "run with_mini:vqa, task vqa, metric em: scores.json says 60.9, the mean of its 3 "
            "values is 61.2: values of another file",
        ),
    ],
)
def test_a_line_that_does_not_fit_the_score_file_is_refused(worked, folder, second, message):
    document = worked("full")
    first = small(document)
    document["runs"]["mini_only"] = {"vqa": {"vqa": {"em": 50}}}
    document["per_sample"] = "answers.jsonl"
    Path("scores.json").write_text(json.dumps(document), encoding="utf-8")
    Path("answers.jsonl").write_text(f"{first}\n{second}\n", encoding="utf-8")
    with pytest.raises(visatb.DataError) as caught:
        visatb.compute_weights("scores.json")
    assert str(caught.value) == f"answers.jsonl: line 2: {message}"


@pytest.mark.parametrize(
    ("factor", "fits"), [(1 + 9e-7, True), (1 - 9e-7, True), (1 + 2e-6, False)]
)
def test_a_score_may_be_a_rounding_of_the_mean(full_files, factor, fits):
    document, _ = full_files
    document["runs"]["mini"]["vqa"]["em"] *= factor
    if fits:
        assert visatb.compute_weights(document, **FEW).intervals is not None
    else:
        with pytest.raises(visatb.DataError, match="values of another file"):
            visatb.compute_weights(document, **FEW)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"resamples": 10},
            "resamples = 10; expected an integer of 40 or more at a confidence of 0.95",
        ),
        ({"confidence": 0}, "confidence = 0; expected a number between 0 and 1"),
        ({"seed": None}, "seed = None; expected an integer of 0 or more"),
        ({"intervals": "yes"}, "intervals = 'yes'; expected True, False or None"),
        (
            {"intervals": False, "per_sample": "a.jsonl"},
            "per_sample = 'a.jsonl' without intervals; drop one of the two",
        ),
        ({"per_sample": 3}, "per_sample = 3; expected a path"),
    ],
)
def test_wrong_arguments_are_refused_before_a_file_is_read(folder, arguments, message):
    with pytest.raises(visatb.ArgumentError) as caught:
        visatb.compute_weights("none.json", **arguments)
    assert str(caught.value) == message

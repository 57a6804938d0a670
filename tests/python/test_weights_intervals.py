"""Weights with intervals: from a score file and its scores by sample."""

from __future__ import annotations

import copy
import csv
import io
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from slow_bootstrap import Key, sampled, slow_bootstrap

import visatb
from visatb._json_path import parse, spell
from visatb.per_sample import SampleValues, write_per_sample

FORMS = {"full": "full", "simple": "simple", "groups": "full", "precise": "precise"}
FEW = {"resamples": 60, "confidence": 0.9}


@pytest.fixture
def load(examples):
    """A worked score file; the precise form's is made of the full's."""

    def of(name: str) -> dict[str, Any]:
        file = "full" if name == "precise" else name
        document = json.loads((examples / f"{file}.json").read_text(encoding="utf-8"))
        if name == "precise":
            document["form"] = "precise"
            runs = document["runs"]
            runs["only"] = {u: {u: dict(s[u])} for u, s in runs["with_mini"].items()}
            runs["mini_only"] = {u: {u: dict(runs["mini"][u])} for u in runs["with_mini"]}
            runs["mini_only"]["vqa"]["vqa"]["em"] = 49.0
        return document

    return of


def write(document: dict[str, Any], values: dict[Key, dict[str, float]], name="answers.jsonl"):
    """Both files, in the working folder."""
    write_per_sample(name, [SampleValues(*key, column) for key, column in values.items()])
    document["per_sample"] = name
    Path("scores.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def full(load, folder):
    """The full form's files in the working folder, to be broken by a test."""
    document, values = sampled(load("full"))
    write(document, values)
    return document, values


def assert_alike(found: Any, expected: Any) -> None:
    """Equal to 1e-12, through dicts and lists."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_alike(found[key], value)
    elif isinstance(expected, list) and expected and isinstance(expected[0], float):
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)
    else:
        assert found == expected


def without_warnings(weights: visatb.Weights) -> dict[str, Any]:
    return {key: value for key, value in weights.intervals.items() if key != "warnings"}


# --- the numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("noise", [0.05, 0.2], ids=["little noise", "much noise"])
def test_they_are_those_of_a_bootstrap_in_loops(load, folder, name, noise):
    document, values = sampled(load(name), noise=noise)
    write(document, values)
    weights = visatb.compute_weights("scores.json", seed=5, **FEW)
    expected = slow_bootstrap(
        document,
        values,
        form=FORMS[name],
        alphas=weights.data["alphas"],
        temperature=weights.temperature,
        seed=5,
        **FEW,
    )
    assert_alike(without_warnings(weights), expected)
    if noise == 0.05:
        assert None not in expected["weights"].values()


def test_so_they_are_with_alphas_and_a_temperature_of_ones_own(load, folder):
    document, values = sampled(load("full"))
    write(document, values)
    alphas = {"out": 0.5, "in": 0.2, "difficulty": 0.3}
    weights = visatb.compute_weights(
        "scores.json", alphas=list(alphas.values()), temperature=0.7, **FEW
    )
    expected = slow_bootstrap(document, values, form="full", alphas=alphas, temperature=0.7, **FEW)
    assert_alike(without_warnings(weights), expected)


def test_so_they_are_where_there_is_none(load, folder):
    document, values = sampled(load("full"), seed=3, noise=0.3)
    write(document, values)
    weights = visatb.compute_weights("scores.json", temperature=1.0, **FEW)
    expected = slow_bootstrap(
        document, values, form="full", alphas=weights.data["alphas"], temperature=1.0, **FEW
    )
    assert_alike(without_warnings(weights), expected)
    assert expected["weights"] == dict.fromkeys(("caption", "vqa", "grounding"))
    assert expected["contribution"]["vqa"]["grounding"] is not None
    assert 0 < expected["refused"] < 60


def test_each_interval_has_the_measured_value_in_it(full):
    weights = visatb.compute_weights("scores.json")
    for measure in ("outward", "inward", "difficulty"):
        for unit, (low, high) in weights.intervals[measure].items():
            assert low < weights.data[measure][unit] < high
    for task, (low, high) in weights.intervals["weights"].items():
        assert low < weights.weights[task] < high


@pytest.mark.parametrize("name", FORMS)
def test_equal_values_have_intervals_without_a_width(load, folder, name):
    document, values = sampled(load(name), noise=0.0)
    write(document, values)
    weights = visatb.compute_weights("scores.json", **FEW)
    for measure in ("outward", "inward", "difficulty"):
        expected = {unit: [x, x] for unit, x in weights.data[measure].items()}
        assert weights.intervals[measure] == expected
    for task, ends in weights.intervals["weights"].items():
        assert ends == [weights.weights[task]] * 2
    assert set(weights.intervals["apart_from_one"]) == set(weights.intervals["weights"])


def test_twice_the_same_seed_gives_the_same_bits_and_another_gives_others(full):
    first = visatb.compute_weights("scores.json", **FEW).to_json()
    assert visatb.compute_weights("scores.json", **FEW).to_json() == first
    other = visatb.compute_weights("scores.json", seed=1, **FEW)
    assert other.to_json() != first
    assert other.intervals["seed"] == 1


def test_the_order_of_tasks_samples_and_lines_decides_nothing(full):
    document, values = full
    expected = visatb.compute_weights("scores.json", **FEW)
    document["tasks"].reverse()
    turned = {key: dict(reversed(column.items())) for key, column in reversed(list(values.items()))}
    write(document, turned)
    found = visatb.compute_weights("scores.json", **FEW).intervals
    assert list(found["weights"]) == ["grounding", "vqa", "caption"]
    for measure in ("weights", "outward", "inward", "difficulty"):
        for unit, ends in found[measure].items():
            assert ends == pytest.approx(expected.intervals[measure][unit], rel=1e-12)


def test_a_task_beside_has_no_part_in_the_draws_of_another(full):
    document, _ = full
    expected = visatb.compute_weights("scores.json", **FEW).intervals["difficulty"]
    document["tasks"][1]["fixed_weight"] = 1.0
    del document["runs"]["with_mini"]["vqa"]
    for run in (document["runs"]["mini"], *document["runs"]["with_mini"].values()):
        del run["vqa"]
    lines = [
        line
        for line in Path("answers.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        if "vqa" not in line
    ]
    Path("answers.jsonl").write_text("".join(lines), encoding="utf-8")
    found = visatb.compute_weights(document, **FEW).intervals["difficulty"]
    assert found == {unit: expected[unit] for unit in ("caption", "grounding")}


def test_the_temperature_of_the_measurement_is_kept(full):
    weights = visatb.compute_weights("scores.json", temperature="auto", **FEW)
    kept = visatb.compute_weights("scores.json", temperature=weights.temperature, **FEW)
    assert weights.intervals == kept.intervals
    wide = visatb.compute_weights("scores.json", temperature=4.0, **FEW).intervals["weights"]
    for task, (low, high) in weights.intervals["weights"].items():
        assert wide[task][1] - wide[task][0] < high - low


def test_tasks_of_a_group_share_an_interval_and_are_no_pair(load, folder):
    document, values = sampled(load("groups"), noise=0.02)
    write(document, values)
    intervals = visatb.compute_weights("scores.json", **FEW).intervals
    assert list(intervals["weights"]) == [
        "textvqa", "textcaps", "scienceqa", "dialogue", "refcoco",
    ]  # fmt: skip
    assert intervals["weights"]["textvqa"] == intervals["weights"]["textcaps"]
    assert list(intervals["outward"]) == ["reading", "reasoning", "refcoco"]
    assert ["textvqa", "textcaps"] not in intervals["apart"]
    assert ["textvqa", "refcoco"] in intervals["apart"]


def test_tasks_of_a_group_need_not_stand_together(load, folder):
    document, values = sampled(load("groups"), noise=0.02)
    write(document, values)
    expected = visatb.compute_weights("scores.json", **FEW).intervals["apart"]
    document["tasks"].append(document["tasks"].pop(0))  # textvqa
    write(document, values)
    found = visatb.compute_weights("scores.json", **FEW).intervals["apart"]
    assert {frozenset(pair) for pair in found} == {frozenset(pair) for pair in expected}
    assert ["refcoco", "textvqa"] in found


def test_a_form_that_is_given_wins_over_the_files(load, folder):
    document, values = sampled(load("precise"))
    write(document, values)
    precise = visatb.compute_weights("scores.json", **FEW).intervals
    full = visatb.compute_weights("scores.json", form="full", **FEW).intervals
    assert precise["contribution"] == full["contribution"]
    assert precise["difficulty"] != full["difficulty"]


# --- where no interval holds ----------------------------------------------------------------------


def shift(values, key, by):
    """Moves the values of one run."""
    values[key] = {sample: value + by for sample, value in values[key].items()}


def rescore(document, values):
    """Puts the means of the values into the score file."""
    for (run, task, metric), column in values.items():
        kind, _, unit = run.partition(":")
        content = document["runs"][kind][unit] if unit else document["runs"][kind]
        content[task][metric] = sum(column.values()) / len(column)


def test_a_denominator_that_is_not_told_from_0_has_no_interval_and_a_sentence(full):
    document, values = full
    gain = document["runs"]["with_mini"]["vqa"]["vqa"]["em"] - document["runs"]["mini"]["vqa"]["em"]
    shift(values, ("with_mini:vqa", "vqa", "em"), 0.5 - gain)
    rescore(document, values)
    write(document, values)
    weights = visatb.compute_weights("scores.json")
    intervals = weights.intervals
    assert intervals["contribution"]["caption"]["vqa"] is None
    assert intervals["contribution"]["grounding"]["vqa"] is None
    assert intervals["inward"]["vqa"] is None
    assert intervals["outward"]["caption"] is None
    assert intervals["outward"]["vqa"] is not None
    assert intervals["contribution"]["vqa"]["caption"] is not None
    assert None not in intervals["difficulty"].values()
    assert set(intervals["weights"].values()) == {None}
    assert intervals["apart"] == intervals["apart_from_one"] == []
    refused = intervals["refused"]
    assert 200 < refused < 1000
    assert weights.warnings[-1] == visatb.ScoreWarning(
        "denominator_near_zero",
        "runs.with_mini.vqa.vqa.em",
        f"in {refused} of 2000 resamples training on vqa did not make vqa better: its denominators "
        "are not told from 0, so no interval holds for contributions to vqa and what is made from "
        "them",
    )
    assert intervals["warnings"] == [
        {
            "code": "denominator_near_zero",
            "path": "runs.with_mini.vqa.vqa.em",
            "message": weights.warnings[-1].message,
        }
    ]
    # Difficulty alone does not divide by it.
    alone = visatb.compute_weights("scores.json", alphas=(0, 0, 1), temperature=1)
    assert None not in alone.intervals["weights"].values()


def test_of_a_group_the_metric_that_is_refused_most_often_is_named(load, folder):
    document, values = sampled(load("groups"), noise=0.02)
    scores = document["runs"]["with_mini"]["reasoning"]
    before = document["runs"]["mini"]
    for task, metric, gain in (("scienceqa", "acc", 0.6), ("dialogue", "ppl", -0.05)):
        now = scores[task][metric] - before[task][metric]
        shift(values, ("with_mini:reasoning", task, metric), gain - now)
    rescore(document, values)
    write(document, values)
    weights = visatb.compute_weights("scores.json", temperature=4.0)
    assert weights.warnings[-1].where == "runs.with_mini.reasoning.dialogue.ppl"
    assert (
        f"in {weights.intervals['refused']} of 2000 resamples training on reasoning did not make "
        "reasoning better: "
    ) in weights.warnings[-1].message


def test_a_negative_denominator_that_is_let_through_is_told_from_0_like_any_other(full):
    document, values = full
    shift(values, ("with_mini:vqa", "vqa", "em"), -40.0)
    rescore(document, values)
    write(document, values)
    let = {"allow_negative_denominator": True, "temperature": 1.0}
    weights = visatb.compute_weights("scores.json", **let, **FEW)
    assert weights.intervals["refused"] == 0
    gain = document["runs"]["with_mini"]["vqa"]["vqa"]["em"] - document["runs"]["mini"]["vqa"]["em"]
    shift(values, ("with_mini:vqa", "vqa", "em"), -0.3 - gain)
    rescore(document, values)
    write(document, values)
    weights = visatb.compute_weights("scores.json", **let, **FEW)
    assert "training on vqa did not make vqa worse: " in weights.warnings[-1].message


def test_a_divisor_that_is_not_told_from_0_has_a_sentence(full):
    document, values = full
    before = document["runs"]["mini"]["caption"]["cider"]
    after = document["runs"]["with_mini"]["caption"]["caption"]["cider"]
    for run in ("mini", *(f"with_mini:{unit}" for unit in ("caption", "vqa", "grounding"))):
        shift(values, (run, "caption", "cider"), 0.01 - after)
    rescore(document, values)
    write(document, values)
    assert before < after
    weights = visatb.compute_weights("scores.json", temperature=100.0)
    assert weights.intervals["difficulty"]["caption"] is None
    assert weights.intervals["difficulty"]["vqa"] is not None
    assert set(weights.intervals["weights"].values()) == {None}
    assert (
        visatb.ScoreWarning(
            "divisor_near_zero",
            "runs.with_mini.caption.caption.cider",
            f"in {weights.intervals['refused']} of 2000 resamples the score is not above 0, and "
            "difficulty divides by it: no interval holds for the difficulty of caption and what is "
            "made from it",
        )
        in weights.warnings
    )


def test_of_a_lower_is_better_score_the_divisor_is_that_of_little_training(load, folder):
    document, values = sampled(load("groups"), noise=0.05)
    low = document["runs"]["mini"]["dialogue"]["ppl"]
    for key in [key for key in values if key[1] == "dialogue"]:
        shift(values, key, 0.3 - low)
    rescore(document, values)
    write(document, values)
    weights = visatb.compute_weights("scores.json", temperature=1000.0)
    (warning,) = [w for w in weights.warnings if w.code == "divisor_near_zero"]
    assert warning.where == "runs.mini.dialogue.ppl"
    assert "no interval holds for the difficulty of reasoning " in warning.message


def test_few_refused_of_each_may_be_too_many_of_all(full):
    document, values = full
    # Gains of a little more than two standard errors.
    for unit, metric, gain in (("vqa", "em", 3.1), ("grounding", "acc50", 1.79)):
        runs = document["runs"]
        now = runs["with_mini"][unit][unit][metric] - runs["mini"][unit][metric]
        shift(values, (f"with_mini:{unit}", unit, metric), gain - now)
    rescore(document, values)
    write(document, values)
    weights = visatb.compute_weights("scores.json", temperature=4.0, seed=3)
    intervals = weights.intervals
    assert None not in [x for row in intervals["contribution"].values() for x in row.values()]
    assert set(intervals["weights"].values()) == {None}
    warning = weights.warnings[-1]
    assert warning[:2] == ("denominators_near_zero", "intervals.weights")
    assert warning.message.startswith(f"in {intervals['refused']} of 2000 resamples a denominator ")
    assert "(vqa " in warning.message
    assert ", grounding " in warning.message
    assert warning.message.endswith("): no interval holds for the weights")


# --- the file -------------------------------------------------------------------------------------


def test_the_file_is_the_librarys_with_a_member_more(full):
    plain = visatb.compute_weights("scores.json", intervals=False)
    weights = visatb.compute_weights("scores.json", **FEW)
    assert plain.intervals is None
    assert weights.to_json().startswith(
        plain.to_json().removesuffix("\n}\n") + ',\n  "intervals": {\n'
    )
    assert weights.to_json().endswith("\n  }\n}\n")
    assert json.loads(weights.to_json()) == {**plain.data, "intervals": weights.intervals}
    weights.save("weights.json")
    assert visatb.load_weights("weights.json").tolist() == pytest.approx(
        list(weights.weights.values()), rel=1e-7
    )


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda w: pickle.loads(pickle.dumps(w))])
def test_a_copy_has_its_intervals(full, duplicate):
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


def test_the_file_is_looked_for_beside_the_score_file(full, folder, monkeypatch):
    expected = visatb.compute_weights("scores.json", **FEW).intervals
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert visatb.compute_weights("../scores.json", **FEW).intervals == expected
    assert visatb.compute_weights(folder / "scores.json", **FEW).intervals == expected
    # A dict has no folder.
    weights = visatb.compute_weights(full[0], **FEW)
    assert weights.intervals is None
    assert weights.warnings[-1] == visatb.ScoreWarning(
        "no_intervals",
        "per_sample",
        "no intervals: answers.jsonl: No such file or directory",
    )


def test_another_file_may_be_given(full):
    document, _ = full
    expected = visatb.compute_weights("scores.json", **FEW).intervals
    Path("answers.jsonl").rename("other.jsonl")
    del document["per_sample"]
    assert visatb.compute_weights(document, **FEW).intervals is None
    given = visatb.compute_weights(document, per_sample=Path("other.jsonl"), **FEW)
    assert given.intervals == expected


def test_a_sheet_may_have_one_too(load, folder, examples):
    document, values = sampled(load("full"))
    rows = ["run,task,metric,score,higher_is_better"]
    rows += [
        f"{run},{task},{m},{sum(v.values()) / len(v)!r},true"
        for (run, task, m), v in values.items()
    ]
    Path("scores.csv").write_text("\n".join(rows), encoding="utf-8")
    write(document, values)
    given = {"temperature": 0.5, "per_sample": "answers.jsonl", **FEW}
    sheet = visatb.compute_weights("scores.csv", **given)
    assert_alike(sheet.intervals, visatb.compute_weights("scores.json", **given).intervals)
    shift(values, ("with_mini:vqa", "vqa", "em"), 1.0)
    write(document, values)
    with pytest.raises(visatb.DataError, match=r"line 8: .*: scores\.csv says "):
        visatb.compute_weights("scores.csv", **given)


def test_intervals_that_are_asked_for_need_a_file(full):
    document, _ = full
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


def test_a_score_without_values_is_named_and_only_refused_where_intervals_were_asked_for(full):
    document, values = full
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
    assert weights.to_json() == plain.to_json()
    assert weights.warnings == [
        *plain.warnings,
        visatb.ScoreWarning("no_intervals", "per_sample", f"no intervals: {message}"),
    ]


def test_lines_that_the_form_does_not_need_are_checked_and_may_be_missing(load, folder):
    document, values = sampled(load("precise"))
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
def test_a_line_that_does_not_fit_the_score_file_is_refused(load, folder, second, message):
    document = load("full")
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
def test_a_score_may_be_a_rounding_of_the_mean(full, factor, fits):
    document, _ = full
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


# --- the command ----------------------------------------------------------------------------------


TABLE = """\
task       weight  95% interval  outward  inward  difficulty  by-out  by-in  by-diff
caption    0.9933   0.854-1.167    0.127  -0.120       0.150   1.153  1.340    0.740
vqa        0.8835   0.758-1.032    0.137   0.086       0.146   1.176  0.887    0.736
grounding  1.1232   1.034-1.198   -0.143   0.155       0.511   0.672  0.773    1.524
sharegpt   1.0000                  fixed

weight = 0.25 by-out + 0.25 by-in + 0.5 by-diff
temperature 0.5 (from the scores file)
2000 resamples of the validation samples at this temperature; none refused
told apart from 1: grounding; not told apart: caption, vqa
1 of 3 pairs are told apart
"""


def test_the_table_has_a_column_and_says_what_is_told_apart(command, full):
    run = command("weights", "scores.json", "--seed", "7")
    assert (run.code, run.out) == (0, TABLE)
    assert run.err.count("negative contribution") == len(run.err.splitlines())


def test_tasks_of_a_group_are_not_counted_as_a_pair(command, load, folder):
    document, values = sampled(load("groups"), noise=0.02)
    write(document, values)
    told = visatb.compute_weights("scores.json").intervals["apart"]
    assert command("weights", "scores.json").out.endswith(
        f"\n{len(told)} of 8 pairs are told apart\n"
    )


def test_the_column_is_called_by_its_confidence_and_none_is_none(command, full):
    document, values = full
    gain = document["runs"]["with_mini"]["vqa"]["vqa"]["em"] - document["runs"]["mini"]["vqa"]["em"]
    shift(values, ("with_mini:vqa", "vqa", "em"), 0.5 - gain)
    rescore(document, values)
    write(document, values)
    run = command("weights", "scores.json", "--confidence", "0.9", "--resamples", "100")
    lines = run.out.splitlines()
    assert lines[0].split()[:4] == ["task", "weight", "90%", "interval"]
    assert lines[1].split()[2] == "none"
    refused = visatb.compute_weights("scores.json", confidence=0.9, resamples=100)
    assert lines[-3].endswith(f"; {refused.intervals['refused']} refused")
    assert lines[-2] == "told apart from 1: none; not told apart: caption, vqa, grounding"
    assert lines[-1] == "0 of 3 pairs are told apart"
    assert "visatb: warning: scores.json: runs.with_mini.vqa.vqa.em: in " in run.err
    rows = list(csv.DictReader(io.StringIO(command("weights", "scores.json", "--format=csv").out)))
    assert [row["low"] for row in rows] == [""] * 4
    strict = command("weights", "scores.json", "--no-intervals", "--strict", "-o", "weights.json")
    assert command("weights", "scores.json", "--strict").code == 1
    assert "denominator" not in strict.err


def test_csv_has_both_ends_and_json_is_the_file(command, full):
    rows = list(csv.DictReader(io.StringIO(command("weights", "scores.json", "--format=csv").out)))
    weights = visatb.compute_weights("scores.json")
    ends = weights.intervals["weights"]
    assert list(rows[0])[:5] == ["task", "unit", "weight", "low", "high"]
    assert [float(rows[1]["low"]), float(rows[1]["high"])] == ends["vqa"]
    assert rows[3]["low"] == rows[3]["high"] == ""
    assert command("weights", "scores.json", "--format=json").out == weights.to_json()
    shell = command("weights", "scores.json", "--format=shell").out
    assert shell == command("weights", "scores.json", "--format=shell", "--no-intervals").out


def test_without_intervals_the_table_is_as_it_was(command, full):
    run = command("weights", "scores.json", "--no-intervals")
    assert "interval" not in run.out
    assert "apart" not in run.out
    rows = csv.DictReader(
        io.StringIO(command("weights", "scores.json", "--no-intervals", "--format=csv").out)
    )
    assert "low" not in next(rows)


def test_a_file_may_be_named_on_the_command_line(command, full):
    Path("answers.jsonl").rename("other.jsonl")
    warned = command("weights", "scores.json")
    assert warned.code == 0
    assert "interval" not in warned.out
    assert warned.err.endswith(
        "visatb: warning: scores.json: per_sample: no intervals: answers.jsonl: "
        "No such file or directory\n"
    )
    assert command("weights", "scores.json", "--strict").code == 1
    asked = command("weights", "scores.json", "--intervals")
    assert (asked.code, asked.out) == (3, "")
    assert asked.err == "visatb: answers.jsonl: No such file or directory\n"
    named = command("weights", "scores.json", "--per-sample", "other.jsonl", "--seed", "7")
    assert named.out == TABLE
    text = Path("scores.json").read_text(encoding="utf-8")
    assert command("weights", "-", "--per-sample=other.jsonl", "--seed=7", stdin=text).out == TABLE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resamples", "3"], "visatb: resamples = 3; expected an integer of 40 or more"),
        (["--resamples", "many"], "argument --resamples: invalid int value: 'many'"),
        (["--confidence", "95"], "visatb: confidence = 95.0; expected a number between 0 and 1"),
        (["--seed", "-1"], "visatb: seed = -1; expected an integer of 0 or more"),
        (
            ["--no-intervals", "--per-sample", "a.jsonl"],
            "visatb: per_sample = 'a.jsonl' without intervals; drop one of the two",
        ),
    ],
)
def test_wrong_usage_is_exit_code_2(command, full, arguments, message):
    run = command("weights", "scores.json", *arguments)
    assert (run.code, run.out) == (2, "")
    assert message in run.err


def test_a_wrong_line_is_exit_code_3_and_writes_nothing(command, full):
    with Path("answers.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"run": "mini"')
    run = command("weights", "scores.json", "-o", "weights.json")
    assert (run.code, run.out) == (3, "")
    assert run.err == "visatb: answers.jsonl: line 13: cut off; expected a whole JSON object\n"
    assert not Path("weights.json").exists()

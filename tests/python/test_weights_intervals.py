"""Weights with intervals: the numbers, from a score file and its scores by sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_files import rescore, sampled, shift, write
from slow_bootstrap import about, slow_bootstrap

import visatb

FORMS = {"full": "full", "simple": "simple", "groups": "full", "precise": "precise"}
FEW = {"resamples": 60, "confidence": 0.9}


def without_warnings(weights: visatb.Weights) -> dict[str, Any]:
    return {key: value for key, value in weights.intervals.items() if key != "warnings"}


# --- the numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("noise", [0.05, 0.2], ids=["little noise", "much noise"])
def test_they_are_those_of_a_bootstrap_in_loops(worked, folder, name, noise):
    document, values = sampled(worked(name), noise=noise)
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
    assert without_warnings(weights) == about(expected)
    if noise == 0.05:
        assert None not in expected["weights"].values()


def test_so_they_are_with_alphas_and_a_temperature_of_ones_own(worked, folder):
    document, values = sampled(worked("full"))
    write(document, values)
    alphas = {"out": 0.5, "in": 0.2, "difficulty": 0.3}
    weights = visatb.compute_weights(
        "scores.json", alphas=list(alphas.values()), temperature=0.7, **FEW
    )
    expected = slow_bootstrap(document, values, form="full", alphas=alphas, temperature=0.7, **FEW)
    assert without_warnings(weights) == about(expected)


def test_so_they_are_where_there_is_none(worked, folder):
    document, values = sampled(worked("full"), seed=3, noise=0.3)
    write(document, values)
    weights = visatb.compute_weights("scores.json", temperature=1.0, **FEW)
    expected = slow_bootstrap(
        document, values, form="full", alphas=weights.data["alphas"], temperature=1.0, **FEW
    )
    assert without_warnings(weights) == about(expected)
    assert expected["weights"] == dict.fromkeys(("caption", "vqa", "grounding"))
    assert expected["contribution"]["vqa"]["grounding"] is not None
    assert 0 < expected["refused"] < 60


def test_each_interval_has_the_measured_value_in_it(full_files):
    weights = visatb.compute_weights("scores.json")
    for measure in ("outward", "inward", "difficulty"):
        for unit, (low, high) in weights.intervals[measure].items():
            assert low < weights.data[measure][unit] < high
    for task, (low, high) in weights.intervals["weights"].items():
        assert low < weights.weights[task] < high


@pytest.mark.parametrize("name", FORMS)
def test_equal_values_have_intervals_without_a_width(worked, folder, name):
    document, values = sampled(worked(name), noise=0.0)
    write(document, values)
    weights = visatb.compute_weights("scores.json", **FEW)
    for measure in ("outward", "inward", "difficulty"):
        expected = {unit: [x, x] for unit, x in weights.data[measure].items()}
        assert weights.intervals[measure] == expected
    for task, ends in weights.intervals["weights"].items():
        assert ends == [weights.weights[task]] * 2
    assert set(weights.intervals["apart_from_one"]) == set(weights.intervals["weights"])


def test_twice_the_same_seed_gives_the_same_bits_and_another_gives_others(full_files):
    first = visatb.compute_weights("scores.json", **FEW).to_json()
    assert visatb.compute_weights("scores.json", **FEW).to_json() == first
    other = visatb.compute_weights("scores.json", seed=1, **FEW)
    assert other.to_json() != first
    assert other.intervals["seed"] == 1
    few = {"resamples": np.int64(60), "confidence": np.float64(0.9), "seed": np.uint8(1)}
    assert visatb.compute_weights("scores.json", **few).to_json() == other.to_json()


def test_the_order_of_tasks_samples_and_lines_decides_nothing(full_files):
    document, values = full_files
    expected = visatb.compute_weights("scores.json", **FEW)
    document["tasks"].reverse()
    turned = {key: dict(reversed(column.items())) for key, column in reversed(list(values.items()))}
    write(document, turned)
    found = visatb.compute_weights("scores.json", **FEW).intervals
    assert list(found["weights"]) == ["grounding", "vqa", "caption"]
    for measure in ("weights", "outward", "inward", "difficulty"):
        for unit, ends in found[measure].items():
            assert ends == pytest.approx(expected.intervals[measure][unit], rel=1e-12)


def test_a_task_beside_has_no_part_in_the_draws_of_another(full_files):
    document, _ = full_files
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


def test_the_temperature_of_the_measurement_is_kept(full_files):
    weights = visatb.compute_weights("scores.json", temperature="auto", **FEW)
    kept = visatb.compute_weights("scores.json", temperature=weights.temperature, **FEW)
    assert weights.intervals == kept.intervals
    wide = visatb.compute_weights("scores.json", temperature=4.0, **FEW).intervals["weights"]
    for task, (low, high) in weights.intervals["weights"].items():
        assert wide[task][1] - wide[task][0] < high - low


def test_tasks_of_a_group_share_an_interval_and_are_no_pair(worked, folder):
    document, values = sampled(worked("groups"), noise=0.02)
    write(document, values)
    intervals = visatb.compute_weights("scores.json", **FEW).intervals
    assert list(intervals["weights"]) == [
        "textvqa", "textcaps", "scienceqa", "dialogue", "refcoco",
    ]  # fmt: skip
    assert intervals["weights"]["textvqa"] == intervals["weights"]["textcaps"]
    assert list(intervals["outward"]) == ["reading", "reasoning", "refcoco"]
    assert ["textvqa", "textcaps"] not in intervals["apart"]
    assert ["textvqa", "refcoco"] in intervals["apart"]


def test_tasks_of_a_group_need_not_stand_together(worked, folder):
    document, values = sampled(worked("groups"), noise=0.02)
    write(document, values)
    expected = visatb.compute_weights("scores.json", **FEW).intervals["apart"]
    document["tasks"].append(document["tasks"].pop(0))  # textvqa
    write(document, values)
    found = visatb.compute_weights("scores.json", **FEW).intervals["apart"]
    assert {frozenset(pair) for pair in found} == {frozenset(pair) for pair in expected}
    assert ["refcoco", "textvqa"] in found


def test_a_form_that_is_given_wins_over_the_files(worked, folder):
    document, values = sampled(worked("precise"))
    write(document, values)
    precise = visatb.compute_weights("scores.json", **FEW).intervals
    full = visatb.compute_weights("scores.json", form="full", **FEW).intervals
    assert precise["contribution"] == full["contribution"]
    assert precise["difficulty"] != full["difficulty"]


# --- where no interval holds ----------------------------------------------------------------------


def test_a_denominator_that_is_not_told_from_0_has_no_interval_and_a_sentence(full_files):
    document, values = full_files
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


def test_of_a_group_the_metric_that_is_refused_most_often_is_named(worked, folder):
    document, values = sampled(worked("groups"), noise=0.02)
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


def test_a_negative_denominator_that_is_let_through_is_told_from_0_like_any_other(full_files):
    document, values = full_files
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


def test_a_divisor_that_is_not_told_from_0_has_a_sentence(full_files):
    document, values = full_files
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


def test_of_a_lower_is_better_score_the_divisor_is_that_of_little_training(worked, folder):
    document, values = sampled(worked("groups"), noise=0.05)
    low = document["runs"]["mini"]["dialogue"]["ppl"]
    for key in [key for key in values if key[1] == "dialogue"]:
        shift(values, key, 0.3 - low)
    rescore(document, values)
    write(document, values)
    weights = visatb.compute_weights("scores.json", temperature=1000.0)
    (warning,) = [w for w in weights.warnings if w.code == "divisor_near_zero"]
    assert warning.where == "runs.mini.dialogue.ppl"
    assert "no interval holds for the difficulty of reasoning " in warning.message


def test_few_refused_of_each_may_be_too_many_of_all(full_files):
    document, values = full_files
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

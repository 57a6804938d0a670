"""The report's first paragraph and the texts of its sections: true of any weights and results."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_cases import (
    add_intervals,
    make_folder,
    plan_for,
    results_for,
    save,
    vector_scores,
)

from visatb.procedure.plan import Cost
from visatb.report.gather import Material, gather
from visatb.report.results_file import Method
from visatb.report.sections import sections
from visatb.report.summary import summary


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Material:
    scores = vector_scores()
    folder = make_folder(tmp_path_factory.mktemp("three"), scores, add_intervals)
    save(folder / "results.json", results_for(["caption", "vqa"], ["EW"]))
    save(folder / "plan.json", plan_for(scores, cost=Cost(0.3, 0.3441, 41_292, 120_000, 350, 938)))
    return gather(folder)


def outcome(material: Material, **gains: float) -> str:
    """What is said of methods that came to these dI, over STL."""
    methods = [Method(name, gain, 1.0, None, {}) for name, gain in {"STL": 0.0, **gains}.items()]
    results = replace(material.results, methods=tuple(methods))
    found = [s for s in summary(replace(material, results=results)) if s.startswith("After")]
    return found[0].removeprefix("After the final run, over STL: ")


def test_of_several_other_methods_the_best_is_named_beside_visatb(material):
    assert outcome(material, EW=2.0, DWA=8.0, RLW=-3.0, VisATB=5.0) == (
        "VisATB dI +5.00%, dE 1.00%; the best of the 3 others, DWA dI +8.00%, dE 1.00%."
    )


def test_one_other_method_is_just_named(material):
    assert outcome(material, EW=2.0, VisATB=5.0) == (
        "VisATB dI +5.00%, dE 1.00%; EW dI +2.00%, dE 1.00%."
    )


def test_without_visatb_the_best_method_is_said_to_be_the_best_of_so_many(material):
    assert outcome(material, EW=2.0, DWA=8.0) == (
        "the best of the 2 methods, DWA dI +8.00%, dE 1.00%."
    )
    assert outcome(material, EW=2.0) == "EW dI +2.00%, dE 1.00%."


def test_a_weight_at_the_end_of_the_range_lies_in_it_and_one_beyond_is_named(material):
    def said(*values: float) -> str:
        units = tuple(
            replace(unit, weight=value)
            for unit, value in zip(material.weights.units, values, strict=True)
        )
        changed = replace(material, weights=replace(material.weights, units=units))
        return next(sentence for sentence in summary(changed) if "range" in sentence)

    inside = "Every weight that was made lies in the range 0.5 to 2."
    assert said(0.5, 0.9, 2.0) == inside
    assert said(0.49, 0.9, 1.0) == "caption (0.49) lies outside the range 0.5 to 2."
    assert said(1.0, 2.01, 0.4) == (
        "vqa (2.01) and grounding (0.40) lie outside the range 0.5 to 2."
    )


@pytest.fixture(scope="module")
def texts(material) -> dict[str, str]:
    """All that each section says beside its tables and pictures."""
    undrawn = dict.fromkeys(("weights", "contribution", "difficulty", "temperature", "results"))
    return {
        section.id: " ".join([*section.texts, *map(str, section.notes)])
        for section in sections(material, undrawn)
    }


def test_shares_of_samples_and_of_steps_are_told_apart(texts):
    assert texts["cost"] == (
        "Measuring took 34.4% of the final run's samples beside it, and 37.3% of its steps."
    )


def test_losses_are_averaged_over_all_tasks(texts):
    assert "dE the mean of what each lost, 0 where it gained." in texts["results"]


def test_a_refused_resample_may_be_so_for_either_divisor(texts):
    assert (
        "in 3 of them a denominator was 0 or of another sign, or a score that difficulty divides "
        "by not above 0" in texts["weights"]
    )

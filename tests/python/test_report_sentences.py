"""What the report says of a weight: for every sign, rank and tie, and with error bars."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from visatb import balance_weights
from visatb.report.error_bars import Intervals
from visatb.report.sentences import counted, listed, number, ordinal, reason, title, why
from visatb.report.weights_file import PARTS, Unit


def unit(name="vqa", *, outward=0.1, inward=0.1, difficulty=0.3, components=(1, 1, 1), tasks=None):
    """A unit with these values and weightings, at the usual alphas."""
    parts = dict(zip(PARTS, components, strict=True))
    alphas = dict(zip(PARTS, (0.25, 0.25, 0.5), strict=True))
    return Unit(
        name=name,
        tasks=tasks or (name,),
        weight=sum(alphas[part] * parts[part] for part in PARTS),
        measures={"outward": outward, "inward": inward, "difficulty": difficulty},
        components=parts,
        shares={part: alphas[part] * parts[part] for part in PARTS},
        effects={part: alphas[part] * (parts[part] - 1) for part in PARTS},
    )


def intervals(bounds, apart=()):
    empty = dict.fromkeys(bounds, (None, None))
    return Intervals(
        confidence=0.9,
        resamples=100,
        seed=0,
        refused=0,
        bounds={"weight": bounds, "outward": empty, "inward": empty, "difficulty": empty},
        apart_from_one=frozenset(apart),
        pairs_apart=0,
    )


CAPTION = unit("caption", outward=0.15, inward=0.05, difficulty=0.2, components=(1.05, 1.14, 0.8))
VQA = unit("vqa", outward=0.2, inward=0.15, difficulty=0.14, components=(1.17, 0.93, 0.72))
BOX = unit("box", outward=0.0, inward=0.15, difficulty=0.5, components=(0.78, 0.93, 1.48))
THREE = (CAPTION, VQA, BOX)


def test_a_sentence_names_every_part_with_its_value_rank_and_effect_the_strongest_first():
    assert str(why(BOX, THREE, None)) == (
        "box weighs 1.17: +0.24 because it is harder than average (difficulty 0.50, the highest of "
        "3); "
        "\N{MINUS SIGN}0.05 because it does not help the others (outward 0.00, the lowest of 3); "
        "\N{MINUS SIGN}0.02 because the others help it a little more than average (inward 0.15, "
        "the highest of 3, level with vqa)."
    )


def test_effects_sum_to_what_the_weight_differs_from_1():
    for each in THREE:
        assert sum(each.effects.values()) == pytest.approx(each.weight - 1)
        assert sum(each.shares.values()) == pytest.approx(each.weight)


# The mean of the three is 0.2, -0.2 or 0, whatever the value is.
@pytest.mark.parametrize(
    ("measure", "value", "mean", "component", "meaning"),
    [
        ("outward", 0.3, 0.2, 1.4, "it helps the others more than average"),
        ("outward", 0.05, 0.0, 1.4, "it helps the others more than average"),
        ("outward", 0.3, 0.2, 1.1, "it helps the others a little more than average"),
        ("outward", 0.0, -0.2, 1.4, "it does the others no harm"),
        ("outward", -0.1, -0.2, 1.4, "it harms the others less than average"),
        ("outward", -0.1, -0.2, 1.1, "it harms the others a little less than average"),
        ("outward", 0.1, 0.2, 0.6, "it helps the others less than average"),
        ("outward", 0.1, 0.2, 0.9, "it helps the others a little less than average"),
        ("outward", 0.21, 0.2, 0.9, "it helps the others less than first does"),
        ("outward", 0.0, 0.2, 0.6, "it does not help the others"),
        ("outward", 0.0, -0.2, 0.9, "it does not help the others"),
        ("outward", -0.3, 0.0, 0.6, "it harms the others"),
        ("outward", -0.1, -0.2, 0.9, "it harms the others"),
        ("inward", 0.1, 0.2, 1.4, "the others help it less than average"),
        ("inward", 0.1, 0.2, 1.1, "the others help it a little less than average"),
        ("inward", 0.0, 0.2, 1.4, "the others do not help it"),
        ("inward", -0.2, 0.0, 1.4, "the others harm it"),
        ("inward", 0.3, 0.2, 0.6, "the others help it more than average"),
        ("inward", 0.3, 0.2, 0.9, "the others help it a little more than average"),
        ("inward", 0.19, 0.2, 0.9, "the others help it more than first is helped"),
        ("inward", 0.0, -0.2, 0.6, "the others do it no harm"),
        ("inward", 0.0, 0.2, 0.9, "the others do it no harm"),
        ("inward", -0.1, -0.2, 0.6, "the others harm it less than average"),
        ("inward", -0.1, -0.2, 0.9, "the others harm it a little less than average"),
        ("inward", -0.3, -0.2, 0.9, "the others harm it less than first is harmed"),
        ("difficulty", 0.4, 0.2, 1.4, "it is harder than average"),
        ("difficulty", 0.4, 0.2, 1.1, "it is a little harder than average"),
        ("difficulty", 0.0, -0.2, 1.4, "it is harder than average"),
        ("difficulty", -0.1, -0.2, 1.4, "it is harder than average"),
        ("difficulty", 0.1, 0.2, 0.6, "it is easier than average"),
        ("difficulty", 0.1, 0.2, 0.9, "it is a little easier than average"),
        ("difficulty", 0.21, 0.2, 0.9, "it is less hard than first"),
        ("difficulty", 0.0, 0.2, 0.6, "much data of its own makes it no better than little"),
        ("difficulty", -0.1, 0.2, 0.6, "much data of its own makes it worse than little"),
    ],
)
def test_what_a_value_means(measure, value, mean, component, meaning):
    def of(number, weighting, name):
        components = [weighting if m == measure else 1 for m in PARTS.values()]
        return unit(name, **{measure: number}, components=components)

    one = of(value, component, "one")
    apart = 1.6 if component < 1 else 0.7
    units = [one, of(mean, 1, "between"), of(2 * mean - value, apart, "first")]
    assert f"because {meaning} ({measure} " in str(why(one, units, None))
    assert reason(one, units) == meaning
    if " first" in meaning:
        return  # of two that lie on either side of their mean, none is beyond it
    beside_one = str(why(one, [one, units[2]], None))
    spoken = meaning.replace("the others", "the other")
    spoken = spoken.replace("other help ", "other helps ").replace("other harm ", "other harms ")
    spoken = spoken.replace("other do ", "other does ")
    assert f"because {spoken} (" in beside_one


CLAIMS = {
    "harder": lambda value, mean, _: value > mean,
    "more than average": lambda value, mean, _: value > max(mean, 0),
    "less than average": lambda value, mean, _: 0 < value < mean,
    "harms less": lambda value, mean, _: mean < value < 0,
    "more than first": lambda value, _, values: value > 0 and min(values) < value,
    "less than first": lambda value, _, values: 0 < value < max(values),
    "harmed less than first": lambda value, _, values: min(values) < value < 0,
    "none": lambda value, _, values: value == 0 and len(set(values)) > 1,
    "harms": lambda value, _, values: value < 0 and len(set(values)) > 1,
}


def claim(text, measure):
    """Which of the claims a clause makes of the value behind it."""
    if measure == "difficulty":
        for words, name in (
            ("harder than average", "harder"), ("easier than average", "less than average"),
            ("no better than little", "none"), ("worse than little", "harms"),
            ("less hard than", "less than first"),
        ):  # fmt: skip
            if words in text:
                return name
    if "no harm" in text or " not help" in text:
        return "none"
    if "harm" in text:
        if "less than average" in text:
            return "harms less"
        return "harmed less than first" if "less than" in text else "harms"
    if "average" in text:
        return "more than average" if "more than average" in text else "less than average"
    return "more than first" if "more than" in text else "less than first"


def test_every_clause_is_true_of_the_numbers_behind_it():
    rng = np.random.default_rng(0)
    heard = set()
    for _ in range(1500):
        count = int(rng.integers(2, 7))
        # Coarse, so that there are ties and zeros; heavy-tailed, so that one may stand out.
        values = np.round(rng.standard_t(2, (3, count)) * rng.choice([0.1, 0.5]), 1) + 0.0
        values[rng.random((3, count)) < 0.1] = 0.0
        made = balance_weights(*values, temperature=float(rng.choice([0.125, 0.5, 2])))
        units = [
            unit(
                f"t{n}", outward=values[0, n], inward=values[1, n], difficulty=values[2, n],
                components=tuple(made.components[:, n]),
            )
            for n in range(count)
        ]  # fmt: skip
        means = dict(zip(PARTS.values(), values.mean(axis=1), strict=True))
        for one in units:
            for effect, text, measure in re.findall(
                r"([+\N{MINUS SIGN}])[\d.]+ because (.+?) \((\w+) ", str(why(one, units, None))
            ):
                made_of = claim(text, measure)
                all_values = [other.measures[measure] for other in units]
                told = CLAIMS[made_of](one.measures[measure], means[measure], all_values)
                assert told, (text, measure, one.measures[measure], all_values)
                named = re.search(r"than (t\d)", text)
                if named:
                    first = min(all_values) if measure == "inward" else max(all_values)
                    assert units[int(named[1][1:])].measures[measure] == first
                heard.add((measure, effect, made_of))
    assert {name for _, _, name in heard} == set(CLAIMS)


@pytest.mark.parametrize(
    ("value", "others", "place"),
    [
        (0.5, [0.1, 0.2], "the highest of 3"),
        (0.1, [0.2, 0.3], "the lowest of 3"),
        (0.2, [0.1, 0.3], "2nd highest of 3"),
        (0.2, [0.1], "the higher of 2"),
        (0.1, [0.2], "the lower of 2"),
        (0.2, [0.2], "as for both"),
        (0.2, [0.2, 0.2 + 1e-15], "as for all 3"),
        (0.2, [0.2, 0.1], "the highest of 3, level with t0"),
        (0.2, [0.2, 0.3], "the lowest of 3, level with t0"),
        (0.2, [0.2 + 1e-15, 0.1], "the highest of 3, level with t0"),
        (0.2, [0.2 - 1e-15, 0.3], "the lowest of 3, level with t0"),
        (0.2, [0.2, 0.1, 0.3], "2nd highest of 4, level with t0"),
        (0.2, [0.2, 0.2, 0.3], "the lowest of 4, level with t0 and t1"),
        (0.2, [0.2, 0.2, 0.2, 0.3], "the lowest of 5, level with 3 others"),
        (0.2, [0.1, 0.3, 0.4, 0.5], "2nd lowest of 5"),
        (0.2, [0.3, 0.1, 0.05, 0.04], "2nd highest of 5"),
    ],
)
def test_ranks_and_ties(value, others, place):
    one = unit(difficulty=value, components=(1, 1, 1.5))
    all_units = [one, *(unit(f"t{n}", difficulty=other) for n, other in enumerate(others))]
    assert f"(difficulty 0.{10 * value:.0f}0, {place})" in str(why(one, all_units, None))


def test_what_moves_a_weight_too_little_to_be_seen_is_said_to():
    nothing = unit("a")
    units = [nothing, unit("b", outward=0.2, inward=0.2, difficulty=0.2)]
    assert str(why(nothing, units, None)) == (
        "a weighs 1.00: its outward contribution (0.10, the lower of 2), its inward contribution "
        "(0.10, the lower of 2) and its difficulty (0.30, the higher of 2) move it by less than "
        "0.01 each."
    )
    one_part = unit("a", components=(1, 1.4, 1.4))
    assert str(why(one_part, [one_part, units[1]], None)).endswith(
        "; its outward contribution (0.10, the lower of 2) moves it by less than 0.01."
    )
    assert reason(nothing, units) == ""


def test_a_part_without_a_share_in_any_weight_is_left_out():
    def without_outward(each):
        return each.__class__(**{**vars(each), "shares": {**each.shares, "out": 0.0},
                                 "effects": {**each.effects, "out": 0.0}})  # fmt: skip

    units = [without_outward(each) for each in THREE]
    assert "outward" not in str(why(units[0], units, None))


def test_a_group_is_named_with_its_tasks():
    group = unit("reading", tasks=("textvqa", "textcaps", "ocr"), components=(1, 1, 1.5))
    assert title(group) == "reading (textvqa, textcaps and ocr)"
    assert why(group, [group, VQA], None).lead == (
        "reading (textvqa, textcaps and ocr) weighs 1.25 each"
    )
    # A group of one task is that task by another name.
    assert why(unit("g", tasks=("vqa",)), [unit("g", tasks=("vqa",)), BOX], None).lead == (
        "g (vqa) weighs 1.00"
    )


@pytest.mark.parametrize(
    ("bounds", "apart", "ending"),
    [
        ((1.1, 1.3), ("box",), "Its 90% interval, 1.10 to 1.30, lies above 1."),
        ((0.7, 0.9), ("box",), "Its 90% interval, 0.70 to 0.90, lies below 1."),
        ((0.9, 1.3), (), "Its 90% interval, 0.90 to 1.30, holds 1: it is not told apart from 1."),
        ((None, 1.3), (), "No 90% interval holds for it."),
        ((None, None), (), "No 90% interval holds for it."),
    ],
)
def test_intervals_say_what_is_told_apart_from_1(bounds, apart, ending):
    assert why(BOX, THREE, intervals({"box": bounds}, apart)).rest.endswith(f" {ending}")


def test_numbers_have_a_true_minus_and_no_negative_zero():
    assert number(-0.126) == "\N{MINUS SIGN}0.13"
    assert number(-0.001) == "0.00"
    assert number(0.001, signed=True) == "0.00"
    assert number(2, signed=True) == "+2.00"
    assert number(-1e300) == "\N{MINUS SIGN}1e+300"
    assert number(999_999.5) == "999999.50"


def test_words_of_number():
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th",
    ]  # fmt: skip
    assert (listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])) == (
        "a",
        "a and b",
        "a, b and c",
    )
    assert (counted(1, "task"), counted(2, "task")) == ("1 task", "2 tasks")


def test_every_combination_is_one_well_formed_sentence():
    values, components = (-0.2, 0.0, 0.2), (0.6, 0.9, 1.0, 1.1, 1.5)
    for measures in itertools.product(values, repeat=3):
        for parts in itertools.product(components, repeat=3):
            one = unit(
                outward=measures[0], inward=measures[1], difficulty=measures[2], components=parts
            )
            text = str(why(one, [one, VQA, BOX], None))
            assert text.endswith(".")
            assert text.count("(") == text.count(")") == 3
            assert not {"{", "}", "  ", "..", ";.", ":."} & {
                text[i : i + 2] for i in range(len(text))
            }

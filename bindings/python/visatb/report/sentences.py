"""Why each task weighs what it weighs, in words made from the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from .error_bars import Intervals
from .gather import Material
from .names import brief
from .weights_file import PARTS, Measure, Part, Unit

# What moves a weight by less shows as 0.00.
_UNSEEN = 0.005
_SAME = 1e-9
# From here on a number is told by its power of ten.
_LONG = 1e6

# A weighting nearer to 1, which every value alike would have, is told as "a little".
_LITTLE = 0.15

# Why a value raises the weight: it lies above 0, at 0, below 0. A value at the mean has a weighting
# of 1 at most, as exp is convex; so what is weighted by more lies above the mean (for inward
# contribution below it), whatever the others are, and "than average" is true.
_RAISES: dict[Part, tuple[str, str, str]] = {
    "out": (
        "it helps {others} {little}more than average",
        "it does {others} no harm",
        "it harms {others} {little}less than average",
    ),
    "in": (
        "{others} {help} it {little}less than average",
        "{others} {do} not help it",
        "{others} {harm} it",
    ),
    "difficulty": ("it is {little}harder than average",) * 3,
}
# Why it lowers the weight. Where one value stands out, another may lie above the mean and yet have
# a weighting below 1: "than average" would be wrong of it, and the unit that stands out is named.
_LOWERS: dict[Part, tuple[str, str, str]] = {
    "out": (
        "it helps {others} {little}less than average",
        "it does not help {others}",
        "it harms {others}",
    ),
    "in": (
        "{others} {help} it {little}more than average",
        "{others} {do} it no harm",
        "{others} {harm} it {little}less than average",
    ),
    "difficulty": (
        "it is {little}easier than average",
        "much data of its own makes it no better than little",
        "much data of its own makes it worse than little",
    ),
}
_BESIDE: dict[Part, tuple[str, str, str]] = {
    "out": ("it helps {others} less than {first} does", *_LOWERS["out"][1:]),
    "in": (
        "{others} {help} it more than {first} is helped",
        _LOWERS["in"][1],
        "{others} {harm} it less than {first} is harmed",
    ),
    "difficulty": ("it is less hard than {first}", *_LOWERS["difficulty"][1:]),
}
_CALLED: dict[Part, str] = {
    "out": "outward contribution",
    "in": "inward contribution",
    "difficulty": "difficulty",
}


def number(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """A number as text, with a true minus sign and no -0."""
    rounded = round(value, digits) + 0.0
    text = f"{abs(rounded):.{digits}f}" if abs(value) < _LONG else f"{abs(value):.3g}"
    if rounded < 0:
        return f"\N{MINUS SIGN}{text}"
    return f"+{text}" if signed and rounded > 0 else text


def title(unit: Unit) -> str:
    """A unit by name, a group with its tasks."""
    if not unit.is_group:
        return brief(unit.name)
    return f"{brief(unit.name)} ({listed([brief(task) for task in unit.tasks])})"


class Sentence(NamedTuple):
    """What begins with a lead: "vqa weighs 0.88", and the rest of it with its punctuation."""

    lead: str
    rest: str

    def __str__(self) -> str:
        return self.lead + self.rest


def why(unit: Unit, units: Sequence[Unit], intervals: Intervals | None) -> Sentence:
    """One or two sentences on the weight of a unit."""
    each = " each" if len(unit.tasks) > 1 else ""
    clauses, silent = _clauses(unit, units)
    text = f": {'; '.join(clauses)}" if clauses else ""
    if silent:
        # With nothing else to say it is the whole reason.
        joint = "; " if clauses else ": "
        verb, apiece = ("moves", "") if len(silent) == 1 else ("move", " each")
        text += f"{joint}{listed(silent)} {verb} it by less than 0.01{apiece}"
    lead = f"{title(unit)} weighs {number(unit.weight)}{each}"
    return Sentence(lead, f"{text}.{_certainty(unit, intervals)}")


def reason(unit: Unit, units: Sequence[Unit]) -> str:
    """The main reason why a unit weighs more, or less, than 1; "" where nothing moves it."""
    moved = unit.weight - 1
    part = max(unit.effects, key=lambda part: math.copysign(1, moved) * unit.effects[part])
    if unit.effects[part] * moved <= 0 or abs(unit.effects[part]) < _UNSEEN:
        return ""
    return _meaning(unit, part, units)


def listed(parts: Sequence[str]) -> str:
    """Words as "a, b and c"."""
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def counted(count: int, singular: str, plural: str = "") -> str:
    """A number with its word: 1 task, 2 tasks."""
    return f"{count} {singular if count == 1 else plural or f'{singular}s'}"


def _clauses(unit: Unit, units: Sequence[Unit]) -> tuple[list[str], list[str]]:
    """What moves the weight, the strongest first; and what hardly does."""
    clauses, silent = [], []
    for part in sorted(unit.effects, key=lambda part: -abs(unit.effects[part])):
        if all(other.shares[part] == 0 for other in units):
            continue  # its alpha is 0
        place = _place(unit, units, PARTS[part])
        if abs(unit.effects[part]) < _UNSEEN:
            silent.append(f"its {_CALLED[part]} ({place})")
        else:
            effect = number(unit.effects[part], signed=True)
            meaning = _meaning(unit, part, units)
            clauses.append(f"{effect} because {meaning} ({PARTS[part]} {place})")
    return clauses, silent


def _meaning(unit: Unit, part: Part, units: Sequence[Unit]) -> str:
    measure = PARTS[part]
    value = unit.measures[measure]
    words = _words(unit, part, units)[0 if value >= _SAME else 1 if value > -_SAME else 2]
    # Whose value is the highest, and of inward contribution the lowest, has the highest weighting.
    first = max(units, key=lambda other: other.components[part])
    little = "a little " if abs(unit.components[part] - 1) < _LITTLE else ""
    spoken = {"little": little, "first": brief(first.name)}
    if len(units) == 2:
        return words.format(others="the other", help="helps", do="does", harm="harms", **spoken)
    return words.format(others="the others", help="help", do="do", harm="harm", **spoken)


def _words(unit: Unit, part: Part, units: Sequence[Unit]) -> tuple[str, str, str]:
    if unit.effects[part] > 0:
        return _RAISES[part]
    mean = math.fsum(other.measures[PARTS[part]] for other in units) / len(units)
    beyond = (unit.measures[PARTS[part]] - mean) * (-1 if part == "in" else 1)
    return _LOWERS[part] if beyond < -_SAME else _BESIDE[part]


def _place(unit: Unit, units: Sequence[Unit], measure: Measure) -> str:
    """A value and its rank: "0.50, the highest of 3"."""
    value = unit.measures[measure]
    others = [other for other in units if other is not unit]
    level = [o for o in others if _is_same(o.measures[measure], value)]
    if len(level) == len(others):
        return f"{number(value)}, as for {'both' if len(units) == 2 else f'all {len(units)}'}"
    above = sum(o.measures[measure] > value for o in others if o not in level)
    below = len(others) - above - len(level)
    place = _rank(above, below, len(units), tied=bool(level))
    beside = f", level with {_some([brief(o.name) for o in level])}" if level else ""
    return f"{number(value)}, {place}{beside}"


def _rank(above: int, below: int, units: int, *, tied: bool) -> str:
    if units == 2:
        return "the higher of 2" if above == 0 else "the lower of 2"
    if above == 0:
        return f"the highest of {units}"
    if below == 0:
        return f"the lowest of {units}"
    if above <= below or tied:
        return f"{ordinal(above + 1)} highest of {units}"
    return f"{ordinal(below + 1)} lowest of {units}"


def ordinal(count: int) -> str:
    """1st, 2nd, 3rd, 4th, ..., 11th, ..., 21st."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{'th' if count % 100 in {11, 12, 13} else ending}"


def _some(names: list[str], most: int = 2) -> str:
    return listed(names) if len(names) <= most else f"{len(names)} others"


def _is_same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_SAME, abs_tol=_SAME)


def _certainty(unit: Unit, intervals: Intervals | None) -> str:
    if intervals is None:
        return ""
    found = intervals.of("weight", unit.name)
    percent = f"{100 * intervals.confidence:g}%"
    if found is None:
        return f" No {percent} interval holds for it."
    text = f" Its {percent} interval, {number(found[0])} to {number(found[1])},"
    if unit.name not in intervals.apart_from_one:
        return f"{text} holds 1: it is not told apart from 1."
    return f"{text} lies {'above' if found[0] > 1 else 'below'} 1."


def fixed(task: str, weight: float) -> Sentence:
    """The sentence of a task that is not weighed."""
    return Sentence(f"{brief(task)} is fixed at {_exact(weight)}", "; it was not weighed.")


def _exact(weight: float) -> str:
    return f"{weight:g}" if "." in f"{weight:g}" else f"{weight:.1f}"


def describe_units(material: Material) -> str:
    """The number of units: "3 tasks", or "4 units (6 tasks)"."""
    units = material.weights.units
    if not any(unit.is_group for unit in units):
        return counted(len(units), "task")
    return f"{len(units)} units ({counted(sum(len(unit.tasks) for unit in units), 'task')})"

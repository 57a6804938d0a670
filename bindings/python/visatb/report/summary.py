"""The report's first paragraph: what was weighed, what came out, what to beware of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from visatb._streams import printable

from .error_bars import Intervals
from .gather import Material
from .names import brief
from .results_file import Method, Results
from .sentences import counted, describe_units, listed, number, reason, title
from .weights_file import Unit

# What each warning of a weights or plan file is about, the gravest first.
WARNINGS = {
    "denominator_near_zero": "A denominator is not told from 0",
    "denominators_near_zero": "Denominators are not told from 0",
    "divisor_near_zero": "A score that difficulty divides by is not told from 0",
    "negative_difficulty": "Much training scored below little",
    "weak_signal": "Own training hardly moved the score",
    "negative_contribution": "One task lowered another's score",
    "weight_out_of_range": "Weights outside the range",
    "few_mini_samples": "Small mini subsets",
    "few_large_samples": "Small large subsets",
    "few_steps": "Short runs",
    "alphas_scaled": "Alphas were scaled",
}
_OURS = "VisATB"


def summary(material: Material) -> list[str]:
    """The sentences."""
    weights = material.weights
    return [
        _what(material),
        *_extremes(weights.units),
        _range(material),
        *([_certainty(weights.intervals, len(weights.units))] if weights.intervals else []),
        *([_outcome(material.results)] if material.results and material.results.compared else []),
        _warned(material.warnings),
    ]


def in_order(codes: Sequence[str]) -> list[str]:
    """Codes of warnings once each, the gravest first and those that we do not know before all."""
    known = list(WARNINGS)
    return sorted(dict.fromkeys(codes), key=lambda c: known.index(c) if c in known else -1)


def _what(material: Material) -> str:
    form = material.scores.form if material.scores else material.plan and material.plan.form
    how = f" by the {form} form" if form else ""
    text = f"{describe_units(material)} were weighed{how} at temperature "
    text += f"{material.weights.temperature:g}"
    fixed = [brief(task) for task in material.weights.fixed]
    if not fixed:
        return f"{text}."
    some = listed(fixed) if len(fixed) <= 3 else f"{len(fixed)} more tasks"
    return f"{text}; {some} {'keeps its' if len(fixed) == 1 else 'keep their'} fixed weight."


def _extremes(units: Sequence[Unit]) -> list[str]:
    by_weight = sorted(units, key=lambda unit: unit.weight)
    least, most = by_weight[0], by_weight[-1]
    if most.weight - least.weight < 0.005:
        return ["All weigh the same, 1.00, but for less than 0.01."]
    return [f"{_extreme(most, 'most', units)}; {_extreme(least, 'least', units)}."]


def _extreme(unit: Unit, word: str, units: Sequence[Unit]) -> str:
    why = reason(unit, units)
    because = f", mainly because {why}" if why else ""
    return f"{title(unit)} weighs {word}, {number(unit.weight)}{because}"


def _range(material: Material) -> str:
    low, high = material.range
    outside = [unit for unit in material.weights.units if not low <= unit.weight <= high]
    span = f"the range {low:g} to {high:g}"
    if not outside:
        return f"Every weight that was made lies in {span}."
    names = [f"{brief(unit.name)} ({number(unit.weight)})" for unit in outside[:3]]
    if len(outside) > 3:
        names.append(f"{len(outside) - 3} more")
    return f"{listed(names)} {'lies' if len(outside) == 1 else 'lie'} outside {span}."


def _certainty(intervals: Intervals, units: int) -> str:
    pairs = units * (units - 1) // 2
    return (
        f"By their {100 * intervals.confidence:g}% intervals over resampled validation samples, "
        f"{len(intervals.apart_from_one)} of {units} weights {_is_are(intervals, units)} told "
        f"apart from 1, and {intervals.pairs_apart} of {counted(pairs, 'pair')} of weights from "
        "each other."
    )


def _is_are(intervals: Intervals, units: int) -> str:
    return "is" if len(intervals.apart_from_one) == 1 and units > 1 else "are"


def _outcome(results: Results) -> str:
    over = f"After the final run, over {brief(results.baseline)}: "
    ours = next((method for method in results.compared if method.name == _OURS), None)
    others = sorted(
        (method for method in results.compared if method is not ours), key=lambda m: -m.gain
    )
    told = [_told(ours)] if ours else []
    if others:
        of = f"{len(others)} others" if ours else f"{len(others)} methods"
        told.append((f"the best of the {of}, " if len(others) > 1 else "") + _told(others[0]))
    return f"{over}{'; '.join(told)}."


def _told(method: Method) -> str:
    gain, loss = number(method.gain, signed=True), number(method.loss)
    return f"{brief(method.name)} dI {gain}%, dE {loss}%"


def _warned(found: Sequence[Mapping[str, str]]) -> str:
    if not found:
        return "There are no warnings."
    counts = Counter(warning["code"] for warning in found)
    if len(found) == 1:
        return f"There is one warning: {printable(found[0]['message'])}."
    if len(counts) == 1:
        return f"There are {len(found)} warnings, all of one kind: {_called(found[0]['code'])}."
    kinds = [
        f"{counts[code]} \N{MULTIPLICATION SIGN} \N{LEFT DOUBLE QUOTATION MARK}"
        f"{_called(code)}\N{RIGHT DOUBLE QUOTATION MARK}"
        for code in in_order(list(counts))
    ]
    return f"There are {len(found)} warnings: {listed(kinds)}."


def _called(code: str) -> str:
    return WARNINGS.get(code, printable(code)).lower()

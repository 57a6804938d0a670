"""What the sections of the page say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from visatb._streams import printable
from visatb._version import __version__

from . import tables
from .bars import unit_labels
from .gather import Material
from .matrix import omits_zeros
from .names import brief, shown
from .page import Content, Picture, Section, WarningGroup
from .plan_file import Plan
from .results_file import Results
from .sentences import fixed, listed, number, why
from .style import Drawing
from .summary import WARNINGS, in_order

_ALPHAS = ("outward", "inward", "difficulty")
_PURPOSES = {"measure": "measuring", "compare": "comparison"}


def sections(material: Material, drawings: Mapping[str, Drawing]) -> list[Section]:
    """All sections that there is something to say in."""
    results = material.results
    return [
        _weights(material, drawings["weights"]),
        _why(material),
        _contribution(material, drawings["contribution"]),
        _difficulty(material, drawings["difficulty"]),
        _temperature(material, drawings["temperature"]),
        *([_results(results, drawings.get("results"))] if results else []),
        _warnings(material.warnings),
        *([_cost(material.plan)] if material.plan else []),
        _sources(material),
    ]


def _weights(material: Material, drawing: Drawing) -> Section:
    weights = material.weights
    low, high = material.range
    caption = (
        "Every bar is as long as its weight, and made of three shares: alpha (in brackets) times "
        "the weighting by outward contribution, by inward contribution and by difficulty. The "
        f"solid line is 1, equal weighting; the dashed lines are {low:g} and {high:g}, the range"
        f"{'' if material.scores else ' that is usual'}."
    )
    notes = []
    if weights.intervals:
        found = weights.intervals
        caption += f" Whiskers are {100 * found.confidence:g}% intervals."
        notes.append(
            f"Intervals: {found.resamples} resamples of the validation samples, seed {found.seed}, "
            f"at this temperature; in {found.refused} of them a denominator was 0 or of another "
            "sign, or a score that difficulty divides by not above 0, which widens the intervals "
            "or leaves none. They cover which samples were drawn "
            "for validation, not the training seeds or the draw of the subsets."
        )
    renamed = [
        f"{label} is {brief(name)}"
        for name, label in unit_labels(material).items()
        if label.startswith(("task ", "group of task ")) and not name.startswith(label)
    ]
    if renamed:
        notes.append(
            "Names that the figures cannot write, or not briefly enough to be told apart, stand "
            f"there by the id of the task: {listed(renamed)}."
        )
    picture = Picture(
        drawing, "Weights by what they are made of", tables.describe_weights(material), caption
    )
    return Section(
        "weights",
        "Weights",
        blocks=[
            picture,
            Content("Weights in numbers", tables.weights_table(material), "weights-table"),
        ],
        notes=notes,
    )


def _why(material: Material) -> Section:
    weights = material.weights
    units = sorted(weights.units, key=lambda unit: -unit.weight)
    return Section(
        "why",
        "Why each task weighs what it weighs",
        texts=[
            "Weights have mean 1 over what was weighed, a group counting once. What a task's "
            "outward contribution, inward contribution and difficulty each add to 1 or take from "
            "it makes its weight; the numbers are rounded."
        ],
        sentences=[
            *(why(unit, weights.units, weights.intervals) for unit in units),
            *(fixed(task, weight) for task, weight in weights.fixed.items()),
        ],
    )


def _contribution(material: Material, drawing: Drawing) -> Section:
    caption = (
        "Row: the task whose data was added; column: the task that was scored. 1 is as good as the "
        "scored task's own data, 0 no help, below 0 (rust) harm. The diagonal is 1 by definition. "
        "Outward is the mean of a row, inward that of a column, without the diagonal."
    )
    if omits_zeros(len(material.weights.units)):
        caption += " In the cells .12 stands for 0.12."
    picture = Picture(
        drawing,
        "Contribution of each task to each other",
        tables.describe_contribution(material),
        caption,
        [Content("Contribution in numbers", tables.contribution_table(material))],
    )
    return Section("contribution", "Who helps whom", blocks=[picture])


def _difficulty(material: Material, drawing: Drawing) -> Section:
    picture = Picture(
        drawing,
        "Difficulty of each task",
        tables.describe_difficulty(material),
        "The share of its score that a task loses when it has little data of its own instead of "
        "much: near 0, little data does; high, the task needs all it can get.",
        [Content("Difficulty in numbers", tables.difficulty_table(material))],
    )
    return Section("difficulty", "Difficulty", blocks=[picture])


def _temperature(material: Material, drawing: Drawing) -> Section:
    low, high = material.range
    picture = Picture(
        drawing,
        "Weights over temperature",
        tables.describe_temperature(material),
        f"The same measurement at other temperatures. The band is the range {low:g} to {high:g}; "
        "the dashed line is the temperature of these weights. Blue weighs 1 or more there, rust "
        "less.",
        [Content("Weights over temperature in numbers", tables.temperature_table(material))],
    )
    return Section("temperature", "Weights against temperature", blocks=[picture])


def _results(results: Results, drawing: Drawing | None) -> Section:
    against = f"Improvement over {brief(results.baseline)}"
    if results.zero_shot:
        against += f", for zero-shot tasks over {brief(results.zero_shot_baseline)}"
    text = (
        f"{against}. dI is the mean over the tasks, dE the mean of what each lost, 0 where it "
        "gained."
    )
    changes = [Content("Change of every task, percent", tables.changes_table(results))]
    pictures = []
    if drawing is not None:
        pictures = [
            Picture(
                drawing,
                "Improvement of each task by each method",
                tables.describe_improvement(results),
                f"{against}, in percent, by task; all panels have one scale.",
                changes,
            )
        ]
    summary = Content("Methods compared", tables.methods_table(results), "methods-table")
    return Section("results", "After the final run", [text], blocks=[summary, *pictures])


def _warnings(found: Sequence[Mapping[str, str]]) -> Section:
    groups = [
        WarningGroup(
            printable(code),
            WARNINGS.get(code, "Another warning"),
            [
                {key: printable(warning[key]) for key in ("message", "path")}
                for warning in found
                if warning["code"] == code
            ],
        )
        for code in in_order([warning["code"] for warning in found])
    ]
    texts = [] if groups else ["There are none."]
    return Section("warnings", "Warnings", texts=texts, warnings=groups)


def _cost(plan: Plan) -> Section:
    cost = plan.cost
    steps = cost.measuring_steps / cost.final_steps if cost.final_steps else 0.0
    facts = [
        ("by the formula", f"{number(cost.formula, 4)} of the final run"),
        ("counted in samples", f"{number(cost.counted, 4)} of the final run"),
        ("samples", f"{cost.measuring_samples:,} to measure, {cost.final_samples:,} in the end"),
        ("steps", f"{cost.measuring_steps:,} to measure, {cost.final_steps:,} in the end"),
    ]
    text = (
        f"Measuring took {number(100 * cost.counted, 1)}% of the final run's samples beside it, "
        f"and {number(100 * steps, 1)}% of its steps."
    )
    rows = [
        [
            printable(run.name),
            _PURPOSES.get(run.purpose, printable(run.purpose)),
            f"{run.samples:,}",
            f"{run.steps:,}",
        ]
        for run in plan.runs
    ]
    runs = tables.Table(["run", "for", "samples", "steps"], rows, 2)
    return Section("cost", "Cost", [text], facts=facts, blocks=[Content("The runs", runs)])


def _sources(material: Material) -> Section:
    files = [[printable(file.name), file.part, file.sha256] for file in material.inputs]
    if material.plan:
        files += [[printable(n), "input of the plan", h] for n, h in material.plan.inputs.items()]
    named = {file.sha256 for file in material.inputs}
    if material.weights.scores_sha256 not in named:
        told = printable(material.weights.scores_sha256)
        files.append(["(not here)", "scores, as the weights name them", told])
    inputs = tables.Table(["file", "what", "SHA-256"], files, 3)
    checked = (
        "The weights file agrees with itself: its numbers were computed again from its "
        "contributions and difficulties."
    )
    if material.scores:
        checked = (
            "The scores are those that the weights were made from, by their SHA-256, and the "
            "weights were computed again from them: the same to nine digits."
        )
    return Section(
        "sources",
        "Files and settings",
        texts=[checked],
        facts=_settings(material),
        blocks=[Content("Files", inputs, "files-table")],
    )


def _settings(material: Material) -> list[tuple[str, str]]:
    weights, plan, scores = material.weights, material.plan, material.scores
    alphas = [f"{name} {a:g}" for name, a in zip(_ALPHAS, weights.alphas, strict=True)]
    form = scores.form if scores else plan.form if plan else ""
    facts = [
        ("visatb", __version__),
        ("form", form),
        ("temperature", f"{weights.temperature:g}"),
        ("alphas", listed(alphas)),
        ("range", "{:g} to {:g}".format(*material.range)),
        ("runs", listed([shown(run) for run in scores.runs]) if scores else ""),
        ("sampling", _sampling(material)),
        ("plan", f"{printable(plan.identity)}, seed {plan.seed}" if plan else ""),
    ]
    return [(name, value) for name, value in facts if value]


def _sampling(material: Material) -> str:
    found = material.plan.sampling if material.plan else {}
    found = found or (material.scores.sampling if material.scores else {})
    return listed([f"{printable(key)} {value:g}" for key, value in found.items()]) if found else ""

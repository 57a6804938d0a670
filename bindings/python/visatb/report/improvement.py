"""The figure of results: what each method gained or lost on each task."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .bars import task_labels
from .gather import Material
from .names import in_figures
from .results_file import Method, Results
from .sentences import number
from .style import FAINT, HARMS, HELPS, MUTED, WIDTH, row_height

_PANELS_IN_A_ROW = 4
_THICK = 0.6


def improvement_figure(material: Material, results: Results) -> Figure:
    """A panel a method with a bar a task, all on one scale; zero-shot tasks below a gap."""
    methods = results.compared
    lines = -(-len(methods) // _PANELS_IN_A_ROW)
    columns = -(-len(methods) // lines)
    tasks = [*results.trained, *results.zero_shot]
    places = [row + (0.7 if row >= len(results.trained) else 0.0) for row in range(len(tasks))]
    height = 0.75 + 0.8 * row_height(len(tasks)) * (places[-1] + 1)
    figure = Figure(figsize=(WIDTH, lines * height), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    low, high = _span(methods)
    titles = in_figures(
        [method.name for method in methods],
        [f"method {number}" for number in range(1, len(methods) + 1)],
        20,
    )
    for panel, method, title in zip(panels.flat, methods, titles, strict=False):
        _panel(panel, method, title, tasks, places)
    for panel in panels.flat[len(methods) :]:
        panel.set_visible(False)
    for panel in panels[:, 0]:
        panel.set_yticks(places, task_labels(material, tasks), fontsize=8.5)
    panels[0, 0].set_ylim(places[-1] + 0.6, -0.6)
    margin = (0.34 if columns > 2 else 0.16) * (high - low)
    panels[0, 0].set_xlim(low - (margin if low < 0 else 0), high + (margin if high > 0 else 0))
    return figure


def _span(methods: tuple[Method, ...]) -> tuple[float, float]:
    values = [0.0, *(value for method in methods for value in method.by_task.values())]
    low, high = min(values), max(values)
    return (low, high) if high > low else (-1.0, 1.0)


def _panel(panel: Axes, method: Method, title: str, tasks: list[str], places: list[float]) -> None:
    for place, task in zip(places, tasks, strict=True):
        value = method.by_task.get(task)
        if value is None:
            continue
        panel.barh(place, value, _THICK, color=HELPS if value >= 0 else HARMS, zorder=2)
        panel.annotate(
            number(value, 1, signed=True),
            (value, place),
            xytext=(3 if value >= 0 else -3, 0),
            textcoords="offset points",
            ha="left" if value >= 0 else "right",
            va="center_baseline",
            fontsize=7.5,
            color=MUTED,
        )
    panel.axvline(0, color=FAINT, linewidth=0.9, zorder=3)
    figures = f"dI {number(method.gain, signed=True)}   dE {number(method.loss)}"
    panel.set_title(f"{title}\n", loc="left", fontsize=9.5, fontweight="bold")
    panel.annotate(
        figures,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 7),
        textcoords="offset points",
        fontsize=8.5,
        color=MUTED,
    )
    panel.spines[["left", "bottom"]].set_visible(False)
    panel.tick_params(axis="both", length=0)
    panel.tick_params(axis="x", labelbottom=False)

"""The picture of a demo run: how tasks help each other, how hard they are, what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#3b6ea8", "#d98032", "#8a8a8a"
# Beyond this a contribution is as strong as the colours can say; the number stands in the cell.
COLOUR_LIMIT = 1.0
WEIGHT_RANGE = (0.5, 2.0)
CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 1}


def draw(path: Path, weights: dict[str, Any] | None, evaluation: dict[str, Any] | None) -> None:
    """Draw what there is: the weights unless VisATB refused, the results if there are any."""
    figure, panels = plt.subplots(2, 2, figsize=(11, 8.6), layout="constrained")
    if weights is None:
        for panel, title in zip(
            panels.flat, ("Contribution", "Difficulty", "Weights"), strict=False
        ):
            _say(panel, title, "VisATB refused the scores,\nso every task weighs the same")
    else:
        _contribution(panels[0, 0], weights)
        _difficulty(panels[0, 1], weights)
        _weights(panels[1, 0], weights)
    if evaluation is None:
        _say(panels[1, 1], "Results on test", "nothing to compare")
    else:
        _improvement(panels[1, 1], evaluation)
    figure.suptitle("VisATB on easy-VQA: from validation scores to task weights", fontsize=14)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _say(panel: Axes, title: str, text: str) -> None:
    panel.text(0.5, 0.5, text, ha="center", va="center", color=GREY, transform=panel.transAxes)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(False)
    panel.set_title(title, loc="left", fontweight="bold", fontsize=11)


def _title(panel: Axes, title: str, subtitle: str) -> None:
    panel.set_title(f"{title}\n", loc="left", fontweight="bold", fontsize=11)
    panel.text(0, 1.025, subtitle, transform=panel.transAxes, color="#555555", fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)


def _contribution(panel: Axes, weights: dict[str, Any]) -> None:
    names = weights["tasks"]
    values = np.array([[weights["contribution"][i][j] for j in names] for i in names])
    picture = panel.imshow(values, cmap="RdBu", vmin=-COLOUR_LIMIT, vmax=COLOUR_LIMIT)
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if abs(value) > 0.6 * COLOUR_LIMIT else "black"
        panel.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
    panel.set_xticks(range(len(names)), [f"to {name}" for name in names])
    panel.set_yticks(range(len(names)), [f"from {name}" for name in names])
    panel.tick_params(length=0)
    _title(panel, "Contribution", "Eq. 3; 1: as good as the task's own data, below 0: it harms")
    panel.spines[:].set_visible(False)
    panel.figure.colorbar(picture, ax=panel, shrink=0.85, extend="both")


def _bars(panel: Axes, names: list[str], values: list[float], form: str) -> None:
    bars = panel.barh(names, values, color=BLUE, height=0.6)
    panel.bar_label(bars, [form.format(value) for value in values], padding=4, bbox=CLEAR)
    panel.invert_yaxis()
    panel.axvline(0, color="black", linewidth=0.8)
    panel.margins(x=0.15)


def _difficulty(panel: Axes, weights: dict[str, Any]) -> None:
    names = weights["tasks"]
    _bars(panel, names, [weights["difficulty"][name] for name in names], "{:.2f}")
    _title(panel, "Difficulty", "Eq. 6; the share of its score that a task loses with little data")


def _weights(panel: Axes, weights: dict[str, Any]) -> None:
    names = weights["tasks"]
    _bars(panel, names, [weights["weights"][name] for name in names], "{:.2f}")
    for edge in WEIGHT_RANGE:
        panel.axvline(edge, color=ORANGE, linestyle="--", linewidth=1.2)
    panel.axvline(1, color=GREY, linewidth=0.8, zorder=0)
    panel.set_xlim(0, 2.2)
    temperature = f"T = {weights['temperature']:g}"
    _title(panel, "Weights", f"Eq. 8, {temperature}; dashed: the range they should stay in")


def _improvement(panel: Axes, evaluation: dict[str, Any]) -> None:
    baseline = evaluation["baseline"]
    methods = {name: m for name, m in evaluation["methods"].items() if name != baseline}
    names = list(next(iter(methods.values()))["tasks"])
    height = 0.8 / len(methods)
    for number, ((method, result), colour) in enumerate(
        zip(methods.items(), (GREY, BLUE), strict=False)
    ):
        values = [result["tasks"][name] for name in names]
        places = np.arange(len(names)) + (number - (len(methods) - 1) / 2) * height
        label = f"{method}: dI {result['dI']:+.1f}%, dE {result['dE']:.1f}%"
        bars = panel.barh(places, values, height=0.9 * height, color=colour, label=label)
        panel.bar_label(bars, [f"{value:+.1f}%" for value in values], padding=4, bbox=CLEAR)
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    panel.axvline(0, color="black", linewidth=0.8)
    panel.margins(x=0.2)
    panel.legend(frameon=False, loc="best")
    _title(panel, "Results on test", f"improvement over {baseline} (each task alone), in percent")

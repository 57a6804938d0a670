"""Results as a picture: one panel a case, one bar a contestant, floors as lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from .names import COPY, COPY_WARM, PASS, PRODUCTS
from .results import Record, contestants, median, size_of
from .table import SHORT

BLUE, ORANGE, GREY, DARK = "#3b6ea8", "#d98032", "#8a8a8a", "#222222"
GIVEN = {"logits": "logits", "linear": "hidden states"}
FLOORS = {PASS: "-", COPY: "--", PRODUCTS: "-"}
GPU_FLOORS = {COPY_WARM: "-", PRODUCTS: "-"}


def draw(
    path: Path, results: Record, form: str, machine: str, floors: dict[str, str] = FLOORS
) -> bool:
    """Draws the cases of a form, and the floors as lines of such styles; False for no cases."""
    cases = [case for case in results["cases"] if case["form"] == form]
    if not cases:
        return False
    sizes = list(dict.fromkeys(size_of(case) for case in cases))
    kinds = list(dict.fromkeys((case["dtype"], case["valid_percent"]) for case in cases))
    names = _names(cases)
    figure, panels = plt.subplots(
        len(sizes),
        len(kinds),
        figsize=(3 + 3.4 * len(kinds), 1 + (0.9 + 0.27 * len(names)) * len(sizes)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    # A run that was stopped lacks some.
    for panel in panels.flat:
        panel.set_visible(False)
    for case in cases:
        row = sizes.index(size_of(case))
        column = kinds.index((case["dtype"], case["valid_percent"]))
        _panel(panels[row][column], case, names, floors)
    figure.suptitle(f"Forward and backward of the loss from {GIVEN[form]}: {machine}", fontsize=13)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True


def _names(cases: list[Record]) -> list[str]:
    """Who ran in any of the cases; floors are lines."""
    names: dict[str, Any] = {}
    for case in cases:
        for name, contestant in contestants(case).items():
            if contestant["group"] != "floor" and "times_s" in contestant:
                names[name] = None
    return sorted(names, key=lambda name: name.endswith(", gathered"))


def _panel(panel: Axes, case: Record, names: list[str], floors: dict[str, str]) -> None:
    found = contestants(case)
    panel.set_visible(True)
    for place, name in enumerate(names):
        contestant = found.get(name)
        if contestant is None or "times_s" not in contestant:
            continue
        middle, times = 1e3 * median(contestant), [1e3 * s for s in contestant["times_s"]]
        colour = BLUE if contestant["group"] == "visatb" else ORANGE
        spread = [[middle - min(times)], [max(times) - middle]]
        panel.barh(place, middle, 0.7, color=colour, xerr=spread, ecolor=DARK, capsize=2)
        panel.annotate(
            f"{middle:.3g}" if middle < 100 else f"{middle:,.0f}",
            (max(times), place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    for name, style in floors.items():
        if "times_s" in found.get(name, {}):
            time = 1e3 * median(found[name])
            panel.axvline(time, color=GREY, linestyle=style, linewidth=1.2, label=name, zorder=0)
    panel.set_yticks(range(len(names)), names, fontsize=8)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.margins(x=0.22)
    panel.set_xlabel("ms", fontsize=8)
    panel.tick_params(axis="x", labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    dtype = SHORT.get(case["dtype"], case["dtype"])
    panel.set_title(
        f"{size_of(case)} {dtype}, {case['valid_percent']}% valid", fontsize=9, loc="left"
    )
    if panel.get_legend_handles_labels()[0]:
        panel.legend(frameon=False, fontsize=7, loc="lower right")

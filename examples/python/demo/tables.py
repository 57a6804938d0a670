"""What the demo prints between and after its runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def _table(title: str, columns: list[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def show_weights(data: dict[str, Any], console: Console) -> None:
    """The weights with what they were made from, then the warnings, one line a kind."""
    table = _table(
        f"VisATB's weights (T = {data['temperature']:g})",
        ["task", "outward", "inward", "difficulty", "weight"],
    )
    for name in data["tasks"]:
        numbers = (data[key][name] for key in ("outward", "inward", "difficulty", "weights"))
        table.add_row(name, *(f"{number:.3f}" for number in numbers))
    console.print()
    console.print(table)
    counts = Counter(warning["code"] for warning in data["warnings"])
    for code, count in counts.items():
        first = next(warning for warning in data["warnings"] if warning["code"] == code)
        more = f" ({count - 1} more like this in weights.json)" if count > 1 else ""
        console.print(
            f"warning: {first['message']}{more}", highlight=False, soft_wrap=True, markup=False
        )
    console.print()


def show_results(
    results: dict[str, Any], evaluation: dict[str, Any] | None, console: Console
) -> None:
    """Every task's test score by method, and the improvement over STL in percent."""
    methods = results["methods"]
    table = _table("Test scores (change over STL)", ["task", *methods])
    for task in results["tasks"]:
        name, metric = task["name"], task["metrics"][0]["name"]
        cells = []
        for method, scores in methods.items():
            cell = f"{scores[name][metric]:.1f}"
            if evaluation and method != evaluation["baseline"]:
                change = evaluation["methods"][method]["tasks"][name]
                cell += f" ({change:+.1f}%)"
            cells.append(cell)
        table.add_row(f"{name} ({metric})", *cells)
    if evaluation:
        table.add_section()
        for key, label in (("dI", "dI, higher is better"), ("dE", "dE, lower is better")):
            values = (evaluation["methods"].get(method) for method in methods)
            table.add_row(label, *(f"{value[key]:.2f}%" if value else "" for value in values))
    console.print()
    console.print(table)

"""What weights are made with, and whether it is right, asked before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._errors import DataError
from ..scores import compute_weights
from .section import Section

# As files name them.
ALPHAS = ("out", "in", "difficulty")


@dataclass(frozen=True)
class WeightSettings:
    """What the weights are made with; None: as `visatb weights` does."""

    alphas: tuple[float, ...] | None = None
    temperature: float | str | None = None
    range: tuple[float, ...] | None = None

    def members(self) -> dict[str, Any]:
        """As scores.json has them."""
        members: dict[str, Any] = {}
        if self.alphas is not None:
            members["alphas"] = dict(zip(ALPHAS, self.alphas, strict=True))
        if self.temperature is not None:
            members["temperature"] = self.temperature
        if self.range is not None:
            members["range"] = list(self.range)
        return members


def check_settings(settings: WeightSettings, section: Section) -> None:
    """Refuses what no weights can be made with, by the rules of score files themselves.

    Args:
        settings: what is checked.
        section: where the project says it.

    Errors: DataError.
    """
    members = settings.members()
    if not members:
        return
    try:
        compute_weights(_two_equal_tasks() | members)
    except DataError as error:
        place = f"{section.path}.{error.path}"
        what = str(error).partition(f"{error.path}: ")[2]
        raise DataError(f"{section.file}: {place}: {what}", place) from None


def _two_equal_tasks() -> dict[str, Any]:
    """Scores whose weights are 1 with any settings."""
    metrics = [{"name": "score", "higher_is_better": True}]
    before, after = {"score": 1}, {"score": 2}
    return {
        "visatb_scores": 1,
        "form": "full",
        "tasks": [{"name": name, "metrics": metrics} for name in ("a", "b")],
        "runs": {
            "mini": {"a": before, "b": before},
            "with_mini": {"a": {"a": after, "b": before}, "b": {"a": before, "b": after}},
        },
    }

"""Grounding: boxes [x1, y1, x2, y2] in text, and how far two of them overlap."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from visatb._numbers import finite

from .pairs import Pairs, Scored

THRESHOLD = 0.5
# The areas of boxes in shares are rounded; in pixels, two overlaps near a half differ by more.
_ROUNDING = 1e-9

# Every part of a pattern begins with what the part before it cannot take, so that a text of any
# length is read in a time that grows with its length.
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_BETWEEN = r"(?:\s*[,;]\s*|\s+|><)"
_FOUR = _BETWEEN.join([rf"({_NUMBER})"] * 4)
_TWO = rf"[(\[]\s*({_NUMBER}){_BETWEEN}({_NUMBER})\s*[)\]]"
_BOX = re.compile(rf"[\[({{<]\s*{_FOUR}\s*[\])}}>]|{_TWO}\s*(?:[,;]\s*)?{_TWO}")
_BARE = re.compile(rf"\s*{_FOUR}\s*")


class Box(NamedTuple):
    """Left, top, right and bottom."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def area(self) -> float:
        """Its area; 0 where corners are reversed."""
        return max(self.x2 - self.x1, 0.0) * max(self.y2 - self.y1, 0.0)


def find_boxes(text: str) -> list[Box]:
    """The boxes that a text holds, in their order.

    Four numbers in brackets of any kind, two points in brackets, or nothing but four numbers.
    """
    matches = list(_BOX.finditer(text))
    if not matches:
        bare = _BARE.fullmatch(text)
        matches = [bare] if bare else []
    found = [[float(part) for part in match.groups() if part is not None] for match in matches]
    return [Box(*numbers) for numbers in found if all(map(math.isfinite, numbers))]


def overlap(first: Box, second: Box) -> float:
    """Intersection over union, 0 to 1; 0 where a box has no area."""
    shared = Box(
        max(first.x1, second.x1),
        max(first.y1, second.y1),
        min(first.x2, second.x2),
        min(first.y2, second.y2),
    ).area
    return shared / (first.area + second.area - shared) if shared else 0.0


def iou(pairs: Pairs) -> Scored:
    """The overlap of each answer with its truth, in percent.

    Errors: DataError for a truth that is not one box with an area.
    """
    overlaps, notes = _overlaps(pairs)
    return Scored([100.0 * value for value in overlaps], notes=notes)


def accuracy(pairs: Pairs) -> Scored:
    """100 for an overlap of 0.5 or more, as far as floats can tell, else 0.

    Errors: as `iou`.
    """
    overlaps, notes = _overlaps(pairs)
    return Scored([100.0 * (value >= THRESHOLD - _ROUNDING) for value in overlaps], notes=notes)


def _overlaps(pairs: Pairs) -> tuple[list[float], tuple[str, ...]]:
    truths = [_truth(pairs, position) for position in range(len(pairs.ids))]
    answers = [None if text is None else _first(text) for text in pairs.answers]
    overlaps = [
        0.0 if answer is None else overlap(answer, truth)
        for answer, truth in zip(answers, truths, strict=True)
    ]
    return overlaps, _notes(pairs, answers, truths)


def _first(text: str) -> Box | None:
    return next(iter(find_boxes(text)), None)


def _truth(pairs: Pairs, position: int) -> Box:
    (value,) = pairs.truths[position]
    boxes = find_boxes(value) if isinstance(value, str) else _of_list(value)
    if len(boxes) != 1:
        raise pairs.bad_truth(position, f"expected one box [x1, y1, x2, y2], found {len(boxes)}")
    if not 0.0 < boxes[0].area < math.inf:
        raise pairs.bad_truth(position, "the box has no area; expected x1 < x2 and y1 < y2")
    return boxes[0]


def _of_list(value: Any) -> list[Box]:
    found = [finite(part) for part in value] if isinstance(value, list) else []
    numbers = [number for number in found if number is not None]
    return [Box(*numbers)] if len(found) == len(numbers) == 4 else []


def _notes(pairs: Pairs, answers: list[Box | None], truths: list[Box]) -> tuple[str, ...]:
    boxes = [box for box in answers if box is not None]
    answered = len(answers) - pairs.missing
    without = answered - len(boxes)
    empty = sum(not box.area for box in boxes)
    notes = []
    if without:
        notes.append(f"{without} of {answered} answers hold no box: they score 0")
    if empty:
        what = "reversed corners or no area"
        notes.append(f"{empty} of {answered} answers are boxes with {what}: they score 0")
    if boxes and _is_shares(truths) != (sum(map(_of_shares, boxes)) * 2 > len(boxes)):
        inside, outside = ("truths", "answers") if _is_shares(truths) else ("answers", "truths")
        notes.append(
            f"most {inside} lie within 0 and 1 and most {outside} do not: are both on one scale?"
        )
    return tuple(notes)


def _is_shares(boxes: list[Box]) -> bool:
    return sum(map(_of_shares, boxes)) * 2 > len(boxes)


def _of_shares(box: Box) -> bool:
    """Whether the coordinates may be shares of the image's width and height."""
    return all(0.0 <= part <= 1.0 for part in box)

"""Files made of what is done, without starting anything."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..procedure.runs import COMPARE, MEASURE
from .book import Book
from .compare import gather_results
from .gather import gather_weights


@dataclass
class Collected:
    """What came of it.

    Attributes:
        code: the exit code: 0, or 3 where there are no weights.
        notes: what is to be said.
    """

    code: int = 0
    notes: list[str] = field(default_factory=list)


def collect(book: Book) -> Collected:
    """Writes scores, weights and results of what is done.

    Errors: FileError, DataError (a marker that is none).
    """
    collected = Collected()
    lacking = book.lacking(MEASURE)
    if lacking:
        collected.code = 3
        collected.notes.append(f"no weights yet: without a result are {', '.join(lacking)}")
    else:
        gathered = gather_weights(book)
        collected.notes += [f"warning: {note}" for note in gathered.notes]
        for method, why in gathered.refused.items():
            collected.code = 3
            collected.notes.append(f"no weights for {method}: {why}")
    for run in book.plan.runs:
        stale = None if lacking else book.stale(run)
        if stale is not None:
            collected.code = 3
            collected.notes.append(stale)
    if not gather_results(book):
        left = ", ".join(book.lacking(COMPARE))
        collected.notes.append(
            f"nothing to compare yet; without a result are {left}"
            if left
            else "nothing to compare: expected the results of a baseline and of another method"
        )
    return collected

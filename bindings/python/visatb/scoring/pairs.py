"""Every answer beside its truth."""

from __future__ import annotations

from typing import Any, NamedTuple

from visatb._errors import ArgumentError, DataError

from .fields import Keyed, read_answers, read_references
from .records import RecordSource

MISSING = ("refuse", "zero")


class MissingAnswersError(DataError):
    """References without an answer, where they are not to score 0.

    Attributes:
        are_few: whether most references have one, so that the answers can be to these references.
    """

    def __init__(self, message: str, *, are_few: bool) -> None:
        super().__init__(message)
        self.are_few = are_few


class Pairs(NamedTuple):
    """Answers and truths in the order of the references.

    Attributes:
        ids: of the samples.
        answers: the model's text; None where it is missing.
        truths: what `fields.read_references` found.
        references: where they come from, for messages.
    """

    ids: list[str]
    answers: list[str | None]
    truths: list[Any]
    references: Keyed

    def bad_truth(self, position: int, what: str) -> DataError:
        """The error for the truth of one sample."""
        sample = self.ids[position]
        return self.references.records.fault(self.references.at[sample], f"id {sample}: {what}")

    @property
    def missing(self) -> int:
        """How many answers are missing."""
        return self.answers.count(None)


class Scored(NamedTuple):
    """What a measure makes of pairs.

    Attributes:
        values: [samples], 0 where the answer is missing; the score is their mean. None where
            it is the mean of none.
        score: the score where there are no values.
        notes: what a reader must know beside the score.
    """

    values: list[float] | None
    score: float | None = None
    notes: tuple[str, ...] = ()


def pair(
    answers: RecordSource, references: RecordSource, keys: tuple[str, ...], missing: str
) -> Pairs:
    """Reads both sides and matches them by id.

    Errors: those of `read_answers` and `read_references`; DataError for an answer without a
    reference; MissingAnswersError for a reference without an answer where `missing` is "refuse".
    """
    if missing not in MISSING:
        raise ArgumentError(f'missing = {missing!r}; expected "refuse" or "zero"')
    given = read_answers(answers)
    truths = read_references(references, keys)
    for sample in given.values:
        if sample not in truths.values:
            raise given.records.fault(given.at[sample], _stray(sample, given, truths))
    if missing == "refuse":
        _refuse_missing(given, truths)
    ids = list(truths.values)
    return Pairs(ids, [given.values.get(i) for i in ids], list(truths.values.values()), truths)


def _refuse_missing(given: Keyed, truths: Keyed) -> None:
    lacking = [sample for sample in truths.values if sample not in given.values]
    if not lacking:
        return
    first, count = lacking[0], f"{len(lacking)} of {len(truths.values)}"
    where = f"{truths.records.name}: {truths.records.place(truths.at[first])}"
    what = f"no answer for {count} references, first for id {first} ({where})"
    are_few = 2 * len(lacking) < len(truths.values)
    if not are_few:
        what += f"; {_no_match('answers', given)}"
    raise MissingAnswersError(f"{given.records.name}: {what}", are_few=are_few)


def _stray(sample: str, given: Keyed, truths: Keyed) -> str:
    """What to say of an answer that nothing was asked for."""
    turns = 0
    while f"{sample}#{turns + 1}" in truths.values:
        turns += 1
    if turns:
        return (
            f"id {sample}: one answer to {turns} turns; expected a list of {turns}, or the ids "
            f"{sample}#1 to {sample}#{turns}"
        )
    strays = sum(other not in truths.values for other in given.values)
    more = f" ({strays} answers have none)" if strays > 1 else ""
    what = f"id {sample} has no reference in {truths.records.name}{more}"
    return what if 2 * strays < len(given.values) else f"{what}; {_no_match('references', truths)}"


def _no_match(side: str, keyed: Keyed) -> str:
    """What to say where many ids of the other side are not on this one."""
    has = f"the {side} have {len(keyed.values)}, first {next(iter(keyed.values))}"
    return f"the ids of the two files do not match: {has}"

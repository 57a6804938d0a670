"""Reviews of a judge: how a model's answers were marked beside the reference's."""

from __future__ import annotations

import math
from typing import Any

from visatb._errors import DataError
from visatb._numbers import LARGEST, finite

from .fields import Keyed, id_of
from .records import Records, RecordSource, read_records

_KEYS = ("tuple", "score")


def judge(reviews: RecordSource) -> dict[str, float]:
    """The values of the relative score, whose mean is 100 * sum(model) / sum(reference).

    Args:
        reviews: lines with a question_id and "tuple": [mark of the reference, mark of the model],
            as LLaVA's evaluation writes them ("score" in its older files).

    Returns:
        {id: 100 * model / mean of the reference's marks}.

    Errors: those of `read_records`; DataError for marks that are none, as the [-1, -1] of a
    review that could not be read, and for marks that make a value of 1e150 or more.
    """
    records = read_records(reviews, "reviews")
    marks = Keyed(records, {}, {})
    for index in range(len(records.fields)):
        sample = id_of(records, index)
        if sample in marks.values:
            before = records.place(marks.at[sample])
            raise records.fault(index, f"id {sample} stands in {before} already")
        marks.values[sample] = _marks(records, index)
        marks.at[sample] = index
    reference = math.fsum(mark for mark, _ in marks.values.values()) / len(marks.values)
    if reference <= 0.0:
        raise DataError(f"{records.name}: every mark of the reference is 0")
    values = {sample: 100.0 * (m / reference) for sample, (_, m) in marks.values.items()}
    for sample, value in values.items():
        if finite(value, LARGEST) is None:
            what = f"the model's mark is {value / 100:.3g} times the mean of the reference's marks"
            raise records.fault(marks.at[sample], f"{what}; expected a value below 1e150")
    return values


def _marks(records: Records, index: int) -> tuple[float, float]:
    fields = records.fields[index]
    key = next((key for key in _KEYS if key in fields), None)
    if key is None:
        raise records.fault(index, 'no marks; expected "tuple": [reference, model]')
    value: Any = fields[key]
    found = [finite(mark, LARGEST) for mark in value] if isinstance(value, list) else []
    marks = [mark for mark in found if mark is not None]
    if len(found) != 2 or len(marks) != 2:
        what = "expected two numbers, reference and model"
        raise records.fault(index, f"{key}: {what}, below 1e150")
    if min(marks) < 0:
        what = "the review gave no marks; have it made again"
        raise records.fault(index, f"{key}: {value}: {what}")
    return marks[0], marks[1]

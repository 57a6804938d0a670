"""The score file that weights were made from: that it is that one, and what else it tells."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from visatb import csv_scores
from visatb._arguments import FORMS
from visatb._errors import DataError, Error
from visatb._sources import Document
from visatb.scores import Form, compute_weights

from .documents import parse

DEFAULT_RANGE = (0.5, 2.0)
# Between weights and those that the same scores make here.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Scores:
    """What a score file tells beside the weights.

    Attributes:
        by_form: the file, as each form that it can be read in has it.
        own_form: what it says of itself, or its runs tell; "" where neither does.
        unit_of_task: for each task its group, or itself; None for a task of fixed weight.
        metrics: {metric: whether higher is better} of each task.
        range: what the weights should stay in.
        form: by which the weights were made; "" until `confirm` found it.
        runs: the names of its runs, as "with_mini:vqa".
        sampling: what it says of the subsets.
        samples: by task, where it says so.
    """

    by_form: Mapping[str, dict[str, Any]]
    own_form: str
    unit_of_task: Mapping[str, str | None]
    metrics: Mapping[str, Mapping[str, bool]]
    range: tuple[float, float]
    form: str
    runs: tuple[str, ...]
    sampling: Mapping[str, float]
    samples: Mapping[str, int]


def read_scores(source: Document, *, made: str, weights: str) -> Scores:
    """Reads a score file, JSON or CSV.

    Args:
        source: the file.
        made: the SHA-256 of the scores that the weights were made from.
        weights: how messages call the weights file.

    Errors: DataError (another score file than that one).
    """
    found = hashlib.sha256(source.content).hexdigest()
    if found != made:
        raise DataError(
            f"{source.name}: not the scores that {weights} was made from: its SHA-256 begins "
            f"with {found[:12]}, that of the right ones with {made[:12]}"
        )
    try:
        return _told(*_read(source))
    except (AttributeError, KeyError, TypeError, ValueError):
        # Only a hash that somebody wrote into the weights file could name such scores.
        raise DataError(f"{source.name}: not scores as `visatb weights` reads them") from None


def _told(by_form: Mapping[str, dict[str, Any]], own_form: str) -> Scores:
    document = next(iter(by_form.values()))
    low, high = document.get("range", DEFAULT_RANGE)
    return Scores(
        by_form=by_form,
        own_form=own_form,
        unit_of_task={
            task["name"]: None if "fixed_weight" in task else task.get("group", task["name"])
            for task in document["tasks"]
        },
        metrics={
            task["name"]: {m["name"]: m["higher_is_better"] for m in task.get("metrics", ())}
            for task in document["tasks"]
        },
        range=(float(low), float(high)),
        form="",
        runs=tuple(_runs(document["runs"])),
        sampling=document.get("sampling", {}),
        samples={t["name"]: t["samples"] for t in document["tasks"] if "samples" in t},
    )


def confirm(scores: Scores, weights: Mapping[str, Any], name: str) -> Scores:
    """The same with the form that makes these weights, which `--form` may have chosen.

    Args:
        scores: the scores.
        weights: the weights file.
        name: how messages call it.

    Errors: DataError (no form makes them).
    """
    for form, document in scores.by_form.items():
        if _makes(document, form, weights):
            return replace(scores, form=form)
    raise DataError(
        f"{name}: its scores make other weights in every form, so it was changed after "
        "`visatb weights` wrote it"
    )


def _read(source: Document) -> tuple[dict[str, dict[str, Any]], str]:
    """The document by form, that of the file first; and that form, "" where it is not told."""
    if source.content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        document = parse(source, "visatb_scores")
        own = str(document["form"])
        return dict.fromkeys(sorted(FORMS, key=lambda form: form != own), document), own
    read = [(form, _sheet(source, form)) for form in FORMS]
    found = {form: sheet for form, sheet in read if isinstance(sheet, dict)}
    if not found:
        raise next(sheet for _, sheet in read if isinstance(sheet, DataError))
    told = _sheet(source, None)
    return found, "" if isinstance(told, DataError) else str(told["form"])


def _sheet(source: Document, form: str | None) -> dict[str, Any] | DataError:
    """A CSV sheet as a document of this form, or of the one its runs tell; or why it is none."""
    try:
        return csv_scores.convert(source.content, source.name, form).document
    except DataError as refusal:
        return refusal


def _makes(document: Mapping[str, Any], form: str, weights: Mapping[str, Any]) -> bool:
    # Error bars are not asked for again, which take their time.
    plain = {key: value for key, value in document.items() if key != "per_sample"}
    try:
        made = compute_weights(
            plain,
            form=cast(Form, form),
            temperature=weights["temperature"],
            alphas=[weights["alphas"][part] for part in ("out", "in", "difficulty")],
            allow_negative_denominator=True,
        ).data
    except Error:
        return False
    return all(_same(weights[key], made[key]) for key in ("weights", "contribution", "difficulty"))


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in other)
    return bool(abs(one - other) <= _TOLERANCE * max(1.0, abs(other)))


def _runs(runs: Mapping[str, Any]) -> Iterator[str]:
    for kind, run in runs.items():
        if kind in {"base", "mini"}:
            yield kind
        else:
            yield from (f"{kind}:{unit}" for unit in run)

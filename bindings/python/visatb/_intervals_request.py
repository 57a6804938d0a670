"""Whether a score file gets intervals, and from which file of scores by sample."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ._arguments import file_name
from ._errors import ArgumentError, DataError, FileError
from ._intervals_member import Options, Progress, first_missing, intervals_member, with_member
from ._measurement import measurement_of, scores_by_key
from ._samples import read_samples
from ._sources import PathLike, shown
from .intervals import check_options
from .per_sample import place_of


class Request(NamedTuple):
    """What a caller asks for.

    Attributes:
        wanted: None: where the score file names a file of scores by sample, and that serves.
        per_sample: that file, if not the one that the score file names.
        options: how they are made.
        progress: for a bar.
    """

    wanted: bool | None
    per_sample: PathLike | None
    options: Options
    progress: Progress | None

    def check(self) -> None:
        """Refuses what cannot be right, before any file is read.

        Errors: ArgumentError.
        """
        if self.wanted is not None and not isinstance(self.wanted, bool):
            raise ArgumentError(f"intervals = {self.wanted!r}; expected True, False or None")
        if self.per_sample is not None:
            name = file_name("per_sample", self.per_sample)
            if self.wanted is False:
                raise ArgumentError(f"per_sample = {name!r} without intervals; drop one of the two")
        check_options(*self.options)


class ScoreFile(NamedTuple):
    """A score file that the library has found to be right.

    Attributes:
        document: parsed.
        name: how messages call it.
        folder: where a relative `per_sample` begins; "" is the working folder.
        form: the form that is used.
        units: for each task its unit; None: of fixed weight.
    """

    document: dict[str, Any]
    name: str
    folder: str
    form: str
    units: Mapping[str, str | None]


class Result(NamedTuple):
    """The text of weights.json, and a warning where it has no intervals although it might."""

    text: str
    warnings: list[dict[str, str]]


def add_intervals(text: str, scores: ScoreFile, request: Request) -> Result:
    """The text of weights.json with its intervals, where there are to be any.

    Errors: FileError, DataError: the file of scores by sample is wrong; and where intervals were
    asked for, also that there is none, or not all that is needed in it. ArgumentError: more
    resamples than the memory holds.
    """
    if request.wanted is False:
        return Result(text, [])
    must = bool(request.wanted) or request.per_sample is not None
    path = _file(scores, request)
    if path is None:
        if must:
            raise DataError(
                f"{scores.name}: per_sample: missing; intervals need a file of scores by sample",
                "per_sample",
            )
        return Result(text, [])
    try:
        return _with_samples(text, path, scores, request, must=must)
    except FileError as reason:
        if must:
            raise
        return Result(text, [_no_intervals(str(reason))])


def _no_intervals(why: str) -> dict[str, str]:
    return {"code": "no_intervals", "path": "per_sample", "message": f"no intervals: {why}"}


def _file(scores: ScoreFile, request: Request) -> str | None:
    if request.per_sample is not None:
        return os.fspath(request.per_sample)
    named = scores.document.get("per_sample")
    if named is None:
        return None
    if not named or "\0" in named:
        raise DataError(f"{scores.name}: per_sample: no file can have this name", "per_sample")
    return os.path.join(scores.folder, named)  # noqa: PTH118 - messages show it as it was given


def _with_samples(
    text: str, path: str, scores: ScoreFile, request: Request, *, must: bool
) -> Result:
    """The text with the hash of what was read, and with intervals where that has all of it."""
    by_key, digest = scores_by_key(scores.document), hashlib.sha256()
    samples = read_samples(path, by_key, scores.name, scores.units, digest.update)
    text = with_member(text, "per_sample_sha256", digest.hexdigest())
    measurement = measurement_of(scores.document, scores.form)
    missing = first_missing(measurement.needed(), samples)
    if missing is not None:
        # Nothing is wrong with the file, but it does not have what the form needs.
        place = f"{shown(path)}: no line for {place_of(*missing)}"
        message = f"{place}, which the {scores.form} form needs"
        if must:
            raise DataError(message)
        return Result(text, [_no_intervals(message)])
    try:
        member = intervals_member(
            measurement,
            by_key,
            samples,
            json.loads(text),
            scores.units,
            request.options,
            request.progress,
        )
    except MemoryError:
        count = request.options.resamples
        raise ArgumentError(f"resamples = {count}: too many for this machine's memory") from None
    return Result(with_member(text, "intervals", member), [])

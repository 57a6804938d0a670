"""From a file of validation scores to one weight per task, and comparisons of methods."""

from __future__ import annotations

import ctypes
import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _lib, csv_scores
from ._arguments import (
    Temperature,
    file_name,
    known_form,
    name_bytes,
    temperature_or_zero,
    three_alphas,
)
from ._errors import ArgumentError, DataError
from ._intervals_member import Options, Progress
from ._intervals_request import Request, ScoreFile, add_intervals
from ._sources import Document, PathLike, Source, read
from ._write import refuse_inputs, write_whole

Form = Literal["full", "simple", "precise"]


class ScoreWarning(NamedTuple):
    """Something in the scores that is allowed but weakens the weights.

    Attributes:
        code: as "negative_contribution"; never changes.
        where: the JSON path, or for a sheet its row and column.
        message: the sentence.
    """

    code: str
    where: str
    message: str


class Weights:
    """One weight per task, with everything it was made from.

    Attributes:
        data: the whole of weights.json, parsed; editing it does not change what `save` writes.
        tasks: the names in the order of the scores: task id i is tasks[i].
        temperature: the T that was used.
        warnings: what weakens the result, and why there are no intervals.
    """

    def __init__(
        self,
        text: str,
        made_from: _Scores,
        more_warnings: Sequence[dict[str, str]] = (),
        inputs: Sequence[PathLike] = (),
    ) -> None:
        """Keeps the text of weights.json; weights come from `compute_weights`."""
        self._text = text
        self._made_from = made_from
        self._inputs = tuple(inputs)
        self.data: dict[str, Any] = json.loads(text)
        self._weights: dict[str, float] = dict(self.data["weights"])
        self.tasks: list[str] = list(self.data["tasks"])
        self.temperature: float = self.data["temperature"]
        of_intervals = (self.intervals or {}).get("warnings", [])
        self.warnings = [
            ScoreWarning(warning["code"], made_from.where(warning["path"]), warning["message"])
            for warning in [*self.data["warnings"], *of_intervals, *more_warnings]
        ]

    def __repr__(self) -> str:
        return f"<visatb.Weights {self._weights}>"

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of each task, to be read only; `dict(weights.weights)` is one to edit."""
        return MappingProxyType(self._weights)

    @property
    def intervals(self) -> dict[str, Any] | None:
        """The member "intervals" of weights.json (docs/formats.md); None where it has none."""
        return self.data.get("intervals")

    @property
    def temperature_from(self) -> str:
        """Who chose the temperature: "argument", "file" or "automatic"."""
        return self._made_from.temperature_from

    @property
    def units(self) -> dict[str, str | None]:
        """For each task its group, or itself; None for a task of fixed weight."""
        return self._made_from.units()

    def to_json(self) -> str:
        """The text of weights.json, to the byte what `save` writes."""
        return self._text

    def save(self, path: PathLike) -> None:
        """Writes weights.json; the file appears whole or not at all.

        A link is followed; a pipe or a device is written to.

        Errors: ArgumentError (no path, or that of a file that the weights were made from),
        FileError (it cannot be written).
        """
        refuse_inputs("output", file_name("path", path), self._inputs, "the weights are")
        write_whole(path, self._text.encode())


def compute_weights(
    scores: Source,
    *,
    form: Form | None = None,
    temperature: Temperature | None = None,
    alphas: Sequence[float] | None = None,
    allow_negative_denominator: bool = False,
    intervals: bool | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    per_sample: PathLike | None = None,
    progress: Progress | None = None,
) -> Weights:
    """The VisATB weights of validation scores (Eq. 3 to 8, 10 to 12).

    Args:
        scores: a score file as docs/formats.md describes it, JSON or CSV; "-" for standard input;
            or what a JSON one holds, as a dict.
        form: which runs are compared, "full", "simple" or "precise"; None: what the file says, and
            for CSV what its runs tell.
        temperature: T > 0 or "auto"; None: the file's.
        alphas: how outward, inward and difficulty are mixed, summing to 1; None: the file's.
        allow_negative_denominator: let a task through that its own training made worse, although
            every contribution to it then changes its sign.
        intervals: whether to say how far everything may be off because the validation sets are
            finite, by a paired bootstrap (docs/mathematics.md). None: where the score file names a
            file of scores by sample; one that is missing or lacks something is then a warning.
        resamples: how many, at least one beyond each end of the interval.
        confidence: of each interval, between 0 and 1.
        seed: of the draws, 0 or more; the same seed gives the same intervals.
        per_sample: the file of scores by sample; None: the one that the score file names, from its
            own folder.
        progress: is told the share of the resampling that is done, from 0 to 1.

    Errors: ArgumentError, FileError (cannot be read), DataError (its message says where in the file
    and what is wrong).
    """
    request = Request(intervals, per_sample, Options(resamples, confidence, seed), progress)
    request.check()
    made_from = _Scores(scores, form, temperature)
    options, _alive = _options(made_from, form, temperature, alphas, allow_negative_denominator)
    try:
        text = _weights_json(made_from, options)
    except DataError as error:
        raise made_from.translate(error) from None
    result = add_intervals(text, made_from.file(form), request)
    return Weights(result.text, made_from, result.warnings, made_from.files(per_sample))


def _weights_json(scores: _Scores, options: _lib.WeightsOptions) -> str:
    """The text of weights.json; nothing of the library's outlives the call."""
    library = _lib.library()
    parsed = ctypes.POINTER(_lib.Scores)()
    result = ctypes.POINTER(_lib.Weights)()
    content, name = scores.content, scores.name.encode()
    try:
        _lib.check(library.visatb_scores_parse(content, len(content), name, ctypes.byref(parsed)))
        _lib.check(
            library.visatb_weights_compute(parsed, ctypes.byref(options), ctypes.byref(result))
        )
        return _text(library.visatb_weights_json, result)
    finally:
        library.visatb_weights_destroy(result)
        library.visatb_scores_destroy(parsed)


def load_weights(path: PathLike, tasks: Sequence[str] | None = None) -> NDArray[np.float32]:
    """The weights of a weights file, for a trainer.

    Args:
        path: weights.json.
        tasks: the names in the trainer's order, so that task id i has weight result[i]; each must
            be in the file. None: all, in the file's order.

    Returns:
        [tasks], float32.

    Errors: ArgumentError, FileError, DataError (a bad file, a name that is not in it).
    """
    encoded = None if tasks is None else _encoded(tasks)
    content, name = read(path, "weights")
    listed = _task_names(content) if encoded is None else encoded
    names = listed or []
    result = np.empty(len(names), dtype=np.float32)
    _lib.check(
        _lib.library().visatb_weights_parse(
            content,
            len(content),
            name.encode(),
            len(names),
            (ctypes.c_char_p * len(names))(*names),
            result.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
        )
    )
    if listed is None:
        raise DataError(f"{name}: tasks: expected a list of names", "tasks")
    return result


def task_names(path: PathLike) -> list[str]:
    """The names of a weights file's tasks in its order, that of `load_weights`.

    Errors: FileError, DataError (no list of names).
    """
    content, name = read(path, "weights")
    names = _task_names(content)
    if b'"visatb_scores"' in content[:200]:
        raise DataError(f"{name}: scores; expected weights, which `visatb weights` makes of them")
    if names is None:
        raise DataError(f"{name}: tasks: expected a list of names", "tasks")
    return [task.decode() for task in names]


def evaluate(results: Source, *, baseline: str | None = None) -> dict[str, Any]:
    """Compares methods by their improvement over a baseline (Eq. 9).

    Args:
        results: a results file as docs/formats.md describes it; "-" for standard input; or what it
            holds, as a dict.
        baseline: the method to compare with; None: the file's.

    Returns:
        {"baseline": ..., "methods": {name: {"dI", "dE", "dI_zero" where the file has zero-shot
        tasks, "tasks": {task: improvement}}}}, all in percent.

    Errors: ArgumentError, FileError, DataError.
    """
    return dict(json.loads(evaluation_json(results, baseline=baseline)))


def evaluation_json(results: Source, *, baseline: str | None = None) -> str:
    """What `evaluate` returns, as the library's JSON text."""
    chosen = None if baseline is None else name_bytes("baseline", baseline)
    return evaluation_of(read(results, "results"), chosen)


def evaluation_of(results: Document, baseline: bytes | None = None) -> str:
    """The same of a results file that was read already."""
    content, name = results
    library = _lib.library()
    handle = ctypes.POINTER(_lib.Evaluation)()
    _lib.check(
        library.visatb_evaluation_compute(
            content,
            len(content),
            name.encode(),
            baseline,
            ctypes.byref(handle),
        )
    )
    try:
        return _text(library.visatb_evaluation_json, handle)
    finally:
        library.visatb_evaluation_destroy(handle)


class _Scores:
    """A score file of either kind, as the library reads it, and the way back to its rows."""

    def __init__(self, source: Source, form: str | None, temperature: Temperature | None) -> None:
        document = read(source, "scores")
        chosen = None if form is None else known_form(form)
        self.name = document.name
        self.sheet = (
            csv_scores.convert(document.content, document.name, chosen)
            if _is_csv(document)
            else None
        )
        self.content = csv_scores.to_json(self.sheet) if self.sheet else document.content
        self._temperature = temperature
        self._path = "" if isinstance(source, Mapping) else os.fspath(source)
        # "" is the working folder, also for "-" and a dict.
        self._folder = os.path.dirname(self._path)  # noqa: PTH120 - a Path makes "." of it

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """The score file; to be asked for only when the library has found it to be right."""
        return self.sheet.document if self.sheet else json.loads(self.content)

    @property
    def temperature_from(self) -> str:
        """Who chose the temperature."""
        if self._temperature is not None:
            return "automatic" if self._temperature == "auto" else "argument"
        return "automatic" if self.document.get("temperature", "auto") == "auto" else "file"

    def units(self) -> dict[str, str | None]:
        """The unit of every task."""
        return {
            task["name"]: None if "fixed_weight" in task else task.get("group", task["name"])
            for task in self.document["tasks"]
        }

    def file(self, form: str | None) -> ScoreFile:
        """What intervals are made from, in this form or the file's own."""
        used = form or self.document["form"]
        return ScoreFile(self.document, self.name, self._folder, used, self.units())

    def files(self, per_sample: PathLike | None) -> list[PathLike]:
        """The score file, and the files of scores by sample: the one it names and this one."""
        named = self.document.get("per_sample")
        beside = os.path.join(self._folder, named) if named else None  # noqa: PTH118
        return [file for file in (self._path, beside, per_sample) if file]

    def where(self, path: str) -> str:
        """A place in the document as the user's file has it."""
        return self.sheet.where(path) if self.sheet else path

    def translate(self, error: DataError) -> DataError:
        """An error of the document as one of the user's file."""
        return self.sheet.translate(error) if self.sheet else error


def _is_csv(document: Document) -> bool:
    suffix = os.path.splitext(document.name)[1].lower()  # noqa: PTH122 - a name may be no path
    if suffix in {".json", ".csv"}:
        return suffix == ".csv"
    # A dict is named without a suffix, and its text begins as JSON does.
    return not document.content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def _options(
    scores: _Scores,
    form: str | None,
    temperature: Temperature | None,
    alphas: Sequence[float] | None,
    allow_negative_denominator: bool,
) -> tuple[_lib.WeightsOptions, tuple[object, ...]]:
    """The options, and what must outlive them."""
    used = None if temperature is None else ctypes.c_double(temperature_or_zero(temperature))
    mixed = None if alphas is None else (ctypes.c_double * 3)(*three_alphas(alphas))
    options = _lib.WeightsOptions(
        form=_lib.Form.OF_FILE if form is None else _lib.Form[form.upper()],
        allow_negative_denominator=int(allow_negative_denominator),
        temperature=None if used is None else ctypes.pointer(used),
        alphas=None if mixed is None else ctypes.cast(mixed, ctypes.POINTER(ctypes.c_double)),
        scores_sha256=scores.sheet.sha256.encode() if scores.sheet else None,
    )
    return options, (used, mixed)


def _text(function: Callable[..., int], handle: object) -> str:
    """The text that a handle owns."""
    text, length = ctypes.c_char_p(), ctypes.c_size_t()
    _lib.check(function(handle, ctypes.byref(text), ctypes.byref(length)))
    return ctypes.string_at(text, length.value).decode()


def _encoded(tasks: Sequence[str]) -> list[bytes]:
    if isinstance(tasks, (str, bytes)) or not isinstance(tasks, Iterable):
        raise ArgumentError(f"tasks = {tasks!r}; expected a list of names")
    return [name_bytes(f"tasks[{index}]", task) for index, task in enumerate(tasks)]


def _task_names(content: bytes) -> list[bytes] | None:
    """The names in a weights file; None where it has none, or is none."""
    try:
        document = json.loads(content)
        tasks = document.get("tasks") if isinstance(document, dict) else None
        return None if not isinstance(tasks, list) else [name_bytes("tasks", t) for t in tasks]
    except (ValueError, RecursionError):
        return None

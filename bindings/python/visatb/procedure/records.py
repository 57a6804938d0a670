"""Samples in JSON and JSONL files, as LLaVA's trainers read them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .._errors import DataError, FileError
from .._sources import shown
from .project import SPLITS, Data
from .section import is_one_line

# What data sets call the middle one.
_SPLIT_NAMES = {split: split for split in SPLITS} | {"val": "validation", "dev": "validation"}

# What a message lists of a record.
_SHOWN_FIELDS = 12

_NO_ID = "data.id = the name of the field that holds it, or data.number_records = true"
_NO_TASK = (
    "data.task = the name of the field that holds it, or files of one task each, as "
    "tasks.NAME.train"
)
_NO_SPLIT = "one in every sample"


class Sample(NamedTuple):
    """What the dealing of data has to know of a sample.

    Attributes:
        id: its name, one of a kind within its task.
        task: its task.
        split: the split that it says it belongs to.
        together: what it shares with samples that must not be in another split, if anything.
        place: where it stands in its table.
    """

    id: str
    task: str
    split: str | None
    together: str | None
    place: int


class Input(NamedTuple):
    """A file that was read, as a plan names it."""

    name: str
    sha256: str


class Records:
    """The samples of some files, in their order.

    Attributes:
        inputs: the files.
        samples: one for every record.
        suffix: of files that are written from it.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        records: list[dict[str, Any]],
        samples: list[Sample],
        suffix: str,
    ) -> None:
        self.inputs = list(inputs)
        self.samples = samples
        self.suffix = suffix
        self._records = records

    def write(self, places: Sequence[int], path: Path) -> str:
        """Writes some of the records as a file of their kind, on the disk before it returns.

        Returns:
            The SHA-256 of what was written.

        Errors: FileError.
        """
        digest = hashlib.sha256()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for piece in self._pieces(places):
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except OSError as reason:
            raise FileError(f"{shown(str(path))}: cannot be written: {reason.strerror}") from reason
        return digest.hexdigest()

    def _pieces(self, places: Sequence[int]) -> Iterator[bytes]:
        lines = (json.dumps(self._records[place], ensure_ascii=False) for place in places)
        if self.suffix == ".jsonl":
            yield from (f"{line}\n".encode("utf-8", "surrogatepass") for line in lines)
            return
        before = "[\n"
        for line in lines:
            yield f"{before}{line}".encode("utf-8", "surrogatepass")
            before = ",\n"
        yield b"\n]\n" if places else b"[]\n"


def read_records(
    files: Mapping[str, str | None], folder: Path, data: Data, first: int = 0
) -> Records:
    """Reads files of samples.

    Args:
        files: {name: the task of all its samples}; None where each sample names its own.
        folder: where the names start.
        data: which fields tell what.
        first: the number of the first sample, where they are numbered.

    Errors: FileError, DataError (file, record, and what is wrong with it).
    """
    records: list[dict[str, Any]] = []
    samples: list[Sample] = []
    inputs = []
    for name, task in files.items():
        content = _content(folder / name, name)
        inputs.append(Input(shown(name), hashlib.sha256(content).hexdigest()))
        for where, record in _parsed(content, name):
            number = first + len(records)
            sample = _sample(record, task, data, f"{shown(name)}: {where}", number, len(records))
            if task is not None and data.task not in record:
                record[data.task] = task
            if data.number_records:
                # Whoever answers says by it which sample an answer is of.
                record[data.id] = sample.id
            records.append(record)
            samples.append(sample)
    every_line = all(name.endswith(".jsonl") for name in files)
    return Records(inputs, records, samples, ".jsonl" if every_line else ".json")


def _content(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as reason:
        raise FileError(f"{shown(name)}: {reason.strerror}") from reason


def _parsed(content: bytes, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record with its place in words."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{shown(name)}: not UTF-8") from None
    found = _lines(text, name) if name.endswith(".jsonl") else _items(text, name)
    for where, record in found:
        if not isinstance(record, dict):
            raise DataError(f"{shown(name)}: {where}: expected an object, a sample")
        yield where, record


def _lines(text: str, name: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", _loaded(line, f"{shown(name)}: line {number}")


def _items(text: str, name: str) -> Iterator[tuple[str, Any]]:
    items = _loaded(text, shown(name))
    if not isinstance(items, list):
        raise DataError(f"{shown(name)}: expected a list of samples")
    for number, item in enumerate(items, start=1):
        yield f"record {number}", item


def _loaded(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as reason:
        raise DataError(f"{where}: not JSON: {reason}") from None
    except ValueError:  # what `int` raises
        raise DataError(f"{where}: a whole number in it has too many digits") from None


def _sample(
    record: dict[str, Any], task: str | None, data: Data, where: str, number: int, place: int
) -> Sample:
    name = str(number) if data.number_records else _field(record, data.id, where, _NO_ID)
    check_id(name, data.id, where)
    own = task
    if own is None or data.task in record:
        own = _field(record, data.task, where, _NO_TASK)
    if task is not None and own != task:
        raise DataError(f'{where}: {data.task} is "{own}"; expected "{task}", whose file this is')
    split = None
    if data.split is not None:
        split = known_split(_field(record, data.split, where, _NO_SPLIT), where)
    return Sample(name, own, split, _together(record, data, where), place)


def _together(record: dict[str, Any], data: Data, where: str) -> str | None:
    """The field that samples share; a text among pictures has none."""
    value = None if data.together is None else record.get(data.together)
    if data.together is None or value is None or value == "":
        return None
    return _field(record, data.together, where, "")


def check_id(name: str, field: str, where: str) -> None:
    """Refuses an id that cannot stand in a line of a list.

    Errors: DataError.
    """
    if not is_one_line(name):
        raise DataError(f'{where}: "{field}" has a control character or half a character in it')


def _field(record: dict[str, Any], key: str, where: str, without: str) -> str:
    """A field that is a string, or a whole number.

    Args:
        record: which has it.
        key: its name.
        where: the record, in words.
        without: what is expected where the record has no such field.
    """
    if key not in record:
        raise DataError(f'{where}: no "{key}"; it has {_listed(record)}; expected {without}')
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        found = json.dumps(value)[:60]
        raise DataError(f'{where}: "{key}" is {found}; expected a string or a whole number')
    return str(value)


def _listed(names: Iterable[str]) -> str:
    """Names of fields in words, the first of them where they are many."""
    all_of_them = list(names)
    first, more = all_of_them[:_SHOWN_FIELDS], len(all_of_them) - _SHOWN_FIELDS
    return (", ".join(first) or "nothing") + (f" and {more} more" if more > 0 else "")


def known_split(name: str, where: str) -> str:
    """The split of this name.

    Errors: DataError.
    """
    if name not in _SPLIT_NAMES:
        raise DataError(f'{where}: "{name}" is no split; expected train, validation or test')
    return _SPLIT_NAMES[name]

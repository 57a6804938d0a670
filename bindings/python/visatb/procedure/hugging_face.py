"""Samples in a data set of Hugging Face's `datasets`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._digest import sha256_of
from .._errors import DataError, FileError, UnsupportedError
from .._sources import shown
from .project import Data
from .records import Input, Sample, check_id, known_split


class Table:
    """One split of a data set; the attributes and methods are those of `Records`."""

    suffix = ""

    def __init__(self, dataset: Any, samples: list[Sample], inputs: Sequence[Input]) -> None:
        self.inputs = list(inputs)
        self.samples = samples
        self._dataset = dataset

    def write(self, places: Sequence[int], path: Path) -> str:
        """Writes some of the rows as a folder that `datasets.load_dataset` reads.

        Returns:
            The SHA-256 of the Parquet file in it.

        Errors: FileError.
        """
        file = path / "train.parquet"
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._dataset.select(places).to_parquet(str(file))
            with file.open("rb") as written:
                os.fsync(written.fileno())
            return sha256_of(file)
        except OSError as reason:
            what = reason.strerror or reason
            raise FileError(f"{shown(str(path))}: cannot be written: {what}") from reason


def read_data_set(data: Data, folder: Path) -> dict[str, Table]:
    """Reads a data set: {split: its table}.

    Errors: UnsupportedError (`datasets` is not installed), DataError, FileError.
    """
    name = data.hugging_face or ""
    loaded = _load(name, folder, data)
    splits = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    tables: dict[str, Table] = {}
    for split, dataset in splits.items():
        known = known_split(split, name)
        if known in tables:
            raise DataError(f"{name}: two splits are both {known}")
        first = sum(len(table.samples) for table in tables.values())
        tables[known] = _table(dataset, f"{name}: {split}", data, first)
    return tables


def _load(name: str, folder: Path, data: Data) -> Any:
    try:
        import datasets
    except ModuleNotFoundError as missing:
        if missing.name != "datasets":
            raise
        raise UnsupportedError(
            "data.hugging_face needs the package datasets: pip install 'visatb[datasets]'"
        ) from None
    path = folder / name
    try:
        if path.is_dir() and any(path.glob("dataset_dict.json")) | any(path.glob("state.json")):
            return datasets.load_from_disk(str(path))
        return datasets.load_dataset(str(path) if path.exists() else name, data.config)
    except Exception as reason:  # noqa: BLE001 - whatever `datasets` and what it stands on raise
        raise DataError(f"{shown(name)}: datasets cannot load it: {reason}") from None


def _table(dataset: Any, where: str, data: Data, first: int) -> Table:
    wanted = [data.task, *([] if data.number_records else [data.id])]
    wanted += [field for field in (data.split, data.together) if field]
    lacking = [field for field in wanted if field not in dataset.column_names]
    if lacking:
        raise _lacks(lacking[0], dataset, where, data)
    texts = {field: _texts(dataset, field, where) for field in wanted if field != data.together}
    shared = _shared(dataset, data.together, where)
    rows = range(len(dataset))
    ids = [str(first + row) for row in rows] if data.number_records else texts[data.id]
    for row in rows:
        check_id(ids[row], data.id, f"{where}: row {row}")
    samples = [
        Sample(
            ids[row],
            texts[data.task][row],
            known_split(texts[data.split][row], f"{where}: row {row}") if data.split else None,
            shared[row] if shared else None,
            row,
        )
        for row in rows
    ]
    inputs = [Input(where, _sha256(dataset))]
    return Table(_numbered(dataset, ids, data) if data.number_records else dataset, samples, inputs)


def _numbered(dataset: Any, ids: list[str], data: Data) -> Any:
    """The rows with their numbers, by which whoever answers says which sample an answer is of."""
    kept = [name for name in dataset.column_names if name != data.id]
    return dataset.select_columns(kept).add_column(data.id, ids)


def _lacks(field: str, dataset: Any, where: str, data: Data) -> DataError:
    """The error that no column is called so, naming the setting that says another."""
    settings = {data.together: "together", data.split: "split", data.id: "id", data.task: "task"}
    there = ", ".join(dataset.column_names)
    numbers = " or data.number_records = true" if field == data.id else ""
    return DataError(
        f'{where}: no column "{field}"; there are {there}; expected data.{settings[field]} = one '
        f"of them{',' * bool(numbers)}{numbers}"
    )


def _sha256(dataset: Any) -> str:
    """That of the content, wherever it lies and however it is cut."""
    digest = hashlib.sha256()
    for table in dataset.with_format("arrow").iter(batch_size=1000):
        for batch in table.combine_chunks().to_batches():
            digest.update(batch.serialize())
    return digest.hexdigest()


def _shared(dataset: Any, field: str | None, where: str) -> list[str | None]:
    """The column that samples share, None in a row without; empty where there is no such column."""
    if field is None:
        return []
    values = dataset[field][:]
    present = [row for row, value in enumerate(values) if value is not None and value != ""]
    shared: list[str | None] = [None] * len(dataset)
    for row, text in zip(present, _texts(dataset, field, where, present), strict=True):
        shared[row] = text
    return shared


def _texts(dataset: Any, field: str, where: str, rows: Sequence[int] | None = None) -> list[str]:
    """A column, or these rows of it, as strings; the names of a ClassLabel for its numbers.

    Errors: DataError.
    """
    labels = getattr(dataset.features[field], "names", None)
    values, texts = dataset[field][:], []
    for row in range(len(values)) if rows is None else rows:
        value = values[row]
        expected = "a string or a whole number"
        is_right = isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
        if labels is not None:
            expected = f"a label, 0 to {len(labels) - 1}"
            is_right = isinstance(value, int) and 0 <= value < len(labels)
        if not is_right:
            found = str(value)[:60]
            raise DataError(f'{where}: row {row}: "{field}" is {found!r}; expected {expected}')
        texts.append(str(value) if labels is None else labels[value])
    return texts

"""What a command reads, held against what it must be."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from .._digest import sha256_of
from .._errors import DataError, FileError
from .called import called
from .order import Needed


def copy_needed(needed: Iterable[Needed]) -> None:
    """Makes the copies that a command reads in place of files which may be made anew meanwhile.

    Errors: FileError.
    """
    for one in needed:
        if one.copy:
            path, copy = Path(one.path), Path(one.copy)
            try:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            except OSError as reason:
                what = f"cannot be copied to {called(copy)}"
                raise FileError(f"{called(path)}: {what}: {reason.strerror}") from reason


def check_needed(needed: Iterable[Needed], heed: Callable[[], None] = lambda: None) -> None:
    """Refuses what is not as it must be; of what is copied, the copy.

    Args:
        needed: the files.
        heed: called again and again while they are read, for they may be large.

    Errors: DataError, FileError, and what `heed` raises.
    """
    for one in needed:
        if _sha256(Path(one.copy or one.path), heed) != one.sha256:
            raise DataError(f"{called(Path(one.path))}: is not {one.what}")


def _sha256(path: Path, heed: Callable[[], None]) -> str:
    file = path / "train.parquet" if path.is_dir() else path
    try:
        return sha256_of(file, heed)
    except OSError as reason:
        raise FileError(f"{called(file)}: {reason.strerror}") from reason

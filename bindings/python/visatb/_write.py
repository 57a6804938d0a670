"""Files that appear whole or not at all, as the library's own writer makes them."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from contextlib import suppress
from pathlib import Path

from ._errors import FileError
from ._paths import file_name
from ._sources import PathLike, shown


def write_whole(path: PathLike, content: bytes) -> None:
    """Writes a file, or leaves what is there as it is.

    A link is followed, not replaced; a pipe or a device is written to.

    Errors: ArgumentError (no path), FileError (it cannot be written).
    """
    name = file_name("path", path)
    try:
        target = _file_to_replace(name)
        if target is None:
            Path(name).write_bytes(content)
        else:
            _replace(target, content)
    except OSError as reason:
        raise FileError(f"{shown(name)}: cannot be written: {reason.strerror}") from reason


def _file_to_replace(name: str) -> Path | None:
    """The file behind every link, which need not exist; None for a pipe or a device."""
    try:
        is_file = stat.S_ISREG(os.stat(name).st_mode)  # noqa: PTH116 - a Path forgets a "/" at its end
    except FileNotFoundError:
        if name.endswith("/"):
            raise
        is_file = True
    return Path(os.path.realpath(name)) if is_file else None


def _replace(target: Path, content: bytes) -> None:
    part, descriptor = _open_beside(target)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            keep(descriptor)
        part.replace(target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def keep(descriptor: int) -> None:
    """On the disk before it takes the old file's name, or a power cut may leave neither."""
    try:
        os.fsync(descriptor)
    except OSError as reason:
        if reason.errno not in {errno.EINVAL, errno.EROFS}:  # what file systems without it say
            raise


def _open_beside(target: Path) -> tuple[Path, int]:
    """A new file that no other process or thread has, readable by whom the umask lets."""
    for attempt in itertools.count():
        part = target.with_name(f"{target.name}.{os.getpid()}-{attempt}.part")
        with suppress(FileExistsError):
            return part, os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    raise AssertionError

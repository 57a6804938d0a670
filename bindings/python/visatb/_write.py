"""Files that appear whole or not at all, as the library's own writer makes them."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ._errors import ArgumentError, FileError
from ._paths import file_name
from ._sources import PathLike, shown


def write_whole(path: PathLike, content: bytes) -> None:
    """Writes a file, or leaves what is there as it is.

    A link is followed, not replaced; a pipe or a device is written to.

    Errors: ArgumentError (no path), FileError (it cannot be written).
    """
    with written_together() as add:
        add(path, content)


@contextmanager
def written_together() -> Iterator[Callable[[PathLike, bytes], None]]:
    """Several files as `write_whole` writes one: all at the end of the block, or none.

    The block is given a function that takes a path and its content. An error in the block, also one
    of that function, leaves everything as it was.

    Errors: as `write_whole`.
    """
    parts: list[tuple[Path, Path, str]] = []
    streams: list[tuple[str, bytes]] = []

    def add(path: PathLike, content: bytes) -> None:
        name = file_name("path", path)
        with _refused(name):
            target = _file_to_replace(name)
            if target is None:
                streams.append((name, content))
            else:
                parts.append((_write_beside(target, content), target, name))

    try:
        yield add
        for name, content in streams:
            with _refused(name):
                Path(name).write_bytes(content)
        while parts:
            part, target, name = parts[0]
            with _refused(name):
                part.replace(target)
            parts.pop(0)
    finally:
        for part, _, _ in parts:
            with suppress(OSError):
                part.unlink()


def refuse_inputs(argument: str, path: PathLike, inputs: Iterable[PathLike], what: str) -> None:
    """Refuses to write over a file that is an input, by whatever name or link.

    Args:
        argument: how messages call the path.
        path: the file to be written.
        inputs: those that were read; "-" is standard input.
        what: is made from them, as "the report is".

    Errors: ArgumentError.
    """
    written = _identity(path)
    read = (_identity("/dev/stdin" if file == "-" else file) for file in inputs)
    if written is not None and written in read:
        name = shown(os.fspath(path))
        raise ArgumentError(f"{argument} = {name}: {what} made from this file")


def _identity(path: PathLike) -> tuple[int, int] | None:
    """Device and number of a file; None for what is none, as a terminal, and what is not there."""
    with suppress(OSError, ValueError):
        status = Path(path).stat()
        if stat.S_ISREG(status.st_mode):
            return status.st_dev, status.st_ino
    return None


@contextmanager
def _refused(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as reason:
        raise FileError(f"{shown(name)}: cannot be written: {reason.strerror}") from reason


def _file_to_replace(name: str) -> Path | None:
    """The file behind every link, which need not exist; None for a pipe or a device."""
    try:
        mode = os.stat(name).st_mode  # noqa: PTH116 - a Path forgets a "/" at its end
    except FileNotFoundError:
        if not name or name.endswith("/"):
            raise
        return Path(os.path.realpath(name))
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return Path(os.path.realpath(name)) if stat.S_ISREG(mode) else None


def _write_beside(target: Path, content: bytes) -> Path:
    """A new file with the content, on the disk, that can take the place of the target."""
    part, descriptor = _open_beside(target)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            keep(descriptor)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    return part


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

"""Files made of results: the same bytes whoever writes them, and written only if they differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .._errors import FileError
from .._write import write_whole
from . import locks
from .called import called, near

# Waits for so many seconds; or raises what ends the waiting.
Pause = Callable[[float], None]


@contextmanager
def writing(output: Path, pause: Pause) -> Iterator[None]:
    """Only one process at a time makes files of results.

    Errors: FileError; what the pause raises while another makes them.
    """
    while (lock := locks.take(output / "locks" / "gather.lock")) is None:
        pause(0.1)
    try:
        yield
    finally:
        lock.release()


def put(path: Path, content: bytes) -> None:
    """Writes a file unless it holds this already; what a killed writer left beside it goes.

    Errors: FileError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise FileError(f"{called(path)}: cannot be written: {reason.strerror}") from reason
    for part in path.parent.glob(f"{path.name}.*.part"):
        with suppress(OSError):
            part.unlink()
    with suppress(OSError):
        if path.read_bytes() == content:
            return
    write_whole(near(path), content)


def take_away(path: Path) -> None:
    """Removes a file, if it is there.

    Errors: FileError.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as reason:
        raise FileError(f"{called(path)}: cannot be removed: {reason.strerror}") from reason


def json_bytes(content: Any) -> bytes:
    """A document as these files have it."""
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()

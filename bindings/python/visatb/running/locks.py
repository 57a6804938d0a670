"""Locks that live exactly as long as the work they stand for.

They are taken by flock on files that stay. Such a lock belongs to an open file, which a child
process inherits: it is free when the last process that holds the file has ended, however that came.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from .._errors import FileError
from .called import called


class Lock:
    """A lock that is held.

    Attributes:
        descriptor: of its file, for a child to inherit.
        path: its file.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self.path = path

    def hand_over(self) -> None:
        """Closes it here; whoever inherited it holds it still."""
        os.close(self.descriptor)

    def release(self) -> None:
        """Frees it, whoever inherited it."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        os.close(self.descriptor)

    def describe(self, holder: dict[str, Any]) -> None:
        """Writes into its file who holds it: for messages, and for who holds it next."""
        try:
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, json.dumps(holder).encode() if holder else b"", 0)
        except OSError:  # a full disk takes nothing from the lock
            pass


def take(path: Path) -> Lock | None:
    """The lock of this file; None where another process holds it.

    Errors: FileError (no such file can be made or locked).
    """
    return _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)


def wait_for(path: Path) -> Lock:
    """The lock of this file, when it is free.

    Errors: FileError.
    """
    lock = _lock(path, fcntl.LOCK_EX)
    if lock is None:
        raise FileError(f"{called(path)}: cannot be locked")
    return lock


def holder_of(path: Path) -> dict[str, Any]:
    """Who says to hold a lock, or held it and did not come to its end; {} where nobody says so."""
    try:
        holder = json.loads(path.read_bytes() or b"{}")
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _lock(path: Path, how: int) -> Lock | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as reason:
        raise FileError(f"{called(path)}: cannot be written: {reason.strerror}") from reason
    try:
        fcntl.flock(descriptor, how)
    except OSError as reason:
        os.close(descriptor)
        if reason.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return None
        raise FileError(f"{called(path)}: cannot be locked: {reason.strerror}") from reason
    return Lock(descriptor, path)

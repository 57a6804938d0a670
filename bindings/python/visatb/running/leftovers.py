"""Processes of an attempt whose supervisor is gone.

Every process of a command has the attempt's name in its environment, where those that it starts
have it from. A number of a process may be another's by now; a name cannot.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .wake import Bell

VARIABLE = "VISATB_ATTEMPT"
_SECONDS_TO_DIE = 30.0


def processes_of(attempt: str) -> Iterator[int]:
    """The processes of an attempt that are alive, on this machine."""
    wanted = f"{VARIABLE}={attempt}".encode()
    for name in os.listdir("/proc"):  # noqa: PTH208 - a name is all that is needed
        if name.isdigit() and int(name) != os.getpid():
            # One of another user, or one that has ended, cannot be read.
            with suppress(OSError):
                if wanted in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                    yield int(name)


def end(attempt: str, grace: float = 0.0, bell: Bell | None = None) -> None:
    """Waits so long, or until SIGINT, for an attempt's processes to end, then kills them."""
    if not Path("/proc/self/environ").exists():
        return
    patience = time.monotonic() + grace
    despair = patience + _SECONDS_TO_DIE
    while (alive := list(processes_of(attempt))) and time.monotonic() < despair:
        if time.monotonic() >= patience:
            for process in alive:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process, signal.SIGKILL)
        if bell is None:
            time.sleep(0.02)
        elif signal.SIGINT in bell.wait(0.02):
            patience = 0.0

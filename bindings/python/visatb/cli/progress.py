"""How far a command is, on a terminal only, and only where it takes a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from visatb._intervals_member import Progress
from visatb._streams import error_text

# What is done sooner needs no word.
_SECONDS = 2.0
_CLEAR = "\r\x1b[K"


@contextmanager
def progress(what: str) -> Iterator[Progress | None]:
    """Takes the share that is done and shows it on standard error; None where that is no terminal.

    The line is gone at the end, also after an error.
    """
    if not sys.stderr.isatty():
        yield None
        return
    start, shown = time.monotonic(), -1

    def tell(share: float) -> None:
        nonlocal shown
        percent = int(100 * share)
        if percent != shown and time.monotonic() - start > _SECONDS:
            shown = percent
            error_text(f"{_CLEAR}{what}: {percent}%")

    try:
        yield tell
    finally:
        if shown >= 0:
            error_text(_CLEAR)

"""What is being done, on standard error: one line that changes; many outside a terminal."""

from __future__ import annotations

import sys
import time


class Progress:
    """Says where a run of `cases` cases is."""

    def __init__(self, cases: int) -> None:
        self._cases = cases
        self._number = 0
        self._case = ""
        self._start = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def begin(self, case: object) -> None:
        """The next case."""
        self._number += 1
        self._case = str(case)

    def show(self, what: str) -> None:
        """What of the case is being done."""
        elapsed = int(time.monotonic() - self._start)
        clock = f"{elapsed // 60}:{elapsed % 60:02}"
        line = f"[{clock}] {self._number}/{self._cases} {self._case}: {what}"
        if self._terminal:
            print(f"\r\033[K{line[:150]}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leaves no line behind."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

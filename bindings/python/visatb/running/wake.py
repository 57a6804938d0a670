"""Waiting for a signal, for the end of a child, or for some time, whichever comes first."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable


class Bell:
    """Rings for signals and for the ends of children; only one at a time, in the main thread."""

    def __init__(self, signals: Iterable[int]) -> None:
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._before = {
            # A shell that has a signal ignored, as nohup does, means it.
            number: signal.signal(number, _noted)
            for number in (*signals, signal.SIGCHLD)
            if number == signal.SIGCHLD or signal.getsignal(number) != signal.SIG_IGN
        }

    def wait(self, seconds: float) -> list[int]:
        """The signals that came, but for those of children; none when the time is over."""
        select.select([self._reader], [], [], max(seconds, 0.0))
        try:
            came = os.read(self._reader, 4096)
        except BlockingIOError:
            return []
        return [number for number in came if number != signal.SIGCHLD]

    def close(self) -> None:
        """What signals did before, they do again."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._reader)
        os.close(self._writer)


def _noted(_number: int, _frame: object) -> None:
    """Python has written the signal's number into the pipe."""

"""A command that is started, waited for, and ended with all that it started."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, NamedTuple

from . import leftovers
from .wake import Bell

SHELL = "/bin/sh"
_FOREVER = 3600.0


class Ended(NamedTuple):
    """How a command ended: its exit code, as the shell counts; and whether it was asked to."""

    code: int
    was_stopped: bool


class Command:
    """A process group of a command.

    Args:
        arguments: the program and its arguments.
        attempt: what its processes are known by.
        environment: besides this process's.
        locks: descriptors of the locks that live as long as the command.
        output: where its output and its errors go, unless errors have a place of their own.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        attempt: str,
        *,
        output: IO[bytes],
        errors: IO[bytes] | None = None,
        stdin: IO[bytes] | None = None,
        folder: str | None = None,
        environment: Mapping[str, str] | None = None,
        locks: Sequence[int] = (),
    ) -> None:
        self._attempt = attempt
        self._process = subprocess.Popen(  # noqa: S603 - the user's own command
            list(arguments),
            cwd=folder,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=output,
            stderr=subprocess.STDOUT if errors is None else errors,
            env={**os.environ, **(environment or {}), leftovers.VARIABLE: attempt},
            pass_fds=tuple(locks),
            start_new_session=True,
        )
        self.pid = self._process.pid

    def wait(self, bell: Bell, grace: float) -> Ended:
        """Waits for its end; a signal asks it to end; the grace's end, or then SIGINT, kills it.

        A second SIGTERM changes nothing: whoever ends a whole machine sends it to everyone.

        Of a command that failed or was stopped, nothing is left afterwards; what one that ended
        well has left behind is meant to be there.
        """
        was_stopped, deadline = False, math.inf
        while self._process.poll() is None:
            came = bell.wait(min(deadline - time.monotonic(), _FOREVER))
            if came and not was_stopped:
                was_stopped, deadline = True, time.monotonic() + grace
                self._ask()
                came = came[1:]
            if was_stopped and (signal.SIGINT in came or time.monotonic() >= deadline):
                self._signal(signal.SIGKILL)
                deadline = time.monotonic()
                bell.wait(0.1)
        code = self._process.returncode
        if code != 0 or was_stopped:
            left = deadline - time.monotonic() if was_stopped else 0.0
            leftovers.end(self._attempt, max(left, 0.0), bell)
        return Ended(128 - code if code < 0 else code, was_stopped)

    def _ask(self) -> None:
        """Asks all that belongs to it to end, each once."""
        self._signal(signal.SIGTERM)
        for process in leftovers.processes_of(self._attempt):
            # What it started may have made a group, or a session, of its own.
            with suppress(ProcessLookupError, PermissionError):
                if os.getpgid(process) != self.pid:
                    os.kill(process, signal.SIGTERM)

    def _signal(self, number: int) -> None:
        # Not waited for yet, so the number is its own.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

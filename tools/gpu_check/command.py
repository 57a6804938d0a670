"""A command with a time limit, whose whole output is kept, and which shows that it is alive."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.2
SIGN_OF_LIFE_SECONDS = 20.0
LINE = 110
_running: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    Attributes:
        code: its exit status, negative for a signal; None where it was cut.
        text: all that it printed.
    """

    code: int | None
    text: str
    seconds: float

    @property
    def was_cut(self) -> bool:
        """Whether its time was up."""
        return self.code is None

    def last_line(self) -> str:
        """The last words, for a reason."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        return lines[-1].strip()[:200] if lines else "no output"


def run(
    command: list[str],
    limit: float,
    log: Path,
    *,
    cwd: Path,
    environment: dict[str, str] | None = None,
) -> Finished:
    """Runs it with all its children, and ends all of them after `limit` seconds.

    Errors: OSError (no such program).
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        )
        _running.add(process)
        try:
            code = _wait(process, limit, log)
        except BaseException:
            _end(process)
            raise
        finally:
            _running.discard(process)
    text = log.read_text(encoding="utf-8", errors="replace")
    return Finished(code, text, time.monotonic() - start)


def _wait(process: subprocess.Popen[bytes], limit: float, log: Path) -> int | None:
    start = time.monotonic()
    next_sign = start + SIGN_OF_LIFE_SECONDS
    while (code := process.poll()) is None:
        now = time.monotonic()
        if now - start > limit:
            _end(process)
            return None
        if now > next_sign:
            next_sign = now + SIGN_OF_LIFE_SECONDS
            print(f"  [{now - start:.0f} s] {_tail(log)}", file=sys.stderr, flush=True)
        time.sleep(POLL_SECONDS)
    return code


def end_all() -> None:
    """Ends what other threads run; their calls come back as of a command that was killed."""
    for process in list(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path) -> str:
    """The last line so far."""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 4096))
        lines = file.read().decode("utf-8", errors="replace").split()
    return " ".join(lines)[-LINE:]

"""Programs whose output may be closed, full, cut off or a terminal that text could steer."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

FAILED = 3
INTERRUPTED, PIPE_CLOSED = 130, 141  # what a shell reports for the two signals


def guarded(program: Callable[[], int], name: str) -> int:
    """Runs a program, which may exit, and returns its exit code: FAILED if its output fails.

    Args:
        program: prints, and returns its exit code.
        name: how its messages begin.
    """
    _prepare()
    try:
        code = _exit_code(program)
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
        code = PIPE_CLOSED
    except OSError as error:
        silence(sys.stdout)
        complain(f"{name}: standard output: {error.strerror or error}")
        code = FAILED
    except KeyboardInterrupt:
        code = INTERRUPTED
    return code


def complain(text: str) -> None:
    """A line on standard error; where there is none, nobody is told."""
    error_text(text + "\n")


def error_text(text: str) -> None:
    """Text on standard error as it is, without an end of line."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)


def write(text: str) -> None:
    """Writes to standard output, as UTF-8 to the byte."""
    sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:  # a stream of text that took its place
        sys.stdout.write(text)
    else:
        buffer.write(text.encode())
        buffer.flush()


def printable(text: str) -> str:
    """The text with what could move a terminal's cursor written as an escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _exit_code(program: Callable[[], int]) -> int:
    try:
        return program()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)


def _prepare() -> None:
    """A stream that the shell closed becomes one that swallows; Python would write to another."""
    if sys.stdout is None:
        sys.stdout = _nowhere()
    if sys.stderr is None:
        sys.stderr = _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def silence(stream: TextIO) -> None:
    """Sends the rest to nowhere; Python would flush once more at exit, and complain."""
    with suppress(OSError, ValueError):  # a stream without a descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)

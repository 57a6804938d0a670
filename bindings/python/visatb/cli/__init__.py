"""The command line `visatb`: one file a command, and its formats in a file beside it."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Sequence

from visatb._errors import ArgumentError, DataError, Error, FileError
from visatb._version import __version__

from . import evaluate, template, weights

OK, WARNINGS, USAGE, BAD_DATA, BROKEN = 0, 1, 2, 3, 4
_INTERRUPTED, _PIPE_CLOSED = 130, 141  # what a shell reports for the two signals

_DESCRIPTION = "Balance the tasks of a visual-instruction mix: task weights from validation scores."
_EPILOG = """\
exit codes:
  0  done
  1  done, but there were warnings and --strict
  2  wrong usage
  3  a file cannot be read or written, or what it says is wrong
  4  the installation is broken; `python -m visatb` says how to mend it
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would flush once more at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def _run(arguments: Sequence[str] | None) -> int:
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except ArgumentError as error:
        return _fail(_in_our_words(error), USAGE)
    except (DataError, FileError) as error:
        return _fail(str(error), BAD_DATA)
    except (Error, MemoryError) as error:
        return _fail(_in_our_words(error), BROKEN)


def _in_our_words(error: Exception) -> str:
    # The library names its C function and struct first, which means nothing here.
    return re.sub(r"^visatb_\w+: (options->)?", "", str(error))


def _fail(message: str, code: int) -> int:
    print(f"visatb: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="visatb",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"visatb {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (weights, evaluate, template):
        command.add_parser(commands)
    return parser

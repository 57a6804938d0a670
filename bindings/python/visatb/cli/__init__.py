"""The command line `visatb`: one file a command, and its formats in a file beside it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from visatb._errors import ArgumentError, DataError, Error, FileError, LibraryError
from visatb._streams import complain, guarded, printable, write
from visatb._version import __version__

from . import evaluate, plan, report, run, score, template, weights

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

OK, WARNINGS, USAGE, BAD_DATA, BROKEN = 0, 1, 2, 3, 4

_DESCRIPTION = "Balance the tasks of a visual-instruction mix: task weights from validation scores."
_EPILOG = """\
exit codes:
  0  done
  1  done, but there were warnings and --strict
  2  wrong usage
  3  a file cannot be read or written, or what it says is wrong
  4  the installation is broken; `python -m visatb` says how to mend it
  5  a command of the project failed
  130, 143  stopped by Ctrl-C or SIGTERM
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    return guarded(lambda: _run(arguments), "visatb")


class _Parser(argparse.ArgumentParser):
    """Prints help as the commands print, and errors without control characters."""

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        if file is None:
            write(self.format_help())  # argparse itself does not notice that the disk is full
        else:
            super().print_help(file)

    def error(self, message: str) -> NoReturn:
        complain(f"{self.format_usage()}{self.prog}: error: {printable(message)}")
        raise SystemExit(USAGE)


def _run(arguments: Sequence[str] | None) -> int:
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except ArgumentError as error:
        return _fail(_in_our_words(error), USAGE)
    except UnicodeError as error:  # an argument that is no text
        return _fail(str(error), USAGE)
    except (DataError, FileError) as error:
        return _fail(str(error), BAD_DATA)
    except LibraryError as error:
        return _fail(str(error), BROKEN, in_lines=True)  # a list of what was tried
    except (Error, MemoryError) as error:
        return _fail(_in_our_words(error), BROKEN)


def _in_our_words(error: Exception) -> str:
    # The library names its C function and struct first, which means nothing here.
    return re.sub(r"^visatb_\w+: (options->)?", "", str(error)) or "out of memory"


def _fail(message: str, code: int, *, in_lines: bool = False) -> int:
    # What a file says may hold anything, newlines too.
    lines = message.split("\n") if in_lines else [message]
    complain("visatb: " + "\n".join(printable(line) for line in lines))
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="visatb",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"visatb {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (plan, run, score, weights, report, evaluate, template):
        command.add_parser(commands)
    return parser

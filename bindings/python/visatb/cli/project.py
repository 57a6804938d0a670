"""The project file, as the commands of the procedure take it."""

from __future__ import annotations

import argparse

from visatb.procedure.project import DEFAULT_FILE


def add_project(parser: argparse.ArgumentParser) -> None:
    """Adds the argument."""
    parser.add_argument(
        "project",
        metavar="PROJECT",
        nargs="?",
        default=DEFAULT_FILE,
        help=f"project file (default: {DEFAULT_FILE})",
    )

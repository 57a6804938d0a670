"""`visatb report`: weights and all that they were made from, as one page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from visatb._streams import printable, write
from visatb.procedure import load_project
from visatb.procedure.project import DEFAULT_FILE
from visatb.report import write_report
from visatb.running.called import called

from .terminal import file_only

_DESCRIPTION = """\
Draw weights, and all that they were made from, as one page of HTML that needs no other file. PATH
is a weights file, or a folder that holds weights.json; scores.json, plan.json and results.json
beside it are shown too. It needs matplotlib and Jinja2.
"""


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "report", help="a page that shows weights and their reasons", description=_DESCRIPTION
    )
    parser.add_argument(
        "path",
        nargs="?",
        type=file_only,
        metavar="PATH",
        help=f"weights file, or its folder (default: the output folder of {DEFAULT_FILE})",
    )
    parser.add_argument(
        "--results",
        type=file_only,
        metavar="RESULTS",
        help="results of the final run (default: results.json there)",
    )
    parser.add_argument(
        "--plan", type=file_only, metavar="PLAN", help="the plan (default: plan.json there)"
    )
    parser.add_argument(
        "--scores",
        type=file_only,
        metavar="SCORES",
        help="the scores that the weights were made from, JSON or CSV (default: scores.json there, "
        "else scores.csv)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=file_only,
        metavar="OUT",
        help="the page (default: report.html there)",
    )
    parser.add_argument(
        "--figures",
        type=file_only,
        metavar="DIR",
        help="write the figures here too, as SVG and PNG",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draws, writes, and names what was written."""
    path = load_project().output if arguments.path is None else arguments.path
    written = write_report(
        path,
        results=arguments.results,
        plan=arguments.plan,
        scores=arguments.scores,
        output=arguments.output,
        figures=arguments.figures,
    )
    lines = [_named(written.page)]
    if written.figures:
        lines.append(f"{_named(written.figures[0].parent)}: {len(written.figures)} figures")
    write("".join(f"{line}\n" for line in lines))
    return 0


def _named(path: Path) -> str:
    return printable(called(path))

"""`visatb plan`: subsets, runs and cost of a project."""

from __future__ import annotations

import argparse
from typing import Any

from visatb._sources import shown
from visatb._streams import complain, printable, write
from visatb.procedure import Plan, Project, load_project
from visatb.running.ready import plan_anew

from . import plan_formats
from .project import add_project

_DESCRIPTION = """\
Split the data of a project, draw its nested subsets, list its runs, and say what they cost beside
the final run. PROJECT is a TOML file (docs/procedure.md). Everything is written into the project's
output folder; the same project and data give the same files. With sizes in place of data nothing is
written. Warnings go to standard error.
"""


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "plan", help="subsets, runs and cost of a project", description=_DESCRIPTION
    )
    add_project(parser)
    parser.add_argument(
        "--format",
        choices=plan_formats.FORMATS,
        default="table",
        help="what to print: a table; json, exactly plan.json; or shell, every command of every "
        "run, for a scheduler of your own (default: table)",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 if there are warnings")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Plans, prints and warns."""
    project = load_project(arguments.project)
    plan = plan_anew(project)
    write(plan_formats.FORMATS[arguments.format](project, plan))
    warn(project, plan)
    return 1 if plan.warnings and arguments.strict else 0


def warn(project: Project, plan: Plan) -> None:
    """Says where a plan does not follow the paper's advice."""
    for warning in plan.warnings:
        place = f"{shown(project.file)}: {warning.path}"
        complain(printable(f"visatb: warning: {place}: {warning.message}"))

"""`visatb template`: an empty score file to fill in."""

from __future__ import annotations

import argparse
from typing import Any

from visatb._arguments import FORMS
from visatb._streams import write
from visatb.template import score_template_csv, score_template_json

_DESCRIPTION = """\
Print an empty score file for these tasks, with a place for every score that the form needs. Fill it
in and give it to `visatb weights`. full: trained on every mini subset, and on each task with them;
simple: the base model, each task alone, each mini subset alone; precise: both.
"""


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "template", help="an empty score file to fill in", description=_DESCRIPTION
    )
    parser.add_argument(
        "--tasks", required=True, metavar="A,B,C", help="names of the tasks, two or more"
    )
    parser.add_argument(
        "--form", choices=FORMS, default="full", help="which runs are compared (default: full)"
    )
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        type=_group,
        metavar="NAME=A,B",
        help="tasks that are trained and weighed as one; may be given several times",
    )
    parser.add_argument(
        "--fixed",
        action="append",
        default=[],
        type=_fixed,
        metavar="TASK=WEIGHT",
        help="a task that is not weighed and needs no score; may be given several times",
    )
    parser.add_argument("--csv", action="store_true", help="as a sheet instead of JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the file."""
    make = score_template_csv if arguments.csv else score_template_json
    mix = {"groups": dict(arguments.group), "fixed_weights": dict(arguments.fixed)}
    write(make(_names(arguments.tasks), arguments.form, **mix))
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _group(text: str) -> tuple[str, list[str]]:
    name, sign, tasks = text.partition("=")
    if not sign or not name.strip():
        raise argparse.ArgumentTypeError(f"{text}: expected a name and its tasks, as text=ocr,qa")
    return name.strip(), _names(tasks)


def _fixed(text: str) -> tuple[str, float]:
    name, _, weight = text.rpartition("=")
    try:
        return name.strip(), float(weight)
    except ValueError:
        problem = f"{text}: expected a task and its weight, as chat=1.0"
        raise argparse.ArgumentTypeError(problem) from None

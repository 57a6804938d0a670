"""`visatb evaluate`: methods compared by their improvement over a baseline."""

from __future__ import annotations

import argparse
from typing import Any

from visatb._streams import write
from visatb.scores import evaluation_json

from . import evaluate_formats

_DESCRIPTION = """\
Compare methods by their improvement over a baseline, in percent: dI, the mean over the tasks; dE,
the mean of what each lost, 0 where it gained; dI_zero, dI over the zero-shot
tasks. RESULTS is a JSON file; - reads standard input.
"""


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "evaluate", help="compare methods by dI and dE", description=_DESCRIPTION
    )
    parser.add_argument("results", metavar="RESULTS", help="results file; - for stdin")
    parser.add_argument(
        "--baseline", metavar="NAME", help="method to compare with (default: what RESULTS says)"
    )
    parser.add_argument(
        "--format",
        choices=evaluate_formats.FORMATS,
        default="table",
        help="what to print (default: table)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Computes and prints."""
    text = evaluation_json(arguments.results, baseline=arguments.baseline)
    write(evaluate_formats.FORMATS[arguments.format](text))
    return 0

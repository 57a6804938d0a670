"""`visatb weights`: from a file of validation scores to one weight per task."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from visatb._arguments import FORMS, Temperature, temperature_or_zero
from visatb._errors import ArgumentError
from visatb._streams import complain, printable, write
from visatb.scores import Weights, compute_weights

from . import weights_formats
from .progress import progress
from .terminal import name_of

_DESCRIPTION = """\
Compute one weight per task from validation scores (VisATB). SCORES is JSON or CSV, and `visatb
template` prints an empty one; - reads standard input. Warnings go to standard error.
"""


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "weights", help="task weights from validation scores", description=_DESCRIPTION
    )
    parser.add_argument("scores", metavar="SCORES", help="score file, JSON or CSV; - for stdin")
    parser.add_argument(
        "-o", "--output", type=_output, metavar="OUT", help="write the weights file here too"
    )
    parser.add_argument(
        "--form", choices=FORMS, help="which runs are compared (default: what SCORES says)"
    )
    parser.add_argument(
        "--temperature",
        type=_temperature,
        metavar="auto|T",
        help="softmax temperature (default: what SCORES says, else auto)",
    )
    parser.add_argument(
        "--alphas",
        type=_alphas,
        metavar="OUT,IN,DIFFICULTY",
        help="shares of the three weightings, summing to 1 (default: 0.25,0.25,0.5)",
    )
    parser.add_argument(
        "--format",
        choices=weights_formats.FORMATS,
        default="table",
        help="what to print: a table; json, exactly the weights file; csv; or shell, one line of "
        'weights for a trainer, in the order of the tasks ("tasks" in JSON, first appearance '
        "in CSV) (default: table)",
    )
    _add_intervals(parser)
    parser.add_argument("--strict", action="store_true", help="exit with 1 if there are warnings")
    parser.add_argument(
        "--allow-negative-denominator",
        action="store_true",
        help="let a task through that its own training made worse",
    )
    parser.set_defaults(run=run)


def _add_intervals(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "intervals",
        "How far the weights may be off because the validation sets are finite, from scores by "
        "sample: a bootstrap.",
    )
    group.add_argument(
        "--intervals",
        action=argparse.BooleanOptionalAction,
        help="make them, or do not (default: where SCORES names a file of scores by sample)",
    )
    group.add_argument(
        "--per-sample",
        metavar="FILE",
        help="the file of scores by sample (default: what SCORES says, from its own folder)",
    )
    group.add_argument(
        "--resamples", type=int, default=2000, metavar="N", help="how many (default: 2000)"
    )
    group.add_argument(
        "--confidence",
        type=float,
        default=0.95,
        metavar="P",
        help="of each interval, between 0 and 1 (default: 0.95)",
    )
    group.add_argument("--seed", type=int, default=0, metavar="S", help="of the draws (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Computes, writes, prints and warns."""
    with progress("resampling the validation samples") as tell:
        weights = compute_weights(
            arguments.scores,
            form=arguments.form,
            temperature=arguments.temperature,
            alphas=arguments.alphas,
            allow_negative_denominator=arguments.allow_negative_denominator,
            intervals=arguments.intervals,
            resamples=arguments.resamples,
            confidence=arguments.confidence,
            seed=arguments.seed,
            per_sample=arguments.per_sample,
            progress=tell,
        )
    if arguments.output is not None:
        weights.save(arguments.output)
    write(weights_formats.FORMATS[arguments.format](weights))
    _warn(weights, name_of(arguments.scores))
    return 1 if weights.warnings and arguments.strict else 0


def _warn(weights: Weights, name: str) -> None:
    sys.stdout.flush()
    for warning in weights.warnings:
        complain(printable(f"visatb: warning: {name}: {warning.where}: {warning.message}"))


def _output(text: str) -> str:
    if text == "-":
        problem = "-: expected a file; --format json prints the same text"
        raise argparse.ArgumentTypeError(problem)
    return text


def _temperature(text: str) -> Temperature:
    try:
        temperature: Temperature = "auto" if text == "auto" else float(text)
        temperature_or_zero(temperature)
    except (ArgumentError, ValueError):
        raise argparse.ArgumentTypeError(f"{text}: expected auto or a number above 0") from None
    return temperature


def _alphas(text: str) -> list[float]:
    try:
        alphas = [float(part) for part in text.split(",")]
    except ValueError:
        alphas = []
    if len(alphas) != 3:
        raise argparse.ArgumentTypeError(f"{text}: expected three numbers, as 0.25,0.25,0.5")
    return alphas

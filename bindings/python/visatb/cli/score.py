"""`visatb score`: validation scores from a model's answers, or from what lmms-eval wrote."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from visatb._errors import ArgumentError, DataError
from visatb._sources import PathLike
from visatb._streams import complain, printable, write
from visatb._write import refuse_inputs
from visatb.per_sample import SampleValues, write_per_sample
from visatb.scoring import (
    METRICS,
    MissingAnswersError,
    SampleScores,
    read_lmms_eval,
    score_answers,
)
from visatb.scoring.pairs import MISSING

from . import score_formats
from .score_formats import Row
from .terminal import file_only, name_of

LMMS_EVAL = "lmms-eval"

_DESCRIPTION = """\
Score a model's answers to validation questions. Scores are in percent; for which files each measure
takes, `visatb score MEASURE --help`. Notes go to standard error.
"""
_FILES = """\
ANSWERS and REFERENCES are JSON Lines or JSON; - reads standard input. An answer has an id
(question_id or id) and the model's text (text, answer, prediction, response or caption). A
reference has the same id and one of: {keys}.
"""


def add_parser(commands: Any) -> None:
    """Adds the command, and a command below it for every measure."""
    parser = commands.add_parser(
        "score", help="validation scores from answers", description=_DESCRIPTION
    )
    measures = parser.add_subparsers(title="measures", metavar="MEASURE", required=True)
    for name, metric in METRICS.items():
        _add_measure(measures, name, metric.summary, metric.references)
    _add_lmms_eval(measures)


def _add_measure(measures: Any, name: str, summary: str, keys: tuple[str, ...]) -> None:
    description = f"{summary[0].upper()}{summary[1:]}, in percent."
    if keys:
        description += f" {_FILES.format(keys=', '.join(keys))}"
    parser = measures.add_parser(name, help=summary, description=description)
    if keys:
        parser.add_argument("answers", metavar="ANSWERS", help="the model's answers")
        parser.add_argument("references", metavar="REFERENCES", help="the truths")
        parser.add_argument(
            "--missing",
            choices=MISSING,
            default="refuse",
            help="what a reference without an answer is: an error, or a score of 0 "
            "(default: refuse)",
        )
    else:
        parser.add_argument(
            "answers", metavar="REVIEWS", help='lines with "tuple": [reference, model]; - for stdin'
        )
        parser.set_defaults(references=None, missing="refuse")
    parser.add_argument("--task", metavar="NAME", help="the task's name, for JSON and --per-sample")
    _add_output(parser)
    parser.set_defaults(run=run_measure, metric=name)


def _add_lmms_eval(measures: Any) -> None:
    parser = measures.add_parser(
        LMMS_EVAL,
        help="scores that lmms-eval wrote",
        description="The scores that lmms-eval wrote, on its own scale, with the values of samples "
        "where its logs lie beside.",
    )
    parser.add_argument("path", metavar="PATH", help="*_results.json, or a folder that holds one")
    parser.add_argument(
        "--task",
        action="append",
        metavar="NAME",
        help="only this task; may be given several times",
    )
    _add_output(parser)
    parser.set_defaults(run=run_lmms_eval)


def _add_output(parser: argparse.ArgumentParser) -> None:
    # Not "run", which is the function that the command calls.
    parser.add_argument(
        "--run",
        dest="run_name",
        metavar="RUN",
        help="the run that was scored, as with_mini:vqa, for --per-sample",
    )
    parser.add_argument(
        "--per-sample",
        type=file_only,
        metavar="OUT",
        help="write the value of every sample here, as JSON Lines",
    )
    parser.add_argument(
        "--format",
        choices=score_formats.FORMATS,
        default="table",
        help="what to print: a table, or json, which `visatb run` takes (default: table)",
    )


def run_measure(arguments: argparse.Namespace) -> int:
    """Scores answers."""
    _check(arguments, "--format json", arguments.format == "json", "task")
    _check(arguments, "--per-sample", arguments.per_sample is not None, "task")
    _check(arguments, "--per-sample", arguments.per_sample is not None, "run_name")
    if arguments.per_sample is not None and not METRICS[arguments.metric].per_sample:
        what = f"{arguments.metric} is a measure of the whole corpus: no mean over samples"
        raise ArgumentError(f"--per-sample: {what}")
    if arguments.answers == arguments.references == "-":
        raise ArgumentError("-: standard input is either the answers or the references")
    scores = _scored(arguments)
    row = Row(arguments.task, scores.metric, scores.score, scores.samples, scores.values)
    inputs = [arguments.answers, arguments.references]
    _deliver(arguments, [row], [file for file in inputs if file is not None])
    _say(scores.notes, name_of(arguments.answers))
    return 0


def run_lmms_eval(arguments: argparse.Namespace) -> int:
    """Takes over the scores of lmms-eval."""
    _check(arguments, "--per-sample", arguments.per_sample is not None, "run_name")
    imported = read_lmms_eval(arguments.path)
    wanted = arguments.task
    known = dict.fromkeys(score.task for score in imported.scores)
    for task in wanted or ():
        if task not in known:
            text = f"--task {task}: not in the results, which have {', '.join(known)}"
            raise ArgumentError(text)
    rows = [
        Row(score.task, score.metric, score.score, len(score.values or ()) or None, score.values)
        for score in imported.scores
        if wanted is None or score.task in wanted
    ]
    if arguments.per_sample is not None and all(row.values is None for row in rows):
        what = "--per-sample: none of these scores has values of samples"
        raise DataError(f"{name_of(arguments.path)}: {what}")
    _deliver(arguments, rows, imported.files)
    notes = [note for note in imported.notes if wanted is None or note.task in wanted]
    _say([f"{note.task}: {note.message}" for note in notes], name_of(arguments.path))
    return 0


def _scored(arguments: argparse.Namespace) -> SampleScores:
    try:
        return score_answers(
            arguments.metric, arguments.answers, arguments.references, missing=arguments.missing
        )
    except MissingAnswersError as error:
        if not error.are_few:
            raise
        raise DataError(f"{error}; --missing zero scores 0 for them") from None


def _check(arguments: argparse.Namespace, why: str, asked: bool, needed: str) -> None:
    if asked and not getattr(arguments, needed):
        raise ArgumentError(f"{why} needs --{needed.removesuffix('_name')}")


def _deliver(
    arguments: argparse.Namespace, rows: Sequence[Row], inputs: Sequence[PathLike]
) -> None:
    if arguments.per_sample is not None:
        refuse_inputs("per_sample", arguments.per_sample, inputs, "the scores are")
        write_per_sample(
            arguments.per_sample,
            (
                SampleValues(arguments.run_name, row.task or "", row.metric, row.values)
                for row in rows
                if row.values is not None
            ),
        )
    write(score_formats.FORMATS[arguments.format](rows))


def _say(notes: Iterable[str], name: str) -> None:
    sys.stdout.flush()
    for note in notes:
        complain(printable(f"visatb: note: {name}: {note}"))

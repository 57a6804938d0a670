"""`visatb run`: the commands of a plan, carried out, and what is made of their results."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from visatb._errors import ArgumentError, DataError
from visatb._streams import complain, printable, write
from visatb.procedure import load_project
from visatb.procedure.commands import check_commands
from visatb.procedure.plan import Run
from visatb.procedure.project import GPU, Project, is_gpu
from visatb.running.book import Book
from visatb.running.called import called
from visatb.running.collect import collect
from visatb.running.inputs import changed_inputs
from visatb.running.orders import check_stages
from visatb.running.ready import plan_of
from visatb.running.runner import Runner, exit_code
from visatb.running.take import take

from . import run_display, run_formats
from .plan import warn
from .project import add_project

_DESCRIPTION = """\
Carry out the plan of a project: train and evaluate its runs, and make scores.json, weights.json and
results.json of what comes out (docs/running.md). It may be stopped or killed at any moment, and
goes on where it was when it is started again; several at once, on one machine or on several that
share the folder, share the work. Without a plan, it makes one.
"""


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "run", help="train and evaluate the runs of a plan", description=_DESCRIPTION
    )
    add_project(parser)
    parser.add_argument(
        "--gpus", metavar="A,B,...", help="GPUs to use (default: what the project lists)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="commands at once where no GPUs are listed (default: what the project says, else 1)",
    )
    parser.add_argument(
        "--only", action="extend", nargs="+", default=[], metavar="RUN", help="only these runs"
    )
    parser.add_argument(
        "--take",
        action="extend",
        nargs="+",
        default=[],
        metavar="RUN[=FILE]",
        help="start nothing; take in the scores of a run that was made elsewhere: those in FILE, "
        "or what its evaluations wrote into its folder",
    )
    parser.add_argument(
        "--collect",
        action="store_true",
        help="start nothing; make scores, weights and results of what is done",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="start nothing; print what is done and what is not"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs, takes in, or collects."""
    _check_together(arguments)
    project = _with_options(load_project(arguments.project), arguments)
    plan, is_new = plan_of(project)
    display = run_display.display()
    if is_new:
        display.say(f"planned {len(plan.runs)} runs into {called(project.output)}")
        warn(project, plan)
    book = Book(project, plan)
    book.check()
    chosen = _chosen(book, arguments.only)
    for line in book.changed_commands():
        display.warn(f"warning: {line}")
    changed = changed_inputs(project, plan)
    if changed is not None:
        display.warn(f"warning: {changed}")
    if arguments.dry_run:
        write(run_formats.table(book, chosen))
        return 0
    if arguments.take:
        _take(book, arguments.take)
    if arguments.collect:
        collected = collect(book)
        for line in collected.notes:
            complain(printable(f"visatb: {line}"))
        if collected.code == 0:
            write("".join(f"{printable(line)}\n" for line in run_formats.made(book)))
        return collected.code
    if arguments.take:
        return 0
    check_commands(project)
    check_stages(book, plan.runs)
    display.open()
    try:
        report = Runner(book, chosen, display).run()
    finally:
        display.close()
    run_formats.conclude(report, display, book)
    return exit_code(report)


def _check_together(arguments: argparse.Namespace) -> None:
    """Refuses options of which one would be ignored."""
    given = [name for name in ("take", "collect") if getattr(arguments, name)]
    for other in ("only", "dry_run"):
        if given and getattr(arguments, other):
            option = other.replace("_", "-")
            raise ArgumentError(f"--{given[0]} and --{option} do not go together")


def _with_options(project: Project, arguments: argparse.Namespace) -> Project:
    commands = project.commands
    if arguments.gpus is not None:
        gpus = tuple(gpu.strip() for gpu in arguments.gpus.split(",") if gpu.strip())
        for gpu in gpus:
            if not is_gpu(gpu):
                raise ArgumentError(f"--gpus {arguments.gpus}: {gpu}; expected {GPU}")
        if len(set(gpus)) < len(gpus):
            raise ArgumentError(f"--gpus {arguments.gpus}: one of them is there twice")
        if gpus and len(gpus) < commands.gpus_per_run:
            raise ArgumentError(
                f"--gpus {arguments.gpus}: a command of this project takes {commands.gpus_per_run} "
                "(run.gpus_per_run)"
            )
        commands = replace(commands, gpus=gpus)
    if arguments.jobs is not None:
        if arguments.jobs < 1:
            raise ArgumentError(f"--jobs {arguments.jobs}: expected 1 or more")
        commands = replace(commands, jobs=arguments.jobs)
    starts = not (arguments.take or arguments.collect or arguments.dry_run)
    if starts and commands.gpus_per_run > 1 and not commands.gpus:
        raise DataError(
            f"{called(Path(project.file))}: run.gpus_per_run: {commands.gpus_per_run}, and no GPUs "
            "are listed; expected gpus = [0, 1, ...] there, or --gpus 0,1"
        )
    return replace(project, commands=commands)


def _chosen(book: Book, names: list[str]) -> list[Run]:
    """The runs to do, in the plan's order."""
    wanted = {book.plan.run(name).name for name in names}
    return [one for one in book.plan.runs if not names or one.name in wanted]


def _take(book: Book, wanted: list[str]) -> None:
    for text in wanted:
        # A task's name may hold a "=" too.
        names = [one.name for one in book.plan.runs]
        name = next((one for one in names if text == one or text.startswith(f"{one}=")), "")
        if not name:
            name = book.plan.run(text.partition("=")[0]).name
        file = text[len(name) + 1 :]
        if text != name and not file:
            raise ArgumentError(f"--take {text}: expected a file after the =")
        is_new = take(book, name, Path(file) if file else None)
        was = "taken in" if is_new else "is there already, and the same"
        write(f"{name}: {was}\n")

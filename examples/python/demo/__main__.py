"""VisATB from end to end on real pictures: `python examples/python/demo`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import report
import tables
import tasks
import torch
from procedure import (
    EQUAL,
    FULL,
    QUICK,
    Procedure,
    results_file,
    weight_list,
    write_json,
)
from progress import RunProgress, duration
from rich.console import Console

import visatb

FILES = ("scores.json", "weights.json", "results.json", "report.png")
# What a step took where the demo was written; later estimates come from the steps already done.
SECONDS_PER_STEP = 0.05
# Two threads are half again as fast on idle cores, but several times slower where others use them.
THREADS = 1


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(
        prog="python examples/python/demo",
        description="Train a small LLaVA on four tasks, let VisATB weigh them, compare results.",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of splits, first weights and order (default 0)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("demo-output"),
        help="folder of the files (default demo-output)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="every step with next to no data, in about a minute; the scores mean nothing",
    )
    parser.add_argument("--scores-only", action="store_true", help="stop once the weights are made")
    return parser.parse_args()


def make_weights(scores: Path, path: Path, console: Console) -> visatb.Weights | None:
    """Make and write the weights of a score file; None where VisATB refuses to make them."""
    try:
        weights = visatb.compute_weights(scores)
    except visatb.DataError as error:
        show_refusal("scores", error, console)
        console.print("Going on with equal weights: no VisATB model will be compared.\n")
        return None
    weights.save(path)
    tables.show_weights(weights.data, console)
    return weights


def show_results(path: Path, console: Console) -> dict[str, Any] | None:
    """Compare the methods of a result file; None where VisATB refuses to compare them."""
    evaluation = None
    try:
        evaluation = visatb.evaluate(path)
    except visatb.DataError as error:
        show_refusal("results", error, console)
    tables.show_results(json.loads(path.read_text(encoding="utf-8")), evaluation, console)
    return evaluation


def show_refusal(what: str, error: visatb.DataError, console: Console) -> None:
    """Print why VisATB will not work with these numbers, in its own words."""
    console.print(f"\nVisATB refuses these {what}:", style="bold", highlight=False)
    console.print(str(error), highlight=False, soft_wrap=True, markup=False)


def announce(procedure: Procedure, final: bool, console: Console) -> RunProgress:
    """Say what will happen and about how long it takes."""
    runs = procedure.score_runs()
    if final:
        runs |= procedure.final_runs(EQUAL)
    steps = procedure.steps(runs)
    sizes = ", ".join(
        f"{task.name} {len(samples):,}"
        for task, samples in zip(tasks.TASKS, procedure.train, strict=True)
    )
    console.print(
        f"VisATB on easy-VQA, seed {procedure.seed}: {len(runs)} training runs of a small LLaVA,"
        f" each from the same random weights.\n"
        f"Training samples: {sizes}. The scores are of generated answers, from 0 to 100.\n"
        f"{steps:,} optimiser steps altogether: about {duration(steps * SECONDS_PER_STEP)}.\n",
        highlight=False,
        soft_wrap=True,
    )
    return RunProgress(console, len(runs), steps)


def final_stage(
    procedure: Procedure, weights: visatb.Weights | None, path: Path, progress: RunProgress
) -> None:
    """Train and test the models that are compared, and write results.json."""
    runs = procedure.final_runs(weight_list(weights) if weights else None)
    if weights is None:
        planned = procedure.final_runs(EQUAL)
        progress.drop(len(planned) - len(runs), procedure.steps(planned) - procedure.steps(runs))
    scored = {name: procedure.carry_out(name, run, progress) for name, run in runs.items()}
    write_json(path, results_file(scored))


def main() -> int:
    """Run the demo; 0 also where VisATB refused, for then the demo has shown how it refuses."""
    args = arguments()
    console = Console()
    torch.set_num_threads(THREADS)
    args.output.mkdir(parents=True, exist_ok=True)
    # Files of an earlier run must not be taken for this one's.
    for name in FILES:
        (args.output / name).unlink(missing_ok=True)
    scores, weights_path, results, picture = (args.output / name for name in FILES)
    scale = QUICK if args.quick else FULL
    procedure = Procedure(tasks.load(args.seed, scale.pictures), scale, args.seed)
    evaluation = None
    progress = announce(procedure, not args.scores_only, console)
    with progress:
        scored = {
            name: procedure.carry_out(name, run, progress)
            for name, run in procedure.score_runs().items()
        }
        write_json(scores, procedure.scores_file(scored))
        weights = make_weights(scores, weights_path, console)
        if not args.scores_only:
            final_stage(procedure, weights, results, progress)
    if not args.scores_only:
        evaluation = show_results(results, console)
    report.draw(picture, weights.data if weights else None, evaluation)
    if args.quick:
        console.print("\nThis was --quick: with so little data no number here means anything.")
    written = ", ".join(name for name in FILES if (args.output / name).exists())
    console.print(f"Written to {args.output}: {written}", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; a run starts from the beginning.")

"""How fast the loss is on a CPU, beside what else there is, on the same data in one process.

    python benchmarks/cpu.py                       everything: eleven minutes on two cores
    python benchmarks/cpu.py --quick               one small shape of each form, below a minute
    python benchmarks/cpu.py report results.json   docs/benchmarks.md and its pictures from a file

docs/benchmarks.md says what is measured and how. Packages: benchmarks/requirements.txt.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import sys
import tempfile
from pathlib import Path

from comparison import cases, missing

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Runs, or reports."""
    if sys.argv[1:2] == ["report"]:
        return missing.told("cpu.py", lambda: write_report(sys.argv[2:]))
    return missing.told("cpu.py", lambda: measure(sys.argv[1:]))


def write_report(arguments: list[str]) -> int:
    """The command `report`."""
    # Here alone: matplotlib brings NumPy, whose BLAS would count the cores before `measure`.
    from comparison import report

    parser = argparse.ArgumentParser(prog="cpu.py report", description="Docs from a result file.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs", help="their folder")
    options = parser.parse_args(arguments)
    for path in report.write(options.results, options.docs):
        print(path)
    return 0


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """The options of a run; `cases` is what they come to."""

    def words(text: str) -> list[str]:
        return [word for word in text.split(",") if word]

    available = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(
        prog="cpu.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small shapes, all rows valid, 3 rounds")
    add("--sizes", type=words, help="2048x32000,512x1024x32000: [rows,] or [rows, hidden,] vocab")
    add("--rows", type=int, help="rows of every size")
    add("--dtypes", type=words, help=f"of {','.join(cases.DTYPES)}")
    add("--valid", type=words, help="percents of valid rows (100,30)")
    add("--repeat", type=int, help="rounds of logits (9); fewer of the linear form")
    add("--threads", type=int, default=available, help="and cores (all)")
    add("--only", type=words, default=[], help="contestants whose name holds one of these words")
    add("--rest", type=float, default=0.0, help="ms between the renewal of the data and a run (0)")
    add("--output", type=Path, help="result file (benchmarks/results/cpu-<name>-<date>.json)")
    add("--name", help="of the machine, in the result file's name (the processor's)")
    options = parser.parse_args(arguments)
    default_sizes = cases.QUICK_SIZES if options.quick else cases.LOGITS_SIZES + cases.LINEAR_SIZES
    options.repeat = options.repeat or (3 if options.quick else 9)
    try:
        sizes = [cases.parse_size(text, options.rows) for text in options.sizes or default_sizes]
        shares = [int(text) for text in options.valid or ()]
    except ValueError as error:
        parser.error(str(error))
    dtypes = options.dtypes or list(cases.DTYPES)
    if not set(dtypes) <= set(cases.DTYPES) or not 1 <= options.threads <= available:
        parser.error(f"expected dtypes of {cases.DTYPES} and 1 to {available} threads")
    shares = shares or list(cases.QUICK_SHARES if options.quick else cases.SHARES)
    options.cases = cases.make_cases(sizes, dtypes, shares)
    if not options.valid and not options.sizes:
        options.cases = [case for case in options.cases if not cases.is_too_long(case)]
    return options


def measure(arguments: list[str]) -> int:
    """Runs every case, prints it, and keeps the result file up to date."""
    options = parse_options(arguments)
    # Before any library starts its threads, so that each finds these cores and no others.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    # An empty cache, so that the first calls tell what compiling takes.
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        return run(options)


def run(options: argparse.Namespace) -> int:
    """`measure`, once the environment is set; imports PyTorch."""
    import torch
    from comparison import machine, progress, reference, results, table, timing

    torch.set_num_threads(options.threads)
    record: results.Record = {
        "visatb_cpu_benchmark": results.FORMAT,
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "commit": machine.commit(),
        "machine": machine.machine(),
        "versions": machine.versions(),
        "settings": {
            "threads": options.threads,
            "repeat": options.repeat,
            "only": options.only,
            "rest_ms": options.rest,
        },
        "cases": [],
    }
    path = options.output
    if path is None and not options.quick:
        name = options.name or re.sub(r"\W+", "-", machine.processor().lower()).strip("-")
        path = HERE / "results" / f"cpu-{name}-{record['date']}.json"
    shown = progress.Progress(len(options.cases))
    for case in options.cases:
        shown.begin(case)
        plan = timing.Plan(cases.rounds(case, options.repeat), options.only, options.rest / 1e3)
        try:
            record["cases"].append(timing.run_case(case, plan, shown))
        except reference.WrongResult as wrong:
            print(f"\ncpu.py: a contestant computes something else: {wrong}", file=sys.stderr)
            return 1
        shown.clear()
        print(table.case_text(record["cases"][-1], record["cases"]), end="\n\n", flush=True)
        if path is not None:
            results.write(path, record)
    if path is not None:
        print(f"results: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

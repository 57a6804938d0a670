"""How fast the loss is on a GPU, beside what else there is, on the same data in one process.

    python benchmarks/gpu.py                   everything: below seven minutes on an H200
    python benchmarks/gpu.py --quick           small sizes, to see that all of it works
    python benchmarks/gpu.py report            docs/benchmarks.md from the newest result file

docs/benchmarks.md says what is measured and how. Wheels in the folder that VISATB_WHEELS names are
installed for the run alone, without network. tools/gpu-check calls this and keeps the results.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import os
import site
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comparison import gpu_cases, missing

if TYPE_CHECKING:
    from comparison.results import Record
    from comparison.timing import Bench

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parent / "build/gpu-benchmark.json"
SECONDS = 400.0
WHEELS = "VISATB_WHEELS"
PARTS = ("accuracy", "training", "cases")
WRONG, NO_GPU = 1, 2


def main() -> int:
    """Runs, or reports."""
    if sys.argv[1:2] == ["report"]:
        return missing.told("gpu.py", lambda: write_report(sys.argv[2:]))
    return missing.told("gpu.py", lambda: measure(sys.argv[1:]))


def write_report(arguments: list[str]) -> int:
    """The command `report`."""
    from comparison import gpu_report

    parser = argparse.ArgumentParser(prog="gpu.py report", description="Docs from a result file.")
    parser.add_argument("results", type=Path, nargs="?", help="benchmarks/results/gpu-*.json")
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs", help="their folder")
    options = parser.parse_args(arguments)
    source = options.results or gpu_report.newest(HERE / "results")
    others = sorted((HERE / "results").glob("gpu-*.json"))
    for path in gpu_report.write(source, options.docs, others):
        print(path)
    return 0


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """The options of a run."""
    parser = argparse.ArgumentParser(
        prog="gpu.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small sizes, 2 rounds")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: only with --quick")
    add("--seconds", type=float, default=SECONDS, help=f"begin nothing after that ({SECONDS:g})")
    add("--output", type=Path, default=OUTPUT, help="result file (build/gpu-benchmark.json)")
    add("--only", default="", help="contestants whose name holds one of these words: ours,quack")
    add("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    options = parser.parse_args(arguments)
    options.only = [word for word in options.only.split(",") if word]
    options.parts = [word for word in options.parts.split(",") if word]
    if options.device == "cpu" and not options.quick:
        parser.error("--device cpu is for seeing that the code works: expected --quick with it")
    if not set(options.parts) <= set(PARTS):
        parser.error(f"--parts {','.join(options.parts)}: expected some of {','.join(PARTS)}")
    return options


def measure(arguments: list[str]) -> int:
    """Runs everything, prints it, and keeps the result file up to date."""
    # Installing wheels and importing PyTorch takes a part of the time that there is.
    begun = time.monotonic()
    options = parse_options(arguments)
    if options.device == "cuda" and not has_gpu():
        print("gpu.py: no GPU: PyTorch finds no CUDA device", file=sys.stderr)
        return NO_GPU
    with tempfile.TemporaryDirectory() as folder:
        add_wheels(os.environ.get(WHEELS), Path(folder) / "site")
        # An empty cache, so that the first calls tell what compiling takes.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder) / "inductor")
        return run(options, begun + options.seconds)


def has_gpu() -> bool:
    """Whether PyTorch finds one."""
    import torch

    return bool(torch.cuda.is_available())


def add_wheels(folder: str | None, target: Path) -> None:
    """Installs the wheels of a folder for this process."""
    wheels = sorted(Path(folder).glob("*.whl")) if folder else []
    if not wheels:
        return
    print(f"gpu.py: installing {len(wheels)} wheels for this run", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", str(target), *map(str, wheels)], check=True)  # noqa: S603
    # A package of theirs may be a newer one of what is there.
    sys.path.insert(0, str(target))
    # Some put more folders there by a .pth file.
    site.addsitedir(str(target))
    importlib.invalidate_caches()


def run(options: argparse.Namespace, deadline: float) -> int:
    """`measure`, once the environment is set."""
    from comparison import gpu_machine, progress, results, timing

    bench = make_bench(options.device)
    record: Record = {
        "visatb_gpu_benchmark": results.FORMAT,
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        **gpu_machine.describe(options.device),
        "settings": {
            "device": options.device,
            "quick": options.quick,
            "only": options.only,
            "seconds": options.seconds,
        },
        "accuracy": [],
        "training": None,
        "cases": [],
        "not_run": [],
        "broken": None,
        "wrong": [],
    }
    found = work(options, bench, deadline)
    shown = progress.Progress(len(found))
    for number, (what, job) in enumerate(found):
        if time.monotonic() > deadline:
            record["not_run"] += [f"{name}: {timing.OUT_OF_TIME}" for name, _ in found[number:]]
            break
        shown.begin(what)
        try:
            attempt(job, what, record, shown, bench)
        except timing.BrokenDevice as broken:
            record["broken"] = {"culprit": str(broken), "group": broken.group}
            record["not_run"] += [f"{name}: the GPU failed" for name, _ in found[number:]]
            break
        finally:
            shown.clear()
        # A run that is cut tells as much as one that ends.
        record["wrong"] = wrong_of(record)
        results.write(options.output, record)
    record["wrong"] = wrong_of(record)
    results.write(options.output, record)
    return conclude(record, options.output)


def attempt(job: Any, what: str, record: Record, shown: Any, bench: Bench) -> None:
    """Does a job; an error, as of memory that is too small for its data, is that job's alone.

    Errors: timing.BrokenDevice.
    """
    from comparison import contestants, timing

    try:
        job(record, shown)
    except timing.BrokenDevice:
        raise
    except Exception as error:  # noqa: BLE001
        record["not_run"].append(f"{what}: {contestants.reason_of(error)}")
        timing.require_working(bench, what, "", error)


def make_bench(device: str) -> Bench:
    """The contestants and how they are timed."""
    import torch
    from comparison import gpu_floors, gpu_ours, gpu_rivals, stopwatch, timing

    # Every shape is compiled once and kept.
    for name in ("recompile_limit", "cache_size_limit"):
        if hasattr(torch._dynamo.config, name):
            setattr(torch._dynamo.config, name, 256)
    contestants = {
        "logits": (*gpu_ours.LOGITS, *gpu_rivals.LOGITS, *gpu_floors.LOGITS),
        "linear": (*gpu_ours.HIDDEN, *gpu_rivals.HIDDEN, *gpu_floors.HIDDEN),
    }
    if device == "cpu":
        # Compiling takes longer than all the rest of what is only a look at whether it works.
        contestants = {
            form: tuple(one for one in all_ if "compiled" not in one.name)
            for form, all_ in contestants.items()
        }
        return timing.Bench("cpu", contestants, stopwatch.CpuStopwatch(), strict=False)
    return timing.Bench("cuda", contestants, stopwatch.CudaStopwatch(), strict=False)


def work(options: argparse.Namespace, bench: Bench, deadline: float) -> list[tuple[str, Any]]:
    """What is to be done, by name, the most telling first: functions of (record, progress)."""
    from comparison import accuracy, table, timing, training

    cases = gpu_cases.quick_cases() if options.quick else gpu_cases.all_cases()

    def of_accuracy(case: Any) -> Any:
        return lambda record, shown: record["accuracy"].append(accuracy.measure(case, bench, shown))

    def of_training(record: Record, shown: Any) -> None:
        record["training"] = training.measure(bench, shown, quick=options.quick)

    def of_case(case: Any) -> Any:
        def job(record: Record, shown: Any) -> None:
            rounds = gpu_cases.rounds(case, quick=options.quick)
            plan = timing.Plan(rounds, options.only, 0.0, bench, deadline)
            record["cases"].append(timing.run_case(case, plan, shown) | {"device": bench.device})
            print(table.case_text(record["cases"][-1], record["cases"]), end="\n\n", flush=True)

        return job

    found: dict[str, list[tuple[str, Any]]] = {
        "cases": [(str(case), of_case(case)) for case in cases],
        "accuracy": [
            (f"accuracy of {case}", of_accuracy(case))
            for case in accuracy.cases(quick=options.quick)
        ],
        "training": [("training step", of_training)],
    }
    # After what the targets are about, so that nothing of it is lost to what only adds to it.
    first, last = found["cases"][: len(cases) // 2], found["cases"][len(cases) // 2 :]
    chosen = {**found, "cases": first}
    jobs = [
        job
        for part in ("cases", "accuracy", "training")
        for job in chosen[part]
        if part in options.parts
    ]
    return [*jobs, *(last if "cases" in options.parts else [])]


def wrong_of(record: Record) -> list[str]:
    """What is wrong with VisATB itself: results, and accuracies that were promised."""
    found = [
        f"{case['form']} [{case['rows']}, {case['vocab']}] {case['dtype']}: {one['wrong']}"
        for case in record["cases"]
        for one in case["contestants"]
        if "wrong" in one and one["group"] == "visatb"
    ]
    found += [
        f"training step: {step['name']}: {step.get('wrong') or step['not_run']}"
        for step in (record["training"] or {}).get("steps", [])
        if step.get("ours") and ("wrong" in step or "not_run" in step)
    ]
    broken = record.get("broken")
    if broken and broken["group"] == "visatb":
        found.append(f"left a GPU that computes nothing any more: {broken['culprit']}")
    return found + [
        f"accuracy of {case['form']} [{case['rows']}, {case['vocab']}] {case['dtype']}: "
        f"{one['name']}: beyond what is promised"
        for case in record["accuracy"]
        for one in case["contestants"]
        if one.get("met") is False
    ]


def conclude(record: Record, path: Path) -> int:
    """The last words, and the exit status."""
    for line in record["wrong"]:
        print(f"gpu.py: wrong: {line}", file=sys.stderr)
    for line in record["not_run"]:
        print(f"gpu.py: not run: {line}", file=sys.stderr)
    if record["broken"]:
        print(f"gpu.py: the GPU failed with {record['broken']['culprit']}", file=sys.stderr)
    print(f"results: {path}")
    return WRONG if record["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())

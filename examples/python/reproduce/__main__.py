"""The paper's comparison in small, over several seeds: `python examples/python/reproduce`.

Every seed has its own splits, subsets, first weights and order. `visatb run` does the work, so what
was cut off is carried on. Whatever comes out is what is written.
"""

from __future__ import annotations

import argparse
import json
import platform
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import tables
import torch
import transformers

import visatb
from visatb.procedure import load_plan

HERE = Path(__file__).resolve().parent
COMMANDS = HERE.parent / "demo"

# Two cores train the small model in minutes; a GPU has room for a larger one and more data.
CPU = {"data": [], "size": "", "machine": "jobs = 2", "name": "0.4 million parameters"}
GPU = {
    "data": ["--each", "3"],
    "size": "--width 384 --layers 6",
    "machine": "gpus = [0]",
    "name": "width 384, 6 layers, three times the samples",
}


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(
        prog="python examples/python/reproduce",
        description="Compare STL, EW, TLA, RLW, DWA, IGBv1 and VisATB on the demo's tasks.",
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many (default 5)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("demo-output-reproduce"),
        help="folder of all that is written (default demo-output-reproduce)",
    )
    parser.add_argument(
        "--document", type=Path, help="file of the tables (default: tables.md in that folder)"
    )
    return parser.parse_args()


def prepare(folder: Path, scale: dict[str, Any]) -> None:
    """Writes the data, once for all seeds."""
    program = [sys.executable, str(COMMANDS / "data.py"), str(folder), *scale["data"]]
    subprocess.run(program, check=True)  # noqa: S603


# What `visatb run` ends with when all is done, and where it refuses scores that carry no weights.
DONE, REFUSED = 0, 3


def run_seed(seed: int, folder: Path, scale: dict[str, Any]) -> tables.Seed:
    """Does all runs of one seed that are not done, and returns what they came to."""
    output = folder / f"seed-{seed}"
    output.mkdir(exist_ok=True)
    template = string.Template((HERE / "project.toml").read_text(encoding="utf-8"))
    text = template.substitute(
        seed=seed,
        output=output,
        folder=folder,
        commands=COMMANDS,
        size=scale["size"],
        machine=scale["machine"],
    )
    project = output / "visatb.toml"
    project.write_text(text, encoding="utf-8")
    # It is made again of all that is done, so what is there afterwards is of this run.
    (output / "results.json").unlink(missing_ok=True)
    program = [sys.executable, "-m", "visatb", "run", str(project)]
    finished = subprocess.run(program, check=False)  # noqa: S603
    return outcome(seed, output, finished.returncode)


def outcome(seed: int, output: Path, code: int) -> tables.Seed:
    """The results of a seed; where VisATB refused its scores, those of the other methods.

    Exits where `visatb run` failed, or a method is missing for another reason.
    """
    path = output / "results.json"
    if code not in {DONE, REFUSED} or not path.exists():
        sys.exit(f"seed {seed}: visatb run ended with {code}")
    results = json.loads(path.read_text(encoding="utf-8"))
    wanted = ("STL", *tables.METHODS, *tables.ALONE)
    missing = [name for name in wanted if name not in results["methods"]]
    if any(code == DONE or not name.startswith("VisATB") for name in missing):
        sys.exit(f"seed {seed}: visatb run ended with {code}, without {', '.join(missing)}")
    weights = None
    if "VisATB" not in missing:
        weights = json.loads((output / "weights.json").read_text(encoding="utf-8"))
    measuring = load_plan(output).cost.counted
    return tables.Seed(seed, results, visatb.evaluate(path), weights, measuring)


def machine() -> str:
    """What the numbers were made on."""
    place = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return (
        f"visatb {visatb.__version__}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, Python {platform.python_version()}, {place}"
    )


def main() -> None:
    """Runs every seed, and writes the tables after each."""
    args = arguments()
    folder = args.output.resolve()
    scale = GPU if torch.cuda.is_available() else CPU
    prepare(folder, scale)
    found = []
    document = args.document or folder / "tables.md"
    for seed in range(args.seeds):
        found.append(run_seed(seed, folder, scale))
        text = tables.document(found, model=scale["name"], machine=machine())
        document.write_text(text, encoding="utf-8")
        print(f"seeds 0 to {seed}: {document}", flush=True)


if __name__ == "__main__":
    main()

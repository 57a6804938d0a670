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


def run_seed(seed: int, folder: Path, scale: dict[str, Any]) -> Path:
    """Does all runs of one seed that are not done, and returns the folder of its results."""
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
    # It may end with another code where VisATB refused its scores; the other methods are there.
    program = [sys.executable, "-m", "visatb", "run", str(project)]
    finished = subprocess.run(program, check=False)  # noqa: S603
    if not (output / "results.json").exists():
        sys.exit(f"seed {seed}: no results, visatb run ended with {finished.returncode}")
    return output


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
        output = run_seed(seed, folder, scale)
        results = json.loads((output / "results.json").read_text(encoding="utf-8"))
        evaluation = visatb.evaluate(output / "results.json")
        weights = output / "weights.json"
        made = json.loads(weights.read_text(encoding="utf-8")) if weights.exists() else None
        found.append(tables.Seed(seed, results, evaluation, made))
        text = tables.document(found, model=scale["name"], machine=machine())
        document.write_text(text, encoding="utf-8")
        print(f"seeds 0 to {seed}: {document}", flush=True)


if __name__ == "__main__":
    main()

"""Writes the demo's data, `python data.py FOLDER`: samples as LLaVA's trainers read them, pictures.

VisATB deals the samples into splits and subsets (the project file says how); each is then read
from whatever file a command is given.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tasks import Sample, load

SAMPLES, PICTURES = "samples.jsonl", "pictures.npy"


def main() -> None:
    """Writes the two files."""
    parser = argparse.ArgumentParser(description="Write the demo's data into a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=4300, help="how many (default 4300)")
    parser.add_argument(
        "--each", type=int, default=1, help="questions of a kind for each, 1 to 3 (default 1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default 0)")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    pictures, samples = load(args.seed, args.pictures, args.each)
    # A training of an earlier start may still read them: files are replaced, not rewritten.
    with whole(args.folder / PICTURES) as part, part.open("wb") as file:
        np.save(file, pictures)
    with whole(args.folder / SAMPLES) as part:
        write_samples(part, samples)
    print(f"{len(samples):,} samples of {args.pictures:,} pictures: {args.folder / SAMPLES}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file of this process alone, which takes the path's place once it is written."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Samples as LLaVA's trainers read them, one a line."""
    with path.open("w", encoding="utf-8") as file:
        for sample in samples:
            turns = (("human", f"<image>\n{sample.prompt}"), ("gpt", sample.answer))
            record = {
                "id": sample.id,
                "task": sample.task,
                "image": sample.image,
                "conversations": [{"from": who, "value": text} for who, text in turns],
            }
            file.write(json.dumps(record) + "\n")


def read_samples(path: Path) -> list[Sample]:
    """The samples of such a file."""
    with path.open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    samples = []
    for record in records:
        prompt, answer = (turn["value"] for turn in record["conversations"])
        prompt = prompt.removeprefix("<image>\n")
        samples.append(Sample(record["id"], record["task"], record["image"], prompt, answer))
    return samples


def texts(folder: Path) -> list[str]:
    """Every prompt and answer of the demo's data, for the vocabulary."""
    samples = read_samples(folder / SAMPLES)
    return [text for one in samples for text in (one.prompt, one.answer)]


if __name__ == "__main__":
    main()

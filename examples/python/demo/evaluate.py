"""The demo's evaluation command: a model is asked, and its answers are scored sample by sample."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from answers import generate, points
from data import PICTURES, read_samples, texts
from model import Tokenizer, device, load
from tasks import TASKS
from tqdm import tqdm


def main() -> None:
    """Writes {task: {metric: {sample id: points}}}."""
    parser = argparse.ArgumentParser(description="Score a model of the demo's.")
    parser.add_argument("--folder", type=Path, required=True, help="what data.py wrote")
    parser.add_argument("--model", type=Path, required=True, help="what train.py wrote")
    parser.add_argument("--questions", type=Path, required=True, help="folder of samples to ask")
    parser.add_argument("--tasks", required=True, help="which tasks, with commas")
    parser.add_argument("--scores", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = np.load(args.folder / PICTURES, mmap_mode="r")
    tokenizer = Tokenizer(texts(args.folder))
    model = load(args.model, images.shape[1]).to(device())
    scores = {}
    asked = [task for task in TASKS if task.name in args.tasks.split(",")]
    for task in tqdm(asked, desc="evaluating"):
        samples = read_samples(args.questions / f"{task.name}.jsonl")
        answers = generate(model, task, samples, images, tokenizer)
        scores[task.name] = {task.metric: points(task, samples, answers)}
    args.scores.write_text(json.dumps(scores), encoding="utf-8")


if __name__ == "__main__":
    main()

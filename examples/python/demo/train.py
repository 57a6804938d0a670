"""The demo's training command: samples, weights and a method in, a model out."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from data import PICTURES, read_samples, texts
from model import Size, Tokenizer, build, device, save
from tqdm import tqdm
from training import NAMES, Settings, step_count, train

import visatb


def arguments() -> argparse.Namespace:
    """What the project file gives."""
    parser = argparse.ArgumentParser(description="Train a small LLaVA from random weights.")
    parser.add_argument("--folder", type=Path, required=True, help="what data.py wrote")
    parser.add_argument("--data", type=Path, required=True, help="the samples of this run")
    parser.add_argument("--output", type=Path, required=True, help="the model's folder")
    parser.add_argument("--weights", type=Path, required=True, help="weights.json")
    parser.add_argument("--method", default="EW", help="how tasks are weighed (default EW)")
    parser.add_argument("--seed", type=int, default=0, help="of first weights and order")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--width", type=int, default=Size.width)
    parser.add_argument("--layers", type=int, default=Size.layers)
    return parser.parse_args()


def main() -> None:
    """Trains, and writes the model."""
    args = arguments()
    # Several runs go on beside each other; more threads would take each other's cores.
    torch.set_num_threads(1)
    samples = read_samples(args.data)
    images = np.load(args.folder / PICTURES, mmap_mode="r")
    tokenizer = Tokenizer(texts(args.folder))
    size = Size(args.width, args.layers)
    words = len(tokenizer.words)
    model = build(words, images.shape[1], size, args.seed).to(device())
    settings = Settings(args.epochs, args.seed, args.batch_size)
    by_step = args.method in visatb.METHODS
    method = visatb.Method(args.method, len(NAMES), seed=args.seed) if by_step else None
    weights = visatb.load_weights(args.weights, NAMES).tolist()
    steps = train(samples, weights, method, model, images, tokenizer, settings)
    for _ in tqdm(steps, total=step_count(len(samples), settings), desc="training"):
        pass
    save(args.output, model, size, words)


if __name__ == "__main__":
    main()

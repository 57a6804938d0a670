"""Commands that stand for those which train and evaluate, and watch how they are run.

    train    DATA OUTPUT WEIGHTS RUN
    evaluate MODEL SCORES QUESTIONS TASKS RUN STAGE
    answer   MODEL ANSWERS QUESTIONS TASKS

Scores are made of the data's content and the weights alone. A journal, which a line is appended to
at the begin and at the end of every command, gets one more for whatever must never be: two commands
of one stage or on one GPU at a time, and a model that two attempts have written.
"""

import fcntl
import hashlib
import json
import math
import os
import sys
import time
from pathlib import Path

JOURNAL = Path(os.environ["LITTLE_JOURNAL"])
SECONDS = float(os.environ.get("LITTLE_SECONDS", "0.03"))


def note(what, **more):
    line = json.dumps({"what": what, "pid": os.getpid(), "at": time.time(), **more}) + "\n"
    descriptor = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def be_alone(name, held=[]):  # noqa: B006 - held as long as the process lives
    """A lock that the kernel frees when this process is gone, however that came."""
    folder = JOURNAL.with_name("present")
    folder.mkdir(exist_ok=True)
    held.append(os.open(folder / name.replace("/", "_"), os.O_RDWR | os.O_CREAT, 0o666))
    try:
        fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        note("overlap", of=name)


def begin(run, stage):
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    be_alone(f"{run} {stage}")
    for gpu in filter(None, gpus.split(",")):
        be_alone(f"gpu {gpu}")
    note("begin", run=run, stage=stage, gpus=gpus, port=os.environ.get("LITTLE_PORT", ""))


def train(data, output, weights, run):
    begin(run, "train")
    content = Path(data).read_bytes()
    if Path(output).exists():
        note("dirty", run=run)
    attempt = f"{os.getpid()} {time.time()}"
    Path(output).mkdir()
    Path(output, "first").write_text(attempt)
    time.sleep(SECONDS)
    counts = {}
    for sample in json.loads(content):
        counts[sample["task"]] = counts.get(sample["task"], 0) + 1
    digest = hashlib.sha256(content + Path(weights).read_bytes()).hexdigest()
    Path(output, "model.json").write_text(json.dumps({"counts": counts, "digest": digest}))
    Path(output, "second").write_text(attempt)
    note("end", run=run, stage="train")


def score_of(model, task, sample):
    every = sum(model["counts"].values())
    digest = hashlib.sha256(f"{model['digest']} {task} {sample}".encode()).digest()
    return 20 + 2 * model["counts"].get(task, 0) + 0.1 * every + math.floor(digest[0] / 64) / 4


def evaluate(model, scores, questions, tasks, run, stage):
    begin(run, stage)
    loaded = {"counts": {}, "digest": "base"}
    if Path(model).is_dir():
        if Path(model, "first").read_text() != Path(model, "second").read_text():
            note("mixed", run=run)
        loaded = json.loads(Path(model, "model.json").read_text())
    if Path(scores).exists():
        note("dirty", run=run)
    found = {}
    for task in tasks.split(","):
        file = Path(questions, f"{task}.json") if Path(questions).is_dir() else Path(questions)
        samples = [sample["id"] for sample in json.loads(file.read_bytes())]
        found[task] = {"em": {sample: score_of(loaded, task, sample) for sample in samples}}
    text = json.dumps(found)
    with Path(scores).open("w") as file:
        file.write(text[: len(text) // 2])
        file.flush()
        time.sleep(SECONDS)
        file.write(text[len(text) // 2 :])
    note("end", run=run, stage=stage)


def answer(model, answers, questions, tasks):
    counts = json.loads(Path(model, "model.json").read_text())["counts"]
    Path(answers).mkdir()
    for task in tasks.split(","):
        samples = json.loads(Path(questions, f"{task}.json").read_bytes())
        right = 1 + counts[task] // 16
        found = [{"id": one["id"], "text": "no"} for one in samples]
        for one in found[:right]:
            one["text"] = "yes"
        Path(answers, f"{task}.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in found))


if __name__ == "__main__":
    {"train": train, "evaluate": evaluate, "answer": answer}[sys.argv[1]](*sys.argv[2:])

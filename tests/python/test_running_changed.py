"""Commands that changed while a plan is carried out: what they were is not forgotten."""

from __future__ import annotations

import json
from pathlib import Path

from running_project import EVALUATE, TRAIN, finish, write_project

AGAIN = "they count as they are, and a run whose folder is removed is done again\n"


def test_runs_that_were_trained_by_another_command_are_said(tmp_path):
    folder = write_project(tmp_path)
    assert finish(folder, "--only", "mini", "STL:a", LITTLE_SECONDS="0")[0] == 0
    other = TRAIN.replace("train", "train ", 1)
    assert other != TRAIN
    write_project(folder, train=other)
    said = (
        "visatb: warning: done by another command than visatb.toml has now: mini: train, STL:a: "
        f"train; {AGAIN}"
    )
    code, _, err = finish(folder, "--only", "mini", "with_mini:a", LITTLE_SECONDS="0")
    assert (code, err) == (0, said)
    # What is done now is done by the new one.
    assert finish(folder, "--dry-run")[2] == said
    write_project(folder)
    assert "than visatb.toml has now: with_mini:a: train; they" in finish(folder, "--dry-run")[2]


def test_an_evaluation_by_another_command_is_said_too(tmp_path):
    folder = write_project(tmp_path)
    assert finish(folder, "--only", "mini", LITTLE_SECONDS="0")[0] == 0
    write_project(folder, evaluate=f"{EVALUATE} # anew")
    assert finish(folder, "--dry-run")[2] == (
        "visatb: warning: done by another command than visatb.toml has now: mini: evaluate; "
        f"{AGAIN}"
    )


def test_another_place_in_the_same_command_is_no_other_command(tmp_path):
    train = f"LITTLE_PORT={{port}} {TRAIN}"
    folder = write_project(tmp_path, train=train, run="gpus = [0, 1]\n")
    assert finish(folder, "--only", "mini", LITTLE_SECONDS="0")[0] == 0
    path = folder / "visatb-output/runs/mini/train.done"
    assert json.loads(path.read_bytes())["template"] == train
    write_project(folder, train=train, run="gpus = [7]\n")
    assert finish(folder, "--only", "mini")[::2] == (0, "")


def test_results_that_were_taken_in_have_no_command(folder, command):
    write_project(folder)
    assert command("plan").code == 0
    Path("s.json").write_text('{"a": {"em": 1}, "b": {"em": 2}}', encoding="utf-8")
    assert command("run", "--take", "mini=s.json").code == 0
    assert command("run", "--dry-run").err == ""

"""Full disks and power cuts: nothing is half there, and nothing is overwritten."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from running_project import finish, order_in, write_project

from visatb.cli import main
from visatb.running import supervise
from visatb.running.wake import Bell


def test_a_log_on_a_full_disk_fails_its_stage_and_no_other(tmp_path):
    folder = write_project(tmp_path)
    finish(folder, "--dry-run")
    run = folder / "visatb-output/runs/mini"
    run.mkdir(parents=True)
    (run / "train.log").symlink_to("/dev/full")
    code, out, err = finish(folder, "--only", "mini", "EW", LITTLE_SECONDS="0")
    assert code == 3
    assert err == (
        "visatb: mini: train: visatb-output/runs/mini/train.log: cannot be written: "
        "No space left on device\n"
    )
    assert out.splitlines()[-1] == "1 run is done; unfinished: mini"


def no_space(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_marker_on_a_full_disk_is_not_there(folder, monkeypatch):
    inner = os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda file: (
            no_space(file)
            if "train." in str(Path(f"/proc/self/fd/{file}").readlink())
            else inner(file)
        ),
    )
    bell = Bell(())
    try:
        outcome = supervise._carry_out(order_in(folder, "mkdir model; touch model/a"), bell)
    finally:
        bell.close()
    assert (outcome.kind, outcome.message) == (
        "trouble",
        "train.done: cannot be written: No space left on device",
    )
    assert sorted(path.name for path in folder.iterdir()) == ["model", "train.log"]


def test_what_a_training_began_with_on_a_full_disk_is_said_by_its_own_name(folder, monkeypatch):
    monkeypatch.setattr(os, "fsync", no_space)
    bell = Bell(())
    try:
        outcome = supervise._carry_out(order_in(folder, "true", fresh=False), bell)
    finally:
        bell.close()
    assert (outcome.kind, outcome.message) == (
        "trouble",
        "train.begun: cannot be written: No space left on device",
    )


def test_a_model_is_on_the_disk_with_the_folders_that_name_it_before_its_marker(
    folder, monkeypatch
):
    kept, inner = [], os.fsync

    def fsync(file: int) -> None:
        kept.append(os.path.relpath(Path(f"/proc/self/fd/{file}").readlink()).partition(".done")[0])
        inner(file)

    monkeypatch.setattr(os, "fsync", fsync)
    bell = Bell(())
    try:
        order = order_in(folder, "mkdir -p model/part; touch model/part/a")
        assert supervise._carry_out(order, bell).message == ""
    finally:
        bell.close()
    assert kept == ["model/part/a", "model/part", "model", ".", "train", "."]


def test_a_model_that_cannot_be_kept_is_not_done(folder, monkeypatch):
    monkeypatch.setattr(os, "fsync", no_space)
    bell = Bell(())
    try:
        outcome = supervise._carry_out(order_in(folder, "mkdir model; touch model/a"), bell)
    finally:
        bell.close()
    assert outcome.message == "model: cannot be kept: No space left on device"
    assert not Path("train.done").exists()


def test_a_full_disk_leaves_the_scores_and_weights_that_are_there(folder, capsys, monkeypatch):
    write_project(folder)
    monkeypatch.setenv("LITTLE_JOURNAL", str(folder / "journal"))
    monkeypatch.setenv("LITTLE_SECONDS", "0")
    assert main(["run"]) == 0
    there = {path: path.read_bytes() for path in Path("visatb-output").glob("*.json")}
    Path("visatb-output/scores.json").write_text("before", encoding="utf-8")
    monkeypatch.setattr(os, "fsync", no_space)
    capsys.readouterr()
    assert main(["run"]) == 3
    assert capsys.readouterr().err == (
        "visatb: visatb-output/scores.json: cannot be written: No space left on device\n"
    )
    assert Path("visatb-output/scores.json").read_text(encoding="utf-8") == "before"
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert main(["run"]) == 0
    assert {path: path.read_bytes() for path in there} == there

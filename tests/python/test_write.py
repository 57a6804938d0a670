"""Weights files appear whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

import visatb
from visatb._write import refuse_inputs, written_together


@pytest.fixture
def weights(scores, folder) -> visatb.Weights:
    """The tests run in an empty folder."""
    return visatb.compute_weights(scores)


def names() -> list[str]:
    return sorted(entry.name for entry in Path().iterdir())


def test_a_file_that_is_there_is_replaced(weights):
    Path("weights.json").write_text("before " * 1000, encoding="utf-8")
    weights.save(Path("weights.json"))
    assert Path("weights.json").read_text(encoding="utf-8") == weights.to_json()
    assert names() == ["weights.json"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_says_who_may_read_it(weights, mask):
    before = os.umask(mask)
    try:
        weights.save("weights.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path("weights.json").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed_and_stays(weights, exists):
    Path("there").mkdir()
    Path("link.json").symlink_to("there/weights.json")
    if exists:
        Path("there/weights.json").touch()
    weights.save("link.json")
    assert Path("link.json").is_symlink()
    assert Path("there/weights.json").read_text(encoding="utf-8") == weights.to_json()


def test_a_pipe_is_written_to(weights):
    os.mkfifo("pipe")
    read: list[str] = []
    reader = threading.Thread(
        target=lambda: read.append(Path("pipe").read_text(encoding="utf-8")), daemon=True
    )
    reader.start()
    weights.save("pipe")
    reader.join(10)
    assert read == [weights.to_json()]
    assert names() == ["pipe"]


@pytest.mark.parametrize("path", ["there", "there/", ".", "..", "", "there/weights.json/x", "new/"])
def test_what_is_no_file_is_a_file_error(weights, path):
    Path("there").mkdir()
    Path("there/weights.json").touch()
    with pytest.raises(visatb.FileError, match="cannot be written: "):
        weights.save(path)
    assert names() == ["there"]


def test_a_failure_leaves_the_old_file_and_nothing_else(weights, monkeypatch):
    Path("weights.json").write_text("before", encoding="utf-8")

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(visatb.FileError, match=r"^weights\.json: cannot be written: No space"):
        weights.save("weights.json")
    assert Path("weights.json").read_text(encoding="utf-8") == "before"
    assert names() == ["weights.json"]


def test_of_several_files_all_are_written_or_none(folder):
    Path("a").write_text("before", encoding="utf-8")
    with written_together() as add:
        add("a", b"1")
        add("b", b"2")
        assert Path("a").read_text(encoding="utf-8") == "before"
    assert [Path(name).read_bytes() for name in names()] == [b"1", b"2"]

    def fail(last: str) -> None:
        with written_together() as add:
            add("a", b"3")
            add("c", b"4")
            add(last, b"5")

    for last in (".", "no/file", ""):
        with pytest.raises(visatb.FileError, match="cannot be written: "):
            fail(last)
        assert [Path(name).read_bytes() for name in names()] == [b"1", b"2"]


def test_a_file_that_is_no_regular_one_is_never_taken_for_an_input(folder):
    os.mkfifo("pipe")
    refuse_inputs("output", "pipe", ["pipe"], "it is")
    refuse_inputs("output", "new", ["new", "-"], "it is")
    Path("file").touch()
    Path("other").hardlink_to("file")
    with pytest.raises(visatb.ArgumentError, match="^output = other: it is made from this file$"):
        refuse_inputs("output", "other", ["new", "file"], "it is")


def test_the_remains_of_another_writer_are_left_alone(weights):
    remains = Path(f"weights.json.{os.getpid()}-0.part")
    remains.write_text("another's", encoding="utf-8")
    weights.save("weights.json")
    assert remains.read_text(encoding="utf-8") == "another's"
    assert Path("weights.json").read_text(encoding="utf-8") == weights.to_json()

"""tools/gpu-check: what its stages come to, what is kept of them, and the file of results."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from gpu_check_tree import (
    H200,
    ROOT,
    command,
    finished,
    kept,
    machine,
    paths,
    result,
    small_tree,
    stage,
    stage_of,
    state,
    tests,
)

NO_GPU = machine.Machine(None, None, "nvidia-smi not found", "unknown", None)


@pytest.fixture
def context(tmp_path: Path) -> stage.Context:
    return small_tree(tmp_path)


# --- tests that were run --------------------------------------------------------------------------


COUNTS: dict[str, Any] = {
    "passed": 3,
    "failed": 0,
    "skipped": 0,
    "skip_reasons": {},
    "failures": [],
}


@pytest.mark.parametrize(
    ("code", "counts", "status", "reason"),
    [
        (0, COUNTS, "passed", ""),
        (None, None, "not run", "cut after 12 s"),
        (None, COUNTS, "not run", "cut after 12 s"),
        (-11, None, "failed", "it ended with -11 and no report: last words"),
        (3, COUNTS, "failed", "it ended with 3: last words"),
        (
            1,
            COUNTS | {"failed": 1, "failures": [{"name": "a", "message": "b"}]},
            "failed",
            "1 failed, the first: a: b",
        ),
        (
            0,
            COUNTS | {"passed": 0, "skipped": 2, "skip_reasons": {"no GPU": 2}},
            "not run",
            "nothing of it ran: no GPU",
        ),
    ],
)
def test_what_tests_came_to(code: int | None, counts: Any, status: str, reason: str) -> None:
    outcome = tests.judge(finished(code), counts)
    assert outcome["status"] == status
    assert outcome.get("reason", "") == reason


def test_tests_of_the_gpu_come_first_and_all_of_the_loss_are_there() -> None:
    names = [part.name for part in tests.STAGE.parts(stage.Context(ROOT, ROOT / "build", H200))]
    assert names[:2] == ["import visatb", "C tests of the GPU"]
    assert {path.name for path in (ROOT / "tests/python").glob("test_torch_*.py")} <= set(names)


# --- stages and what is kept of them --------------------------------------------------------------


def test_a_stage_continues_with_what_has_not_passed(
    context: stage.Context, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    second: list[dict[str, Any]] = [stage.failed("as it was"), stage.not_run("no tool")]

    def first() -> dict[str, Any]:
        calls.append("first")
        return stage.passed(found=1)

    def other() -> dict[str, Any]:
        calls.append("other")
        return second.pop(0) if second else stage.passed()

    it = stage_of({"first": first, "other": other})
    store = kept(context, {"test": it})
    # What failed has failed until it passes, also where it could not be tried again.
    for expected in ("failed", "failed", "passed"):
        stage.run_stage(it, context, store, again=False)
        assert store.status("test") == expected
    assert calls == ["first", "other", "other", "other"]
    stage.run_stage(it, context, store, again=False)
    assert calls == ["first", "other", "other", "other"]
    assert "was done for these sources, commit 012345678" in capsys.readouterr().out
    stage.run_stage(it, context, store, again=True)
    assert calls[4:] == ["first", "other"]
    assert store.parts("test")["first"]["found"] == 1


def test_a_stage_that_is_killed_does_not_seem_to_be_whole(context: stage.Context) -> None:
    def killed() -> dict[str, Any]:
        raise KeyboardInterrupt

    it = stage_of({"first": stage.passed, "second": killed, "third": stage.passed})
    store = kept(context, {"test": it})
    with pytest.raises(KeyboardInterrupt):
        stage.run_stage(it, context, store, again=False)
    assert store.status("test") == "passed in part"
    assert store.parts("test")["third"]["reason"] == "not reached"


def test_parts_run_beside_each_other_where_there_are_cores(
    context: stage.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2 * stage.CORES_OF_A_PART)
    both = threading.Barrier(2)

    def meets() -> dict[str, Any]:
        both.wait(timeout=20)
        return stage.passed()

    it = stage_of(
        {"first": meets, "second": meets, "third": lambda: stage.failed("as it was")},
        beside=True,
    )
    store = kept(context, {"test": it})
    stage.run_stage(it, context, store, again=False)
    assert [part["status"] for part in store.parts("test").values()] == ["passed"] * 2 + ["failed"]


def test_a_stage_that_is_stopped_ends_what_runs_beside(
    context: stage.Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2 * stage.CORES_OF_A_PART)
    log = tmp_path / "log"

    def long() -> dict[str, Any]:
        words = "import time; print('begun', flush=True); time.sleep(60)"
        command.run([sys.executable, "-c", words], 60, log, cwd=tmp_path)
        return stage.passed()

    def stopped() -> dict[str, Any]:
        while not log.exists() or "begun" not in log.read_text(encoding="utf-8"):
            time.sleep(0.01)
        raise KeyboardInterrupt

    it = stage_of({"long": long, "stopped": stopped}, beside=True)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stage.run_stage(it, context, kept(context, {"test": it}), again=False)
    assert time.monotonic() - begun < 30


def test_a_part_that_raises_does_not_end_the_others(context: stage.Context) -> None:
    def raising() -> dict[str, Any]:
        raise KeyError("summary")

    it = stage_of({"first": raising, "second": stage.passed})
    store = kept(context, {"test": it})
    stage.run_stage(it, context, store, again=False)
    assert store.parts("test")["first"]["reason"] == "KeyError: 'summary'"
    assert store.parts("test")["second"]["status"] == "passed"


def test_other_sources_and_another_gpu_begin_anew(context: stage.Context) -> None:
    it = stage_of({"first": stage.passed})
    stage.run_stage(it, context, kept(context, {"test": it}), again=False)
    assert kept(context, {"test": it}).status("test") == "passed"
    other = stage.Context(
        context.root, context.folder, machine.Machine("A100", "1", "", "x", dirty=False)
    )
    assert kept(other, {"test": it}).status("test") is None
    (context.root / "libvisatb/a.c").write_text("int b;\n", encoding="utf-8")
    assert kept(context, {"test": it}).status("test") is None


def test_when_the_stages_time_is_up_parts_are_not_run(
    context: stage.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "STAGE_SECONDS", 1.0)
    it = stage_of({"first": stage.passed})
    store = kept(context, {"test": it})
    stage.run_stage(it, context, store, again=False)
    assert store.status("test") == "not run"
    assert store.parts("test")["first"]["reason"] == "the stage's time was up"


def test_paths_of_the_machine_are_not_kept(context: stage.Context) -> None:
    it = stage_of(
        {"first": lambda: stage.failed(f"{context.root}/a.c:3", log=[f"{context.root}/b"])}
    )
    store = kept(context, {"test": it})
    stage.run_stage(it, context, store, again=False)
    part = store.parts("test")["first"]
    assert (part["reason"], part["log"]) == ("a.c:3", ["b"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{root}/a.c:3: in {root}", "a.c:3: in ."),
        ("{root}-other/a.c", "{root}-other/a.c"),
        ("{folder}/cmake is not a directory", "cmake is not a directory"),
        ("/home/somebody/venv/bin/python: No module named x", "<python>/bin/python: No module"),
        ("-I/home/somebody/include", "-I~/include"),
        ("/scratch/pytest-of-somebody/pytest-0/x", "<tmp>/pytest/pytest-0/x"),
        ("/usr/local/cuda/include/cuda.h", "/usr/local/cuda/include/cuda.h"),
    ],
)
def test_paths_become_what_they_are_to_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    monkeypatch.setattr(sys, "prefix", "/home/somebody/venv")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr(paths.tempfile, "gettempdir", lambda: "/scratch")
    it = stage.Context(Path("/data/tree"), Path("/data/tree/build/gpu-check"), H200)
    names = {"root": it.root, "folder": it.folder}
    found = paths.without_paths({"a": [text.format(**names)]}, it)["a"][0]
    assert found.startswith(expected.format(**names))


# --- the file of results --------------------------------------------------------------------------


def test_result_file_has_all_stages_and_is_adopted_elsewhere(
    context: stage.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result, "answer", lambda _: '{"torch": "2.11.0"}')
    monkeypatch.setattr(result, "_today", lambda: "2030-01-02")
    of_test = stage_of({"first": stage.passed})
    bench = stage.Stage("bench", of_test.parts, ("libvisatb",))
    stages = {"build": of_test, "test": of_test, "bench": bench}
    store = kept(context, stages)
    stage.run_stage(of_test, context, store, again=False)
    stage.run_stage(bench, context, store, again=False)
    state.write_json(store.benchmark, {"cases": [1], "not_run": [f"{context.root}/a.py: x"]})
    path = result.path_of(tmp_path / "out", H200)
    assert path == tmp_path / "out/gpu-nvidia-h200-2030-01-02.json"
    result.write(path, store, context)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["visatb_gpu_check"] == 1
    assert found["gpu"] == {"name": "NVIDIA H200", "driver": "580.1"}
    assert found["versions"] == {"torch": "2.11.0"}
    assert set(found["stages"]) == {"test", "bench"}
    assert found["stages"]["test"]["commit"] == H200.commit
    assert found["benchmark"] == {"cases": [1], "not_run": ["a.py: x"]}
    assert [one.name for one in path.parent.iterdir()] == [path.name]

    fresh = stage.Context(context.root, tmp_path / "fresh", H200)
    there = kept(fresh, stages)
    there.adopt(result.find(tmp_path / "out", tmp_path / "none"))
    assert there.status("test") == "passed"
    assert state.read_json(there.benchmark) == found["benchmark"]
    (context.root / "libvisatb/a.c").write_text("int c;\n", encoding="utf-8")
    changed = kept(stage.Context(context.root, tmp_path / "third", H200), stages)
    changed.adopt(result.find(tmp_path / "out"))
    assert changed.status("test") is None


def test_without_a_gpu_there_is_no_result_file(tmp_path: Path) -> None:
    assert result.path_of(tmp_path, NO_GPU) is None


def test_broken_files_count_as_none(tmp_path: Path) -> None:
    (tmp_path / "gpu-a-2030-01-02.json").write_text("{", encoding="utf-8")
    (tmp_path / "gpu-b-2030-01-02.json").write_text('{"visatb_gpu_check": 9}', encoding="utf-8")
    assert result.find(tmp_path) == []


# --- commands -------------------------------------------------------------------------------------


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    script = "sleep 60 & echo $! >child; echo begun; wait"
    done = command.run(["sh", "-c", script], 1.0, tmp_path / "log", cwd=tmp_path)
    assert done.was_cut
    assert done.text == "begun\n"
    child = int((tmp_path / "child").read_text(encoding="ascii"))
    status = Path(f"/proc/{child}/status")
    # It may take a moment to die, and nobody may have buried it yet.
    deadline = time.monotonic() + 10
    while status.exists() and "State:\tZ" not in status.read_text(encoding="ascii"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_commands_output_and_status_are_kept(tmp_path: Path) -> None:
    done = command.run(
        ["sh", "-c", "echo one; echo two >&2; exit 3"], 10.0, tmp_path / "logs/x", cwd=tmp_path
    )
    assert (done.code, done.text, done.last_line()) == (3, "one\ntwo\n", "two")

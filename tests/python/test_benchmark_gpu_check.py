from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from gpu_check import (  # noqa: E402
    bench,
    build,
    command,
    machine,
    main,
    paths,
    programs,
    result,
    sanitize,
    stage,
    state,
    tests,
)

H200 = machine.Machine("NVIDIA H200", "580.1", "", "0123456789abcdef", dirty=False)
NO_GPU = machine.Machine(None, None, "nvidia-smi not found", "unknown", None)


@pytest.fixture
def context(tmp_path: Path) -> stage.Context:
    """A small tree, as if on a machine with a GPU."""
    root = tmp_path / "tree"
    (root / "libvisatb").mkdir(parents=True)
    (root / "libvisatb/a.c").write_text("int a;\n", encoding="utf-8")
    (root / "include").mkdir()
    shutil.copy(ROOT / "include/visatb.h", root / "include/visatb.h")
    return stage.Context(root, tmp_path / "folder", H200)


def kept(context: stage.Context, stages: dict[str, stage.Stage]) -> state.State:
    return state.State(context, stages)


def stage_of(parts: dict[str, Callable[[], dict[str, Any]]]) -> stage.Stage:
    made = [stage.Part(name, lambda *_, work=work: work(), 100) for name, work in parts.items()]
    return stage.Stage("test", lambda _: made, ("libvisatb",))


# --- tests that were run --------------------------------------------------------------------------


def finished(code: int | None, text: str = "last words") -> command.Finished:
    return command.Finished(code, text, 12.0)


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


def beside(parts: dict[str, Callable[[], dict[str, Any]]]) -> stage.Stage:
    """A stage whose parts may run at the same time."""
    made = [
        stage.Part(name, lambda *_, work=work: work(), 100, beside=True)
        for name, work in parts.items()
    ]
    return stage.Stage("test", lambda _: made, ("libvisatb",))


def test_parts_run_beside_each_other_where_there_are_cores(
    context: stage.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2 * stage.CORES_OF_A_PART)
    both = threading.Barrier(2)

    def meets() -> dict[str, Any]:
        both.wait(timeout=20)
        return stage.passed()

    it = beside({"first": meets, "second": meets, "third": lambda: stage.failed("as it was")})
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

    it = beside({"long": long, "stopped": stopped})
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


# --- what a machine lacks -------------------------------------------------------------------------


def program(folder: Path, name: str, says: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder on PATH, empty yet."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CUDACXX", raising=False)
    monkeypatch.setattr(programs, "USUAL_NVCC", str(tmp_path / "cuda/bin/nvcc"))
    return folder


NVCC = "Cuda compilation tools, release 13.0, V13.0.88"


def test_nvcc_is_that_of_cudacxx_of_path_or_of_the_usual_place(
    no_programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(machine.NotThereError, match="nvcc not found: neither on PATH nor as"):
        programs.nvcc()
    for folder in (tmp_path / "cuda/bin", no_programs, tmp_path / "own"):
        path = program(folder, "nvcc", NVCC)
        if folder == tmp_path / "own":
            monkeypatch.setenv("CUDACXX", str(path))
        assert programs.nvcc() == str(path)
    assert programs.nvcc_version(programs.nvcc()) == "13.0.88"
    monkeypatch.setenv("CUDACXX", str(tmp_path / "none"))
    with pytest.raises(machine.NotThereError, match="nvcc not found: CUDACXX names no program"):
        programs.nvcc()


def test_programs_that_are_too_old_are_as_good_as_none(no_programs: Path) -> None:
    program(no_programs, "nvcc", NVCC.replace("13.0", "12.3"))
    with pytest.raises(machine.NotThereError, match=r"nvcc is 12\.3, and 12\.4 is the oldest"):
        programs.nvcc()
    program(no_programs, "cmake", "cmake version 3.22.1")
    with pytest.raises(machine.NotThereError, match=r"cmake is 3\.22, and 3\.25 is the oldest"):
        programs.cmake()


def test_compute_sanitizer_is_found_beside_nvcc(no_programs: Path, tmp_path: Path) -> None:
    with pytest.raises(machine.NotThereError, match="compute-sanitizer not found"):
        programs.sanitizer()
    program(tmp_path / "cuda/bin", "nvcc", NVCC)
    path = program(tmp_path / "cuda/bin", "compute-sanitizer")
    assert programs.sanitizer() == str(path)


def test_cmake_is_told_which_nvcc(
    context: stage.Context, no_programs: Path, tmp_path: Path
) -> None:
    (no_programs / "cmake").write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    (no_programs / "cmake").chmod(0o755)
    nvcc = program(tmp_path / "cuda/bin", "nvcc", NVCC)
    assert build._configure(context, 10.0)["nvcc"] == "13.0.88"
    log = (context.logs / "configure.log").read_text(encoding="utf-8")
    assert f"-DCMAKE_CUDA_COMPILER={nvcc}" in log.split()


def test_without_nvcc_nothing_is_built_and_nothing_failed(
    context: stage.Context, no_programs: Path
) -> None:
    program(no_programs, "cmake", "cmake version 3.25.1")
    store = kept(context, {"build": build.STAGE})
    stage.run_stage(build.STAGE, context, store, again=False)
    found = store.parts("build")
    assert found["configure"]["status"] == "not run"
    assert found["library"] == {"status": "not run", "reason": "configure: not run", "seconds": 0.0}
    assert not build.is_there(context, store)


def test_what_python_lacks_is_not_run(context: stage.Context) -> None:
    bare = machine.Machine("H200", "1", "", "x", dirty=False, lacks=("torch", "numpy", "pytest"))
    it = stage.Context(context.root, context.folder, bare)
    of_python = stage.Part(
        "test_torch_x.py", lambda *_: tests._in_python(*_, file=context.root / "x.py"), 10
    )
    of_bench = bench.STAGE.parts(it)[0]
    both = stage.Stage("test", lambda _: [of_python, of_bench], ("libvisatb",))
    store = kept(it, {"test": both})
    stage.run_stage(both, it, store, again=False)
    assert [(part["status"], part["reason"]) for part in store.parts("test").values()] == [
        ("not run", "this Python has no pytest, no torch, no numpy"),
        ("not run", "this Python has no torch, no numpy"),
    ]


@pytest.mark.parametrize(("options", "lacks"), [((), False), (("-S",), True)])
def test_modules_are_those_of_the_python_that_runs_it(
    tmp_path: Path, options: tuple[str, ...], lacks: bool
) -> None:
    words = "from gpu_check import machine; print(*machine.look(machine.Path('.')).lacks)"
    done = subprocess.run(
        [sys.executable, *options, "-c", words],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tools")},
    )
    assert ("pytest" in done.stdout.split()) == lacks


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (2, "gpu.py: no GPU: PyTorch finds no CUDA device", "not run"),
        (2, "gpu.py: error: unknown argument", "failed"),
        (1, "RuntimeError: x", "failed"),
    ],
)
def test_a_benchmark_whose_pytorch_is_for_the_cpu_is_not_run(
    context: stage.Context, monkeypatch: pytest.MonkeyPatch, code: int, text: str, status: str
) -> None:
    monkeypatch.setattr(bench, "run", lambda *_, **__: finished(code, text))
    context.folder.mkdir()
    outcome = bench._benchmark(context, 100.0)
    assert (outcome["status"], outcome["reason"]) == (status, text)


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


# --- the program ----------------------------------------------------------------------------------


def without_gpu(tmp_path: Path) -> dict[str, str]:
    """An environment in which there is Python, and nvidia-smi is not."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    return {**os.environ, "PATH": str(programs)}


@pytest.mark.parametrize("name", ["all", "test", "sanitize", "bench"])
def test_no_gpu_is_said_plainly(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [str(ROOT / "tools/gpu-check"), "--stage", name, "--build", str(tmp_path / "folder")],
        capture_output=True,
        text=True,
        check=False,
        env=without_gpu(tmp_path),
    )
    assert done.returncode == 2
    assert done.stdout == "gpu-check: no GPU: nvidia-smi not found\n"
    assert not (tmp_path / "folder").exists()


def test_without_a_compiler_the_build_is_not_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(str(ROOT / "tools/gpu-check"), "--stage", "build"),
            *("--build", str(tmp_path / "folder"), "--out", str(tmp_path / "out")),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=without_gpu(tmp_path),
    )
    assert "build 1/3: configure: not run (0 s): cmake not found" in done.stdout
    assert "build 2/3: library: not run (0 s): configure: not run" in done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("gpu-check: build ")
    assert lines[-1].endswith("test not run, sanitize not run, bench not run")
    assert "result file: none" in lines[-2]
    assert not (tmp_path / "out").exists()


def test_unknown_stage() -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(["--stage", "other"])
    assert caught.value.code == 2


def test_the_package_is_found_without_an_installation(context: stage.Context) -> None:
    version = build._package(context, 1.0)["version"]
    (folder,) = (context.folder / "site").iterdir()
    assert folder.name == f"visatb-{version}.dist-info"
    program = "from importlib.metadata import version; print(version('visatb'))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=context.environment(),
    )
    assert done.stdout.strip() == version


def test_commit_is_unknown_outside_git(tmp_path: Path) -> None:
    assert machine.commit_of(tmp_path) == ("unknown", None)


def test_last_words() -> None:
    records = {
        "build": {"status": "passed", "parts": {"a": {"status": "passed", "seconds": 3.0}}},
        "test": {
            "status": "failed",
            "parts": {"b": {"status": "failed", "reason": "x", "seconds": 1.0}},
        },
        "bench": None,
    }
    assert main._last_line(records) == "gpu-check: build passed, test failed, bench not run"
    text = main._summary(records)
    assert "test             0       1        0        1" in text
    assert "  test, b: failed: x" in text


def test_what_many_parts_lack_is_said_once() -> None:
    lacking = stage.not_run("this Python has no pytest")
    parts = {"a": lacking, "b": stage.passed(), "c": lacking, "d": stage.not_run("no ctest")}
    text = main._summary({"test": {"status": "passed in part", "parts": parts}})
    assert text.splitlines()[-2:] == [
        "  test, 2 parts: not run: this Python has no pytest",
        "  test, d: not run: no ctest",
    ]


def test_help_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["--help"])
    text = capsys.readouterr().out
    for need in ("cmake 3.25", "nvcc 12.4", "CUDACXX", "NumPy and pytest", "compute-sanitizer"):
        assert need in text
    assert "It installs nothing" in text


def test_without_the_library_no_other_stage_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "look", lambda _: H200)
    monkeypatch.setattr(result, "answer", lambda _: None)
    # There are some of this very GPU.
    monkeypatch.setattr(result, "find", lambda *_: [])
    monkeypatch.setenv("PATH", str(tmp_path))
    code = main.main(["--build", str(tmp_path / "folder"), "--out", str(tmp_path / "out")])
    assert code == main.OK
    text = capsys.readouterr().out
    assert "the library was not built: nothing else is run" in text
    assert text.splitlines()[-1].endswith("test not run, sanitize not run, bench not run")
    (path,) = (tmp_path / "out").iterdir()
    assert str(ROOT) not in path.read_text(encoding="utf-8")


# --- the program for compute-sanitizer, on the CPU ------------------------------------------------


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_every_kernel_computes_what_the_library_does_on_the_cpu(tmp_path: Path) -> None:
    from visatb import _lib

    folder = ROOT / sanitize.PROGRAM
    sources = [*folder.glob("*.c"), ROOT / "tests/c/loss_reference.c"]
    program, library = tmp_path / "every_kernel", Path(_lib.library()._name)
    subprocess.run(
        [
            *("cc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(program)),
            *(str(source) for source in sources if source.stem != "memory_cuda"),
            *("-I", str(ROOT / "include"), "-I", str(ROOT / "tests/c"), str(library), "-lm"),
            f"-Wl,-rpath,{library.parent}",
        ],
        check=True,
    )
    link = (
        tmp_path
        / f"libvisatb.so.{'.'.join(_lib.library().visatb_version().decode().split('.')[:2])}"
    )
    link.symlink_to(library)
    done = subprocess.run(
        [str(program), "--small"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("every_kernel: ok, ")

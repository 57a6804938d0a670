"""tools/gpu-check as a program: what a machine lacks, what is said of it, and its own C program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gpu_check_tree import (
    H200,
    ROOT,
    bench,
    build,
    finished,
    kept,
    machine,
    main,
    programs,
    result,
    sanitize,
    small_tree,
    stage,
    tests,
)


@pytest.fixture
def context(tmp_path: Path) -> stage.Context:
    return small_tree(tmp_path)


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

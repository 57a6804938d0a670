"""The library with CUDA, from nothing, so that the compiler says everything it has to say."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

from . import programs
from .command import run
from .ptxas import kernels_of
from .stage import PASSED, Context, Part, Record, Stage, failed, not_run, passed

if TYPE_CHECKING:
    from .state import State

SOURCES = (
    "CMakeLists.txt",
    "cmake",
    "include",
    "libvisatb",
    "examples/c",
    "tests/c",
    "tests/cuda",
    "tests/fibres",
    "tests/vectors",
)
WARNING = re.compile(r"\bwarning(?:\s*:| #\d+| C\d+)", re.IGNORECASE)
ERROR = re.compile(r"\berror(?::| #?\d* ?:)|undefined reference|No rule to make", re.IGNORECASE)


def is_there(context: Context, state: State) -> bool:
    """Whether the library of these sources is."""
    return context.library.exists() and state.status("build") == PASSED


def _configure(context: Context, limit: float) -> Record:
    cmake, nvcc = programs.cmake(), programs.nvcc()
    command = [
        *(cmake, "-S", str(context.root), "-B", str(context.cmake), "--fresh"),
        f"-DCMAKE_CUDA_COMPILER={nvcc}",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DVISATB_CUDA=ON",
        "-DVISATB_CUDA_VERBOSE=ON",
        "-DVISATB_JSON=AUTO",
        "-DVISATB_TESTS=AUTO",
        *(("-G", "Ninja") if shutil.which("ninja") else ()),
    ]
    done = run(command, limit, context.logs / "configure.log", cwd=context.root)
    if done.was_cut:
        return not_run(f"cut after {done.seconds:.0f} s")
    said = [line for line in done.text.splitlines() if line.startswith("-- libvisatb")]
    more = {
        "nvcc": programs.nvcc_version(nvcc),
        "compiler": _compiler(done.text),
        "said": said,
    }
    if done.code != 0:
        return failed(_cmake_error(done.text) or done.last_line(), **more)
    return passed(**more)


def _compiler(text: str) -> str:
    found = re.search(r"The C compiler identification is (.+)", text)
    return found[1].strip() if found else "unknown"


def _cmake_error(text: str) -> str:
    """The first error of CMake, on one line."""
    found = re.search(r"CMake Error[^\n]*\n+(.+?)(?:\n\n|\Z)", text, re.DOTALL)
    return " ".join(found[1].split())[:300] if found else ""


def _library(context: Context, limit: float) -> Record:
    command = ["cmake", "--build", str(context.cmake), "--clean-first", "-j", str(os.cpu_count())]
    done = run(command, limit, context.logs / "build.log", cwd=context.root)
    if done.was_cut:
        return not_run(f"cut after {done.seconds:.0f} s")
    kernels = kernels_of(done.text)
    more = {
        "warnings": sum(1 for line in done.text.splitlines() if WARNING.search(line)),
        "kernels": kernels,
        "spilling": [one["name"] for one in kernels if one["spill_stores"] or one["spill_loads"]],
    }
    if done.code != 0:
        return failed(_first_error(done.text) or done.last_line(), **more)
    if not context.library.exists():
        return failed("the build ended well, but there is no libvisatb.so", **more)
    return passed(**more)


def _first_error(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return next((line[:300] for line in lines if ERROR.search(line)), "")


def _package(context: Context, limit: float) -> Record:
    """What `import visatb` looks for where nothing is installed: the version of the package."""
    del limit
    header = (context.root / "include/visatb.h").read_text(encoding="utf-8")
    version = ".".join(re.findall(r"#define VISATB_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header))
    site = context.folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    info = site / f"visatb-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: visatb\nVersion: {version}\n", encoding="utf-8"
    )
    return passed(version=version)


def _parts(context: Context) -> list[Part]:
    del context
    return [
        Part("configure", _configure, 120),
        Part("library", _library, 400, after="configure"),
        Part("package", _package, 10),
    ]


STAGE = Stage("build", _parts, SOURCES, of_gpu=False)

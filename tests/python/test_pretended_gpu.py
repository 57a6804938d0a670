"""The tests of the losses on a GPU hold on a pretended one: pretended_gpu.py says what that is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build/pretended-gpu"
# What CMake and our own files for it say where something is missing that a machine may lack.
MISSING = re.compile(
    r"CMake 3\S* or higher is required.*|CMAKE_(C_COMPILER|MAKE_PROGRAM) (is )?not set"
    r"|VISATB_TESTS=ON needs cmocka.*|no tests of the kernels on the CPU.*"
)
# Without transformers and torch.compile, of which not every machine has what they need.
FEWEST = 280


class Libraries(NamedTuple):
    """The library with kernels for the CPU, and its cuBLAS."""

    visatb: Path
    cublas: Path


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )


def end_of(output: str) -> str:
    return "\n".join(output.splitlines()[-60:])


@pytest.fixture(scope="module")
def libraries() -> Libraries:
    """Built once, and again when their sources change."""
    if shutil.which("cmake") is None:
        pytest.skip("there is no cmake")
    configured = run(
        *("cmake", "-S", ROOT, "-B", BUILD),
        *("-DCMAKE_BUILD_TYPE=Release", "-DVISATB_TESTS=ON", "-DVISATB_CUDA=OFF"),
    )
    missing = MISSING.search(configured.stdout)
    if missing:
        pytest.skip(missing.group())
    assert configured.returncode == 0, end_of(configured.stdout)
    targets = ("visatb_pretended_gpu", "fake_cublas")
    built = run("cmake", "--build", BUILD, "--parallel", "2", "--target", *targets)
    assert built.returncode == 0, end_of(built.stdout)
    return Libraries(*(BUILD / f"tests/c/lib{target}.so" for target in targets))


def test_the_losses_keep_their_promises_on_a_pretended_gpu(libraries: Libraries) -> None:
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    done = run(
        *(sys.executable, "-m", "pytest", "-p", "pretended_gpu", "-p", "no:cacheprovider", "-q"),
        *sorted(HERE.glob("test_torch_cuda*.py")),
        # Its C++ compiler takes its time, and says nothing of us.
        *("-k", "not inductor"),
        PYTHONPATH=path,
        VISATB_LIBRARY=str(libraries.visatb),
        VISATB_CUBLAS=str(libraries.cublas),
        PYTEST_ADDOPTS="",
    )
    assert done.returncode == 0, end_of(done.stdout)
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, end_of(done.stdout)
    assert int(passed.group(1)) >= FEWEST, end_of(done.stdout)

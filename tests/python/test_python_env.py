"""tools/python-env: which Python .venv is made with, and what fails it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Stands for every Python: it makes a .venv of itself, and pip and imports come to nothing.
FAKE = """\
#!/bin/sh
echo "$0 $*" >>"$LOG"
case "$*" in
"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
"-c import torch") exit 1 ;;
*dry-run*) exit 1 ;;
*"install --quiet ./bindings/python") echo "package: ${SKBUILD_CMAKE_DEFINE-}" >>"$LOG" ;;
esac
"""


@pytest.fixture
def checkout(folder) -> Path:
    """As much of a checkout as the script looks at, and two Pythons."""
    for name in ("tools", "cmake", "include", "libvisatb", "bindings"):
        (folder / name).mkdir()
    (folder / "CMakeLists.txt").touch()
    shutil.copy(ROOT / "tools/python-env", folder / "tools")
    for name in ("python3", "another"):
        (folder / name).write_text(FAKE, encoding="ascii")
        (folder / name).chmod(0o755)
    return folder


def run(
    checkout: Path, *arguments: str, python: str | None = None
) -> subprocess.CompletedProcess[str]:
    (checkout / "log").write_text("", encoding="ascii")
    environment = {
        **os.environ,
        "PATH": f"{checkout}:{os.environ['PATH']}",
        "LOG": f"{checkout}/log",
    }
    environment.pop("PYTHON", None)
    if python is not None:
        environment["PYTHON"] = python
    return subprocess.run(
        [checkout / "tools/python-env", *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def made(checkout: Path) -> list[str]:
    """With what and how .venv was made in the last run."""
    log = (checkout / "log").read_text(encoding="ascii").splitlines()
    return [line for line in log if " -m venv " in line]


def packages(checkout: Path) -> list[str]:
    """What CMake was told each time that the package was made in the last run."""
    log = (checkout / "log").read_text(encoding="ascii").splitlines()
    assert sum("./bindings/python" in line for line in log) == sum(
        line.startswith("package: ") for line in log
    )
    return [line.removeprefix("package: ") for line in log if line.startswith("package: ")]


def test_the_package_is_made_once_and_again_only_when_the_tree_is_newer(checkout):
    first = run(checkout)
    assert "Building libvisatb and installing the Python package visatb (about a " in first.stdout
    assert packages(checkout) == [""]
    run(checkout)
    assert packages(checkout) == []
    later = (checkout / ".venv/visatb-installed").stat().st_mtime + 10
    (checkout / "libvisatb/a.c").touch()
    os.utime(checkout / "libvisatb/a.c", (later, later))
    run(checkout)
    assert packages(checkout) == [""]


def test_a_library_that_is_built_already_is_not_built_again(checkout):
    missing = run(checkout, "--library", "build/libvisatb.so")
    assert missing.returncode == 1
    assert missing.stderr == "tools/python-env: build/libvisatb.so: no such library\n"
    (checkout / "build").mkdir()
    (checkout / "build/libvisatb.so").touch()
    (checkout / "one.txt").write_text("pytest==1\n", encoding="ascii")
    done = run(checkout, "--library", "build/libvisatb.so", "one.txt")
    assert done.returncode == 0
    assert "Installing the Python package visatb with the library that was built\n" in done.stdout
    assert "Downloading and installing: pytest==1 \n" in done.stdout
    assert packages(checkout) == [f"VISATB_BUILT={checkout}/build/libvisatb.so"]


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no CMake")
def test_a_wheel_takes_the_library_that_it_is_given(tmp_path):
    """As scikit-build-core has CMake build and install what goes into a wheel."""
    (tmp_path / "libvisatb.so.0.1").write_bytes(b"a library")
    (tmp_path / "libvisatb.so").symlink_to("libvisatb.so.0.1")
    build = ["cmake", "-S", ROOT, "-B", tmp_path / "build", "-DSKBUILD=ON"]
    build += [f"-DSKBUILD_METADATA_DIR={tmp_path}/metadata"]

    def cmake(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False)

    refused = cmake(*build, f"-DVISATB_BUILT={tmp_path}/none.so")
    # CMake breaks the lines of what it says.
    said = " ".join(refused.stderr.split())
    assert f"VISATB_BUILT={tmp_path}/none.so: no such file; expected a libvisatb.so" in said
    assert cmake(*build, f"-DVISATB_BUILT={tmp_path}/libvisatb.so").returncode == 0
    assert cmake("cmake", "--build", tmp_path / "build").returncode == 0
    installed = cmake("cmake", "--install", tmp_path / "build", "--prefix", tmp_path / "wheel")
    assert installed.returncode == 0, installed.stderr
    library = tmp_path / "wheel/visatb/libvisatb.so"
    assert (library.read_bytes(), library.is_symlink()) == (b"a library", False)
    assert (tmp_path / "metadata/licenses/LICENSE").exists()
    assert not list((tmp_path / "build").rglob("*loss*.o"))


def test_another_python_makes_the_environment_anew(checkout):
    assert run(checkout).returncode == 0
    assert made(checkout) == [f"{checkout}/python3 -m venv .venv"]

    other = f"{checkout}/another"
    changed = run(checkout, python=other)
    assert changed.returncode == 0
    assert f"Making .venv anew: it was not made with {other}\n" in changed.stdout
    assert made(checkout) == [f"{other} -m venv --system-site-packages .venv"]

    for same in (other, "./another", "", None, ".venv/bin/python"):
        again = run(checkout, python=same)
        assert (again.returncode, again.stdout, made(checkout)) == (0, "", [])

    assert run(checkout, python="python3").returncode == 0
    assert made(checkout) == [f"{checkout}/python3 -m venv --system-site-packages .venv"]


def test_an_environment_of_before_is_made_anew_only_for_a_python_that_is_asked_for(checkout):
    run(checkout)
    (checkout / ".venv/visatb-made-with").unlink()
    assert made(checkout) != []
    run(checkout)
    assert made(checkout) == []
    run(checkout, python="another")
    assert made(checkout) != []


def test_a_python_that_is_not_there_is_named(checkout):
    failed = run(checkout, python="/nowhere/python")
    assert failed.returncode == 1
    assert failed.stderr.endswith("tools/python-env: PYTHON=/nowhere/python: no such program\n")
    assert not (checkout / ".venv").exists()


def test_missing_requirements_are_named_before_anything_is_done(checkout):
    (checkout / "one.txt").write_text("pytest==1", encoding="ascii")
    failed = run(checkout, "one.txt", "two.txt")
    assert failed.returncode == 1
    assert failed.stderr == "tools/python-env: two.txt: no such file of requirements\n"
    assert not (checkout / ".venv").exists()


def test_requirements_of_all_files_are_installed(checkout):
    (checkout / "one.txt").write_text("# comment\npytest==1", encoding="ascii")
    (checkout / "two.txt").write_text("cffi==1\npytest==1\n", encoding="ascii")
    done = run(checkout, "one.txt", "two.txt")
    assert done.returncode == 0
    assert "Downloading and installing: cffi==1 pytest==1 \n" in done.stdout
    wanted = (checkout / ".venv/requirements.txt").read_text(encoding="ascii")
    assert wanted == "cffi==1\npytest==1\n"


def test_an_environments_own_packages_come_along(checkout, tmp_path_factory):
    """What a virtual environment has is not what the Python beneath it has."""
    mine = tmp_path_factory.mktemp("mine") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", mine], check=True)
    (packages,) = mine.glob("lib/python*/site-packages")
    (packages / "only_mine.py").write_text("", encoding="ascii")
    # The script up to where it begins to use pip.
    script = checkout / "tools/python-env"
    text = script.read_text(encoding="utf-8")
    head, found, _ = text.partition("pip() {")
    assert found
    script.write_text(head.replace("-m venv", "-m venv --without-pip"), encoding="utf-8")
    done = run(checkout, python=f"{mine}/bin/python")
    assert done.returncode == 0, done.stderr
    subprocess.run([checkout / ".venv/bin/python", "-c", "import only_mine"], check=True)

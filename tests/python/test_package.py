"""The package as installed: what it needs, what it says where something is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import visatb

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; import visatb; "


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_version_is_the_headers():
    header = (ROOT / "include/visatb.h").read_text(encoding="utf-8")
    numbers = re.findall(r"#define VISATB_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header)
    assert visatb.__version__ == ".".join(numbers)


def test_import_needs_no_torch_and_weights_work_without_it():
    code = "print(round(visatb.improvement([55.0], [50.0]), 12))"
    run = python("-c", WITHOUT_TORCH + code)
    assert (run.returncode, run.stdout, run.stderr) == (0, "0.1\n", "")


def test_import_does_not_import_torch():
    run = python("-c", "import sys, visatb; print('torch' in sys.modules)")
    assert run.stdout == "False\n"


@pytest.mark.parametrize("name", ["vitw_loss", "visatb_vitw_loss", "VITWLoss", "Stats"])
def test_a_name_that_needs_torch_says_how_to_install_it(name):
    run = python("-c", f"{WITHOUT_TORCH}visatb.{name}")
    assert run.stderr.splitlines()[-1] == (
        "ImportError: PyTorch is not installed; the VITW loss for PyTorch needs 2.1 or newer: "
        "pip install 'torch>=2.1'"
    )


def test_a_star_import_works_without_torch():
    run = python("-c", WITHOUT_TORCH + "exec('from visatb import *'); print(compute_weights)")
    assert run.returncode == 0, run.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'visatb' has no attribute 'weigh'$"):
        visatb.weigh  # noqa: B018


def test_names_that_need_torch_are_listed():
    assert {"vitw_loss", "VITWLoss", "compute_weights"} <= set(dir(visatb))


def test_errors_are_what_callers_catch():
    assert issubclass(visatb.ArgumentError, ValueError)
    assert issubclass(visatb.DataError, RuntimeError)
    assert issubclass(visatb.FileError, OSError)


def test_the_command_is_installed():
    (command,) = entry_points(group="console_scripts", name="visatb")
    assert command.load() is __import__("visatb.cli").cli.main


def test_types_are_shipped():
    assert (Path(visatb.__file__).parent / "py.typed").exists()


# --- python -m visatb -----------------------------------------------------------------------------


def test_the_diagnosis_names_versions_paths_and_build():
    run = python("-m", "visatb")
    assert run.returncode == 0
    lines = dict(re.findall(r"^ *([\w ]+): +(.+)$", run.stdout, re.MULTILINE))
    assert lines["visatb"].startswith(f"{visatb.__version__}, ")
    assert lines["libvisatb"].startswith(f"{visatb.__version__}, ")
    assert {"compiler", "json", "cpu loss", "cuda", "numpy", "torch"} <= lines.keys()


def test_the_diagnosis_says_what_a_missing_torch_costs_and_how_to_mend_it():
    code = (
        "import sys; sys.modules['torch'] = None; import visatb.__main__ as m; sys.exit(m.main())"
    )
    run = python("-c", code)
    assert run.returncode == 0
    assert run.stdout.endswith(
        "torch:        not installed\n"
        "              without it: vitw_loss and VITWLoss do not work; weights and the command "
        "visatb do\n"
        "              to mend it: pip install 'torch>=2.1'\n"
    )


def test_a_library_that_cannot_be_loaded_is_exit_code_1():
    run = python("-m", "visatb", VISATB_LIBRARY="/nowhere/libvisatb.so")
    assert run.returncode == 1
    assert "libvisatb:    cannot be loaded, so nothing works\n" in run.stdout
    assert "/nowhere/libvisatb.so: no such file\n" in run.stdout
    assert run.stderr == ""


def test_the_command_points_to_the_diagnosis_where_the_library_is_missing(tmp_path):
    scores = tmp_path / "scores.json"
    scores.write_text("{}", encoding="utf-8")
    code = "import sys; from visatb.cli import main; sys.exit(main())"
    run = python("-c", code, "weights", str(scores), VISATB_LIBRARY="/nowhere/libvisatb.so")
    assert run.returncode == 4
    assert run.stderr.startswith("visatb: libvisatb cannot be opened. Tried:\n")

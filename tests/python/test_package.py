"""The package as installed: what it needs, what it says where something is missing."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize(
    "name",
    [
        "vitw_loss",
        "visatb_vitw_loss",
        "VITWLoss",
        "vitw_linear_loss",
        "VITWLinearLoss",
        "vitw_loss_plan",
        "LossPlan",
        "Stats",
    ],
)
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


def test_python_files_that_were_not_installed_say_so():
    # -S leaves out site-packages, and with them what was installed.
    run = python("-S", "-c", "import visatb", PYTHONPATH=str(ROOT / "bindings/python"))
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        "ImportError: visatb is not installed, only its Python files are here: install it in the "
        "source tree (pip install ./bindings/python), which builds its library too"
    )


# --- python -m visatb -----------------------------------------------------------------------------


def test_the_diagnosis_names_versions_paths_and_build():
    run = python("-m", "visatb")
    assert run.returncode == 0
    lines = dict(re.findall(r"^ *([\w ]+): +(.+)$", run.stdout, re.MULTILINE))
    assert lines["visatb"].startswith(f"{visatb.__version__}, ")
    assert lines["libvisatb"].startswith(f"{visatb.__version__}, ")
    assert {"compiler", "json", "cpu loss", "blas", "cuda", "numpy", "torch"} <= lines.keys()


def test_the_diagnosis_escapes_what_its_encoding_lacks():
    run = python("-m", "visatb", VISATB_LIBRARY="/定位.so", PYTHONIOENCODING="ascii:strict")
    assert (run.returncode, run.stderr) == (1, "")
    assert "  /\\u5b9a\\u4f4d.so: no such file\n" in run.stdout


def test_the_diagnosis_may_be_cut_off():
    process = subprocess.Popen(
        [sys.executable, "-m", "visatb"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_the_diagnosis_with_a_full_disk_is_exit_code_3():
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        run = subprocess.run(
            [sys.executable, "-m", "visatb"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert run.returncode == 3
    assert run.stderr == b"python -m visatb: standard output: No space left on device\n"


def test_the_module_with_a_command_is_the_command():
    run = python("-m", "visatb", "template", "--tasks", "a,b")
    assert json.loads(run.stdout) == visatb.score_template(["a", "b"])
    run = python("-m", "visatb", "weights")
    assert run.returncode == 2
    assert run.stderr.endswith(
        "visatb weights: error: the following arguments are required: SCORES\n"
    )
    run = python("-m", "visatb", "--help")
    assert "python -m visatb COMMAND ... is the command" in run.stdout


def test_the_diagnosis_says_what_a_missing_torch_costs_and_how_to_mend_it():
    code = (
        "import sys; sys.modules['torch'] = None; import visatb.__main__ as m; sys.exit(m.main())"
    )
    run = python("-c", code)
    assert run.returncode == 0
    assert run.stdout.endswith(
        "torch:        not installed\n"
        "              without it: the losses do not work; weights and the command visatb do\n"
        "              to mend it: pip install 'torch>=2.1'\n"
    )


@pytest.mark.parametrize(
    ("blas", "mended"),
    [
        ("OpenBLAS 0.3.30", False),
        ("plain (no BLAS found)", True),
        ("plain (VISATB_BLAS_OFFER=/site/libscipy_openblas.so: cannot be opened)", True),
        ("plain (VISATB_BLAS=none)", False),
        ("plain avx2 (no BLAS found)", False),
        ("plain avx512 (OpenBLAS 0.3.30 takes this CPU for a Haswell)", False),
        ("plain avx2 (VISATB_BLAS=none)", False),
        ("plain (built without BLAS)", False),
    ],
)
def test_the_diagnosis_says_what_a_missing_blas_costs_and_how_to_mend_it(
    blas, mended, monkeypatch, capsys
):
    from visatb import __main__ as diagnosis
    from visatb import _lib

    info = {**_lib.build_info(), "blas": blas}
    monkeypatch.setattr(_lib, "build_info", lambda: info)
    monkeypatch.setattr(sys, "argv", ["visatb"])
    assert diagnosis.main() == 0
    remedy = (
        "              without it: vitw_linear_loss works, several times slower than it could be\n"
        "              to mend it: pip install scipy-openblas32\n"
    )
    out = capsys.readouterr().out
    line = f"  blas:       {blas}\n"
    assert line in out
    assert (remedy in out) == (line + remedy in out) == mended


# What PyTorch tells of a GPU, and the library of CUDA.
A_GPU = """
import sys, torch, visatb.__main__ as diagnosis
from visatb import _lib
torch.version.cuda = {cuda!r}
torch.cuda.is_available = lambda: {sees}
torch.cuda.get_device_name = lambda: "NVIDIA H200"
info = {{**_lib.build_info(), "cuda": {built!r}}}
_lib.build_info = lambda: dict(info)
diagnosis._why_no_cuda = lambda: {reason!r}
sys.argv = ["visatb"]
sys.exit(diagnosis.main())
"""


@pytest.mark.parametrize(
    ("built", "reason", "remedy"),
    [
        (
            "no (no nvcc that works was found)",
            "this library was built without CUDA (no nvcc that works was found)",
            "with the nvcc of CUDA 12.4 or newer on PATH, in the source tree pip install "
            "--force-reinstall ./bindings/python",
        ),
        (
            "13.0; cannot be used here: the NVIDIA driver is too old",
            "the NVIDIA driver is too old",
            "a driver as new as the library's CUDA, or with the nvcc of an older CUDA on PATH, in "
            "the source tree pip install --force-reinstall ./bindings/python",
        ),
    ],
)
def test_the_diagnosis_says_what_a_library_without_the_gpu_costs_and_how_to_mend_it(
    built, reason, remedy
):
    pytest.importorskip("torch")
    run = python("-c", A_GPU.format(cuda="13.0", sees=True, built=built, reason=reason))
    assert run.returncode == 0, run.stderr
    assert f"  cuda:       {built}\n" in run.stdout
    assert run.stdout.endswith(
        f"  gpu:        NVIDIA H200, which libvisatb cannot use: {reason}\n"
        "              without it: the losses do not work on the GPU; on the CPU they do\n"
        f"              to mend it: {remedy}\n"
    )


@pytest.mark.parametrize(
    ("cuda", "sees", "end"),
    [
        ("13.0", True, "  gpu:        NVIDIA H200\n"),
        ("13.0", False, ""),
        (None, True, ""),  # AMD's, which pass for CUDA there
    ],
)
def test_the_diagnosis_mends_nothing_where_the_gpu_can_be_used_or_there_is_none(cuda, sees, end):
    torch = pytest.importorskip("torch")
    run = python("-c", A_GPU.format(cuda=cuda, sees=sees, built="no", reason=""))
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith(f"torch:        {torch.__version__}\n{end}")


def test_why_a_gpu_cannot_be_used_is_what_the_library_says(monkeypatch):
    from visatb import __main__ as diagnosis
    from visatb import _lib

    if not _lib.build_info()["cuda"].startswith("no"):
        pytest.skip("this library is built with CUDA")
    assert "because this library was built without CUDA" in diagnosis._why_no_cuda()
    monkeypatch.setattr(_lib, "check", lambda _: None)
    assert diagnosis._why_no_cuda() == ""


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

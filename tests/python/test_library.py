"""How the package finds its C library, and what it says where it does not."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from visatb import ArgumentError, DataError, Error, FileError, LibraryError, UnsupportedError, _lib


@pytest.fixture(autouse=True)
def opened_anew() -> Iterator[None]:
    """Each test opens the library itself, and the tests after it do so too."""
    _lib.library.cache_clear()
    yield
    _lib.library.cache_clear()


class FakeLibrary:
    """Answers as much of a library as a test of the loader asks for."""

    def __init__(self, *, status: str = "", path: str = "") -> None:
        self._name = "/somewhere/libvisatb.so"
        self.message, self.path = status.encode(), path.encode()

    def visatb_last_error(self) -> bytes:
        return self.message

    def visatb_last_error_path(self) -> bytes:
        return self.path


def test_the_variable_stands_alone_and_the_error_says_how_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "libvisatb.so"
    monkeypatch.setenv("VISATB_LIBRARY", str(path))
    with pytest.raises(LibraryError) as caught:
        _lib.library()
    assert str(caught.value).splitlines()[:2] == [
        "libvisatb cannot be opened. Tried:",
        f"  {path}: no such file",
    ]
    assert "pip install --force-reinstall ./bindings/python" in str(caught.value)
    assert "libvisatb.so.0" not in str(caught.value)


def test_without_the_variable_every_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISATB_LIBRARY", raising=False)
    monkeypatch.setattr(_lib, "__file__", str(tmp_path / "_lib.py"))
    monkeypatch.setattr(sys.modules["visatb"], "__path__", [str(tmp_path / "other")])
    monkeypatch.setattr(_lib, "SONAME", "libvisatb-that-no-system-has.so.0")
    with pytest.raises(LibraryError) as caught:
        _lib.library()
    tried = str(caught.value).splitlines()[1:4]
    assert tried[0] == f"  {tmp_path}/libvisatb.so: no such file"
    assert tried[1] == f"  {tmp_path}/other/libvisatb.so: no such file"
    assert tried[2].startswith("  libvisatb-that-no-system-has.so.0: ")


def test_a_broken_library_in_the_package_is_not_replaced_by_the_system_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISATB_LIBRARY", raising=False)
    monkeypatch.setattr(_lib, "__file__", str(tmp_path / "_lib.py"))
    (tmp_path / "libvisatb.so").write_text("no library", encoding="ascii")
    with pytest.raises(LibraryError) as caught:
        _lib.library()
    assert "libvisatb.so.0" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "libjansson.so.4: cannot open shared object file: No such file or directory",
            "It needs libjansson.so.4, which this system does not have: install it (apt install "
            "libjansson4; Fedora: dnf install jansson).",
        ),
        (
            "Error loading shared library libjansson.so.4: No such file or directory (needed by x)",
            "It needs libjansson.so.4, which this system does not have: install it (apt install "
            "libjansson4; Fedora: dnf install jansson).",
        ),
        (
            "libgomp.so.1: cannot open shared object file: No such file or directory",
            "It needs libgomp.so.1, which this system does not have: install the package that has "
            "it.",
        ),
    ],
)
def test_a_library_that_ours_needs_is_named_with_its_package(
    said: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise OSError(said)

    path = tmp_path / "libvisatb.so"
    path.touch()
    monkeypatch.setenv("VISATB_LIBRARY", str(path))
    monkeypatch.setattr(_lib.ctypes, "CDLL", refuse)
    with pytest.raises(LibraryError) as caught:
        _lib.library()
    assert str(caught.value).splitlines()[1:] == [f"  {path}: {said}", message]


def test_a_system_wide_library_is_found_by_its_soname(tmp_path: Path) -> None:
    shutil.copy(_lib.library_path(), tmp_path / _lib.SONAME)
    code = (
        "import sys; from visatb import _lib; _lib.__file__ = '/nowhere/_lib.py'; "
        "sys.modules['visatb'].__path__ = []; print(_lib.library_path())"
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    environment.pop("VISATB_LIBRARY", None)
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr) == (f"{_lib.SONAME}\n", "")


def test_the_library_s_own_soname_is_the_one_that_is_asked_for() -> None:
    assert b"\0" + _lib.SONAME.encode() + b"\0" in Path(_lib.library_path()).read_bytes()


def test_another_version_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lib, "__version__", "0.0.9")
    with pytest.raises(
        LibraryError, match=r"is libvisatb 0\.1\.0, but the package visatb is 0\.0\.9"
    ) as caught:
        _lib.library()
    assert "pip install --force-reinstall ./bindings/python" in str(caught.value)


def test_a_library_that_is_another_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = next(iter(sorted(Path("/").glob("lib/*/libc.so.6"))), None)
    if libc is None:
        pytest.skip("no libc.so.6 where this test looks")
    monkeypatch.setenv("VISATB_LIBRARY", str(libc))
    with pytest.raises(LibraryError, match="is not libvisatb: it has no visatb_version"):
        _lib.library()


def test_the_library_is_opened_once() -> None:
    assert _lib.library() is _lib.library()
    assert Path(_lib.library_path()).name.startswith("libvisatb.so")


def test_the_build_info_is_told_by_key() -> None:
    info = _lib.build_info()
    assert info["version"] == _lib.library().visatb_version().decode()
    assert {"compiler", "json", "cpu loss", "blas", "cuda", "nccl"} <= info.keys()


# --- BLAS -----------------------------------------------------------------------------------------


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library of a package scipy_openblas32 that must not be imported, and no choice."""
    package = tmp_path / "scipy_openblas32"
    (package / "lib").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit", encoding="ascii")
    path = package / "lib/libscipy_openblas.so"
    path.touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "scipy_openblas32", raising=False)
    for name in ("VISATB_BLAS", "VISATB_BLAS_OFFER"):
        monkeypatch.setenv(name, "")  # So that it is restored.
        monkeypatch.delenv(name)
    return path


def test_the_blas_of_a_package_is_offered_before_the_library_is_used(wheel: Path) -> None:
    _lib.library()
    assert os.environ["VISATB_BLAS_OFFER"] == str(wheel)
    assert "VISATB_BLAS" not in os.environ
    assert "scipy_openblas32" not in sys.modules


@pytest.mark.parametrize("chosen", ["", "none", "/usr/lib/libopenblas.so.0"])
@pytest.mark.parametrize(
    ("name", "other"), [("VISATB_BLAS", "VISATB_BLAS_OFFER"), ("VISATB_BLAS_OFFER", "VISATB_BLAS")]
)
def test_the_blas_that_a_user_chose_is_left_alone(
    name: str, other: str, chosen: str, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, chosen)
    _lib.library()
    assert os.environ[name] == chosen
    assert other not in os.environ


def test_a_package_without_the_library_is_no_offer(wheel: Path) -> None:
    wheel.unlink()
    _lib.library()
    assert not {"VISATB_BLAS", "VISATB_BLAS_OFFER"} & os.environ.keys()


def test_no_package_is_no_offer(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    _lib.library()
    assert not {"VISATB_BLAS", "VISATB_BLAS_OFFER"} & os.environ.keys()


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (_lib.Status.ERROR_ARGUMENT, ArgumentError),
        (_lib.Status.ERROR_DATA, DataError),
        (_lib.Status.ERROR_MEMORY, MemoryError),
        (_lib.Status.ERROR_IO, FileError),
        (_lib.Status.ERROR_UNSUPPORTED, UnsupportedError),
        (99, Error),
    ],
)
def test_a_status_is_raised_as_its_exception_with_the_message(
    status: int, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lib, "library", lambda: FakeLibrary(status="what is wrong"))
    with pytest.raises(kind) as caught:
        _lib.check(status)
    assert type(caught.value) is kind
    assert str(caught.value) == "what is wrong"


def test_ok_is_no_error() -> None:
    _lib.check(_lib.Status.OK)


def test_a_data_error_keeps_its_path_also_between_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeLibrary(status="s.json: runs.mini: missing", path="runs.mini")
    monkeypatch.setattr(_lib, "library", lambda: fake)
    with pytest.raises(DataError) as caught:
        _lib.check(_lib.Status.ERROR_DATA)
    copied: Any = pickle.loads(pickle.dumps(caught.value))
    for error in (caught.value, copied):
        assert (str(error), error.path) == ("s.json: runs.mini: missing", "runs.mini")


def test_the_library_s_own_message_comes_through() -> None:
    with pytest.raises(ArgumentError, match="units"):
        _lib.check(_lib.library().visatb_softmax_weights(0, None, 1.0, None))


# --- cuBLAS, and NCCL -----------------------------------------------------------------------------

CUBLAS = ("VISATB_CUBLAS", "VISATB_CUBLAS_OFFER")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of NVIDIA's packages, and no choice."""
    folder = tmp_path / "nvidia"
    folder.mkdir()
    # What is found by a name that is taken is what is loaded.
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    for name in CUBLAS:
        monkeypatch.setenv(name, "")  # So that it is restored.
        monkeypatch.delenv(name)
    return folder


def put(folder: Path, place: str) -> str:
    path = folder / place
    path.parent.mkdir(parents=True)
    path.touch()
    return str(path)


@pytest.mark.parametrize(
    "place", ["cu13/lib/libcublas.so.13", "cublas/lib/libcublas.so.12"], ids=["CUDA 13", "CUDA 12"]
)
def test_the_cublas_of_a_package_is_offered_before_the_library_is_used(
    place: str, packages: Path
) -> None:
    path = put(packages, place)
    _lib.library()
    assert os.environ["VISATB_CUBLAS_OFFER"] == path
    assert "VISATB_CUBLAS" not in os.environ
    assert "nvidia" not in sys.modules


def test_the_newer_cublas_of_two_is_offered(packages: Path) -> None:
    put(packages, "cublas/lib/libcublas.so.12")
    newer = put(packages, "cu13/lib/libcublas.so.13")
    _lib.library()
    assert os.environ["VISATB_CUBLAS_OFFER"] == newer


def test_without_a_package_none_is_offered(packages: Path) -> None:
    _lib.library()
    assert not {*CUBLAS} & os.environ.keys()


def test_no_nccl_is_offered_for_a_communicator_has_its_own(packages: Path) -> None:
    put(packages, "nccl/lib/libnccl.so.2")
    before = {**os.environ}
    _lib.library()
    assert {**os.environ} == before


@pytest.mark.parametrize("chosen", ["", "/usr/lib/libcublas.so.12"])
@pytest.mark.parametrize(("name", "other"), [CUBLAS, CUBLAS[::-1]])
def test_what_a_user_chose_is_left_alone(
    name: str, other: str, chosen: str, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(packages, "cu13/lib/libcublas.so.13")
    monkeypatch.setenv(name, chosen)
    _lib.library()
    assert os.environ[name] == chosen
    assert other not in os.environ

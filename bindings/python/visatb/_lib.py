"""libvisatb through ctypes: how it is found, every prototype, and its errors.

Nothing is opened before the first `library()`, so that `import visatb` works without the library.
Names and order follow include/visatb.h; tests/python/test_prototypes.py compares the two. Enums and
structs stand in `_types`, and are names of this module too.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from ctypes import (
    POINTER,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint32,
    c_void_p,
)
from pathlib import Path
from typing import Any

from ._errors import ArgumentError, DataError, Error, FileError, LibraryError, UnsupportedError
from ._types import (
    ALLOW_NEGATIVE_DENOMINATOR,
    ENUMS,
    SLICE_STATISTICS,
    STRUCTS,
    BalanceOptions,
    Context,
    CpuPath,
    CudaPath,
    Device,
    Dtype,
    Evaluation,
    Form,
    Layout,
    LinearPlan,
    LossPlan,
    Method,
    MethodKind,
    MethodOptions,
    Reduction,
    Report,
    ReportCode,
    Scores,
    Status,
    Team,
    VitwLinearLossArgs,
    VitwLossArgs,
    VocabSlice,
    Weights,
    WeightsOptions,
)
from ._version import __version__

__all__ = [
    "ALLOW_NEGATIVE_DENOMINATOR",
    "BLAS_ENVIRONMENT",
    "BLAS_OFFER_ENVIRONMENT",
    "CUBLAS_ENVIRONMENT",
    "CUBLAS_OFFER_ENVIRONMENT",
    "ENUMS",
    "ENVIRONMENT",
    "FILE_NAME",
    "PROTOTYPES",
    "SLICE_STATISTICS",
    "SONAME",
    "STRUCTS",
    "BalanceOptions",
    "Context",
    "CpuPath",
    "CudaPath",
    "Device",
    "Dtype",
    "Evaluation",
    "Form",
    "Layout",
    "LinearPlan",
    "LossPlan",
    "Method",
    "MethodKind",
    "MethodOptions",
    "Reduction",
    "Report",
    "ReportCode",
    "Scores",
    "Status",
    "Team",
    "VitwLinearLossArgs",
    "VitwLossArgs",
    "VocabSlice",
    "Weights",
    "WeightsOptions",
    "__version__",
    "build_info",
    "check",
    "library",
    "library_path",
]

ENVIRONMENT = "VISATB_LIBRARY"
# libvisatb reads both when it first multiplies: what must be used, and what may be.
BLAS_ENVIRONMENT = "VISATB_BLAS"
BLAS_OFFER_ENVIRONMENT = "VISATB_BLAS_OFFER"
# The same, when it creates a context for a GPU.
CUBLAS_ENVIRONMENT = "VISATB_CUBLAS"
CUBLAS_OFFER_ENVIRONMENT = "VISATB_CUBLAS_OFFER"
FILE_NAME = "libvisatb.so"
SONAME = f"{FILE_NAME}.{'.'.join(__version__.split('.')[:2])}"  # 0.x: the minor version counts

# --- functions ------------------------------------------------------------------------------------

_SCORES = POINTER(Scores)
_WEIGHTS = POINTER(Weights)
_EVALUATION = POINTER(Evaluation)
_CONTEXT = POINTER(Context)
_METHOD = POINTER(Method)
_DOUBLES = POINTER(c_double)
_FLOATS = POINTER(c_float)
_INTEGERS = POINTER(c_int64)
_BYTES = POINTER(c_uint8)
_STRINGS = POINTER(c_char_p)
_SIZE = POINTER(c_size_t)
_TEXT = (c_char_p, c_size_t, c_char_p)  # text, length, name

# name: (result, arguments)
PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "visatb_version": (c_char_p, ()),
    "visatb_build_info": (c_char_p, ()),
    "visatb_status_string": (c_char_p, (c_int,)),
    "visatb_last_error": (c_char_p, ()),
    "visatb_last_error_path": (c_char_p, ()),
    "visatb_scores_read": (c_int, (c_char_p, POINTER(_SCORES))),
    "visatb_scores_parse": (c_int, (*_TEXT, POINTER(_SCORES))),
    "visatb_scores_destroy": (None, (_SCORES,)),
    "visatb_weights_compute": (c_int, (_SCORES, POINTER(WeightsOptions), POINTER(_WEIGHTS))),
    "visatb_weights_destroy": (None, (_WEIGHTS,)),
    "visatb_weights_count": (c_int, (_WEIGHTS, _SIZE)),
    "visatb_weights_task": (c_int, (_WEIGHTS, c_size_t, _STRINGS, _DOUBLES)),
    "visatb_weights_warning_count": (c_int, (_WEIGHTS, _SIZE)),
    "visatb_weights_warning": (c_int, (_WEIGHTS, c_size_t, _STRINGS, _STRINGS, _STRINGS)),
    "visatb_weights_json": (c_int, (_WEIGHTS, _STRINGS, _SIZE)),
    "visatb_weights_write": (c_int, (_WEIGHTS, c_char_p)),
    "visatb_weights_read": (c_int, (c_char_p, c_size_t, _STRINGS, _FLOATS)),
    "visatb_weights_parse": (c_int, (*_TEXT, c_size_t, _STRINGS, _FLOATS)),
    "visatb_evaluation_compute": (c_int, (*_TEXT, c_char_p, POINTER(_EVALUATION))),
    "visatb_evaluation_json": (c_int, (_EVALUATION, _STRINGS, _SIZE)),
    "visatb_evaluation_destroy": (None, (_EVALUATION,)),
    "visatb_contribution": (c_int, (POINTER(Layout), _DOUBLES, _DOUBLES, c_uint32, _DOUBLES)),
    "visatb_contribution_means": (c_int, (c_size_t, _DOUBLES, _DOUBLES, _DOUBLES)),
    "visatb_difficulty": (c_int, (POINTER(Layout), _DOUBLES, _DOUBLES, _DOUBLES)),
    "visatb_softmax_weights": (c_int, (c_size_t, _DOUBLES, c_double, _DOUBLES)),
    "visatb_balance_weights": (
        c_int,
        (c_size_t, *(_DOUBLES,) * 3, POINTER(BalanceOptions), *(_DOUBLES,) * 3),
    ),
    "visatb_improvement": (c_int, (c_size_t, _DOUBLES, _DOUBLES, _BYTES, _DOUBLES)),
    "visatb_improvement_summary": (c_int, (c_size_t, _DOUBLES, _DOUBLES, _DOUBLES)),
    "visatb_cpu_path_name": (c_char_p, (c_int,)),
    "visatb_cpu_path_taken": (c_int, (c_int, POINTER(c_int))),
    "visatb_vitw_loss_plan": (c_int, (POINTER(VitwLossArgs), POINTER(LossPlan))),
    "visatb_vitw_loss": (c_int, (POINTER(VitwLossArgs),)),
    "visatb_scale_gradient": (
        c_int,
        (c_void_p, c_int64, c_int64, c_int64, c_int, _FLOATS, _FLOATS, c_void_p),
    ),
    "visatb_vitw_denominator": (c_int, (POINTER(VitwLossArgs), c_int32)),
    "visatb_sum_over_ranks": (
        c_int,
        (_DOUBLES, c_int64, _INTEGERS, c_int64, c_void_p, c_void_p),
    ),
    "visatb_context_create": (c_int, (POINTER(_CONTEXT),)),
    "visatb_context_destroy": (None, (_CONTEXT,)),
    "visatb_vitw_linear_loss_plan": (c_int, (POINTER(VitwLinearLossArgs), POINTER(LinearPlan))),
    "visatb_vitw_linear_loss": (c_int, (POINTER(VitwLinearLossArgs),)),
    "visatb_vitw_slice_statistics": (
        c_int,
        (POINTER(VitwLossArgs), POINTER(VocabSlice), _DOUBLES),
    ),
    "visatb_vitw_slice_loss": (
        c_int,
        (POINTER(VitwLossArgs), POINTER(VocabSlice), c_int64, _DOUBLES),
    ),
    "visatb_method_create": (c_int, (POINTER(MethodOptions), POINTER(_METHOD))),
    "visatb_method_destroy": (None, (_METHOD,)),
    "visatb_method_weights": (c_int, (_METHOD, _INTEGERS, _DOUBLES)),
    "visatb_method_update": (c_int, (_METHOD, _DOUBLES, _INTEGERS)),
    "visatb_method_state_size": (c_int, (_METHOD, _SIZE)),
    "visatb_method_save": (c_int, (_METHOD, c_void_p, c_size_t)),
    "visatb_method_restore": (c_int, (_METHOD, c_void_p, c_size_t)),
}

# --- finding and opening --------------------------------------------------------------------------

_INSTALL = "pip install --force-reinstall ./bindings/python"
_MISSING = re.compile(
    r"(?P<glibc>lib\S+): cannot open shared object file"
    r"|Error loading shared library (?P<musl>lib\S+):"
)
# In the packages nvidia-cublas (CUDA 13) and nvidia-cublas-cu12.
_CUBLAS_PLACES = ("cu13/lib/libcublas.so.13", "cublas/lib/libcublas.so.12")
# What the library may be linked with, and who has it.
_PACKAGES = {"libjansson": "apt install libjansson4; Fedora: dnf install jansson"}


def _candidates() -> Iterator[str]:
    """What to open, best first; the variable stands alone, for whoever sets it means it."""
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        yield chosen
        return
    # An editable install keeps its Python files and the library in two folders of one package.
    folders = [str(Path(__file__).parent), *sys.modules[__package__].__path__]
    for folder in dict.fromkeys(folders):
        yield str(Path(folder) / FILE_NAME)
    yield SONAME


def _open() -> ctypes.CDLL:
    tried, reason = [], ""
    for name in _candidates():
        is_path = name != SONAME
        if is_path and not Path(name).exists():
            tried.append(f"  {name}: no such file")
            continue
        try:
            return ctypes.CDLL(str(Path(name).resolve()) if is_path else name)
        except OSError as error:
            reason = str(error)
            tried.append(f"  {name}: {reason}")
            if is_path:
                break  # A library that is there but broken must not be replaced by another unseen.
    lines = ["libvisatb cannot be opened. Tried:", *tried, _remedy(reason)]
    raise LibraryError("\n".join(lines))


def _remedy(reason: str) -> str:
    """What to do, by what the system's loader said last."""
    missing = _MISSING.search(reason)
    needed = "" if missing is None else missing["glibc"] or missing["musl"]
    if needed and not needed.startswith(FILE_NAME):
        package = _PACKAGES.get(needed.split(".so")[0])
        how = f"install it ({package})" if package else "install the package that has it"
        return f"It needs {needed}, which this system does not have: {how}."
    return (
        f"Install the package anew in the source tree ({_INSTALL}), or build the library (cmake -B "
        f"build && cmake --build build) and set {ENVIRONMENT} to the path of {FILE_NAME}."
    )


def _require_version(opened: ctypes.CDLL) -> None:
    """The struct layouts here are those of one version, so another one is refused."""
    try:
        version = opened.visatb_version
    except AttributeError:
        raise LibraryError(f"{opened._name} is not libvisatb: it has no visatb_version") from None
    version.restype = c_char_p
    found = version().decode()
    if found != __version__:
        raise LibraryError(
            f"{opened._name} is libvisatb {found}, but the package visatb is {__version__}: "
            f"install the package anew in the source tree ({_INSTALL}), or unset {ENVIRONMENT} if "
            "it names an old build"
        )


def _offer_blas() -> None:
    """Offers the OpenBLAS of the package scipy-openblas32, unless the user has named another.

    libvisatb passes over it where it cannot be used.
    """
    if BLAS_ENVIRONMENT in os.environ or BLAS_OFFER_ENVIRONMENT in os.environ:
        return
    # Looked up and not imported, which costs nothing and runs nobody's code.
    found = importlib.util.find_spec("scipy_openblas32")
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder) / "lib" / "libscipy_openblas.so"
        if path.exists():
            os.environ[BLAS_OFFER_ENVIRONMENT] = str(path)
            return


def _offer_cublas() -> None:
    """Offers the cuBLAS of a package of NVIDIA's, unless the user has named another.

    libvisatb prefers one that the process has loaded already, as PyTorch has.
    """
    if CUBLAS_ENVIRONMENT in os.environ or CUBLAS_OFFER_ENVIRONMENT in os.environ:
        return
    # Looked up and not imported, as above. The packages share this folder, which is no module.
    found = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (found and found.submodule_search_locations) or ()]
    for place in _CUBLAS_PLACES:
        for folder in folders:
            path = folder / place
            if path.exists():
                os.environ[CUBLAS_OFFER_ENVIRONMENT] = str(path)
                return


@functools.cache
def library() -> ctypes.CDLL:
    """libvisatb, opened at the first call, with every function's types set.

    Errors: LibraryError (not found, cannot be opened, another version).
    """
    _offer_blas()
    _offer_cublas()
    opened = _open()
    _require_version(opened)
    for name, (result, arguments) in PROTOTYPES.items():
        try:
            function = getattr(opened, name)
        except AttributeError:
            raise LibraryError(f"{opened._name} has no function {name}") from None
        function.restype = result
        function.argtypes = arguments
    return opened


def library_path() -> str:
    """The file that `library()` opened; for a system-wide one its soname."""
    return str(library()._name)


def build_info() -> dict[str, str]:
    """What the library was built with, by key ("version", "json", "cuda", ...)."""
    text: bytes = library().visatb_build_info()
    pairs = (line.partition(": ") for line in text.decode().splitlines())
    return {key: value for key, _, value in pairs}


# --- errors ---------------------------------------------------------------------------------------


def check(status: int) -> None:
    """Raises what a failed call of this thread came to, with the library's message.

    Errors: ArgumentError, DataError (with `path`), FileError, UnsupportedError, MemoryError;
    Error for what failed on a GPU, and for a status this version does not know.
    """
    if status == Status.OK:
        return
    opened = library()
    message = opened.visatb_last_error().decode(errors="replace")
    if status == Status.ERROR_DATA:
        raise DataError(message, opened.visatb_last_error_path().decode(errors="replace"))
    kinds: dict[int, type[Exception]] = {
        Status.ERROR_ARGUMENT: ArgumentError,
        Status.ERROR_MEMORY: MemoryError,
        Status.ERROR_IO: FileError,
        Status.ERROR_UNSUPPORTED: UnsupportedError,
    }
    raise kinds.get(status, Error)(message)

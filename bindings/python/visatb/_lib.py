"""libvisatb through ctypes: how it is found, every prototype and struct, and its errors.

Nothing is opened before the first `library()`, so that `import visatb` works without the library.
Names and order follow include/visatb.h; tests/python/test_prototypes.py compares the two.
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
    c_uint,
    c_uint8,
    c_uint32,
    c_void_p,
)
from enum import IntEnum
from pathlib import Path
from typing import Any

from ._errors import ArgumentError, DataError, Error, FileError, LibraryError, UnsupportedError
from ._version import __version__

ENVIRONMENT = "VISATB_LIBRARY"
# libvisatb reads both when it first multiplies: what must be used, and what may be.
BLAS_ENVIRONMENT = "VISATB_BLAS"
BLAS_OFFER_ENVIRONMENT = "VISATB_BLAS_OFFER"
# The same, when it creates a context for a GPU.
CUBLAS_ENVIRONMENT = "VISATB_CUBLAS"
CUBLAS_OFFER_ENVIRONMENT = "VISATB_CUBLAS_OFFER"
FILE_NAME = "libvisatb.so"
SONAME = f"{FILE_NAME}.{'.'.join(__version__.split('.')[:2])}"  # 0.x: the minor version counts

# --- enums and constants --------------------------------------------------------------------------


class Status(IntEnum):
    """visatb_status."""

    OK = 0
    ERROR_ARGUMENT = 1
    ERROR_DATA = 2
    ERROR_MEMORY = 3
    ERROR_IO = 4
    ERROR_UNSUPPORTED = 5
    ERROR_DEVICE = 6


class Form(IntEnum):
    """visatb_form."""

    OF_FILE = 0
    FULL = 1
    SIMPLE = 2
    PRECISE = 3


class Dtype(IntEnum):
    """visatb_dtype."""

    FLOAT32 = 1
    BFLOAT16 = 2
    FLOAT16 = 3
    FLOAT64 = 4


class Reduction(IntEnum):
    """visatb_reduction."""

    MEAN = 0
    SUM = 1


class ReportCode(IntEnum):
    """visatb_report_code."""

    OK = 0
    LOGITS = 1
    LABEL = 2
    TASK_ID = 3
    TASK_WEIGHT = 4
    DENOMINATOR = 5
    VALID_ROWS = 6


class CpuPath(IntEnum):
    """visatb_cpu_path."""

    AUTO = 0
    PORTABLE = 1
    AVX2 = 2
    AVX512 = 3
    AVX512_BF16 = 4


class Device(IntEnum):
    """visatb_device."""

    CPU = 0
    CUDA = 1


class CudaPath(IntEnum):
    """visatb_cuda_path."""

    AUTO = 0
    ONE_READ = 1
    TWO_READ = 2


ENUMS: dict[str, type[IntEnum]] = {
    "visatb_status": Status,
    "visatb_form": Form,
    "visatb_dtype": Dtype,
    "visatb_reduction": Reduction,
    "visatb_report_code": ReportCode,
    "visatb_cpu_path": CpuPath,
    "visatb_device": Device,
    "visatb_cuda_path": CudaPath,
}

ALLOW_NEGATIVE_DENOMINATOR = 1
SLICE_STATISTICS = 6

# --- structs --------------------------------------------------------------------------------------


class Scores(ctypes.Structure):
    """visatb_scores, a handle."""


class Weights(ctypes.Structure):
    """visatb_weights, a handle."""


class Evaluation(ctypes.Structure):
    """visatb_evaluation, a handle."""


class Context(ctypes.Structure):
    """visatb_context, a handle."""


class _Arguments(ctypes.Structure):
    """A struct that begins with `size`; a new one is what its initialiser macro gives."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**{"size": ctypes.sizeof(self), **values})


class WeightsOptions(_Arguments):
    """visatb_weights_options."""

    _fields_ = [
        ("size", c_size_t),
        ("form", c_int),
        ("allow_negative_denominator", c_int32),
        ("temperature", POINTER(c_double)),
        ("alphas", POINTER(c_double)),
        ("scores_sha256", c_char_p),
    ]


class Layout(_Arguments):
    """visatb_layout; `Layout(units=n)` is VISATB_LAYOUT(n)."""

    _fields_ = [
        ("size", c_size_t),
        ("units", c_size_t),
        ("tasks", c_size_t),
        ("metrics", c_size_t),
        ("task_unit", POINTER(c_size_t)),
        ("metric_task", POINTER(c_size_t)),
        ("lower_is_better", POINTER(c_uint8)),
    ]


class BalanceOptions(_Arguments):
    """visatb_balance_options."""

    _fields_ = [
        ("size", c_size_t),
        ("alpha_out", c_double),
        ("alpha_in", c_double),
        ("alpha_difficulty", c_double),
        ("temperature", c_double),
        ("range_low", c_double),
        ("range_high", c_double),
    ]

    def __init__(self, **values: Any) -> None:
        defaults = {
            "alpha_out": 0.25,
            "alpha_in": 0.25,
            "alpha_difficulty": 0.5,
            "range_low": 0.5,
            "range_high": 2.0,
        }
        super().__init__(**{**defaults, **values})


# visatb_team: body(context) on so many threads at once; the last argument is flags.
Team = ctypes.CFUNCTYPE(None, ctypes.CFUNCTYPE(None, c_void_p), c_void_p, c_uint, c_uint)


class Report(ctypes.Structure):
    """visatb_report."""

    _fields_ = [("code", c_int32), ("reserved", c_int32), ("first_bad_row", c_int64)]


class VitwLossArgs(_Arguments):
    """visatb_vitw_loss_args."""

    _fields_ = [
        ("size", c_size_t),
        ("rows", c_int64),
        ("vocab", c_int64),
        ("tasks", c_int64),
        ("logits", c_void_p),
        ("logits_stride", c_int64),
        ("dtype", c_int),
        ("reduction", c_int),
        ("labels", POINTER(c_int64)),
        ("task_ids", POINTER(c_int32)),
        ("task_weights", POINTER(c_float)),
        ("ignore_index", c_int64),
        ("denominator", POINTER(c_double)),
        ("grad_scale", POINTER(c_float)),
        ("label_smoothing", c_double),
        ("softcap", c_double),
        ("z_loss", c_double),
        ("threads", c_int32),
        ("cpu_path", c_int),
        ("team", Team),
        ("loss", POINTER(c_double)),
        ("numerator", POINTER(c_double)),
        ("denominator_out", POINTER(c_double)),
        ("gradient", c_void_p),
        ("gradient_stride", c_int64),
        ("row_nll", POINTER(c_float)),
        ("row_lse", POINTER(c_float)),
        ("task_nll", POINTER(c_double)),
        ("task_tokens", POINTER(c_int64)),
        ("report", POINTER(Report)),
        ("device", c_int),
        ("cuda_path", c_int),
        ("workspace", c_void_p),
        ("workspace_bytes", c_size_t),
        ("stream", c_void_p),
    ]

    def __init__(self, **values: Any) -> None:
        super().__init__(**{"ignore_index": -100, **values})


class LossPlan(_Arguments):
    """visatb_loss_plan."""

    _fields_ = [
        ("size", c_size_t),
        ("workspace_bytes", c_size_t),
        ("cpu_path", c_int),
        ("cuda_path", c_int),
        ("cluster", c_int32),
        ("threads", c_int32),
    ]


class VitwLinearLossArgs(_Arguments):
    """visatb_vitw_linear_loss_args."""

    _fields_ = [
        ("size", c_size_t),
        ("rows", c_int64),
        ("hidden_size", c_int64),
        ("vocab", c_int64),
        ("tasks", c_int64),
        ("hidden", c_void_p),
        ("hidden_stride", c_int64),
        ("weight", c_void_p),
        ("weight_stride", c_int64),
        ("bias", c_void_p),
        ("dtype", c_int),
        ("reduction", c_int),
        ("labels", POINTER(c_int64)),
        ("task_ids", POINTER(c_int32)),
        ("task_weights", POINTER(c_float)),
        ("ignore_index", c_int64),
        ("denominator", POINTER(c_double)),
        ("grad_scale", POINTER(c_float)),
        ("label_smoothing", c_double),
        ("softcap", c_double),
        ("z_loss", c_double),
        ("threads", c_int32),
        ("cpu_path", c_int),
        ("team", Team),
        ("max_valid_rows", c_int64),
        ("chunk_bytes", c_size_t),
        ("workspace", c_void_p),
        ("workspace_bytes", c_size_t),
        ("loss", POINTER(c_double)),
        ("numerator", POINTER(c_double)),
        ("denominator_out", POINTER(c_double)),
        ("hidden_gradient", c_void_p),
        ("hidden_gradient_stride", c_int64),
        ("weight_gradient", c_void_p),
        ("bias_gradient", c_void_p),
        ("accumulate", c_int32),
        ("reserved", c_int32),
        ("row_nll", POINTER(c_float)),
        ("row_lse", POINTER(c_float)),
        ("task_nll", POINTER(c_double)),
        ("task_tokens", POINTER(c_int64)),
        ("report", POINTER(Report)),
        ("device", c_int),
        ("cuda_path", c_int),
        ("head_gradient_dtype", c_int),
        ("context", POINTER(Context)),
        ("stream", c_void_p),
    ]

    def __init__(self, **values: Any) -> None:
        super().__init__(**{"ignore_index": -100, **values})


class LinearPlan(_Arguments):
    """visatb_linear_plan."""

    _fields_ = [
        ("size", c_size_t),
        ("workspace_bytes", c_size_t),
        ("chunk_rows", c_int64),
        ("chunks", c_int64),
        ("product", c_char_p),
        ("cpu_path", c_int),
        ("cuda_path", c_int),
    ]


class VocabSlice(_Arguments):
    """visatb_vocab_slice."""

    _fields_ = [("size", c_size_t), ("first", c_int64), ("width", c_int64)]


STRUCTS: dict[str, type[ctypes.Structure]] = {
    "visatb_scores": Scores,
    "visatb_weights": Weights,
    "visatb_evaluation": Evaluation,
    "visatb_weights_options": WeightsOptions,
    "visatb_layout": Layout,
    "visatb_balance_options": BalanceOptions,
    "visatb_report": Report,
    "visatb_vitw_loss_args": VitwLossArgs,
    "visatb_loss_plan": LossPlan,
    "visatb_context": Context,
    "visatb_vitw_linear_loss_args": VitwLinearLossArgs,
    "visatb_linear_plan": LinearPlan,
    "visatb_vocab_slice": VocabSlice,
}

# --- functions ------------------------------------------------------------------------------------

_SCORES = POINTER(Scores)
_WEIGHTS = POINTER(Weights)
_EVALUATION = POINTER(Evaluation)
_CONTEXT = POINTER(Context)
_DOUBLES = POINTER(c_double)
_FLOATS = POINTER(c_float)
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
        (_DOUBLES, c_int64, POINTER(c_int64), c_int64, c_void_p, c_void_p),
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

"""The enums, constants and structs of include/visatb.h, as ctypes has them.

Names and order follow the header; tests/python/test_prototypes.py compares the two. What calls the
library takes them from `_lib`.
"""

from __future__ import annotations

import ctypes
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
    c_uint64,
    c_void_p,
)
from enum import IntEnum
from typing import Any

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


class MethodKind(IntEnum):
    """visatb_method_kind."""

    EW = 1
    TLA = 2
    RLW = 3
    DWA = 4
    IGBV1 = 5


ENUMS: dict[str, type[IntEnum]] = {
    "visatb_status": Status,
    "visatb_form": Form,
    "visatb_dtype": Dtype,
    "visatb_reduction": Reduction,
    "visatb_report_code": ReportCode,
    "visatb_cpu_path": CpuPath,
    "visatb_device": Device,
    "visatb_cuda_path": CudaPath,
    "visatb_method_kind": MethodKind,
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


class Method(ctypes.Structure):
    """visatb_method, a handle."""


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


class MethodOptions(_Arguments):
    """visatb_method_options."""

    _fields_ = [
        ("size", c_size_t),
        ("kind", c_int),
        ("tasks", c_size_t),
        ("seed", c_uint64),
        ("window", c_int64),
        ("temperature", c_double),
        ("base_first", c_int64),
        ("base_end", c_int64),
    ]

    def __init__(self, **values: Any) -> None:
        defaults = {"window": 25, "temperature": 2.0, "base_first": 100, "base_end": 200}
        super().__init__(**{**defaults, **values})


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
    "visatb_method_options": MethodOptions,
    "visatb_method": Method,
}

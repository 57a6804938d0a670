"""What a caller gives, checked and brought into the one form that the operators take."""

from __future__ import annotations

import numbers
from typing import Any

import torch
from torch import Tensor

from .._errors import ArgumentError, UnsupportedError
from . import ops
from .call import DTYPES, REDUCTIONS, with_plain_rows
from .rows import Tokens, prepare_rows, shape_of
from .task_weights import TaskWeights, prepare_task_weights
from .terms import Terms

Scalar = float | Tensor


def prepare_tokens(tokens: Tokens, width: str) -> Tensor:
    """The tokens as [rows, width]: a view where the rows are evenly strided, else a copy."""
    name, tensor = tokens
    require_floats(name, tensor)
    if tensor.device.type not in ops.DEVICE_TYPES:
        raise UnsupportedError(
            f"{name} is on device {str(tensor.device)!r}; expected 'cpu' or 'cuda', for this "
            f"version computes nowhere else ({name}.cpu() moves them, if that is meant)"
        )
    if tensor.dim() not in (2, 3) or not tensor.shape[-1]:
        raise ArgumentError(
            f"{name} has shape {shape_of(tensor)}; expected (rows, {width}) or "
            f"(batch, seq, {width}), with {width} >= 1"
        )
    if tensor.dim() == 2:
        return tensor
    batch, seq, last = tensor.shape
    # A size of -1 would be ambiguous with no rows.
    return tensor.reshape(batch * seq, last)


def require_floats(name: str, tensor: Tensor) -> None:
    """Raises ArgumentError for what is no tensor of a type that the loss computes with."""
    if not isinstance(tensor, Tensor):
        raise ArgumentError(f"{name} is a {type(tensor).__name__}; expected a tensor")
    if tensor.dtype not in DTYPES:
        raise ArgumentError(
            f"{name} is {tensor.dtype}; expected float32, bfloat16, float16 or float64"
        )


def prepare_terms(
    tokens: Tokens,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: TaskWeights,
    *,
    ignore_index: int,
    denominator: Scalar | None,
    reduction: str,
    shift: bool,
    label_smoothing: float,
    softcap: float | None,
    z_loss: float,
    grad_scale: Scalar | None,
) -> Terms:
    """Rows, weights and options as the operators take them; their ranges, the library knows."""
    ignored = prepare_ignore_index(ignore_index)
    row_labels, row_tasks = prepare_rows(tokens, labels, task_ids, ignored, shift)
    device = tokens.tensor.device
    return Terms(
        row_labels,
        row_tasks,
        prepare_task_weights(task_weights, device),
        prepare_scalar("denominator", denominator, device, torch.float64),
        prepare_scalar("grad_scale", grad_scale, device, torch.float32),
        ignored,
        _prepare_reduction(reduction, has_denominator=denominator is not None),
        *_prepare_options(label_smoothing, softcap, z_loss),
    )


def forms_in_forward(dtype: torch.dtype, grad_scale: Scalar | None) -> bool:
    """Whether the forward forms the gradients, else the backward.

    fp16 gradients of a whole step underflow before an unknown loss scale can reach them.
    """
    return dtype != torch.float16 or grad_scale is not None


def is_integer(value: object) -> bool:
    """Also one of NumPy's, which are numbers.Integral; no bool."""
    kinds = (int, torch.SymInt, numbers.Integral)
    return isinstance(value, kinds) and not isinstance(value, bool)


def prepare_ignore_index(ignore_index: int) -> int:
    """An integer of 64 bits, which labels can be compared with."""
    if not is_integer(ignore_index) or not -(2**63) <= ignore_index < 2**63:
        raise ArgumentError(f"ignore_index = {ignore_index!r}; expected an integer of 64 bits")
    return int(ignore_index)


def prepare_count(name: str, value: int | None, smallest: int) -> int | None:
    """An integer of at least so much, or None."""
    if value is None:
        return None
    if not is_integer(value) or not smallest <= value < 2**63:
        # To take a number out of a tensor may mean to wait for a GPU, which is not ours to decide.
        given: object = value
        remedy = f", such as int({name})" if isinstance(given, Tensor) else ""
        raise ArgumentError(
            f"{name} = {value!r}; expected None or an integer of at least {smallest}{remedy}"
        )
    # What torch.compile follows from step to step stays as it is.
    return value if ops.is_tracing() else int(value)


def _prepare_reduction(reduction: str, *, has_denominator: bool) -> str:
    if reduction not in tuple(REDUCTIONS):  # A list is no key of a dict.
        raise ArgumentError(f'reduction = {reduction!r}; expected "mean" or "sum"')
    if reduction == "sum" and has_denominator:
        raise ArgumentError(
            'reduction = "sum" with a denominator; expected denominator = None or reduction = '
            '"mean", for a sum is not divided'
        )
    return reduction


def _prepare_options(
    label_smoothing: float, softcap: float | None, z_loss: float
) -> tuple[float, float, float]:
    cap = 0.0 if softcap is None else softcap
    switches = {"label_smoothing": label_smoothing, "softcap": cap, "z_loss": z_loss}
    for name, value in switches.items():
        if not _is_number(value):
            raise ArgumentError(f"{name} = {value!r}; expected a number")
    return float(label_smoothing), float(cap), float(z_loss)


def prepare_scalar(
    name: str, value: Scalar | None, device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    """A number or a tensor of shape () as a tensor of the dtype on the device.

    For a GPU also on the host, where numbers are. The library reads them there while it is called,
    so that nothing is copied and nobody waits; and a wrong number is an error at once.
    """
    if value is None:
        return None
    if isinstance(value, Tensor):
        if value.dim() or value.dtype == torch.bool or value.is_complex():
            raise ArgumentError(
                f"{name} is a tensor of {value.dtype} and shape {shape_of(value)}; "
                "expected a number or a tensor of shape ()"
            )
        if value.requires_grad:
            raise ArgumentError(
                f"{name} requires grad; expected {name}.detach(), "
                "for the loss is not differentiated in it"
            )
        scalar = value.to(value.device if value.device.type == "cpu" else device, dtype)
    elif not _is_number(value):
        raise ArgumentError(f"{name} = {value!r}; expected a number or a tensor of shape ()")
    elif ops.is_tracing():
        # A number changes from step to step. torch.full and torch.tensor would make it a constant
        # of the compiled code, to be compiled anew until torch.compile gives up. On the device,
        # for code of a GPU alone is what torch.compile can put into a CUDA graph.
        scalar = torch.zeros((), dtype=dtype, device=device) + value
    else:
        scalar = torch.tensor(_as_float(name, value), dtype=dtype, device="cpu")
    if name == "grad_scale":
        _require_divisor(name, scalar, value)
    return scalar


def prepare_overwriting(logits: Tensor, rows: Tensor) -> Tensor:
    """The rows that the gradient may be written over: those of the logits, or of a copy.

    Only logits that were computed can go: a leaf, or what is seen of it through a view, holds
    values that somebody set.
    """
    seen = (logits, logits._base, _leaf_behind(logits))
    if any(tensor.is_leaf and tensor.requires_grad for tensor in seen if tensor is not None):
        raise ArgumentError(
            "inplace = True with logits that are a leaf which requires grad; expected inplace = "
            "False, for only logits that were computed can be overwritten"
        )
    return with_plain_rows(rows)


def _leaf_behind(view: Tensor) -> Tensor | None:
    """The leaf whose memory a view shows, where that leaf is itself a view of something."""
    if view._base is None or not view.numel():
        return None
    node: Any = view.grad_fn
    while node is not None and len(node.next_functions) == 1:
        node = node.next_functions[0][0]
    leaf: Tensor | None = getattr(node, "variable", None)
    if leaf is None or leaf.untyped_storage().data_ptr() != view.untyped_storage().data_ptr():
        return None
    return leaf


def _as_float(name: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ArgumentError(
            f"{name} is an integer beyond float64; expected a smaller one"
        ) from None


def _require_divisor(name: str, scalar: Tensor, given: Scalar) -> None:
    if not ops.has_value(scalar):
        return
    if not scalar.isfinite() or scalar == 0:
        value = given.item() if isinstance(given, Tensor) else given
        raise ArgumentError(
            f"{name} = {value}; expected a number that is finite and not 0 in float32, "
            "for the backward divides by it"
        )


def _is_number(value: object) -> bool:
    """NumPy's numbers are numbers.Real."""
    kinds = (int, float, torch.SymInt, torch.SymFloat, numbers.Real)
    return isinstance(value, kinds) and not isinstance(value, bool)

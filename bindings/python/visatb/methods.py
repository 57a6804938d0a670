"""Weights that change from step to step: the methods that the paper compares with.

    method = Method("DWA", tasks=3)
    weights = method.weights()  # lambda of the coming step, before its first forward
    ...
    method.update(task_nll, task_tokens)  # sums over the whole step, when it is done

A step is that of the optimiser, over all of its micro-batches and ranks. Ranks that are told the
same have the same weights, and need not exchange them. In a trainer, `visatb.trainers` does all of
this: `VITWTrainer(..., method="DWA")`. docs/mathematics.md has the formulas.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _lib
from ._arguments import one_temperature, whole_number
from ._errors import ArgumentError, DataError

_KINDS = {
    "EW": _lib.MethodKind.EW,
    "TLA": _lib.MethodKind.TLA,
    "RLW": _lib.MethodKind.RLW,
    "DWA": _lib.MethodKind.DWA,
    "IGBv1": _lib.MethodKind.IGBV1,
}
_READ_LOSSES = frozenset({"DWA", "IGBv1"})

METHODS = tuple(_KINDS)
"""The names of the methods."""


class Method:
    """A method, and what it has been told of its steps.

    Args:
        name: "EW", equal weights; "TLA", 1 / tokens of the task in the coming step; "RLW",
            N softmax of standard normal numbers; "DWA", dynamic weight averaging; "IGBv1",
            improvable gap balancing.
        tasks: N, how many.
        seed: of RLW, in [0, 2^64); its draws are a function of the seed and the number of the step.
        window: of DWA, how many steps each of its two means is over.
        temperature: of DWA, > 0.
        base_steps: of IGBv1, (first, end): its base is the mean loss of the steps [first, end),
            counted from 0, and its weights are 1 before step `end`.

    What the method of this name does not read must be in its range all the same.

    Attributes:
        name, tasks: as given.

    Errors: ArgumentError, MemoryError.
    """

    def __init__(
        self,
        name: str,
        tasks: int,
        *,
        seed: int = 0,
        window: int = 25,
        temperature: float = 2.0,
        base_steps: tuple[int, int] = (100, 200),
    ) -> None:
        if name not in METHODS:
            raise ArgumentError(f"method = {name!r}; expected one of {', '.join(METHODS)}")
        base_first, base_end = _two_steps(base_steps)
        self.name = name
        self.tasks = whole_number("tasks", tasks, 1, 2**63 - 1)
        self._options = {
            "seed": whole_number("seed", seed, 0, 2**64 - 1),
            "window": whole_number("window", window, 1, 2**62),
            "temperature": one_temperature(temperature),
            "base_steps": (base_first, base_end),
        }
        options = _lib.MethodOptions(
            kind=_KINDS[name],
            tasks=self.tasks,
            seed=self._options["seed"],
            window=self._options["window"],
            temperature=self._options["temperature"],
            base_first=base_first,
            base_end=base_end,
        )
        self._handle = ctypes.POINTER(_lib.Method)()
        library = _lib.library()
        _lib.check(library.visatb_method_create(ctypes.byref(options), ctypes.byref(self._handle)))
        weakref.finalize(self, library.visatb_method_destroy, self._handle)

    @property
    def reads_losses(self) -> bool:
        """Whether `update` must be given the losses of each step: for DWA and IGBv1."""
        return self.name in _READ_LOSSES

    def weights(self, task_tokens: ArrayLike | None = None) -> NDArray[np.float64]:
        """Lambda of the coming step, [tasks]; asked again, it is the same.

        Args:
            task_tokens: [tasks] integers >= 0, the valid tokens of the coming step by task; for TLA
                only.

        Errors: ArgumentError.
        """
        result = np.empty(self.tasks)
        tokens = None if task_tokens is None else self._tokens(task_tokens)
        _lib.check(
            _lib.library().visatb_method_weights(
                self._handle, _integers(tokens), result.ctypes.data_as(_DOUBLES)
            )
        )
        return result

    def update(
        self, task_nll: ArrayLike | None = None, task_tokens: ArrayLike | None = None
    ) -> None:
        """Tells of the step that is done; once for each, also for one without a token.

        Args:
            task_nll: [tasks], finite, >= 0: sums of the nll over the whole step by task.
            task_tokens: [tasks] integers >= 0, the valid tokens of the step by task. A task without
                one was not in the step, and its sum is 0; so is one to be told of whose sum is not
                finite, where training goes on after it.

        Only `reads_losses` methods need them; the others count the step.

        Errors: ArgumentError; nothing changes then.
        """
        sums = None if task_nll is None else self._sums(task_nll)
        tokens = None if task_tokens is None else self._tokens(task_tokens)
        _lib.check(
            _lib.library().visatb_method_update(
                self._handle,
                None if sums is None else sums.ctypes.data_as(_DOUBLES),
                _integers(tokens),
            )
        )

    def state_dict(self) -> dict[str, Any]:
        """What the method has been told: {"name": str, "tasks": int, "state": bytes}."""
        size = ctypes.c_size_t()
        library = _lib.library()
        _lib.check(library.visatb_method_state_size(self._handle, ctypes.byref(size)))
        state = ctypes.create_string_buffer(size.value)
        _lib.check(library.visatb_method_save(self._handle, state, size.value))
        return {"name": self.name, "tasks": self.tasks, "state": state.raw}

    def load_state_dict(self, state: object) -> None:
        """Makes the method what it was at `state_dict`; what follows has the same bits.

        Errors: ArgumentError for what is no such dict; DataError for the state of a method of
        another name, number of tasks or options, and for one that is cut or damaged. Nothing
        changes then.
        """
        if not isinstance(state, Mapping) or not {"name", "tasks", "state"} <= set(state):
            raise ArgumentError(f"state = {state!r}; expected what Method.state_dict returned")
        content = state["state"]
        if not isinstance(content, (bytes, bytearray)):
            raise ArgumentError(f"state['state'] is a {type(content).__name__}; expected bytes")
        for key, own in (("name", self.name), ("tasks", self.tasks)):
            if state[key] != own:
                raise DataError(
                    f"the state is of a method with {key} = {state[key]!r}; expected {own!r}"
                )
        given = bytes(content)
        _lib.check(_lib.library().visatb_method_restore(self._handle, given, len(given)))

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options.items())
        return f"Method({self.name!r}, {self.tasks}, {options})"

    def __reduce__(self) -> tuple[Any, ...]:
        # The handle is of this process; a copy is made from the same, and told the same.
        return _rebuilt, (self.name, self.tasks, self._options, self.state_dict())

    def _tokens(self, values: ArrayLike) -> NDArray[np.int64]:
        array = self._array("task_tokens", values)
        if array.dtype.kind not in "iu":
            raise ArgumentError(f"task_tokens = {array.tolist()!r}; expected integers")
        return np.ascontiguousarray(array, dtype=np.int64)

    def _sums(self, values: ArrayLike) -> NDArray[np.float64]:
        array = self._array("task_nll", values)
        if array.dtype.kind not in "iuf":
            raise ArgumentError(f"task_nll = {array.tolist()!r}; expected numbers")
        return np.ascontiguousarray(array, dtype=np.float64)

    def _array(self, name: str, values: ArrayLike) -> NDArray[Any]:
        try:
            array = np.asarray(values)
        except (TypeError, ValueError, RuntimeError) as reason:
            # RuntimeError: PyTorch's, for a tensor that requires gradients.
            raise ArgumentError(f"{name} is not an array: {reason}") from None
        if array.shape != (self.tasks,):
            raise ArgumentError(f"{name} has shape {array.shape}; expected ({self.tasks},)")
        return array


_DOUBLES = ctypes.POINTER(ctypes.c_double)


def _integers(array: NDArray[np.int64] | None) -> object:
    return None if array is None else array.ctypes.data_as(ctypes.POINTER(ctypes.c_int64))


def _two_steps(base_steps: object) -> tuple[int, int]:
    if isinstance(base_steps, (tuple, list)) and len(base_steps) == 2:
        first, end = (whole_number("base_steps", step, 0, 2**62) for step in base_steps)
        if first < end:
            return first, end
    raise ArgumentError(f"base_steps = {base_steps!r}; expected (first, end) with first below end")


def _rebuilt(name: str, tasks: int, options: dict[str, Any], state: dict[str, Any]) -> Method:
    method = Method(name, tasks, **options)
    method.load_state_dict(state)
    return method

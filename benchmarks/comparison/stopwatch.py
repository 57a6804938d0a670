"""How a run is timed and its memory measured: on a CPU by the clock, on a GPU by its events."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Protocol

import torch

from . import memory

Work = Callable[[], object]
# More than an L2 cache holds, so that no contestant finds there what was written before it.
FLUSHED_BYTES = 2**28
# About 2 ms, in which the CPU gets so far ahead that the GPU never waits for it, as in training.
AHEAD_CYCLES = 4_000_000


class Stopwatch(Protocol):
    """What the timing of a case needs of a device."""

    def time(self, run: Work, rest: float) -> tuple[float, dict[str, int]]:
        """Seconds of one run, `rest` seconds after the data was renewed, and what was counted."""

    def peak_extra(self, run: Work) -> int | None:
        """Bytes that a run has at its peak beyond those before it."""

    def wait(self) -> None:
        """Until what was begun is done."""


class CpuStopwatch:
    """By the clock; page faults are counted."""

    def time(self, run: Work, rest: float) -> tuple[float, dict[str, int]]:
        """As the protocol says."""
        rested = time.perf_counter() + rest
        # Not asleep: whoever wakes up may find both threads on one core for some milliseconds.
        while time.perf_counter() < rested:
            pass
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - start
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        # Its gradient is freed outside the time, by everybody's next renew().
        del result
        return seconds, {"page_faults": faults}

    def peak_extra(self, run: Work) -> int | None:
        """As the protocol says."""
        return memory.peak_extra(run)

    def wait(self) -> None:
        """Nothing is ever under way."""


class CudaStopwatch:
    """By events in the GPU's stream, with its L2 cache flushed and the CPU ahead."""

    def __init__(self) -> None:
        self._flushed = torch.empty(FLUSHED_BYTES, dtype=torch.uint8, device="cuda")

    def time(self, run: Work, rest: float) -> tuple[float, dict[str, int]]:
        """As the protocol says; a GPU needs no rest."""
        del rest
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flushed.zero_()
        torch.cuda._sleep(AHEAD_CYCLES)
        start.record()
        result = run()
        end.record()
        end.synchronize()
        del result
        return start.elapsed_time(end) / 1e3, {}

    def peak_extra(self, run: Work) -> int | None:
        """As the protocol says; of what PyTorch handed out."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def wait(self) -> None:
        """As the protocol says."""
        torch.cuda.synchronize()

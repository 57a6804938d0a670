"""How much memory one run needs beyond what was there: the peak of the resident set.

Linux sets the peak (VmHWM) back to what is resident now when 5 is written to clear_refs, so a
single run in this process can be told from all before.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from pathlib import Path

PROCESS = Path("/proc/self")


def _resident(field: str) -> int:
    for line in (PROCESS / "status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in {PROCESS / 'status'}")


def give_back() -> None:
    """Hands free memory back to the system, so that whether new memory is fresh is no luck.

    malloc keeps some of what was freed, and whoever asks next gets pages that are there already.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_extra(run: Callable[[], object]) -> int | None:
    """Bytes that a run had at its peak beyond those before it; None where Linux does not tell.

    What a contestant keeps from call to call was there before, for it has run already.
    """
    try:
        before = _resident("VmRSS")
        (PROCESS / "clear_refs").write_text("5", encoding="ascii")
        run()
        return max(0, _resident("VmHWM") - before)
    except OSError:
        return None

"""What to do about a package that is not there, instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

EXIT_STATUS = 2
REMEDIES = {
    "matplotlib": "the pictures need matplotlib: pip install matplotlib, or copy the result file "
    "to a machine that has it",
    "torch": "this Python has no torch: pip install torch, or call another Python",
    "numpy": "this Python has no numpy: pip install numpy, or call another Python",
    "visatb": "this Python has no visatb: pip install ./bindings/python; tools/gpu-check takes the "
    "package from the tree",
}


def told(program: str, main: Callable[[], int]) -> int:
    """The status of `main`; one line where it lacks a package of REMEDIES.

    Errors: what `main` raises, ModuleNotFoundError for any other.
    """
    try:
        return main()
    except ModuleNotFoundError as error:
        remedy = REMEDIES.get(error.name or "")
        if remedy is None:
            raise
        print(f"{program}: {remedy}", file=sys.stderr)
        return EXIT_STATUS

"""Starts a supervisor; run by its path, with -I and -S.

Without `visatb/__init__.py`, which imports NumPy and the library, it takes a third of the time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType


def _main() -> int:
    package = ModuleType("visatb")
    package.__path__ = [str(Path(__file__).resolve().parents[1])]
    sys.modules["visatb"] = package
    from visatb.running.supervise import main

    return main()


if __name__ == "__main__":
    sys.exit(_main())

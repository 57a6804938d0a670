"""What `ptxas -v` tells of each kernel: registers, shared memory, stack and spills."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

_ENTRY = re.compile(r"Compiling entry function '(?P<name>[^']+)' for '(?P<architecture>[^']+)'")
_PROPERTIES = re.compile(r"Function properties for (?P<name>\S+)")
_STACK = re.compile(
    r"(?P<stack>\d+) bytes stack frame, (?P<spill_stores>\d+) bytes spill stores, "
    r"(?P<spill_loads>\d+) bytes spill loads"
)
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_NUMBERS = ("registers", "shared", "stack", "spill_stores", "spill_loads")


def kernels_of(text: str) -> list[dict[str, Any]]:
    """One record a kernel and architecture, in the order of the output.

    What it tells of functions that kernels call is skipped.
    """
    found: list[dict[str, Any]] = []
    of_kernel = False
    for line in text.splitlines():
        if entry := _ENTRY.search(line):
            found.append({**entry.groupdict(), **dict.fromkeys(_NUMBERS, 0)})
        elif properties := _PROPERTIES.search(line):
            of_kernel = bool(found) and properties["name"] == found[-1]["name"]
        elif of_kernel and (stack := _STACK.search(line)):
            found[-1].update({key: int(value) for key, value in stack.groupdict().items()})
        elif of_kernel and (used := _USED.search(line)):
            shared = _SHARED.search(line)
            found[-1]["registers"] = int(used[1])
            found[-1]["shared"] = int(shared[1]) if shared else 0
    return _with_plain_names(found)


def _with_plain_names(kernels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As the source has them, where there is a program that tells."""
    program = shutil.which("cu++filt") or shutil.which("c++filt")
    if program is None or not kernels:
        return kernels
    names = "\n".join(one["name"] for one in kernels)
    done = subprocess.run(  # noqa: S603
        [program], input=names, capture_output=True, text=True, check=False, timeout=60
    )
    plain = done.stdout.splitlines()
    if done.returncode != 0 or len(plain) != len(kernels):
        return kernels
    return [one | {"name": _short(name)} for one, name in zip(kernels, plain, strict=True)]


def _short(name: str) -> str:
    """Without the arguments' types and what stands before the name."""
    name = name.replace("(anonymous namespace)::", "")
    name = re.sub(r"^void ", "", name)
    # Template arguments such as (cuda_path)1 have parentheses too.
    depth = 0
    for place, letter in enumerate(name):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "(" and depth == 0:
            return name[:place]
    return name

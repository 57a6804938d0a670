"""What Python's JSON reader lets through; this file imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

Pairs = list[tuple[str, Any]]


def once(refuse: Callable[[str], NoReturn]) -> Callable[[Pairs], dict[str, Any]]:
    """An `object_pairs_hook` of `json` for objects that have each key once.

    Args:
        refuse: raises for the first key that comes a second time.
    """

    def hook(pairs: Pairs) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            seen = set()
            for key, _ in pairs:
                if key in seen:
                    refuse(key)
                seen.add(key)
        return result

    return hook

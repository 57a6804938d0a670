"""Numbers as JSON documents have them; this file imports nothing heavy."""

from __future__ import annotations

import math

# Sums and squares of what is smaller are finite; what is beyond it is no score.
LARGEST = 1e150


def finite(value: object, below: float = math.inf) -> float | None:
    """A number as a float.

    Args:
        value: what stands in a document.
        below: what its magnitude must lie below.

    Returns:
        None for what is no number (a boolean is none), is not finite, or is too large.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if -below < number < below else None

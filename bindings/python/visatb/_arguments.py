"""Checks of arguments that the library could only name in the words of C."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from ._errors import ArgumentError

Temperature = float | Literal["auto"]
FORMS = ("full", "simple", "precise")


def temperature_or_zero(temperature: Temperature) -> float:
    """The temperature as the library takes it, where 0 stands for automatic."""
    if temperature == "auto":
        return 0.0
    if isinstance(temperature, (str, bool)) or not 0.0 < temperature < math.inf:
        raise ArgumentError(f'temperature = {temperature!r}; expected "auto" or a number above 0')
    return float(temperature)


def three_alphas(alphas: Sequence[float]) -> tuple[float, float, float]:
    """The alphas as three floats; what they must sum to is the library's to say."""
    try:
        out, into, difficulty = (float(alpha) for alpha in alphas)
    except (TypeError, ValueError):
        text = f"alphas = {alphas!r}; expected three numbers: out, in, difficulty"
        raise ArgumentError(text) from None
    return out, into, difficulty


def known_form(form: str) -> str:
    """The form itself, if there is one of that name."""
    if form not in FORMS:
        raise ArgumentError(f'form = {form!r}; expected "full", "simple" or "precise"')
    return form

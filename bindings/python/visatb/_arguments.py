"""Checks of arguments that the library could only name in the words of C."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Literal

import numpy as np

from . import _paths
from ._errors import ArgumentError

Temperature = float | Literal["auto"]
FORMS = ("full", "simple", "precise")
file_name = _paths.file_name


def temperature_or_zero(temperature: Temperature) -> float:
    """The temperature as the library takes it, where 0 stands for automatic."""
    if isinstance(temperature, str) and temperature == "auto":
        return 0.0
    number = _number(temperature)
    if number is None or not 0.0 < number < math.inf:
        raise ArgumentError(f'temperature = {temperature!r}; expected "auto" or a number above 0')
    return number


def one_temperature(temperature: float) -> float:
    """The temperature as a float, where none is automatic; its range is the library's to say."""
    number = _number(temperature)
    if number is None:
        raise ArgumentError(f"temperature = {temperature!r}; expected a number above 0")
    return number


def three_alphas(alphas: Sequence[float]) -> tuple[float, float, float]:
    """The alphas as three floats; what they must sum to is the library's to say."""
    numbers = _numbers(alphas)
    if len(numbers) != 3:
        text = f"alphas = {alphas!r}; expected three numbers: out, in, difficulty"
        raise ArgumentError(text)
    return numbers[0], numbers[1], numbers[2]


def low_and_high(bounds: Sequence[float]) -> tuple[float, float]:
    """A range as two floats; what it must contain is the library's to say."""
    numbers = _numbers(bounds)
    if len(numbers) != 2:
        raise ArgumentError(f"range = {bounds!r}; expected two numbers: low, high")
    return numbers[0], numbers[1]


def known_form(form: str) -> str:
    """The form itself, if there is one of that name."""
    if form not in FORMS:
        raise ArgumentError(f'form = {form!r}; expected "full", "simple" or "precise"')
    return form


def whole_number(argument: str, value: object, least: int, most: int) -> int:
    """An integer in [least, most], Python's or NumPy's."""
    if not isinstance(value, bool) and isinstance(value, numbers.Integral):
        number = int(value)
        if least <= number <= most:
            return number
        known = {2**62: "2^62", 2**63 - 1: "2^63 - 1", 2**64 - 1: "2^64 - 1"}
        text = f"an integer in [{least}, {known.get(most, most)}]"
    else:
        text = "an integer"
    raise ArgumentError(f"{argument} = {value!r}; expected {text}")


def name_bytes(argument: str, name: object) -> bytes:
    """A name as the library takes it, which a NUL would cut short."""
    if not isinstance(name, str):
        raise ArgumentError(f"{argument} = {name!r}; expected a name")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise ArgumentError(f"{argument} = {name!r}; expected a name in UTF-8") from None
    if b"\0" in encoded:
        raise ArgumentError(f"{argument} = {name!r}; a name has no NUL in it")
    return encoded


def _numbers(values: Sequence[float]) -> list[float]:
    """Every value as a float; none where one is no number."""
    try:
        numbers = [_number(value) for value in values]
    except TypeError:
        return []
    return [number for number in numbers if number is not None] if None not in numbers else []


def _number(value: object) -> float | None:
    """A scalar as a float: Python's, NumPy's or PyTorch's; None for what is none."""
    if isinstance(value, (str, bytes, bool, np.bool_)):
        return None
    try:
        return float(value) if np.ndim(value) == 0 else None  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None

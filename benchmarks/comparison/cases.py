"""What is timed: shapes, dtypes and shares of valid rows. Imports no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

DTYPES = ("float32", "bfloat16")
SHARES = (100, 30)
# The vocabularies of Llama 2, the same made odd, and of Qwen2; fewer rows where they are wide.
# Every gradient is beyond 32 MB, from which on malloc gives fresh pages at every call.
LOGITS_SIZES = ("2048x32000", "2048x32003", "512x152064")
# The logits of the last do not fit the library's 256 MiB, so they pass in chunks.
LINEAR_SIZES = ("512x1024x32000", "256x1024x152064", "2048x1024x32000")
QUICK_SIZES = ("640x32000", "128x256x32000")
QUICK_SHARES = (100,)
LONG_PRODUCTS = 5e10  # multiplications of one product


@dataclass(frozen=True)
class Size:
    """[rows, vocab] of logits; with `hidden`, hidden states [rows, hidden] and their weight."""

    rows: int
    vocab: int
    hidden: int | None = None

    @property
    def form(self) -> str:
        """What is given: "logits" or "linear"."""
        return "logits" if self.hidden is None else "linear"

    def __str__(self) -> str:
        if self.hidden is None:
            return f"[{self.rows}, {self.vocab}]"
        return f"[{self.rows}, {self.hidden}] x [{self.vocab}, {self.hidden}]"


@dataclass(frozen=True)
class Case:
    """One size, one dtype, one share of valid rows in percent."""

    size: Size
    dtype: str
    valid: int

    def __str__(self) -> str:
        return f"{self.size.form} {self.size} {self.dtype} {self.valid}% valid"


def parse_size(text: str, rows: int | None = None) -> Size:
    """ROWSxVOCAB is [rows, vocab]; ROWSxHIDDENxVOCAB is [rows, hidden] and [vocab, hidden].

    Errors: ValueError.
    """
    numbers = [int(part) for part in text.split("x")]
    if len(numbers) not in (2, 3) or min(numbers) < 1:
        raise ValueError(f"{text!r}; expected ROWSxVOCAB or ROWSxHIDDENxVOCAB")
    hidden = numbers[1] if len(numbers) == 3 else None
    return Size(rows or numbers[0], numbers[-1], hidden)


def rounds(case: Case, repeat: int) -> int:
    """How often a case is timed, where one of logits is `repeat` times."""
    if case.size.hidden is None:
        return repeat
    products = case.size.rows * case.size.hidden * case.size.vocab
    return 3 if products > LONG_PRODUCTS else max(3, repeat // 2)


def is_too_long(case: Case) -> bool:
    """Whether a full run goes without it, for another size tells as much in less time."""
    return case.size == parse_size("256x1024x152064") and case.valid < 100


def make_cases(sizes: list[Size], dtypes: list[str], shares: list[int]) -> list[Case]:
    """Every combination, sizes outermost."""
    return [Case(size, dtype, valid) for size in sizes for dtype in dtypes for valid in shares]

"""Templates of shell lines: what in them is a placeholder, and what is the shell's.

A word in braces is a placeholder, `{data}`; `{{` and `}}` are braces. What begins with `${` is the
shell's down to its own end, and so is what a backslash stands before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_QUOTES = ("'", '"')
# What says how the shell reads, and what ends it.
_ENDS = {"'": "'", '"': '"', "#": "\n", "$(": ")", "(": ")", "`": "`"}
# The shell's and ours, and what the shell gets of them.
_BRACES = {"${": "${", "{{": "{"}


class Piece(NamedTuple):
    """A part of a template.

    Attributes:
        text: as the shell gets it; of a placeholder, its name.
        is_placeholder: whether it is filled in.
        is_quoted: whether it stands inside the shell's quotes.
    """

    text: str
    is_placeholder: bool = False
    is_quoted: bool = False


def placeholders(template: str) -> set[str]:
    """The names of a template's placeholders."""
    return {piece.text for piece in pieces(template) if piece.is_placeholder}


def fill(template: str, values: Mapping[str, str]) -> str:
    """The shell line of a template, every placeholder of which has a value, quoted if need be."""
    return "".join(
        values[piece.text] if piece.is_placeholder else piece.text for piece in pieces(template)
    )


def pieces(template: str) -> Iterator[Piece]:
    """A template from its begin to its end."""
    scanner, at = _Scanner(), 0
    while at < len(template):
        length, piece = scanner.read(template, at)
        yield piece
        at += length


class _Scanner:
    """Follows quotes, comments, substitutions and braces, as far as placeholders depend on them."""

    def __init__(self) -> None:
        # What is open, the innermost last.
        self._open: list[str] = []

    def read(self, template: str, at: int) -> tuple[int, Piece]:
        """How many characters the next piece has, and the piece."""
        char, two = template[at], template[at : at + 2]
        if two in _BRACES:
            self._open.append(two)
            return 2, Piece(_BRACES[two])
        if char == "}":
            return self._close_brace(two)
        quote = self._quote()
        if found := _PLACEHOLDER.match(template, at):
            return len(found[0]), Piece(found[1], is_placeholder=True, is_quoted=quote in _QUOTES)
        if char == "\\" and quote not in {"'", "#"}:
            escapes = two[1:] not in {"{", "}"} or _PLACEHOLDER.match(template, at + 1)
            return (2, Piece(two)) if escapes else (1, Piece(char))
        if char == _ENDS.get(quote):
            self._close(quote)
        elif begins := self._begins(template, at, quote):
            self._open.append(begins)
            return len(begins), Piece(begins)
        return 1, Piece(char)

    def _begins(self, template: str, at: int, quote: str) -> str:
        """What begins here: quotes, a substitution, a comment; "" where nothing does."""
        char, two = template[at], template[at : at + 2]
        if quote in {"'", "#"}:
            return ""
        if two == "$(":
            return two
        if char in {'"', "`"} or (char == "'" and quote != '"'):
            return char
        if char == "(":
            return char if quote in {"$(", "("} else ""
        is_word = at > 0 and template[at - 1] not in " \t\n;&|("
        return char if char == "#" and quote != '"' and not is_word else ""

    def _close_brace(self, two: str) -> tuple[int, Piece]:
        innermost = self._open[-1] if self._open else ""
        if two == "}}" and innermost != "${":
            if innermost == "{{":
                self._open.pop()
            return 2, Piece("}")
        if innermost == "${":
            self._open.pop()
        return 1, Piece("}")

    def _quote(self) -> str:
        """The innermost of what says how the shell reads; "" outside of any."""
        return next((one for one in reversed(self._open) if one not in _BRACES), "")

    def _close(self, what: str) -> None:
        """Closes it, and whatever was left open in it."""
        while self._open.pop() != what:
            pass

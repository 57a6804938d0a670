"""What this package raises.

A wrong argument is an `ArgumentError`, hence a `ValueError`; everything else is an `Error`, hence a
`RuntimeError`. Exhausted memory is Python's own `MemoryError`.
"""

from __future__ import annotations


class ArgumentError(ValueError):
    """An argument is wrong; the message names it, its value, and what would be right."""


class Error(RuntimeError):
    """What goes wrong although the call was right; the base of the classes below."""


class DataError(Error):
    """A file, or the scores in it, are wrong or cannot carry weights.

    Attributes:
        path: where in the JSON, as "runs.mini.vqa.em"; "" where it lies in no file.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path

    def __reduce__(self) -> tuple[type[DataError], tuple[str, str]]:
        # Exceptions are rebuilt from `args`, which hold the message only.
        return type(self), (str(self), self.path)


class FileError(Error, OSError):
    """A file cannot be read or written; an `OSError` too."""


class UnsupportedError(Error):
    """This build, or this version, does not have it."""


class LibraryError(Error):
    """libvisatb cannot be found, cannot be opened, or is of another version."""


def cut(text: str, longest: int = 100) -> str:
    """A text for a message, cut where it is longer: any file may hold any text."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."

"""The page: sections of text, figures and tables, put into its template."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from visatb._version import __version__

from .gather import Material
from .sentences import Sentence
from .style import Drawing
from .summary import summary
from .tables import Table

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Content:
    """A table with what it is called, and the id that it has in the page."""

    label: str
    table: Table
    id: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure in the page.

    Attributes:
        drawing: the figure.
        title: what it shows, in a few words.
        alt: the same with its numbers, for who cannot see it.
        caption: how it is read.
        tables: its numbers.
    """

    drawing: Drawing
    title: str
    alt: str
    caption: str
    tables: Sequence[Content] = ()

    @property
    def name(self) -> str:
        """That of its files."""
        return self.drawing.name

    @property
    def width(self) -> int:
        """In CSS pixels."""
        return self.drawing.width

    @property
    def height(self) -> int:
        """In CSS pixels."""
        return self.drawing.height

    @property
    def source(self) -> str:
        """The picture itself: as an image, it can neither run nor load anything."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.drawing.svg).decode()}"


@dataclass(frozen=True)
class WarningGroup:
    """Warnings of one code."""

    code: str
    title: str
    found: Sequence[dict[str, str]]


@dataclass(frozen=True)
class Section:
    """A section; what it has is shown in the order of the fields."""

    id: str
    title: str
    texts: Sequence[str] = ()
    sentences: Sequence[Sentence] = ()
    facts: Sequence[tuple[str, str]] = ()
    blocks: Sequence[Content | Picture] = ()
    warnings: Sequence[WarningGroup] = ()
    notes: Sequence[str] = ()


def page(material: Material, title: str, sections: Sequence[Section]) -> str:
    """The page as HTML; every text of the files is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_HERE, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(
        title=title,
        summary=" ".join(summary(material)),
        sections=sections,
        version=__version__,
        # Our own file: the only text that is not escaped.
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704
    )

"""A page of the report taken apart: its elements, its tables, its texts."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

_VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """A page, parsed; it must close what it opens."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: list[str] = []
        self._open: list[str] = []
        self._rows: list[list[str]] | None = None
        self.feed(self.source)
        self.close()
        assert self._open == []

    @property
    def text(self) -> str:
        """All that is read, in one line."""
        return " ".join(" ".join(self.texts).split())

    def attributes(self, *names: str) -> list[str]:
        """The values of these attributes, wherever they are."""
        return [
            str(value)
            for _, found in self.elements
            for name, value in found.items()
            if name in names
        ]

    def svg(self, figure: str) -> str:
        """The picture in a figure."""
        start = next(
            index
            for index, (_, found) in enumerate(self.elements)
            if found.get("id") == f"figure-{figure}"
        )
        source = next(str(found["src"]) for tag, found in self.elements[start:] if tag == "img")
        return base64.b64decode(source.removeprefix("data:image/svg+xml;base64,")).decode()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert len(found) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append((tag, found))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            self._rows = []
            self.tables[found.get("id") or f"table {len(self.tables)}"] = self._rows
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in {"td", "th"} and self._rows is not None:
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "table":
            self._rows = None

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.texts.append(data)
        if self._rows and self._rows[-1] and {"td", "th"} & set(self._open):
            self._rows[-1][-1] += data

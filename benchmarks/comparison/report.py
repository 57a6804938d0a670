"""docs/benchmarks.md and its pictures from a result file, and from nothing else."""

from __future__ import annotations

from pathlib import Path

from . import plot, results, table

PAGE = "benchmarks.md"
PICTURES = {"logits": "benchmark-cpu.png", "linear": "benchmark-cpu-linear.png"}
BEGIN, END = "<!-- cpu: begin -->", "<!-- cpu: end -->"


def write(source: Path, docs: Path) -> list[Path]:
    """Replaces what stands between the page's markers; the files that were written.

    Errors: ValueError for a page without markers; OSError.
    """
    found = results.read(source)
    page = docs / PAGE
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{page}: expected {BEGIN} and {END} once each")
    pictures = [
        docs / "images" / name
        for form, name in PICTURES.items()
        if plot.draw(docs / "images" / name, found, form)
    ]
    shown = [f"![Times of every contestant](images/{picture.name})" for picture in pictures]
    middle = "\n\n".join([table.markdown(found, source.name), *shown])
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{middle}\n{END}{after}", encoding="utf-8")
    return [page, *pictures]

"""docs/benchmarks.md and its pictures from a result file, and from nothing else."""

from __future__ import annotations

from pathlib import Path

from . import results, table

PAGE = "benchmarks.md"
MARK = "cpu"
PICTURES = {"logits": "benchmark-cpu.png", "linear": "benchmark-cpu-linear.png"}


def write(source: Path, docs: Path) -> list[Path]:
    """Replaces what stands between the page's markers; the files that were written.

    Errors: ValueError for a page without markers; OSError.
    """
    # Here alone: pages without pictures are written where there is no matplotlib.
    from . import plot

    found = results.read(source)
    machine = f"{found['machine']['cpu']}, {found['settings']['threads']} threads"
    pictures = [
        docs / "images" / name
        for form, name in PICTURES.items()
        if plot.draw(docs / "images" / name, found, form, machine)
    ]
    shown = [f"![Times of every contestant](images/{picture.name})" for picture in pictures]
    middle = "\n\n".join([table.markdown(found, source.name), *shown])
    return [replace(docs, MARK, middle), *pictures]


def replace(docs: Path, mark: str, middle: str) -> Path:
    """Puts a text between the markers of this name; the page.

    Errors: ValueError for a page without these markers; OSError.
    """
    page, begin, end = docs / PAGE, f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{page}: expected {begin} and {end} once each")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}\n{middle}\n{end}{after}", encoding="utf-8")
    return page

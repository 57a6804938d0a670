"""From files to a page and its figures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from visatb._arguments import file_name
from visatb._errors import ArgumentError, FileError
from visatb._sources import PathLike, shown
from visatb._write import refuse_inputs, written_together

from ._require import require_drawing
from .gather import Material, gather

if TYPE_CHECKING:
    from .style import Drawing


class Written(NamedTuple):
    """The files that were written: the page, and the figures if they were asked for."""

    page: Path
    figures: tuple[Path, ...]


def write_report(
    path: PathLike,
    *,
    results: PathLike | None = None,
    plan: PathLike | None = None,
    scores: PathLike | None = None,
    output: PathLike | None = None,
    figures: PathLike | None = None,
) -> Written:
    """Writes a page of HTML that shows weights and all that they were made from.

    The same files make the same page, to the byte. Nothing is written when something is wrong.

    Args:
        path: a weights file, or a folder that holds weights.json.
        results: results of the final run; None: results.json beside the weights, if it is there.
        plan: the plan; None: plan.json there.
        scores: the scores; None: scores.json or scores.csv there.
        output: the page; None: report.html beside the weights.
        figures: a folder for the figures as SVG and PNG, made where it is missing; None: no files.

    Errors: ArgumentError, FileError, DataError (a file is wrong, or does not belong to the others),
    UnsupportedError (matplotlib or Jinja2 is missing).
    """
    require_drawing()
    material = gather(path, results=results, plan=plan, scores=scores)
    page = material.folder / "report.html" if output is None else Path(file_name("output", output))
    refuse_inputs("output", page, material.read, "the report is")
    folder = None if figures is None else Path(file_name("figures", figures))
    text, drawings = _drawn(material, png=folder is not None)
    pictures = {} if folder is None else _files(folder, drawings)
    for file in pictures:
        refuse_inputs("figures", file, material.read, "the report is")
        if os.path.realpath(file) == os.path.realpath(page):
            raise ArgumentError(f"output = {shown(str(page))}: a figure gets this name")
    with written_together() as add:
        add(page, text.encode())
        if folder is not None:
            _make(folder)
        for file, content in pictures.items():
            add(file, content)
    return Written(page, tuple(pictures))


def _drawn(material: Material, *, png: bool) -> tuple[str, list[Drawing]]:
    # What these import is known to be there only now.
    from . import style
    from .bars import difficulty_figure, weights_figure
    from .improvement import improvement_figure
    from .matrix import contribution_figure
    from .page import page
    from .sections import sections
    from .temperature import temperature_figure

    with style.applied():
        made = {
            "weights": weights_figure(material),
            "contribution": contribution_figure(material),
            "difficulty": difficulty_figure(material),
            "temperature": temperature_figure(material),
        }
        if material.results and material.results.compared:
            made["results"] = improvement_figure(material, material.results)
        drawings = {name: style.render(name, figure, png=png) for name, figure in made.items()}
    title = "Task weights by VisATB"
    return page(material, title, sections(material, drawings)), list(drawings.values())


def _files(folder: Path, drawings: list[Drawing]) -> dict[Path, bytes]:
    """The files of the figures and what they will hold."""
    return {
        folder / f"{drawing.name}{suffix}": content
        for drawing in drawings
        for suffix, content in ((".svg", drawing.svg), (".png", drawing.png))
    }


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise FileError(f"{shown(str(folder))}: cannot be made: {reason.strerror}") from reason

"""What stands in the figures: the lengths, lines and colours that a reader measures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from report_cases import (
    add_intervals,
    make_folder,
    results_for,
    save,
    simulated_scores,
    vector_scores,
)

import visatb
from visatb.report import style
from visatb.report.bars import difficulty_figure, weights_figure
from visatb.report.gather import Material, gather
from visatb.report.improvement import improvement_figure
from visatb.report.matrix import contribution_figure
from visatb.report.temperature import temperature_figure


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Material:
    scores = vector_scores()
    folder = make_folder(tmp_path_factory.mktemp("three"), scores, add_intervals)
    save(folder / "results.json", results_for(["caption", "vqa"], ["EW", "TLA", "VisATB"]))
    return gather(folder)


@pytest.fixture(autouse=True)
def our_style():
    with style.applied():
        yield


def rows_of(axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def vertical_lines(axes) -> set[float]:
    return {line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1}


def whiskers(axes) -> dict[int, tuple[float, float]]:
    """By row, of the collections that are one level line."""
    found = {}
    for collection in axes.collections:
        for (left, y0), (right, y1) in collection.get_segments():
            if y0 == y1:
                found[round(y0)] = (left, right)
    return found


def test_bars_of_weights_are_as_long_as_weights_and_made_of_their_shares(material):
    (axes,) = weights_figure(material).axes
    names = rows_of(axes)
    assert names == ["grounding", "caption", "vqa", "sharegpt"]
    bars: dict[str, list] = {name: [] for name in names}
    for patch in axes.patches:
        if patch.get_width():
            bars[names[round(patch.get_y() + patch.get_height() / 2)]].append(patch)
    for unit in material.weights.units:
        widths = [bar.get_width() for bar in bars[unit.name]]
        assert widths == pytest.approx(list(unit.shares.values()))
        ends = [bar.get_x() for bar in bars[unit.name]]
        assert ends == pytest.approx([0, *np.cumsum(list(unit.shares.values()))[:2]])
        assert bars[unit.name][-1].get_x() + bars[unit.name][-1].get_width() == pytest.approx(
            unit.weight
        )
        colours = [to_hex(bar.get_facecolor()) for bar in bars[unit.name]]
        assert colours == list(style.PART_COLOURS.values())
    (fixed,) = bars["sharegpt"]
    assert fixed.get_width() == 1.0
    assert fixed.get_hatch()


def test_lines_stand_at_1_and_at_the_ends_of_the_range(material):
    (axes,) = weights_figure(material).axes
    assert vertical_lines(axes) == {0.5, 1, 2.0}
    wider = material.scores.__class__(**{**vars(material.scores), "range": (0.25, 4.0)})
    changed = Material(**{**vars(material), "scores": wider})
    assert vertical_lines(weights_figure(changed).axes[0]) == {0.25, 1, 4.0}
    assert weights_figure(changed).axes[0].get_xlim()[1] > 4


def test_whiskers_are_the_intervals(material):
    for draw, measure in ((weights_figure, "weight"), (difficulty_figure, "difficulty")):
        (axes,) = draw(material).axes
        found = whiskers(axes)
        assert len(found) == 3
        for row, interval in found.items():
            assert interval == material.weights.intervals.of(measure, rows_of(axes)[row])


def test_bars_of_difficulty_are_as_long_as_difficulties(material):
    (axes,) = difficulty_figure(material).axes
    expected = sorted(
        (unit.measures["difficulty"] for unit in material.weights.units), reverse=True
    )
    assert [patch.get_width() for patch in axes.patches] == expected
    assert rows_of(axes) == ["grounding", "caption", "vqa"]


def test_cells_hold_contributions_and_their_means_and_the_diagonal_is_empty(material):
    (axes,) = contribution_figure(material).axes
    matrix, outward, inward = (mesh.get_array() for mesh in axes.collections)
    expected = np.where(np.eye(3, dtype=bool), np.nan, material.weights.contribution)
    np.testing.assert_array_equal(np.ma.filled(matrix, np.nan), expected)
    units = material.weights.units
    assert outward.ravel().tolist() == [unit.measures["outward"] for unit in units]
    assert inward.ravel().tolist() == [unit.measures["inward"] for unit in units]
    assert len(axes.patches) == 3
    assert len(axes.texts) == 6 + 3 + 3
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "caption", "vqa", "grounding", "outward",
    ]  # fmt: skip
    assert rows_of(axes) == ["caption", "vqa", "grounding", "inward"]
    # grounding -> caption is the third row and the first column, and the one that harms
    (harm,) = [text for text in axes.texts if text.get_text() == "\N{MINUS SIGN}0.10"]
    assert harm.get_position() == (0.5, 2.5)


@pytest.mark.parametrize(("strongest", "limit"), [(0.1, 0.5), (0.8, 0.8), (3.0, 1.0)])
def test_colours_are_centred_at_no_help_and_no_stronger_than_they_mean(strongest, limit):
    from visatb.report.matrix import _limit

    assert _limit(np.array([[1.0, -strongest], [0.05, 1.0]])) == limit
    middle = to_rgb(style.DIVERGING(0.5))
    assert max(middle) - min(middle) < 0.02
    red, _, blue = style.DIVERGING(0.25)[:3]
    assert red > blue
    red, _, blue = style.DIVERGING(0.75)[:3]
    assert blue > red


def test_numbers_can_be_read_on_every_colour(tmp_path):
    scores = simulated_scores([f"t{number}" for number in range(12)], 8)
    (axes,) = contribution_figure(gather(make_folder(tmp_path, scores))).axes
    mesh = axes.collections[0]

    def luminance(colour):
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    for text in axes.texts[: 12 * 11]:
        column, row = (int(place) for place in text.get_position())
        cell = luminance(mesh.to_rgba(mesh.get_array()[row, column])[:3])
        ink = luminance(to_rgb(text.get_color()))
        contrast = (max(cell, ink) + 0.05) / (min(cell, ink) + 0.05)
        assert contrast > 4.0


def test_lines_over_temperature_are_the_librarys_and_pass_the_chosen_weights(material):
    (axes,) = temperature_figure(material).axes
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    units = material.weights.units
    assert len(lines) == len(dots) == 3
    for number in (0, 40, 80):
        temperature = float(lines[0].get_xdata()[number])
        made = visatb.balance_weights(
            *([unit.measures[m] for unit in units] for m in ("outward", "inward", "difficulty")),
            temperature=temperature,
        )
        assert [line.get_ydata()[number] for line in lines] == made.weights.tolist()
    assert lines[0].get_xdata()[0] == pytest.approx(0.125)
    assert lines[0].get_xdata()[-1] == pytest.approx(4)
    for dot, unit in zip(dots, units, strict=True):
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (0.5, unit.weight)
    names = [text.get_text() for text in axes.texts]
    assert names == ["grounding", "caption", "vqa", "T = 0.5"]


def test_names_of_lines_do_not_lie_on_each_other():
    from visatb.report.temperature import _apart

    for heights in ([0.9, 0.89, 0.88, 0.1], [0.03, 0.02, 0.01, 0.0], [1.0, 0.5, 0.5, 0.5]):
        placed = _apart(list(heights))
        assert all(upper - lower > 0.0519 for upper, lower in itertools.pairwise(placed))
        assert min(placed) >= 0
        assert max(placed) <= 1
    assert _apart([0.9, 0.5, 0.1]) == [0.9, 0.5, 0.1]


def test_bars_of_results_are_improvements_on_one_scale(material):
    figure = improvement_figure(material, material.results)
    evaluated = material.results.compared
    assert [axes.get_title(loc="left").strip() for axes in figure.axes] == ["EW", "TLA", "VisATB"]
    for axes, method in zip(figure.axes, evaluated, strict=True):
        assert [bar.get_width() for bar in axes.patches] == list(method.by_task.values())
        for bar in axes.patches:
            colour = style.HELPS if bar.get_width() >= 0 else style.HARMS
            assert to_hex(bar.get_facecolor()) == colour
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert rows_of(figure.axes[0]) == ["caption", "vqa", "POPE", "MME"]
    # Zero-shot tasks stand apart from those that were trained.
    assert np.diff(figure.axes[0].get_yticks()).tolist() == pytest.approx([1.0, 1.7, 1.0])

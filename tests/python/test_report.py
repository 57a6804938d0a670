"""The report: its numbers are the files', whatever names hold; the same files, the same bytes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from report_cases import (
    HOSTILE,
    add_intervals,
    make_folder,
    plan_for,
    results_for,
    save,
    simulated_scores,
    vector_scores,
)
from report_page import Page

import visatb
from visatb.report import write_report
from visatb.report.names import brief, in_figures, shown

MINUS = "\N{MINUS SIGN}"


def plain(number: str) -> float:
    return float(number.replace(MINUS, "-"))


def copied(document: dict) -> dict:
    return json.loads(json.dumps(document))


def weights_of(folder: Path) -> dict:
    return json.loads((folder / "weights.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """Three weighed tasks and a fixed one, with intervals, a plan and results; to be read only."""
    scores = vector_scores()
    folder = make_folder(tmp_path_factory.mktemp("three"), scores, add_intervals)
    save(folder / "plan.json", plan_for(scores))
    names = [task["name"] for task in scores["tasks"]]
    save(folder / "results.json", results_for(names, ["EW", "VisATB"]))
    return folder


@pytest.fixture(scope="module")
def page(three) -> Page:
    return Page(write_report(three, output=three / "page.html").page)


@pytest.fixture
def copy(three, tmp_path) -> Path:
    """The same to be changed."""
    return Path(shutil.copytree(three, tmp_path / "copy"))


# --- what it says ---------------------------------------------------------------------------------


def test_the_table_of_weights_is_that_of_the_file(three, page):
    weights = weights_of(three)
    head, *rows = page.tables["weights-table"]
    assert head == [
        "task", "id", "weight", "95% interval", "outward", "inward", "difficulty",
        "by outward", "by inward", "by difficulty",
    ]  # fmt: skip
    assert [row[0] for row in rows] == weights["tasks"]
    assert [row[1] for row in rows] == ["0", "1", "2", "3"]
    for name, _, weight, interval, *made in rows:
        assert weight == f"{weights['weights'][name]:.4f}"
        if name == "sharegpt":
            assert [interval, *made] == ["", "fixed", "", "", "", "", ""]
            continue
        low, high = weights["intervals"]["weights"][name]
        assert interval == f"{low:.3f} to {high:.3f}"
        expected = [weights[measure][name] for measure in ("outward", "inward", "difficulty")]
        expected += [weights["components"][part][name] for part in ("out", "in", "difficulty")]
        assert [plain(number) for number in made] == pytest.approx(expected, abs=5.1e-4)


def test_the_matrix_is_that_of_the_file_with_its_means(three, page):
    weights = weights_of(three)
    table = next(rows for rows in page.tables.values() if rows[0][0].startswith("from"))
    units = list(weights["contribution"])
    assert table[0][1:] == [*units, "outward"]
    for unit, row in zip(units, table[1:-1], strict=True):
        expected = [*weights["contribution"][unit].values(), weights["outward"][unit]]
        assert row[0] == unit
        assert [plain(number) for number in row[1:]] == pytest.approx(expected, abs=5.1e-4)
    assert [plain(n) for n in table[-1][1:-1]] == pytest.approx(
        list(weights["inward"].values()), abs=5.1e-4
    )


def test_the_weights_over_temperature_are_those_of_the_library(three, page):
    weights = weights_of(three)
    table = next(rows for rows in page.tables.values() if "T = 0.125" in rows[0])
    made = visatb.balance_weights(
        list(weights["outward"].values()),
        list(weights["inward"].values()),
        list(weights["difficulty"].values()),
        temperature=0.125,
    )
    column = table[0].index("T = 0.125")
    assert [plain(row[column]) for row in table[1:]] == pytest.approx(made.weights, abs=5.1e-4)
    chosen = table[0].index("T = 0.5")
    assert [plain(row[chosen]) for row in table[1:]] == pytest.approx(
        [weights["weights"][unit] for unit in weights["outward"]], abs=5.1e-4
    )


def test_the_first_paragraph_says_it_all_in_words(page):
    text = page.text
    assert (
        "3 tasks were weighed by the full form at temperature 0.5; sharegpt keeps its fixed weight."
        in text
    )
    assert (
        "grounding weighs most, 1.16, mainly because it is harder than average; vqa weighs least, "
        "0.88, mainly because it is easier than average. Every weight that was made lies in the "
        "range 0.5 to 2." in text
    )
    assert (
        "By their 95% intervals over resampled validation samples, 1 of 3 weights is told apart "
        "from 1, and 2 of 3 pairs of weights from each other." in text
    )
    assert "There is one warning: negative contribution: grounding -> caption." in text


def test_a_fixed_task_has_its_sentence_and_every_other_its_reasons(page):
    assert "sharegpt is fixed at 1.0 ; it was not weighed." in page.text
    assert (
        "grounding weighs 1.16 : +0.24 because it is harder than average (difficulty 0.50, the "
        f"highest of 3); "
        f"{MINUS}0.05 because it does not help the others" in page.text
    )


def test_results_are_those_of_evaluate(three, page):
    evaluation = visatb.evaluate(three / "results.json")
    head, *rows = page.tables["methods-table"]
    assert head == ["method", "dI %", "dE %", "dI zero-shot %"]
    for name, gain, loss, zero_shot in rows:
        found = evaluation["methods"][name]
        assert plain(gain) == pytest.approx(found["dI"], abs=0.0051)
        assert plain(loss) == pytest.approx(found["dE"], abs=0.0051)
        assert plain(zero_shot) == pytest.approx(found["dI_zero"], abs=0.0051)
    changes = next(rows for rows in page.tables.values() if rows[0] == ["task", "EW", "VisATB"])
    assert changes[-1][0] == "MME (zero-shot)"
    for row in changes[1:]:
        task = row[0].removesuffix(" (zero-shot)")
        for method, number in zip(("EW", "VisATB"), row[1:], strict=True):
            expected = evaluation["methods"][method]["tasks"][task]
            assert plain(number) == pytest.approx(expected, abs=0.0051)


def test_the_cost_and_the_runs_are_those_of_the_plan(three, page):
    text = page.text
    assert "by the formula 0.3438 of the final run" in text
    assert "counted in samples 0.3441 of the final run" in text
    assert "41,292 to measure, 120,000 in the end" in text
    # 41,292 of 120,000, counted as 0.3441; and 323 of 938.
    assert "34.4% of the final run's samples beside it, and 34.4% of its steps" in text
    runs = next(rows for rows in page.tables.values() if rows[0][0] == "run")
    assert runs[1] == ["mini", "measuring", "1,250", "10"]
    assert [row[0] for row in runs[2:-1]] == [
        f"with_mini:{u}" for u in weights_of(three)["outward"]
    ]
    assert runs[-1] == ["VisATB", "comparison", "120,000", "938"]


def test_the_files_stand_there_with_their_hashes(three, page):
    rows = page.tables["files-table"][1:]
    assert [row[:2] for row in rows] == [
        ["weights.json", "weights"],
        ["scores.json", "scores"],
        ["plan.json", "plan"],
        ["results.json", "results"],
        ["data.json", "input of the plan"],
    ]
    for name, _, sha256 in rows[:4]:
        assert sha256 == hashlib.sha256((three / name).read_bytes()).hexdigest()
    assert rows[1][2] == weights_of(three)["scores_sha256"]
    plan = json.loads((three / "plan.json").read_text(encoding="utf-8"))
    assert f"{plan['identity']}, seed 3" in page.text


def test_warnings_stand_in_groups(scores, tmp_path):
    scores["tasks"][0]["samples"] = 100
    scores["tasks"][1]["samples"] = 200
    scores["sampling"] = {"large": 0.25, "mini": 0.03125, "batch_size": 8}
    folder = make_folder(tmp_path / "few", scores)
    found = weights_of(folder)["warnings"]
    page = Page(write_report(folder).page)
    codes = {warning["code"] for warning in found}
    assert len(codes) > 2
    for warning in found:
        assert warning["message"] in page.text
    for code in codes:
        assert page.text.count(f" {code} ") == 1


def test_weights_alone_make_a_page_that_says_what_is_not_there(copy):
    for name in ("scores.json", "plan.json", "results.json"):
        (copy / name).unlink()
    page = Page(write_report(copy / "weights.json").page)
    assert "3 tasks were weighed at temperature 0.5" in page.text
    assert "(not here)" in page.text
    assert "computed again from its contributions and difficulties" in page.text
    assert "After the final run" not in page.text
    assert "The runs" not in page.text


def test_groups_are_named_with_their_tasks_even_without_the_scores(examples, tmp_path):
    scores = json.loads((examples / "groups.json").read_text(encoding="utf-8"))
    folder = make_folder(tmp_path / "groups", scores)
    with_scores = Page(write_report(folder).page)
    (folder / "scores.json").unlink()
    without = Page(write_report(folder).page)
    for page in (with_scores, without):
        assert "reading (textvqa and textcaps) weighs 1.28 each :" in page.text
        assert "sharegpt is fixed at 1.25 ; it was not weighed." in page.text
        assert "3 units (5 tasks) were weighed" in page.text
    assert with_scores.tables["weights-table"] == without.tables["weights-table"]


def test_the_form_is_the_one_that_makes_these_weights(vector, tmp_path):
    simple = make_folder(tmp_path / "simple", vector("scores_simple.json")["scores"])
    assert "weighed by the simple form" in Page(write_report(simple).page).text
    # A file of both forms' runs says simple, but --form full made the weights.
    scores = vector("scores_full.json")["scores"]
    mini, with_mini = scores["runs"]["mini"], scores["runs"]["with_mini"]
    only = copied(with_mini)
    only["vqa"]["vqa"]["em"] += 1
    runs = {**scores["runs"], "base": mini, "only": only, "mini_only": dict.fromkeys(only, mini)}
    path = save(tmp_path / "scores.json", {**scores, "form": "simple", "runs": runs})
    visatb.compute_weights(path, form="full").save(tmp_path / "weights.json")
    assert "weighed by the full form" in Page(write_report(tmp_path).page).text
    visatb.compute_weights(path).save(tmp_path / "weights.json")
    assert "weighed by the simple form" in Page(write_report(tmp_path).page).text
    # Only difficulty tells these two apart, and here it has no share in the weights.
    visatb.compute_weights(path, form="precise", alphas=[0.5, 0.5, 0]).save(
        tmp_path / "weights.json"
    )
    assert "weighed by the precise form" in Page(write_report(tmp_path).page).text


def test_scores_may_be_a_sheet(examples, tmp_path):
    shutil.copy(examples / "full.csv", tmp_path / "scores.csv")
    visatb.compute_weights(tmp_path / "scores.csv", temperature=0.5).save(tmp_path / "weights.json")
    page = Page(write_report(tmp_path).page)
    assert "weighed by the full form" in page.text
    assert ["scores.csv", "scores"] in [row[:2] for row in page.tables["files-table"]]


def test_an_interval_that_does_not_hold_is_said_so_with_its_warning(scores, tmp_path):
    def change(weights):
        add_intervals(weights)
        weights["intervals"]["weights"]["vqa"] = None
        weights["intervals"]["difficulty"]["vqa"] = None
        weights["intervals"]["apart_from_one"] = ["grounding"]
        weights["intervals"]["apart"] = [["caption", "grounding"]]
        weights["intervals"]["warnings"] = [
            {"code": "denominator_near_zero", "path": "runs.x", "message": "why none holds"}
        ]

    page = Page(write_report(make_folder(tmp_path / "null", scores, change)).page)
    row = next(row for row in page.tables["weights-table"] if row[0] == "vqa")
    assert row[3] == "none holds"
    assert "No 95% interval holds for it." in page.text
    assert "denominator_near_zero why none holds runs.x" in page.text


def test_the_authors_published_weights_are_drawn_as_published(vector, tmp_path):
    published = vector("academic_7b.json")
    tasks, out, into = published["tasks"], published["outward"], published["inward"]
    count = len(tasks)
    # They published the means of contributions only: any matrix that has them will do.
    unknown = [(i, j) for i in range(count) for j in range(count) if i != j]
    equations = np.zeros((2 * count, len(unknown)))
    for column, (i, j) in enumerate(unknown):
        equations[i, column] = equations[count + j, column] = 1 / (count - 1)
    # The printed means differ in their sums by their rounding, which no matrix can.
    into = [value + (sum(out) - sum(into)) / count for value in into]
    solution = np.linalg.lstsq(equations, np.array([*out, *into]), rcond=None)[0]
    matrix = np.eye(count)
    for (i, j), value in zip(unknown, solution, strict=True):
        matrix[i, j] = value
    hard = [1 - low for low in published["mini_over_full"]]
    made = visatb.balance_weights(out, into, hard, temperature=0.5)
    by_name = dict(zip(tasks, made.weights.tolist(), strict=True))
    path = save(tmp_path / "weights.json", {
        "visatb_weights": 1, "tasks": tasks, "weights": by_name, "temperature": 0.5,
        "alphas": published["alphas"],
        "contribution": {a: dict(zip(tasks, r, strict=True))
                         for a, r in zip(tasks, matrix.tolist(), strict=True)},
        "outward": dict(zip(tasks, out, strict=True)),
        "inward": dict(zip(tasks, into, strict=True)),
        "difficulty": dict(zip(tasks, hard, strict=True)),
        "components": {part: dict(zip(tasks, row.tolist(), strict=True)) for part, row
                       in zip(("out", "in", "difficulty"), made.components, strict=True)},
        "warnings": [], "scores_sha256": "0" * 64,
    })  # fmt: skip
    rows = Page(write_report(path).page).tables["weights-table"][1:]
    assert [float(row[2]) for row in rows] == pytest.approx(
        published["expected"]["weights"], abs=2e-4
    )


# --- what names hold ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Page:
    folder = tmp_path_factory.mktemp("hostile")
    scores = simulated_scores(HOSTILE, 3)
    make_folder(folder, scores, add_intervals)
    save(folder / "plan.json", plan_for(scores))
    save(folder / "results.json", results_for(HOSTILE, ["EW", "VisATB<b>"]))
    return Page(write_report(folder).page)


def test_names_are_text_whatever_they_hold(hostile):
    page = hostile
    assert {tag for tag, _ in page.elements} <= {
        "html", "head", "meta", "title", "link", "style", "body", "header", "main", "footer",
        "section", "nav", "ul", "li", "a", "h1", "h2", "h3", "p", "b", "span", "figure", "div",
        "img", "figcaption", "details", "summary", "table", "thead", "tbody", "tr", "th", "td",
        "dl", "dt", "dd",
    }  # fmt: skip
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    names = [row[0] for row in page.tables["weights-table"][1:]]
    assert names == [shown(name) for name in HOSTILE]
    assert names[0] == "<script>alert(1)</script>"
    assert "{{ 7*7 }}" in names[1]
    assert names[3] == "two\\nlines\\x1b[2J"
    # What runs from right to left does so by itself, and can turn nothing after it.
    assert names[4].startswith("\u2068")
    assert names[4].endswith("\u2069")
    assert "\u202e" not in page.source
    assert [row[0] for row in page.tables["methods-table"][1:]] == ["STL", "EW", "VisATB<b>"]


def test_a_dollar_is_no_formula(hostile):
    # matplotlib refuses \nonsense in a formula, and draws no dollar around one.
    assert HOSTILE[2] == "$\\nonsense{1}$ and $x$"
    assert hostile.svg("weights").count('"#DejaVuSans-24"') == 4


def test_labels_of_figures_are_short_different_and_drawable():
    fallbacks = [f"task {number}" for number in range(4)]
    long = "a" * 30
    assert in_figures(["vqa", long, f"{long}b", "\u56fe"], fallbacks) == [
        "vqa",
        f"{'a' * 16}\N{HORIZONTAL ELLIPSIS}{'a' * 7}",
        f"{'a' * 16}\N{HORIZONTAL ELLIPSIS}{'a' * 6}b",
        "task 3",
    ]
    assert in_figures(["\u56fe", "task 0"], ["task 0", "task 1"]) == ["task 0*", "task 0"]
    assert in_figures(["Zürich", "Όραση"], ["a", "b"]) == ["Zürich", "Όραση"]
    same = ["x" * 20 + "1" + "y" * 20, "x" * 20 + "2" + "y" * 20]
    assert in_figures(same, ["task 0", "task 1"]) == ["task 0", "task 1"]


def test_a_name_of_many_words_is_cut_in_sentences_and_whole_in_tables(hostile):
    name = HOSTILE[-1]
    assert len(brief(name)) == 48
    assert f"{brief(name)} weighs most" in hostile.text
    assert hostile.tables["weights-table"][-1][0] == name


def test_names_that_figures_cannot_write_are_explained(hostile):
    assert f"task 5 is {HOSTILE[5]}" in hostile.text
    assert "task 0 is" not in hostile.text


# --- a page that stands alone ---------------------------------------------------------------------


def test_the_page_refers_to_nothing_outside_and_runs_nothing(page):
    assert page.source.startswith("<!DOCTYPE html>\n")
    policy = next(found["content"] for _, found in page.elements if "http-equiv" in found)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    for reference in page.attributes("src", "href", "srcset", "action", "data", "poster"):
        assert reference.startswith(("data:image/svg+xml;base64,", "data:,", "#"))
    assert "@import" not in page.source
    assert "url(" not in page.source
    figures = [i for i in page.attributes("id") if i.startswith("figure-")]
    assert figures == [
        f"figure-{name}"
        for name in ("weights", "contribution", "difficulty", "temperature", "results")
    ]
    for name in figures:
        svg = page.svg(name.removeprefix("figure-"))
        references = re.findall(r'(?:href|src)="([^"]*)"|url\(([^)]*)\)', svg)
        assert all((one or other).startswith("#") for one, other in references)
        assert "<script" not in svg
        assert "<text" not in svg  # outlines, which need no font


def test_ids_are_there_once_and_links_lead_somewhere(page):
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    links = [link[1:] for link in page.attributes("href") if link.startswith("#")]
    assert links
    assert set(links) <= set(ids)
    assert set(page.attributes("aria-labelledby")) <= set(ids)


def test_every_figure_is_told_in_words_with_its_numbers(three, page):
    told = page.attributes("alt")
    assert len(told) == 5
    assert told[0] == (
        "Bars of the weights: grounding 1.16, caption 0.95, vqa 0.88 and sharegpt fixed at 1."
    )
    assert f"grounding to caption {MINUS}0.10" in told[1]
    assert "grounding 0.50" in told[2]
    ends = [
        visatb.balance_weights(
            *(list(weights_of(three)[m].values()) for m in ("outward", "inward", "difficulty")),
            temperature=temperature,
        ).weights
        for temperature in (0.125, 4)
    ]
    low, high = (f"{end.min():.2f} to {end.max():.2f}" for end in ends)
    assert f"At 0.125 they span {low}, at the chosen 0.5 0.88 to 1.16, at 4 {high}." in told[3]
    assert "VisATB dI " in told[4]


def test_the_same_files_make_the_same_bytes_in_any_folder_and_process(three, copy, tmp_path):
    first = write_report(three, output=tmp_path / "page.html", figures=tmp_path / "one")
    code = (
        "import sys, matplotlib; matplotlib.rcParams.update({'axes.grid': True, 'font.size': 30})\n"
        "from visatb.report import write_report; write_report(sys.argv[1], figures=sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, str(copy), str(tmp_path / "two")], check=True)
    assert (copy / "report.html").read_bytes() == first.page.read_bytes()
    for file in first.figures:
        assert (tmp_path / "two" / file.name).read_bytes() == file.read_bytes()


def test_the_users_own_settings_are_left_as_they_were(copy, monkeypatch):
    monkeypatch.setitem(mpl.rcParams, "font.size", 31.0)
    before = dict(mpl.rcParams)
    write_report(copy)
    assert dict(mpl.rcParams) == before


def test_figures_are_files_too(copy, tmp_path):
    written = write_report(copy, output=tmp_path / "page.html", figures=tmp_path / "a/b")
    assert written.page == tmp_path / "page.html"
    assert not (copy / "report.html").exists()
    assert [file.name for file in written.figures] == [
        f"{name}{suffix}"
        for name in ("weights", "contribution", "difficulty", "temperature", "results")
        for suffix in (".svg", ".png")
    ]
    page = Page(written.page)
    assert (tmp_path / "a/b/weights.svg").read_text(encoding="utf-8") == page.svg("weights")
    assert (tmp_path / "a/b/weights.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("count", "has_numbers"), [(2, True), (40, True), (41, False)])
def test_any_number_of_tasks_is_drawn(tmp_path, count, has_numbers):
    scores = simulated_scores([f"t{number}" for number in range(count)], 5)
    scores["temperature"] = 1.0
    page = Page(write_report(make_folder(tmp_path / "many", scores)).page)
    assert len(page.tables["weights-table"]) == count + 1
    svg = page.svg("contribution")
    numbers = re.findall(rf"<!-- {MINUS}?\d?\.\d\d -->", svg)
    assert len(numbers) == (count * (count + 1) if has_numbers else 0)

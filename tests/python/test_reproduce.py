"""The comparison over seeds: its project, and the tables it writes."""

from __future__ import annotations

import importlib.util
import json
import string
import subprocess
import types
from pathlib import Path

import pytest
from report_cases import plan_for, simulated_scores

from visatb.procedure import load_project
from visatb.procedure.commands import check_commands
from visatb.procedure.runs import comparing

FOLDER = Path(__file__).resolve().parents[2] / "examples/python/reproduce"
METHODS = ["EW", "TLA", "RLW", "DWA", "IGBv1", "VisATB"]
ALONE = ["VisATB outward", "VisATB inward", "VisATB difficulty"]


@pytest.fixture
def tables(monkeypatch):
    pytest.importorskip("scipy", reason="the comparison's requirements are not installed")
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("tables")


def made_up_seed(tables, seed, gains, *, refused=False):
    methods = {
        name: {"dI": gain, "dE": gain / 10}
        for name, gain in gains.items()
        if not (refused and name.startswith("VisATB"))
    }
    tasks = [{"name": "vqa", "metrics": [{"name": "em"}]}]
    scores = {name: {"vqa": {"em": 50 + gain}} for name, gain in gains.items()}
    results = {"tasks": tasks, "methods": {"STL": {"vqa": {"em": 50}}} | scores}
    made = {
        "tasks": ["vqa"],
        "temperature": 0.5,
        **{key: {"vqa": 1.0} for key in ("outward", "inward", "difficulty", "weights")},
    }
    weights = None if refused else made
    return tables.Seed(seed, results, {"methods": methods}, weights, 0.375 + seed / 100)


def row(text, name):
    """The cells of the first row that begins so."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_a_mean_has_students_interval(tables):
    # Four values of deviation 1.290994: 3.182 * 1.290994 / 2.
    mean, half = tables.interval([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert half == pytest.approx(2.054, abs=1e-3)


def test_fifteen_seeds_have_fourteen_degrees_of_freedom(tables):
    values = [float(n % 2) for n in range(15)]
    assert tables.interval(values)[1] == pytest.approx(2.14479 * 0.51640 / 15**0.5, abs=1e-5)


def test_methods_are_compared_by_their_means_beside_the_papers_numbers(tables):
    seeds = [made_up_seed(tables, n, dict.fromkeys([*METHODS, *ALONE], 10.0 + n)) for n in range(3)]
    text = tables.document(seeds, model="a size", machine="a machine")
    assert row(text, "EW") == ["11.00 ± 2.48", "1.10 ± 0.25", "8.75, 0.10", "4.55, 0.66"]
    assert row(text, "RLW") == ["11.00 ± 2.48", "1.10 ± 0.25", "", ""]
    assert row(text, "VisATB outward")[:2] == ["11.00 ± 2.48", "1.10 ± 0.25"]


def test_differences_are_taken_seed_by_seed(tables):
    seeds = []
    for n in range(3):
        gains = dict.fromkeys([*METHODS, *ALONE], 10.0 * n)
        gains["VisATB"] += 1 + n
        seeds.append(made_up_seed(tables, n, gains))
    text = tables.document(seeds, model="a size", machine="a machine")
    below = text[text.index("## Against equal weights") :]
    assert row(below, "VisATB") == ["+2.00 ± 2.48", "+0.20 ± 0.25", "3 of 3"]
    assert row(below, "DWA") == ["+0.00 ± 0.00", "+0.00 ± 0.00", "0 of 3"]


def test_a_refused_seed_is_said_and_left_out_of_every_mean(tables):
    seeds = [
        made_up_seed(
            tables, n, dict.fromkeys([*METHODS, *ALONE], 10.0 + 50 * (n == 1)), refused=n == 1
        )
        for n in range(3)
    ]
    text = tables.document(seeds, model="a size", machine="a machine")
    assert "VisATB refused the scores of seed 1: " in text
    assert row(text[text.index("## By seed") :], "1")[:2] == ["refused", "60.00, 6.00"]
    for method in ("EW", "VisATB"):
        assert row(text, method)[:2] == ["10.00 ± 0.00", "1.00 ± 0.00"]
        assert row(text[text.index("## Test scores") :], method) == ["60.00 ± 0.00"]


def test_what_measuring_costs_stands_beside_what_it_gains(tables):
    gains = dict.fromkeys([*METHODS, *ALONE], 10.0)
    text = tables.document(
        [made_up_seed(tables, n, gains) for n in range(3)], model="a size", machine="a machine"
    )
    assert "cost 38.5% of a final run beside that." in text


@pytest.fixture
def program(monkeypatch, tables, folder):
    """The program, whose `visatb run` ends with a code and does what it is told."""
    for needed in ("torch", "transformers"):
        pytest.importorskip(needed, reason="the demo's requirements are not installed")
    spec = importlib.util.spec_from_file_location("reproduce", FOLDER / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def seed(code, does):
        def run(command, **_):
            does(Path(command[-1]).parent)
            return subprocess.CompletedProcess(command, code)

        monkeypatch.setattr(module, "subprocess", types.SimpleNamespace(run=run))
        return module.run_seed(0, folder, module.CPU)

    return seed


def results_of(methods):
    """What writes the results of these methods, and weights."""
    names = ["STL", *methods]
    document = {
        "visatb_results": 1,
        "tasks": [{"name": "vqa", "metrics": [{"name": "em", "higher_is_better": True}]}],
        "baseline": "STL",
        "methods": {name: {"vqa": {"em": 50 + n}} for n, name in enumerate(names)},
    }

    def write(output):
        (output / "results.json").write_text(json.dumps(document), encoding="utf-8")
        plan = plan_for(simulated_scores(["vqa", "ocr"]))
        (output / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        (output / "weights.json").write_text('{"tasks": ["vqa"]}', encoding="utf-8")

    return write


def test_results_of_a_run_that_went_well_are_taken(program):
    seed = program(0, results_of([*METHODS, *ALONE]))
    assert seed.weights == {"tasks": ["vqa"]}
    assert seed.evaluation["methods"]["EW"]["dI"] == pytest.approx(2.0)
    assert seed.measuring == 0.3441


def test_where_scores_were_refused_the_other_methods_are_taken_and_no_old_weights(program):
    others = METHODS[:-1]
    seed = program(3, results_of(others))
    assert seed.weights is None
    assert list(seed.results["methods"]) == ["STL", *others]


@pytest.mark.parametrize(
    ("code", "methods", "message"),
    [
        (0, None, "seed 0: visatb run ended with 0"),
        (3, None, "seed 0: visatb run ended with 3"),
        (5, [*METHODS, *ALONE], "seed 0: visatb run ended with 5"),
        (4, [*METHODS, *ALONE], "seed 0: visatb run ended with 4"),
        (-9, [*METHODS, *ALONE], "seed 0: visatb run ended with -9"),
        (3, ["EW", "TLA", "RLW", "DWA"], "seed 0: visatb run ended with 3, without IGBv1, VisATB, "
                                         "VisATB outward, VisATB inward, VisATB difficulty"),
        (0, METHODS[:-1] + ALONE, "seed 0: visatb run ended with 0, without VisATB"),
    ],
)  # fmt: skip
def test_results_of_an_earlier_run_or_a_failed_one_are_not_taken(program, code, methods, message):
    program(0, results_of([*METHODS, *ALONE]))
    with pytest.raises(SystemExit) as stopped:
        program(code, results_of(methods) if methods else str)
    assert stopped.value.code == message


def test_its_project_compares_every_method_of_the_paper(tmp_path):
    template = string.Template((FOLDER / "project.toml").read_text(encoding="utf-8"))
    values = {"folder": tmp_path, "output": tmp_path, "commands": tmp_path, "size": ""}
    (tmp_path / "visatb.toml").write_text(
        template.substitute(values, seed=3, machine="jobs = 2"), encoding="utf-8"
    )
    project = load_project(tmp_path / "visatb.toml")
    check_commands(project)
    assert project.sampling.seed == 3
    runs = [recipe.name for recipe in comparing(project)]
    assert runs == [f"STL:{task}" for task in ("yesno", "word", "caption", "box")] + METHODS + ALONE

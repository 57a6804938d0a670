"""Score files from a spreadsheet."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from pathlib import Path

import pytest

import visatb
from visatb import csv_scores

SIMPLE = """\
run,task,metric,score
base,a,em,40
base,b,em,30
only:a,a,em,50
only:a,b,em,34
only:b,a,em,44
only:b,b,em,50
mini_only:a,a,em,45
mini_only:b,b,em,35
"""


def weights_of(text: str | bytes, name: str = "scores.csv", **arguments) -> visatb.Weights:
    content = text.encode() if isinstance(text, str) else text
    Path(name).write_bytes(content)
    return visatb.compute_weights(name, **arguments)


def sheet(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def refusal(text: str | bytes, **arguments) -> str:
    with pytest.raises(visatb.DataError) as error:
        weights_of(text, **arguments)
    return str(error.value)


@pytest.fixture
def full(examples, folder) -> str:
    """A sheet whose last row is a task of fixed weight; the tests run in an empty folder."""
    return (examples / "full.csv").read_text(encoding="utf-8")


# --- what a sheet may look like -------------------------------------------------------------------


def test_a_sheet_gives_what_the_json_file_gives(full, examples):
    from_json = visatb.compute_weights(examples / "full.json")
    from_csv = weights_of(full, temperature=0.5)
    assert from_csv.weights == from_json.weights
    assert from_csv.data["contribution"] == from_json.data["contribution"]
    assert from_csv.tasks == from_json.tasks


def test_groups_and_losses_come_through_a_sheet(vector, folder):
    case = vector("scores_groups.json")
    lines = ["task,metric,higher_is_better,group,fixed_weight,run,score", "f,,,,1.25,,"]
    tasks = {task["name"]: task for task in case["scores"]["tasks"]}
    runs = case["scores"]["runs"]
    for run, sets in [("mini", runs["mini"])] + [
        (f"with_mini:{unit}", sets) for unit, sets in runs["with_mini"].items()
    ]:
        for task, metrics in sets.items():
            for metric in tasks[task]["metrics"]:
                higher = str(metric["higher_is_better"]).upper()
                group = tasks[task].get("group", "")
                score = metrics[metric["name"]]
                lines.append(f"{task},{metric['name']},{higher},{group},,{run},{score}")
    weights = weights_of("\n".join(lines))
    assert weights.weights == pytest.approx(case["expected"]["weights"], rel=1e-9)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_export_is_read(full, separator, newline, mark):
    text = full.replace(",", separator).replace("\n", newline)
    assert weights_of(mark + text.encode()).weights == weights_of(full).weights


def test_blank_rows_spaces_quotes_and_the_case_of_columns_do_not_matter(full):
    text = full.replace("run,task,metric,score", '"Run", Task ,METRIC,score')
    text = text.replace("mini,vqa,em,60", "\n,,,,,\n mini , vqa,em,60 ")
    assert weights_of(text).weights == weights_of(full).weights


def test_an_unnamed_empty_column_at_the_end_does_not_matter(full):
    assert weights_of(full.replace("\n", ",\n")).weights == weights_of(full).weights


def test_what_a_row_leaves_out_at_its_end_is_empty(full):
    assert weights_of(full.replace(",true,\n", "\n")).weights == weights_of(full).weights


def test_names_may_hold_whatever_the_sheet_can_quote(folder):
    name = 'visual qa: a.b, "c" \\ [1]'
    rows = [
        [cell.replace(":a", f":{name}") if cell != "a" else name for cell in row]
        for row in csv.reader(SIMPLE.splitlines())
    ]
    assert weights_of(sheet(rows)).tasks == [name, "b"]
    rows[3][3] = "39"
    assert refusal(sheet(rows)).startswith(
        f"scores.csv: row 4, column score: training on {name} made its own score worse"
    )
    del rows[3]
    assert refusal(sheet(rows)) == f"scores.csv: no row for run only:{name}, task {name}: missing"


def test_a_fixed_weight_needs_no_score_but_may_have_one(full):
    without = full.replace(",sharegpt,,,,1.0", "mini,sharegpt,cider,0.9,,1.0")
    assert weights_of(without).weights == weights_of(full).weights


def test_the_hash_is_that_of_the_sheet(full):
    data = weights_of(full).data
    assert data["scores_sha256"] == hashlib.sha256(full.encode()).hexdigest()


def test_a_sheet_is_known_by_its_content_where_the_name_does_not_tell(full):
    assert weights_of(full, name="scores.txt").weights == weights_of(full).weights


def test_warnings_name_the_row(full):
    (warning,) = weights_of(full).warnings
    assert warning.where == "row 11, column run"
    assert warning.code == "negative_contribution"


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"', "sep=;;;"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_excels_line_that_names_the_separator_is_no_row(full, line, newline, mark):
    text = mark + line + newline + full.replace(",", ";").replace("\n", newline)
    assert weights_of(text).weights == weights_of(full).weights
    (warning,) = weights_of(text).warnings
    assert warning.where == "row 11, column run"


def test_excels_line_is_believed(full):
    text = "sep=|\n" + full.replace(",", "|")
    assert weights_of(text).weights == weights_of(full).weights
    assert refusal("sep=;\n" + full).startswith("scores.csv: row 1, column run,task,metric,score")
    bad = ("sep=;\n" + full).replace("mini,vqa", "mini,vqä").encode("latin-1")
    assert refusal(bad).startswith("scores.csv: row 3: not UTF-8")


def test_messages_about_a_sheet_whose_name_is_not_utf_8_name_its_rows_too(full):
    name = os.fsdecode(b"score\xff.csv")
    (warning,) = weights_of(full, name=name).warnings
    assert warning.where == "row 11, column run"
    with pytest.raises(visatb.DataError) as error:
        weights_of(full.replace("with_mini:vqa,vqa,em,70", "with_mini:vqa,vqa,em,59"), name=name)
    assert str(error.value).startswith("score\\xff.csv: row 9, column score: training on vqa")
    with pytest.raises(visatb.DataError) as error:
        weights_of(full.replace("em,60", "em,x"), name=name)
    assert str(error.value).startswith("score\\xff.csv: row 3, column score: ")


# --- the form -------------------------------------------------------------------------------------


def test_the_form_is_told_from_the_runs(full, folder):
    precise = full + "only:caption,caption,cider,0.6,,\nonly:vqa,vqa,em,75,,\n"
    precise += "only:grounding,grounding,acc50,64,,\nmini_only:caption,caption,cider,0.5,,\n"
    precise += "mini_only:vqa,vqa,em,65,,\nmini_only:grounding,grounding,acc50,50,,\n"
    difficulty = weights_of(precise).data["difficulty"]
    assert difficulty["caption"] == pytest.approx(1 - 0.5 / 0.6)
    assert weights_of(full).data["difficulty"]["caption"] == pytest.approx(1 - 0.4 / 0.5)
    assert weights_of(SIMPLE).data["difficulty"]["a"] == pytest.approx(1 - 45 / 50)


def test_an_unclear_form_asks_for_the_flag(full):
    text = full + "only:vqa,vqa,em,72,,\n"
    assert refusal(text) == (
        "scores.csv: column run: the runs that are here (mini, with_mini, only) do not tell the "
        "form: use --form full, simple or precise"
    )
    assert weights_of(text, form="full").weights == weights_of(full).weights


@pytest.mark.parametrize(
    ("runs", "form"),
    [
        ("mini with_mini:a", "full"),
        ("base mini with_mini:a", "full"),
        ("base only:a", "simple"),
        ("base mini only:a mini_only:a", "simple"),
        ("mini with_mini:a only:a mini_only:a", "precise"),
        ("base mini with_mini:a only:a", None),
        ("base mini with_mini:a only:a mini_only:a", None),
        ("mini with_mini:a mini_only:a", None),
        ("mini only:a mini_only:a", None),
        ("base mini", None),
    ],
)
def test_only_runs_of_a_single_form_tell_it(runs, form):
    rows = "".join(f"{run},a,em,1\n" for run in runs.split())
    content = f"run,task,metric,score\n{rows}".encode()
    if form is None:
        with pytest.raises(visatb.DataError, match="do not tell the form: use --form"):
            csv_scores.convert(content, "scores.csv")
    else:
        assert csv_scores.convert(content, "scores.csv").document["form"] == form


# --- what is refused, and where -------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken", ["nan", "inf", "-Infinity", "0x10", ".", "+", "+-1", "1.e", "01", "6 0", "६०"]
)
def test_what_is_no_decimal_number_is_refused(full, broken):
    message = refusal(full.replace("mini,vqa,em,60", f"mini,vqa,em,{broken}"))
    assert message == f'scores.csv: row 3, column score: "{broken}" is not a number'


@pytest.mark.parametrize("broken", ["60%", "60.5 %", "-.5%"])
def test_a_percent_sign_is_explained(full, broken):
    message = refusal(full.replace("mini,vqa,em,60", f"mini,vqa,em,{broken}"))
    assert message == (
        f'scores.csv: row 3, column score: "{broken}" is not a number; write it without the '
        "percent sign"
    )


@pytest.mark.parametrize("written", ["60.", "+60", "+60.", "6e1", "6.E+1", "+.6e2", "60.00"])
def test_numbers_are_read_as_spreadsheets_write_them(full, written):
    text = full.replace("mini,vqa,em,60", f"mini,vqa,em,{written}")
    assert weights_of(text).weights == weights_of(full).weights
    text = full.replace("mini,caption,cider,0.4", "mini,caption,cider,.4")
    assert weights_of(text).weights == weights_of(full).weights


def test_a_score_that_no_double_holds_is_refused(full):
    message = refusal(full.replace("mini,vqa,em,60", "mini,vqa,em,1e999"))
    assert message == "scores.csv: row 3, column score: 1e999 is too large"


def test_a_decimal_comma_is_explained(full):
    quoted = refusal(full.replace("mini,caption,cider,0.4", 'mini,caption,cider,"0,4"'))
    assert quoted == (
        'scores.csv: row 2, column score: "0,4" is not a number; write it with a decimal point'
    )
    bare = refusal(SIMPLE.replace("base,a,em,40", "base,a,em,40,5"))
    assert bare == 'scores.csv: row 2: "5" stands in no column; is there a decimal comma?'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mini,vqa,em,60", "mini,vqa,em,", "row 3, column score: empty"),
        ("mini,vqa,em,60", "mini,vqa,,60", "row 3, column metric: empty"),
        ("mini,vqa,em,60", "mini,,em,60", "row 3, column task: empty"),
        ("mini,vqa,em,60", ",vqa,em,60", "row 3, column run: empty"),
        (
            "mini,vqa,em,60",
            "minimum,vqa,em,60",
            'row 3, column run: "minimum" is no run; expected base, mini, with_mini:UNIT, '
            "only:UNIT or mini_only:UNIT",
        ),
        (
            "mini,vqa,em,60",
            "mini:vqa,vqa,em,60",
            'row 3, column run: "mini:vqa" is no run; expected base, mini, with_mini:UNIT, '
            "only:UNIT or mini_only:UNIT",
        ),
        (
            "mini,grounding",
            "mini,vqa,em,60,true,\nmini,grounding",
            "row 4, column run: row 3 holds this run, task and metric already",
        ),
        (
            "with_mini:caption,vqa,em,62,true",
            "with_mini:caption,vqa,em,62,false",
            'row 6, column higher_is_better: "false", but row 3 says otherwise',
        ),
        (
            "mini,vqa,em,60,true",
            "mini,vqa,em,60,maybe",
            'row 3, column higher_is_better: "maybe"; expected true or false',
        ),
        (
            ",sharegpt,,,,1.0",
            ",sharegpt,,,,1.0\n,sharegpt,,,,2.0",
            'row 15, column fixed_weight: "2.0", but row 14 says otherwise',
        ),
        (
            ",sharegpt,,,,1.0",
            ",sharegpt,,,,heavy",
            'row 14, column fixed_weight: "heavy" is not a number',
        ),
        ("metric,score,", "metric,value,", "row 1, column value: unknown; expected run, task, "
         "metric, score and, if need be, higher_is_better, group, fixed_weight"),
        ("metric,score,", "metric,run,", "row 1, column run: there are two columns of this name"),
        ("metric,score,", "metric,group,", "row 1, column score: missing"),
        ('mini,vqa,em,60', 'mini,"vqa"x,em,60', "row 3: ',' expected after '\"'"),
    ],
)  # fmt: skip
def test_a_broken_row_is_named_by_its_number(full, old, new, message):
    assert old in full
    assert refusal(full.replace(old, new)) == f"scores.csv: {message}"


def test_contradictory_groups_are_named(folder):
    text = "run,task,metric,score,group\nmini,a,em,1,g\nmini,a,f1,1,h\n"
    assert refusal(text) == 'scores.csv: row 3, column group: "h", but row 2 says otherwise'


@pytest.mark.parametrize("content", ["", "\n\n", ",,\n"])
def test_an_empty_sheet_says_what_was_expected(folder, content):
    expected = "scores.csv: empty; expected a header row with run, task, metric, score"
    assert refusal(content) == expected


def test_a_sheet_in_another_encoding_says_how_to_save_it(full):
    content = full.replace("mini,vqa", "mini,vqä").encode("latin-1")
    assert refusal(content) == ('scores.csv: row 3: not UTF-8; save the sheet as "CSV UTF-8"')


# --- what the library finds, in the sheet's terms -------------------------------------------------


def test_a_missing_score_names_the_row_that_is_not_there(full):
    text = full.replace("with_mini:vqa,caption,cider,0.42,true,\n", "")
    assert refusal(text) == ("scores.csv: no row for run with_mini:vqa, task caption: missing")


def test_a_missing_metric_names_the_row_that_is_not_there(full):
    text = full + "mini,caption,bleu,0.1,,\n"
    assert refusal(text) == (
        "scores.csv: no row for run with_mini:caption, task caption, metric bleu: missing"
    )


def test_a_missing_run_is_named_as_the_sheet_would_name_it(full):
    without_mini = "".join(
        line for line in full.splitlines(keepends=True) if not line.startswith("mini,")
    )
    assert refusal(without_mini) == "scores.csv: no row for run mini: missing"
    without_vqa = "".join(
        line for line in full.splitlines(keepends=True) if not line.startswith("with_mini:vqa")
    )
    assert refusal(without_vqa) == "scores.csv: no row for run with_mini:vqa: missing"
    assert refusal(full, form="simple") == "scores.csv: no row for run base: missing"
    with_base = full.replace("mini,", "base,")
    assert refusal(with_base, form="simple") == "scores.csv: no row for run only:UNIT: missing"


def test_an_unknown_unit_is_found_in_its_row(full):
    text = full + "with_mini:vqs,vqa,em,70,,\n"
    assert refusal(text) == (
        "scores.csv: row 15, column run: unknown; runs are called after a group, "
        "or after a task without one"
    )


def test_a_score_that_cannot_carry_weights_is_found_in_its_row(full):
    error = refusal(full.replace("with_mini:vqa,vqa,em,70", "with_mini:vqa,vqa,em,59"))
    assert error.startswith("scores.csv: row 9, column score: training on vqa made its own score")


def test_a_negative_fixed_weight_is_found_in_its_row(full):
    error = refusal(full.replace(",,,,1.0", ",,,,-1.0"))
    assert error.startswith("scores.csv: row 14, column fixed_weight: -1; ")


def test_the_error_says_where_for_programs_too(full, folder):
    (folder / "scores.csv").write_text(full.replace(",60,", ",,"), encoding="utf-8")
    with pytest.raises(visatb.DataError) as error:
        visatb.compute_weights("scores.csv")
    assert error.value.path == "row 3, column score"

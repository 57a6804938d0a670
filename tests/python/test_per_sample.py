"""Files of scores by sample: what is written, read and refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import visatb
from visatb.per_sample import SampleValues, read_per_sample, write_per_sample

LINE = '{"run": "mini", "task": "vqa", "metric": "em", "values": {"q1": 100, "q2": 0.5}}\n'


def refusal(content: str | bytes) -> str:
    """What reading this file ends with."""
    data = content if isinstance(content, bytes) else content.encode()
    Path("answers.jsonl").write_bytes(data)
    with pytest.raises(visatb.DataError) as caught:
        list(read_per_sample("answers.jsonl"))
    return str(caught.value)


def test_what_is_written_is_read_again(folder):
    lines = [
        SampleValues("mini", "vqa", "em", {"q1": 100.0, "q2": 0.1 + 0.2}),
        SampleValues("with_mini:看", "caption", "cider", {'a "b"\n': -1.5}),
    ]
    write_per_sample("answers.jsonl", iter(lines))
    assert list(read_per_sample(folder / "answers.jsonl")) == list(enumerate(lines, 1))
    text = Path("answers.jsonl").read_text(encoding="utf-8")
    assert text.splitlines()[0] == (
        '{"run": "mini", "task": "vqa", "metric": "em", '
        '"values": {"q1": 100.0, "q2": 0.30000000000000004}}'
    )
    assert text.endswith("}}\n")
    assert "with_mini:看" in text


def test_numbers_of_numpy_are_written(folder):
    write_per_sample(
        "a.jsonl", [SampleValues("mini", "a", "m", {"x": np.float32(0.5), "y": np.int64(3)})]
    )
    assert next(read_per_sample("a.jsonl"))[1].values == {"x": 0.5, "y": 3.0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("mini", "vqa", 3, {"a": 1.0}), "lines[1].metric = 3; expected a name"),
        (("mini", "vqa", "em", {}), "lines[1].values: empty; expected {sample: number}"),
        (("mini", "vqa", "em", {3: 1.0}), "lines[1].values: a sample = 3; expected a name"),
        (
            ("mini", "vqa", "em", {"a": math.nan}),
            "lines[1].values['a'] = nan; expected a finite number below 1e150",
        ),
        (
            ("mini", "vqa", "em", {"a": "1"}),
            "lines[1].values['a'] = '1'; expected a finite number below 1e150",
        ),
        (
            ("mini", "vqa", "em", {"a": True}),
            "lines[1].values['a'] = True; expected a finite number below 1e150",
        ),
        (
            ("mini", "ocr", "em", {"a": 1.0}),
            "lines[1]: a second one for run mini, task ocr, metric em",
        ),
    ],
)
def test_what_would_not_be_read_is_not_written(folder, line, message):
    Path("a.jsonl").write_text("as it was", encoding="utf-8")
    good = SampleValues("mini", "ocr", "em", {"a": 1.0})
    with pytest.raises(visatb.ArgumentError) as caught:
        write_per_sample("a.jsonl", [good, SampleValues(*line)])
    assert str(caught.value) == message
    assert Path("a.jsonl").read_text(encoding="utf-8") == "as it was"


def test_a_file_is_read_line_by_line(folder):
    Path("answers.jsonl").write_text(LINE + "broken", encoding="utf-8")
    lines = read_per_sample("answers.jsonl")
    assert next(lines) == (1, SampleValues("mini", "vqa", "em", {"q1": 100, "q2": 0.5}))
    with pytest.raises(visatb.DataError):
        next(lines)


def test_a_byte_order_mark_and_carriage_returns_are_let_through(folder):
    content = b"\xef\xbb\xbf" + LINE.encode().replace(b"\n", b"\r\n")
    Path("answers.jsonl").write_bytes(content)
    assert [number for number, _ in read_per_sample("answers.jsonl")] == [1]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("\n", "line 2: blank; expected a JSON object"),
        ("[1]\n", "line 2: expected an object, not a list"),
        ("7\n", "line 2: expected an object, not a number"),
        ("null\n", "line 2: expected an object, not null"),
        ('{"run" "mini"}\n', "line 2: column 8: not JSON: Expecting ':' delimiter"),
        (LINE[:50], "line 2: cut off; expected a whole JSON object"),
        (LINE.rstrip() + LINE, "line 2: column 81: not JSON: Extra data"),
        (b"\xff\n", "line 2: not UTF-8"),
        ("[" * 100_000 + "\n", "line 2: nested too deeply"),
        (LINE, "line 2: run mini, task vqa, metric em: stands in line 1 too"),
        (
            LINE.replace('"run"', '"model"'),
            'line 2: unknown key "model"; expected run, task, metric, values',
        ),
        ('{"run": "base", "task": "a", "values": {"x": 1}}\n', "line 2: metric: missing"),
        (LINE.replace('"vqa"', "null"), "line 2: task: expected a string"),
        ('{"run": "base", "task": "a", "metric": "m"}\n', "line 2: values: missing"),
        (
            '{"run": "base", "task": "a", "metric": "m", "values": [1]}\n',
            "line 2: values: expected an object",
        ),
        (
            '{"run": "base", "task": "a", "metric": "m", "values": {}}\n',
            "line 2: values: empty; expected {sample: number}",
        ),
        (LINE.replace('"q2"', '"q1"'), 'line 2: "q1" stands there twice'),
        (LINE.replace('"task"', '"run"'), 'line 2: "run" stands there twice'),
        (LINE.replace("0.5", "NaN"), "line 2: NaN; expected a finite number"),
        (LINE.replace("0.5", "-Infinity"), "line 2: -Infinity; expected a finite number"),
        (LINE.replace("0.5", "1e999"), 'line 2: values: "q2": expected a number below 1e150'),
        (LINE.replace("0.5", "-1e150"), 'line 2: values: "q2": expected a number below 1e150'),
        (
            LINE.replace("0.5", "1" + "0" * 400),
            'line 2: values: "q2": expected a number below 1e150',
        ),
        (LINE.replace("0.5", "9" * 9999), "line 2: a number has too many digits"),
        (LINE.replace("0.5", "true"), 'line 2: values: "q2": expected a number, not a boolean'),
        (LINE.replace("0.5", '"0.5"'), 'line 2: values: "q2": expected a number, not a string'),
        (LINE.replace("0.5", "null"), 'line 2: values: "q2": expected a number, not null'),
        (LINE.replace("0.5", "{}"), 'line 2: values: "q2": expected a number, not an object'),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(folder, second, message):
    content = LINE.encode() + (second if isinstance(second, bytes) else second.encode())
    assert refusal(content) == f"answers.jsonl: {message}"


def test_an_empty_file_is_refused(folder):
    assert refusal("") == "answers.jsonl: empty; expected a JSON object a line"


def test_a_file_that_cannot_be_read_is_refused(folder):
    with pytest.raises(visatb.FileError, match=r"^none\.jsonl: No such file or directory$"):
        list(read_per_sample("none.jsonl"))
    with pytest.raises(visatb.FileError, match=r"^\.: Is a directory$"):
        list(read_per_sample("."))
    with pytest.raises(visatb.ArgumentError, match=r"^path = 3; expected a path$"):
        list(read_per_sample(3))


def test_the_form_that_the_documents_show_is_read(folder):
    Path("answers.jsonl").write_text(LINE, encoding="utf-8")
    ((_, line),) = read_per_sample("answers.jsonl")
    assert json.loads(LINE) == {**line._asdict(), "values": dict(line.values)}

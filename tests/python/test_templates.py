"""Templates of shell lines: what is filled in, and what is left to the shell."""

from __future__ import annotations

import subprocess

import pytest

from visatb.procedure.commands import quoted
from visatb.procedure.templates import fill, pieces, placeholders

VALUES = {"data": "'x y'", "run": "mini"}


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("a {data} ${HOME} ${data} {a,b} {{x}} {run}", "a 'x y' ${HOME} ${data} {a,b} {x} mini"),
        ("${A:-${B}} {run}", "${A:-${B}} mini"),
        ("'${A:-${B}}' {run}", "'${A:-${B}}' mini"),
        ('"${A:-${B:-${C}}}" {run}', '"${A:-${B:-${C}}}" mini'),
        ("${A:-{{}}} {run}", "${A:-{}} mini"),
        ("${A:-{data}}", "${A:-'x y'}"),
        ("{{ ${A:-${B}} }} {run}", "{ ${A:-${B}} } mini"),
        ("'${' }} {run}", "'${' } mini"),
        ("awk '{{print ${{1}}}}' {run}", "awk '{print ${{1}}}' mini"),
        ("echo '{{\"a\": {{\"em\": 1}}}}' > {data}", "echo '{\"a\": {\"em\": 1}}' > 'x y'"),
        ("\\{data} \\{{x\\}} {run}", "\\{data} \\{x\\} mini"),
        ("ends with \\", "ends with \\"),
    ],
)  # fmt: skip
def test_placeholders_are_filled_and_what_is_the_shells_stays(template, line):
    assert fill(template, VALUES) == line


@pytest.mark.parametrize(
    "template",
    [
        '"{data}"',
        "'{data}'",
        '"${A:-{data}}"',
        '"a \\" {data}"',
        "a'b'\"{data}\"",
        "# it's\n'{data}'",
        "${A#x}'{data}'",
        "a#'{data}'",
        "$(echo '{data}')",
        '"$(echo "{data}")"',
        '"$(echo (1) )" "{data}"',
        '"it\'s {data}"',
    ],
)
def test_a_placeholder_inside_quotes_is_seen(template):
    (found,) = [piece for piece in pieces(template) if piece.is_placeholder]
    assert (found.text, found.is_quoted) == ("data", True)


@pytest.mark.parametrize(
    "template",
    [
        "{data}",
        "--a='b'{data}\"c\"",
        "it\\'s {data}",
        "# it's {data}",
        "# it's\n{data}",
        '"$(basename {data})"',
        '"`basename {data}`"',
        '"it\'s" {data}',
        "'a\\' {data}",
        '"\\\\" {data}',
        '"${A:-\'}" {data}',
        '"$((1 + (2)))" {data}',
    ],
)
def test_a_placeholder_outside_of_quotes_may_stand_anywhere(template):
    (found,) = [piece for piece in pieces(template) if piece.is_placeholder]
    assert (found.text, found.is_quoted) == ("data", False)


@pytest.mark.parametrize(
    "value", ["x y", "it's", "$(touch x)", "; rm -rf .", "`id`", "a\nb", "*", ""]
)
def test_a_value_is_one_word_to_the_shell_whatever_is_in_it(value, tmp_path):
    line = fill('printf %s "${A:-$(printf %s {data})}"{run}', quoted({"data": value, "run": value}))
    ran = subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, capture_output=True, check=True)
    assert ran.stdout.decode() == value + value
    assert not list(tmp_path.iterdir())


def test_placeholders_are_named_once_each():
    assert placeholders("{data} {data} '{run}' {{split}} ${seed}") == {"data", "run"}

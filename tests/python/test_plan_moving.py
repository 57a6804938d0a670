"""How a plan takes the place of an earlier one: whole, or again, and nothing else is lost."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from projects import PLAIN, planned, write_data

import visatb
from visatb.procedure import load_plan, load_project
from visatb.running.ready import plan_anew, plan_of

STL = 'methods = ["STL"]\n' + PLAIN
OTHER = "seed = 1\n" + PLAIN

CUT_OFF = """
import os, sys
from pathlib import Path
from visatb.procedure import load_project, make_plan

rename, left = Path.rename, [int(sys.argv[1])]

def cut(source, target):
    renamed = rename(source, target)
    left[0] -= 1
    if not left[0]:
        os._exit(9)
    return renamed

Path.rename = cut
make_plan(load_project("visatb.toml"))
"""
RENAMES = 6


@pytest.fixture
def data(folder):
    """A working folder with data.json."""
    write_data(folder)
    return folder


def cut_off(after: int) -> int:
    """Plans, and dies after so many renames."""
    program = [sys.executable, "-c", CUT_OFF, str(after)]
    return subprocess.run(program, check=False).returncode


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of an output folder but the locks."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if "locks" not in name}


def is_whole(output: Path) -> bool:
    """Whether there is a plan, which then must be right to the byte."""
    if not (output / "plan.json").exists():
        return False
    plan = load_plan(output)
    for one in (*plan.subsets, *plan.materials):
        assert visatb.running.book.sha256_of(output / one.file) == one.sha256
    return True


@pytest.mark.parametrize("after", range(1, RENAMES + 1))
def test_a_planning_that_was_killed_leaves_a_whole_plan_or_none_and_is_made_again(data, after):
    planned(data, STL)
    (data / "visatb.toml").write_text(OTHER, encoding="utf-8")
    assert cut_off(after) == 9
    output = data / "visatb-output"
    assert is_whole(output) == (after == RENAMES)
    project = load_project("visatb.toml")
    # By `visatb run` and by `visatb plan`.
    plan_of(project)
    found = tree(output)
    plan_anew(project)
    assert tree(output) == found
    (data / "fresh").mkdir()
    write_data(data / "fresh")
    planned(data / "fresh", OTHER)
    assert found == tree(data / "fresh/visatb-output")


def test_nothing_more_is_renamed_than_the_test_above_knows(data):
    planned(data, STL)
    (data / "visatb.toml").write_text(OTHER, encoding="utf-8")
    assert cut_off(RENAMES + 1) == 0


@pytest.mark.parametrize("after", [1, 3, 5])
def test_methods_are_added_to_a_plan_that_has_begun_although_that_was_killed(data, after):
    first = planned(data)
    (data / "visatb-output/runs/mini").mkdir(parents=True)
    (data / "visatb.toml").write_text(STL, encoding="utf-8")
    assert cut_off(after) == 9
    # Nobody's runs become those of another plan meanwhile.
    with pytest.raises(visatb.DataError, match="holds runs of another plan"):
        planned(data, OTHER)
    assert planned(data, STL).identity == first.identity
    assert load_plan("visatb-output").runs[-1].name == "STL:ocr"


PARTS = ("plan.json", "data", "subsets")


def inodes() -> list[int]:
    return [Path("visatb-output", part).stat().st_ino for part in PARTS]


def test_a_plan_that_comes_out_the_same_stays_where_it_is(data):
    planned(data)
    before = inodes()
    planned(data)
    assert inodes() == before
    planned(data, STL)
    assert not set(inodes()) & set(before)


@pytest.mark.parametrize(
    "file", ["plan.json", "data/weights/equal.json", "subsets/train/ocr.all.txt"]
)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_plan_of_which_a_file_was_lost_or_edited_is_made_again(data, file, is_there):
    planned(data)
    before = tree(data / "visatb-output")
    path = Path("visatb-output", file)
    content = path.read_bytes()
    path.unlink()
    if is_there:
        path.write_bytes(content[:-2] + b"~\n")
    planned(data)
    assert tree(data / "visatb-output") == before


@pytest.mark.parametrize("part", ["subsets", "data/validation", "data/weights"])
def test_a_plan_of_which_a_part_is_missing_is_made_again_before_it_is_run(data, part):
    text = "splits = { validation = 0.1, test = 0.1 }\n" + PLAIN
    planned(data, text)
    before = tree(data / "visatb-output")
    shutil.rmtree(Path("visatb-output", part))
    plan_of(load_project("visatb.toml"))
    assert {path: tree(data / "visatb-output").get(path) for path in before} == before


def test_an_error_while_a_plan_moves_in_leaves_the_earlier_one(data, monkeypatch):
    planned(data)
    before = tree(data / "visatb-output")
    inner = Path.rename

    def refuse(source, target):
        if source.name == "subsets" and "plan-" in str(source):
            raise OSError(13, "Permission denied")
        return inner(source, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(visatb.FileError, match=r"visatb-output: cannot be written: Permission den"):
        planned(data, OTHER)
    assert tree(data / "visatb-output") == before


# --- what no plan made ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["data/train", "subsets"])
def test_a_file_that_no_plan_made_is_not_removed(data, place):
    planned(data)
    mine = data / "visatb-output" / place / "thesis.tex"
    mine.write_text("mine", encoding="utf-8")
    (mine.parent / "more.tex").symlink_to("elsewhere")
    before = tree(data / "visatb-output")
    inside = place.removeprefix("data").lstrip("/").removeprefix("subsets")
    first = f"{inside}/more.tex" if inside else "more.tex"
    folder = data / "visatb-output" / place.partition("/")[0]
    with pytest.raises(visatb.DataError) as refusal:
        planned(data, OTHER)
    assert str(refusal.value) == (
        f"{folder}: holds {first}, and 1 more, which no plan made; expected nothing else in a "
        "folder that is made again"
    )
    assert tree(data / "visatb-output") == before


def test_the_projects_own_folder_may_be_the_output_and_keeps_its_data(data):
    (data / "data").mkdir()
    write_data(data / "data")
    text = 'output = "."\n' + PLAIN.replace('"data.json"', '"data/data.json"')
    with pytest.raises(visatb.DataError, match="/data: is there already, and no plan made it$"):
        planned(data, text)
    text = 'output = "."\n' + PLAIN
    (data / "data/data.json").rename(data / "kept.json")
    (data / "data").rmdir()
    planned(data, text)
    (data / "kept.json").rename(data / "data/kept.json")
    with pytest.raises(visatb.DataError, match="/data: holds kept.json, which no plan made"):
        planned(data, "seed = 1\n" + text)
    assert (data / "data/kept.json").exists()


# --- a plan.json that is none ---------------------------------------------------------------------

BROKEN = ["", "{", "[]", '{"visatb_plan": 2}', '{"visatb_plan": 1}', "\xff", "edited"]


def break_plan(content: str) -> None:
    path = Path("visatb-output/plan.json")
    if content == "edited":
        path.write_text(path.read_text(encoding="utf-8").replace("mini", "maxi", 1), "utf-8")
    else:
        path.write_bytes(content.encode("latin-1"))


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_plan_is_said_and_made_again(data, content):
    planned(data, STL)
    break_plan(content)
    with pytest.raises(visatb.DataError, match=r"plan.json: .*`visatb plan` makes "):
        load_plan("visatb-output")
    plan = planned(data, OTHER)
    assert load_plan("visatb-output") == plan


HOLDS_ANOTHER = r"/runs: holds runs of another plan \(.*\); name another output in .*visatb.toml"


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_plan_whose_runs_have_begun_is_made_again_only_as_it_was(data, content):
    plan = planned(data)
    (data / "visatb-output/runs/mini").mkdir(parents=True)
    break_plan(content)
    with pytest.raises(visatb.DataError, match=HOLDS_ANOTHER):
        planned(data, OTHER)
    assert planned(data) == plan
    # Where nothing says which plan the runs are of, none takes its place.
    break_plan(content)
    for folder in ("data", "subsets"):
        (data / "visatb-output" / folder).rename(data / folder)
    with pytest.raises(visatb.DataError, match=HOLDS_ANOTHER):
        planned(data)


@pytest.mark.parametrize(
    "edit",
    [
        lambda plan: plan["runs"][0].update(steps=1),
        lambda plan: plan["runs"][0].update(data="data/train/all.json"),
        lambda plan: plan["cost"].update(counted=0.1),
        lambda plan: plan["materials"].pop(),
        lambda plan: plan["warnings"].clear(),
        lambda plan: plan["data"].update({"data.together": "image"}),
        lambda plan: plan["inputs"][0].update(name="other.json"),
        lambda plan: plan.update(sha256="0" * 64),
        lambda plan: plan.pop("sha256"),
        lambda plan: plan.update(more=1),
    ],
)
def test_any_edit_of_a_plan_is_refused(data, edit):
    planned(data)
    path = Path("visatb-output/plan.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content), encoding="utf-8")
    load_plan("visatb-output")  # laid out otherwise, it is the same
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    message = "visatb-output/plan.json: was changed after it was made; `visatb plan` makes it again"
    with pytest.raises(visatb.DataError, match=f"^{re.escape(message)}$"):
        load_plan("visatb-output")

"""What the READMEs show is what happens."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from visatb.procedure import load_project
from visatb.procedure.commands import check_commands

ROOT = Path(__file__).resolve().parents[2]
READMES = [ROOT / "README.md", ROOT / "bindings/python/README.md"]


def blocks(readme: Path, language: str) -> list[str]:
    text = readme.read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [code for name, code in fenced if name == language]


def test_the_first_table_is_what_the_first_command_prints(command):
    printed = command("weights", ROOT / "examples/scores/full.json").out
    assert blocks(READMES[0], "")[0].strip() == printed.strip()


@pytest.mark.parametrize("readme", READMES, ids=["project", "package"])
def test_the_python_code_runs(readme, examples, folder):
    torch = pytest.importorskip("torch")
    shutil.copy(examples / "full.json", folder / "scores.json")
    (code,) = blocks(readme, "python")
    names = {
        "logits": torch.randn(2, 5, 11, requires_grad=True),
        "labels": torch.randint(0, 11, (2, 5)),
        "task_ids": torch.tensor([0, 3]),
        "hidden": torch.randn(2, 5, 8, requires_grad=True),
        "head": torch.nn.Linear(8, 11),
    }
    exec(compile(code, str(readme), "exec"), names)  # noqa: S102 - our own file
    assert names["loss"].isfinite()


@pytest.mark.parametrize("page", ["README.md", "docs/procedure.md"])
def test_the_project_file_is_one_and_its_commands_can_do_it(page, folder):
    (text,) = blocks(ROOT / page, "toml")
    (folder / "visatb.toml").write_text(text, encoding="utf-8")
    project = load_project("visatb.toml")
    check_commands(project)
    assert list(project.units) == ["vqa", "caption"]
    assert project.commands.gpus_per_run == 4


def test_every_file_that_the_documents_point_to_is_there():
    for document in [*READMES, *(ROOT / "docs").glob("*.md"), ROOT / "CHANGELOG.md"]:
        prose = re.sub(r"`[^`]*`", "", document.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#]+)\)", prose):
            if not target.startswith("https://"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"

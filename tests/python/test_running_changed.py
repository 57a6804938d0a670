"""What was changed between one `visatb run` and the next is never mixed with what is there."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from running_project import HEAD, TASKS, finish, order_in, start, wait_for, write_project

import visatb
from visatb._digest import sha256_of
from visatb.procedure import load_plan
from visatb.running import inputs, supervise
from visatb.running.called import called
from visatb.running.markers import Marker
from visatb.running.order import Needed, Order
from visatb.running.wake import Bell

MEASURED = {"mini": (50, 40), "with_mini:a": (60, 42), "with_mini:b": (51, 50)}
OUTPUT = Path("visatb-output")
TRAIN = "mkdir {output}; touch {output}/m # {data} {weights}"
ECHO = """echo '{{"a": {{"em": 1}}, "b": {{"em": 1}}}}' > {scores} # {model}"""


def take(command, measured, *, samples: bool = False) -> None:
    for name, (a, b) in measured.items():
        scores = {"a": {"em": a}, "b": {"em": b}}
        if samples:
            scores = {t: {"em": {f"{t}v{i}": m["em"] for i in "01"}} for t, m in scores.items()}
        Path("s.json").write_text(json.dumps(scores), encoding="utf-8")
        assert command("run", "--take", f"{name}=s.json").code == 0


def weights(name: str = "weights.json") -> dict:
    return json.loads((OUTPUT / name).read_bytes())


@pytest.fixture
def measured(folder, command) -> Path:
    """A project with weights, of scores that were made elsewhere, in the working folder."""
    write_project(folder, evaluate=ECHO)
    assert command("plan").code == 0
    take(command, MEASURED)
    assert command("run", "--collect").code == 0
    return folder


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"alphas": [1.0, 0.0, 0.0]}, {"temperature": 7.0}])
def test_weights_that_were_made_with_other_settings_are_made_anew(measured, command, settings):
    before = weights()
    visatb.compute_weights(OUTPUT / "scores.json", **settings).save(OUTPUT / "weights.json")
    assert weights()["scores_sha256"] == before["scores_sha256"]
    assert command("run", "--collect").code == 0
    assert weights() == before


def test_weights_of_a_variant_that_lost_its_alphas_are_made_anew(folder, command):
    head = HEAD.replace('"VisATB"', '"VisATB", {name = "own"%s}')
    write_project(folder, head=head % ", alphas = [1.0, 0.0, 0.0]", evaluate=ECHO)
    assert command("plan").code == 0
    take(command, MEASURED)
    assert command("run", "--collect").code == 0
    assert weights("weights/own.json")["alphas"]["out"] == 1.0
    write_project(folder, head=head % "", evaluate=ECHO)
    assert command("run", "--collect").code == 0
    assert weights("weights/own.json") == weights()


def test_weights_and_samples_of_scores_that_are_gone_are_gone_too(folder, command):
    write_project(folder, evaluate=ECHO)
    assert command("plan").code == 0
    take(command, MEASURED, samples=True)
    assert command("run", "--collect").code == 0
    assert (OUTPUT / "per_sample.jsonl").exists()
    Path("s.json").write_text('{"a": {"em": 1}, "b": {"em": 1}}', encoding="utf-8")
    assert command("run", "--take", "VisATB=s.json").code == 0
    shutil.rmtree(OUTPUT / "runs/with_mini.a")
    shutil.rmtree(OUTPUT / "runs/with_mini.b")
    shutil.rmtree(OUTPUT / "runs/mini")
    take(command, dict.fromkeys(MEASURED, (1, 1)))
    collected = command("run", "--collect")
    assert collected.code == 3
    assert "visatb: no weights for VisATB: " in collected.err
    assert (
        "visatb: VisATB: was trained with other weights than visatb-output/weights.json held, "
        "which is no longer there; "
    ) in collected.err
    ran = command("run", "--only", "VisATB")
    assert (ran.code, ran.out.splitlines()[-1]) == (3, "0 runs are done")
    assert not (OUTPUT / "weights.json").exists()
    assert not (OUTPUT / "per_sample.jsonl").exists()


def trained(run: str, weights: str) -> None:
    folder = OUTPUT / "runs" / run
    folder.mkdir(parents=True)
    plan = load_plan(OUTPUT).identity
    Marker(plan, run, "train", "0", "true", "h", 1.0, 2.0, weights=weights).save(
        folder / "train.done"
    )


def test_a_result_of_what_was_trained_with_other_weights_is_not_taken(measured, command):
    trained("VisATB", "other")
    Path("s.json").write_text('{"a": {"em": 1}, "b": {"em": 1}}', encoding="utf-8")
    shutil.copy("s.json", OUTPUT / "runs/VisATB/evaluate.json")
    for wanted in ("VisATB=s.json", "VisATB"):
        ran = command("run", "--take", wanted)
        assert (ran.code, ran.err) == (
            3,
            "visatb: VisATB: was trained with other weights than visatb-output/weights.json now "
            "holds; expected visatb-output/runs/VisATB to be removed, and it is trained again\n",
        )
    shutil.rmtree(OUTPUT / "runs/VisATB")
    now = hashlib.sha256((OUTPUT / "weights.json").read_bytes()).hexdigest()
    trained("VisATB", now)
    assert command("run", "--take", "VisATB=s.json").code == 0
    assert json.loads((OUTPUT / "runs/VisATB/taken.done").read_bytes())["weights"] == now


def test_a_training_reads_the_weights_it_began_with_whatever_is_made_meanwhile(folder, command):
    wait = "touch begun; while test ! -e go; do sleep 0.02; done"
    train = f"mkdir {{output}}; {wait}; cp {{weights}} {{output}}/m # {{data}}"
    write_project(folder, train=train, evaluate=ECHO)
    assert command("plan").code == 0
    take(command, MEASURED)
    assert command("run", "--collect").code == 0
    began_with = (OUTPUT / "weights.json").read_bytes()
    process = start(folder, "--only", "VisATB")
    wait_for(Path("begun").exists)
    write_project(folder, head=f"{HEAD}[weights]\nalphas = [1.0, 0.0, 0.0]\n", evaluate=ECHO)
    assert command("run", "--collect").code == 0
    assert (OUTPUT / "weights.json").read_bytes() != began_with
    Path("go").touch()
    _, err = process.communicate(timeout=30)
    run = OUTPUT / "runs/VisATB"
    assert (run / "model/m").read_bytes() == began_with
    marker = json.loads((run / "train.done").read_bytes())
    assert marker["weights"] == hashlib.sha256(began_with).hexdigest()
    assert "visatb: VisATB: was trained with other weights than " in err


def warned(err: str) -> list[str]:
    return [line for line in err.splitlines() if "scores.json: " in line]


def test_what_weakens_weights_is_said_once_when_they_are_made(folder, command):
    head = HEAD.replace('"VisATB"', '"VisATB"%s')
    write_project(folder, head=head % "", evaluate=ECHO)
    assert command("plan").code == 0
    take(command, MEASURED | {"with_mini:b": (45, 50)})
    made = warned(command("run", "--collect").err)
    assert len(made) == 1
    assert made[0].startswith("visatb: warning: visatb-output/scores.json: runs.with_mini.b: negat")
    assert warned(command("run", "--collect").err) == []
    assert len(weights()["warnings"]) > 1
    # Of a variant that is made later, only what was not said already.
    own = ', {name = "own", alphas = [0.0, 0.0, 1.0]}'
    write_project(folder, head=head % own, evaluate=ECHO)
    assert command("plan").code == 0
    assert warned(command("run", "--collect").err) == []
    assert weights("weights/own.json")["alphas"]["difficulty"] == 1.0
    (OUTPUT / "weights.json").unlink()
    (OUTPUT / "weights/own.json").unlink()
    assert warned(command("run", "--collect").err) == made


def test_a_task_that_has_no_scores_by_sample_is_named_once(folder, command):
    write_project(folder, evaluate=ECHO)
    assert command("plan").code == 0
    take(command, MEASURED, samples=True)
    shutil.rmtree(OUTPUT / "runs/mini")
    odd = {"a": {"em": {"av0": 50, "av2": 50}}, "b": {"em": {"bv0": 40, "bv1": 40}}}
    Path("s.json").write_text(json.dumps(odd), encoding="utf-8")
    assert command("run", "--take", "mini=s.json").code == 0
    said = "a: its runs were scored on different samples, so per_sample.jsonl is without it"
    assert said in command("run", "--collect").err
    assert said not in command("run", "--collect").err


# --- data -----------------------------------------------------------------------------------------


EDITED = (
    "visatb: warning: %s changed since the plan was made; runs use the plan's own data; "
    "%s plans anew\n"
)


def test_data_that_was_edited_after_the_plan_was_made_is_named(folder, command):
    write_project(folder, evaluate=ECHO)
    assert command("plan").code == 0
    ids = (OUTPUT / "subsets/files.json").read_bytes()
    Path("train.json").write_bytes(Path("train.json").read_bytes() + b"\n")
    assert command("run", "--dry-run")[::2] == (0, EDITED % ("train.json: has", "`visatb plan`"))
    Path("test.json").write_bytes(b"[]")
    ran = command("run", "--dry-run")
    both = "train.json, test.json: have"
    assert (ran.code, ran.err) == (0, EDITED % (both, "`visatb plan`"))
    (OUTPUT / "runs/mini").mkdir(parents=True)
    ran = command("run", "--dry-run")
    assert (ran.code, ran.err) == (0, EDITED % (both, "another output in the project"))
    assert (OUTPUT / "subsets/files.json").read_bytes() == ids


def test_data_that_is_the_same_or_gone_or_older_than_the_plan_is_not_named(
    folder, command, monkeypatch
):
    write_project(folder, evaluate=ECHO)
    assert command("plan").code == 0
    Path("train.json").touch()
    Path("test.json").unlink()
    read = []
    monkeypatch.setattr(inputs, "sha256_of", lambda path: read.append(path.name) or sha256_of(path))
    ran = command("run", "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert read == ["train.json"]


# --- commands -------------------------------------------------------------------------------------


def test_a_task_that_got_a_command_of_its_own_is_scored_by_it_alone_and_back(tmp_path):
    folder = write_project(tmp_path, train=TRAIN, evaluate=ECHO)
    assert finish(folder, "--only", "mini")[0] == 0
    alone = """evaluate = '''echo '{{"a": {{"em": 7}}}}' > {scores} # {model}'''\n"""
    both = ECHO.replace('"a": {{"em": 1}}, ', "")
    tasks = TASKS.replace("[tasks.b]", f"{alone}[tasks.b]")
    write_project(folder, train=TRAIN, evaluate=both, tasks=tasks)
    assert finish(folder, "--only", "mini")[0] == 0
    run = folder / "visatb-output/runs/mini"
    assert json.loads((run / "evaluate.a.done").read_bytes())["scores"] == {"a": {"em": 7}}
    assert json.loads((run / "evaluate.done").read_bytes())["scores"] == {"b": {"em": 1}}
    write_project(folder, train=TRAIN, evaluate=ECHO)
    assert "mini         train done, evaluate to be done" in finish(folder, "--dry-run")[1]
    assert finish(folder, "--only", "mini")[0] == 0
    assert json.loads((run / "evaluate.done").read_bytes())["scores"]["a"] == {"em": 1}


def test_runs_that_were_made_by_another_command_are_named(tmp_path):
    folder = write_project(tmp_path, train=TRAIN, evaluate=ECHO)
    code, _, err = finish(folder, "--only", "mini")
    assert (code, err) == (0, "")
    kept = (
        "by another command than the project has now, and kept; to have that done again, remove "
        "the folders in visatb-output/runs\n"
    )
    write_project(folder, train=f"{TRAIN} 2", evaluate=ECHO)
    assert finish(folder, "--dry-run")[2] == f"visatb: warning: mini: trained {kept}"
    write_project(folder, train=TRAIN, evaluate=f"{ECHO} 2")
    assert (
        finish(folder, "--only", "mini")[2] == f"visatb: warning: mini: evaluate: evaluated {kept}"
    )
    # Other GPUs, ports and places are no other command.
    write_project(folder, train=TRAIN, evaluate=ECHO, run="jobs = 2\n")
    assert finish(folder, "--dry-run")[2] == ""


def carry_out(order: Order) -> str:
    bell = Bell(())
    try:
        return supervise._carry_out(order, bell).message
    finally:
        bell.close()


def test_a_partial_training_is_not_continued_by_another_command(folder):
    order = order_in(folder, "mkdir -p model; echo 1 >> model/m; exit 1", fresh=False)
    one, two = replace(order, template="one"), replace(order, template="two")
    for _ in range(2):
        assert carry_out(one).startswith("failed with exit code 1")
    assert carry_out(two) == (
        "model: was begun by another command than the project has now; expected it to be removed, "
        "or the command to be as it was"
    )
    assert Path("model/m").read_text(encoding="utf-8") == "1\n1\n"
    shutil.rmtree("model")
    assert carry_out(two).startswith("failed with exit code 1")
    assert Path("model/m").read_text(encoding="utf-8") == "1\n"


def test_a_partial_training_is_not_continued_where_an_attempt_kept_none_meanwhile(folder):
    order = order_in(folder, "mkdir -p model; echo 1 >> model/m; exit 1", fresh=False)
    one, two = replace(order, template="one"), replace(order, template="two", fresh=True)
    for each in (one, two, one):
        assert carry_out(each).startswith("failed with exit code 1")
        assert Path("model/m").read_text(encoding="utf-8") == "1\n"


@pytest.mark.parametrize("changed", [{"plan": "q"}, {"needed": ()}])
def test_a_partial_training_is_begun_anew_with_another_plan_or_other_files(folder, changed):
    Path("data").write_bytes(b"")
    needed = (Needed("data", hashlib.sha256(b"").hexdigest(), "what the plan made"),)
    line = "mkdir -p model; echo 1 >> model/m; exit 1"
    order = order_in(folder, line, fresh=False, needed=needed)
    for each, left in ((order, "1\n"), (order, "1\n1\n"), (replace(order, **changed), "1\n")):
        assert carry_out(each).startswith("failed with exit code 1")
        assert Path("model/m").read_text(encoding="utf-8") == left


def test_a_partial_training_stays_where_the_disk_does_not_say_what_began_it(folder):
    Path("model").mkdir()
    Path("train.begun").symlink_to("train.begun")
    assert carry_out(order_in(folder, "true", fresh=False)) == (
        ".: cannot be cleared: Too many levels of symbolic links"
    )
    assert Path("model").exists()


# --- links ----------------------------------------------------------------------------------------


def test_a_link_for_a_model_is_kept_and_what_it_leads_to_is_not_removed(folder):
    Path("big").mkdir()
    Path("model").symlink_to("big")
    order = order_in(folder, "touch model/m")
    assert carry_out(order) == ""
    assert (Path("model").is_symlink(), Path("big/m").exists()) == (True, True)
    assert carry_out(order) == (
        "model: is a link to a folder that is not empty; expected that folder to be emptied, and "
        "then it is written into"
    )
    assert Path("big/m").exists()


# --- names ----------------------------------------------------------------------------------------


def test_a_file_is_called_from_the_working_folder_or_in_full_whichever_is_shorter(
    folder, monkeypatch
):
    deep = Path("one/two/three/four/five/six")
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert called(folder / deep / "x") == "x"
    assert called(Path("../x")) == "../x"
    assert called(folder / "one/two/three/four/five/x/y") == "../x/y"
    assert called(Path("../x/../y")) == "../y"
    chain = Path("../" * len(Path.cwd().parts))
    assert called(chain / "usr/x") == "/usr/x"


def test_a_file_is_not_called_by_a_way_back_over_a_link(folder):
    Path("real/inner").mkdir(parents=True)
    Path("link").symlink_to("real/inner")
    assert called(Path("link/x")) == "link/x"
    assert called(Path("link/../x")) == "link/../x"

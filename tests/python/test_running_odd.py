"""Odd names, long messages, other machines' clocks, and files that others broke meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from running_project import HEAD, finish, start, wait_for, write_project

from visatb import DataError, FileError
from visatb.cli import main
from visatb.procedure import load_plan, load_project
from visatb.procedure.project import Commands
from visatb.running import locks, runner, slots
from visatb.running.book import Book, sha256_of
from visatb.running.gather import gather_weights
from visatb.running.markers import Marker, read_marker
from visatb.running.order import Outcome
from visatb.running.ready import plan_of
from visatb.running.results_in import check_ids, read_scores
from visatb.running.runner import Report, Runner, exit_code
from visatb.running.slots import Slots
from visatb.running.stages import taken

TRAIN = "mkdir {output}; touch {output}/m # {data} {weights}"
ECHO = """echo '{{"a": {{"em": 1}}, "b": {{"em": 1}}}}' > {scores} # {model}"""
OUTPUT = Path("visatb-output")


# --- names ----------------------------------------------------------------------------------------


def test_a_marker_holds_names_that_are_no_utf8(folder):
    scores = {"a": {"em": {"\ud800": 1.0}}}
    marker = Marker("p", "mini", "evaluate", "0", "cat p\udcff", "h", 1.0, 2.0, scores=scores)
    marker.save(Path("evaluate.done"))
    assert read_marker(Path("evaluate.done"), "p") == marker


def test_a_folder_whose_name_is_no_utf8_is_run_in(tmp_path):
    folder = write_project(tmp_path / os.fsdecode(b"p\xff"), train=TRAIN, evaluate=ECHO)
    code, out, err = finish(folder, "--only", "mini")
    assert (code, out.splitlines()[-1], err) == (0, "1 run is done", "")


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        (["\ud800", "1"], "an id of its samples has half a character (a lone surrogate)"),
        (["0"], "its runs were scored on one sample"),
    ],
)
def test_samples_that_a_file_of_samples_cannot_have_are_scored_and_left_out_of_it(folder, ids, why):
    write_project(folder, train=TRAIN, evaluate=ECHO)
    project = load_project("visatb.toml")
    plan, _ = plan_of(project)
    for name, (a, b) in {"mini": (5, 4), "with_mini:a": (6, 4), "with_mini:b": (5, 5)}.items():
        scores = {"a": {"em": dict.fromkeys(ids, a)}, "b": {"em": {"0": b, "1": b}}}
        stage = taken(project, plan.run(name))
        stage.folder.mkdir(parents=True)
        Marker(plan.identity, name, "taken", "0", "", "h", 1.0, 2.0, scores=scores).save(
            stage.marker
        )
    gathered = gather_weights(Book(project, plan))
    assert gathered.refused == {}
    assert f"a: {why}, so per_sample.jsonl is without it" in gathered.notes
    lines = (OUTPUT / "per_sample.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["task"] for line in lines} == {"b"}


# --- messages -------------------------------------------------------------------------------------


def test_a_long_message_keeps_its_begin_and_its_end():
    outcome = Outcome("failed", "begin" + "é" * 100_000 + "end").shortened()
    assert outcome.message.startswith("begin")
    assert outcome.message.endswith("end")
    assert len(outcome.to_json()) < 32_768
    assert Outcome("failed", "short").shortened().message == "short"


def test_a_long_key_is_cut_in_a_message(folder):
    long = "k" * 100_000
    asked = {"a": ["em"]}
    Path("ids.txt").write_text("1\n", encoding="utf-8")
    for scores in (
        {"a": {"em": 1}, long: 1},
        {"a": {"em": 1, long: 1}},
        {"a": {"em": {long: "x"}}},
        {"visatb_run_scores": 1, long: 1, "scores": {}},
        {"visatb_run_scores": 1, "run": long, "scores": {}},
        {"visatb_run_scores": long},
    ):
        Path("s.json").write_text(json.dumps(scores), encoding="utf-8")
        with pytest.raises(DataError) as caught:
            read_scores(Path("s.json"), "p", "mini", asked)
        assert len(str(caught.value)) < 250
    with pytest.raises(DataError) as caught:
        check_ids({"a": {"em": {long: 1}}}, "s.json", {"a": Path("ids.txt")})
    assert len(str(caught.value)) < 250


# --- places ---------------------------------------------------------------------------------------


def test_two_containers_of_one_machine_share_no_gpu(tmp_path, monkeypatch):
    commands = Commands(gpus=("0",))
    taken = Slots(tmp_path, commands).take()
    assert taken is not None
    other = os.uname_result(("Linux", "another", "6", "1", "x86_64"))
    monkeypatch.setattr(slots.os, "uname", lambda: other)
    assert Slots(tmp_path, commands).take() is None
    # Another machine, though it has the same name, has GPUs of its own.
    monkeypatch.setattr(slots, "_BOOT", tmp_path / "boot")
    (tmp_path / "boot").write_text("another\n", encoding="utf-8")
    assert Slots(tmp_path, commands).take() is not None


def test_gpus_are_given_out_by_neighbours_in_the_list(tmp_path):
    commands = Commands(gpus=("6", "7", "0", "1", "2"), gpus_per_run=2)
    places = Slots(tmp_path, commands)
    first, second = places.take(), places.take()
    assert (first.gpus, second.gpus) == (("6", "7"), ("0", "1"))
    assert places.take() is None  # one that is left over is no place
    first.release()
    # One of them is held by somebody with another list: half of a place is none, and is left free.
    other = Slots(tmp_path, Commands(gpus=("7",))).take()
    assert places.take() is None
    assert Slots(tmp_path, Commands(gpus=("6",))).take() is not None
    other.release()
    second.release()
    assert places.take().gpus == ("0", "1")


def test_two_projects_begin_their_search_for_a_port_at_different_ones(tmp_path):
    ports = {Slots(tmp_path / name, Commands()).take_port()[0] for name in "abcd"}
    assert len(ports) == 4
    assert all(29500 <= port < 32768 for port in ports)


def test_that_others_hold_every_place_is_said_once(tmp_path):
    folder = write_project(tmp_path, train=TRAIN, evaluate=ECHO, run="jobs = 1\n")
    finish(folder, "--dry-run")
    held = Slots(folder / "visatb-output", Commands(jobs=1)).take()
    assert held is not None
    held.locks[0].describe({"host": "h", "pid": 7, "run": "EW", "stage": "train"})
    process = start(folder, "--only", "mini")
    told = process.stdout.readline()
    assert told == "no place is free: at work are EW: train (process 7 on h)\n"
    held.release()
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, "no place" in out) == (0, False)


# --- what others do meanwhile ---------------------------------------------------------------------


def fail_at_the_lock(monkeypatch, attempt: str) -> None:
    """Another attempt fails just before the lock is taken; its machine's clock is slow."""
    inner = locks.take

    def take_late(path: Path) -> locks.Lock | None:
        if path.name == "train.lock":
            left = OUTPUT / "runs/mini/train.failed"
            left.parent.mkdir(parents=True, exist_ok=True)
            told = {"attempt": attempt, "kind": "failed", "message": "failed elsewhere"}
            left.write_text(json.dumps(told), encoding="utf-8")
            os.utime(left, (1, 1))
        return inner(path)

    monkeypatch.setattr(locks, "take", take_late)


def test_a_failure_is_known_by_its_attempt_and_not_by_a_clock(folder, monkeypatch, capsys):
    write_project(folder, train=TRAIN, evaluate=ECHO)
    assert main(["plan"]) == 0
    with monkeypatch.context() as patched:
        fail_at_the_lock(patched, "new")
        capsys.readouterr()
        assert main(["run", "--only", "mini"]) == 5
        assert capsys.readouterr().err == "visatb: mini: train: failed elsewhere\n"
        # It was there when this began, so it is tried again.
        assert main(["run", "--only", "mini"]) == 0


def test_a_marker_that_cannot_be_read_fails_its_run_and_no_other(tmp_path):
    broken = "test {run} != mini || echo { > $(dirname {scores})/train.done; "
    folder = write_project(tmp_path, train=TRAIN, evaluate=broken.replace("{ >", "{{ >") + ECHO)
    code, out, err = finish(folder, "--only", "mini", "EW")
    assert code == 3
    assert err.startswith("visatb: mini: evaluate: visatb-output/runs/mini/train.done: not JSON: ")
    assert out.splitlines()[-1] == "1 run is done; unfinished: mini"


def test_an_evaluation_whose_training_was_removed_meanwhile_is_not_done_and_says_so(tmp_path):
    folder = write_project(
        tmp_path, train=TRAIN, evaluate=f"rm $(dirname {{scores}})/train.done; {ECHO}"
    )
    code, out, err = finish(folder, "--only", "mini")
    assert (code, out.splitlines()[-1]) == (3, "0 runs are done; unfinished: mini")
    assert err == "visatb: mini: evaluate: its training was removed or made anew meanwhile\n"


LOOP = "Too many levels of symbolic links"


def test_a_marker_of_which_the_disk_says_nothing_does_not_have_its_stage_done_again(tmp_path):
    folder = write_project(tmp_path, train=TRAIN, evaluate=ECHO)
    assert finish(folder, "--only", "mini")[0] == 0
    run = folder / "visatb-output/runs/mini"
    (run / "train.done").unlink()
    (run / "train.done").symlink_to("train.done")
    (run / "model/kept").touch()
    for arguments in ((), ("--dry-run",), ("--collect",)):
        assert finish(folder, *arguments) == (
            3,
            "",
            f"visatb: visatb-output/runs/mini/train.done: {LOOP}\n",
        )
    assert (run / "model/kept").exists()


def test_a_marker_of_which_the_disk_says_nothing_meanwhile_fails_its_run_and_no_other(tmp_path):
    loop = "test {run} != mini || ln -sf train.done $(dirname {scores})/train.done; "
    folder = write_project(tmp_path, train=TRAIN, evaluate=loop + ECHO)
    code, out, err = finish(folder, "--only", "mini", "EW")
    assert (code, out.splitlines()[-1]) == (3, "1 run is done; unfinished: mini")
    assert err == f"visatb: mini: evaluate: visatb-output/runs/mini/train.done: {LOOP}\n"


def test_weights_of_which_the_disk_says_nothing_are_not_called_other_ones(folder):
    Path("weights.json").symlink_to("weights.json")
    with pytest.raises(FileError, match=f"^weights.json: {LOOP}$"):
        sha256_of(Path("weights.json"))
    assert sha256_of(Path("none.json")) == ""


def test_what_is_at_work_is_named_where_the_run_ends_for_another_reason(folder, monkeypatch):
    write_project(folder, train=f"sleep 1; {TRAIN}", evaluate=ECHO)
    assert main(["plan"]) == 0
    project = load_project("visatb.toml")
    display = Silent()
    one = Runner(Book(project, load_plan(project.output)), load_plan(OUTPUT).runs[:1], display)
    monkeypatch.setattr(one, "_reap", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one.run()
    (told,) = display.told
    assert told.startswith("mini: train goes on without this (process ")
    wait_for((OUTPUT / "runs/mini/train.done").exists)


class Silent:
    """A display that keeps what is wrong."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def warn(self, text: str) -> None:
        self.told.append(text)

    def failed(self, _stage, outcome) -> None:
        self.told.append(outcome.message)

    def __getattr__(self, name: str):
        return lambda *_: None


@pytest.mark.parametrize("stopped_by", [0, signal.SIGINT])
def test_a_supervisor_that_was_stopped_before_it_listened_is_not_called_killed(folder, stopped_by):
    write_project(folder)
    assert main(["plan"]) == 0
    project = load_project("visatb.toml")
    book = Book(project, load_plan(project.output))
    display = Silent()
    one = Runner(book, book.plan.runs, display)
    process = subprocess.Popen(["/bin/sleep", "9"], stdout=subprocess.PIPE)
    process.terminate()
    process.wait()
    one._active.append(runner._Active(book.stages["mini"][0], process, "", 0.0))
    one._report.stopped_by = stopped_by
    one._reap()
    one._look_at_others()
    assert display.told == ([] if stopped_by else ["its supervisor was killed"])
    assert one._watched == {}


# --- exit codes -----------------------------------------------------------------------------------


def test_refused_weights_are_no_fault_of_runs_that_have_no_part_in_them(tmp_path):
    folder = write_project(tmp_path, train=TRAIN, evaluate=ECHO)
    code, _, err = finish(folder, "--only", "mini", "with_mini:a", "with_mini:b")
    assert (code, err.startswith("visatb: no weights for VisATB: ")) == (3, True)
    assert finish(folder, "--only", "EW")[0] == 0
    code, out, _ = finish(folder, "--only", "VisATB")
    assert (code, out.splitlines()[-1]) == (3, "0 runs are done; waiting for weights: VisATB")


def test_a_folder_in_the_place_of_scores_is_the_fault_of_its_command(tmp_path):
    folder = write_project(tmp_path, train=TRAIN, evaluate="mkdir {scores} # {model}")
    code, _, err = finish(folder, "--only", "mini")
    assert (code, err) == (
        5,
        "visatb: mini: evaluate: ended well, but visatb-output/runs/mini/evaluate.json: is a "
        "folder; expected a file of scores\n",
    )


def test_results_that_cannot_be_removed_are_said_and_the_runs_are_done(tmp_path):
    folder = write_project(tmp_path, train=TRAIN, evaluate=ECHO)
    (folder / "visatb-output/results.json").mkdir(parents=True)
    code, out, err = finish(folder, "--only", "mini")
    assert (code, out.splitlines()[-1]) == (3, "1 run is done")
    assert err.startswith("visatb: visatb-output/results.json: cannot be removed: ")


def test_a_report_without_faults_is_a_success():
    assert exit_code(Report(done=["mini"])) == 0
    assert exit_code(Report(troubles={"results": "full"})) == 3


def test_collecting_says_what_a_comparison_needs(folder, command):
    head = HEAD.replace('"STL", "EW", "VisATB"', '"EW"')
    write_project(folder, head=head, train=TRAIN, evaluate=ECHO)
    assert command("plan").code == 0
    Path("s.json").write_text('{"a": {"em": 1}, "b": {"em": 1}}', encoding="utf-8")
    assert command("run", "--take", "EW=s.json").code == 0
    assert command("run", "--collect").err.endswith(
        "visatb: nothing to compare: expected the results of a baseline and of another method\n"
    )

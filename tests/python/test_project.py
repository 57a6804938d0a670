"""A project file that is wrong is refused with its place and what would be right."""

from __future__ import annotations

import json
import re

import pytest
from projects import PLAIN, TASKS, planned, samples, write_data

import visatb
from visatb.procedure import load_project
from visatb.procedure.commands import check_commands
from visatb.procedure.section import NAMES

DATA = 'data = { train = "data.json" }'
RUN = """
[run]
train = "train --data {data} --output {output} --weights {weights}"
evaluate = "evaluate --model {model} --scores {scores}"
"""


@pytest.mark.parametrize("name", ["vqa\xa0v2", "\u4e00\u3000\u4e8c", "a\u200db", "a\xadb"])
def test_a_name_may_have_any_space_or_joiner_in_it(folder, name):
    text = swapped("[tasks.vqa]", f'[tasks."{name}"]')
    assert loaded(folder, text).tasks[0].name == name


@pytest.mark.parametrize("char", ["\x85", "\u2028", "\u2029"])
def test_a_name_that_is_no_line_is_refused(folder, char):
    with pytest.raises(visatb.DataError, match=NAMES):
        loaded(folder, swapped("[tasks.vqa]", f'[tasks."a{char}b"]'))


def loaded(folder, text):
    (folder / "visatb.toml").write_text(text, encoding="utf-8")
    return load_project("visatb.toml")


def swapped(old, new):
    assert old in PLAIN
    return PLAIN.replace(old, new, 1)


SIZED = (
    swapped('data = { train = "data.json" }\n', "")
    .replace("[tasks.vqa]", "[tasks.vqa]\nsamples = 9")
    .replace("[tasks.caption]", "[tasks.caption]\nsamples = 9")
    .replace("[tasks.ocr]", "[tasks.ocr]\nsamples = 9")
)
TWO_PLACES = (
    "samples come from two places; expected data.train or data.hugging_face, or for every task its "
    "train or its samples"
)
NO_PLACE = TWO_PLACES.replace("samples come from two places", "nothing says where the samples are")
SHARE = 'expected a share above 0 and up to 1, as 0.25 or "1/4"'
ROOT_KEYS = (
    "visatb_project, output, form, sampling, splits, seed, methods, data, weights, run, tasks"
)
METHODS = '"STL", "EW", "VisATB", "TLA", "RLW", "DWA" or "IGBv1"'


NOT_READ = "there is %s too, so no file is read; expected one of them"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            swapped('train = "data.json"', 'hugging_face = "h"') + 'test = "t.json"\n',
            "tasks.ocr.test: " + NOT_READ % "data.hugging_face",
        ),
        (
            swapped('train = "data.json"', 'hugging_face = "h"')
            + '[tasks.z]\nzero_shot = true\nmetrics = ["score"]\ntest = "t.json"\n',
            "tasks.z.test: " + NOT_READ % "data.hugging_face",
        ),
        (
            SIZED + 'validation = "v.json"\n',
            "tasks.ocr.validation: " + NOT_READ % "samples",
        ),
        (
            SIZED.replace("[sampling]", '[data]\ntest = "t.json"\n[sampling]'),
            "data.test: " + NOT_READ % "samples",
        ),
        ("", "visatb_project: missing; expected 1"),
        (swapped("visatb_project = 1", "visatb_project = 2"), "visatb_project: 2; expected 1"),
        ("form = 'large'\n" + PLAIN, 'form: "large"; expected "full", "simple" or "precise"'),
        ("seed = -1\n" + PLAIN, "seed: -1; expected a whole number of 0 or more"),
        ("seed = true\n" + PLAIN, "seed: True; expected a whole number"),
        ("sede = 1\n" + PLAIN, f"sede: unknown key; did you mean seed? known: {ROOT_KEYS}"),
        ("x = 1\n" + PLAIN, f"x: unknown key; known: {ROOT_KEYS}"),
        (swapped("batch_size = 4", "batch_size = 0"),
         "sampling.batch_size: 0; expected a whole number of 1 or more"),
        (swapped('"1/8"', '"1/0"'), f"sampling.mini: {SHARE}"),
        (swapped('"1/8"', "nan"), f"sampling.mini: {SHARE}"),
        (swapped('"1/8"', "0"), f"sampling.mini: {SHARE}"),
        (swapped('"1/2"', "1.5"), f"sampling.large: {SHARE}"),
        (swapped('"1/8"', '"1/2"'), "sampling.mini: 1/2; expected less than large, 1/2"),
        ("splits = { test = 1.0 }\n" + PLAIN,
         "splits.test: expected a share below 1, as 0.1, or a whole number of samples"),
        ("splits = { dev = 0.1 }\n" + PLAIN, "splits.dev: unknown key; known: validation, test"),
        (swapped('["score"]', "[]\ngruop = 'x'"),
         "tasks.vqa.gruop: unknown key; did you mean group? known: metrics, group, fixed_weight, "
         "zero_shot, samples, train, validation, test, evaluate"),
        (swapped('["score"]', '[{name = "a", lower = true}]'),
         "tasks.vqa.metrics[0].lower: unknown key; known: higher_is_better, name"),
        (swapped(DATA, 'data = { tasks = "x" }'),
         "data.tasks: unknown key; did you mean task? known: train, validation, test, "
         "hugging_face, config, id, task, split, together, number_records"),
        # The rest of a table may be wrong because of it.
        (swapped("large", "lagre").replace("1/8", "1/3"),
         "sampling.lagre: unknown key; did you mean large? known: large, mini, batch_size, "
         "epochs"),
        ("run = { gpu = [0, 1] }\n" + PLAIN,
         "run.gpu: unknown key; did you mean gpus? known: gpus, train, evaluate, base_model, "
         "gpus_per_run, jobs, keep_partial"),
        ("weights = { alpha = [1, 0, 0] }\n" + PLAIN,
         "weights.alpha: unknown key; did you mean alphas? known: alphas, temperature, range"),
        ('methods = [{ name = "x", alpha = [1, 0, 0] }]\n' + PLAIN,
         "methods[0].alpha: unknown key; did you mean alphas? known: alphas, name"),
        (swapped('["score"]', '["a", "a"]'), 'tasks.vqa.metrics[1]: "a" is there twice'),
        (swapped('["score"]', "[1]"), "tasks.vqa.metrics[0]: 1; expected a table"),
        (swapped('["score"]', '[{name="a", higher_is_better="no"}]'),
         "tasks.vqa.metrics[0].higher_is_better: 'no'; expected true or false"),
        (swapped('["score"]', "[]\nfixed_weight = -1"),
         "tasks.vqa.fixed_weight: -1.0; expected 0 or more"),
        (swapped('["score"]', "[]\nfixed_weight = inf"),
         "tasks.vqa.fixed_weight: inf; expected a finite number"),
        (swapped('["score"]', "[]\nfixed_weight = 1\ngroup = 'g'"),
         "tasks.vqa.group: a task of fixed weight is in no group"),
        (swapped('["score"]', "[]\nzero_shot = true\nfixed_weight = 1"),
         "tasks.vqa.zero_shot: a task of fixed weight is trained"),
        (swapped('["score"]', "[]\nzero_shot = true\ngroup = 'g'"),
         "tasks.vqa.zero_shot: such a task has a test split only, and no group"),
        (swapped('["score"]', "[]\ngroup = 'ocr'"), 'tasks.vqa.group: "ocr" is a task too'),
        (PLAIN.replace('["score"]', "[]\nsamples = 10"), TWO_PLACES),
        (swapped(DATA, "").replace('["score"]', "[]\nsamples = 10", 1),
         "tasks.caption.samples: missing, and other tasks have it"),
        (swapped(DATA, ""), NO_PLACE),
        (swapped(DATA, 'data = { train = "a.json", hugging_face = "b" }'),
         "data.hugging_face: there are files too; expected one of them"),
        (swapped(DATA, 'data = { train = "a.json", config = "b" }'),
         "data.config: there is no hugging_face"),
        (swapped(DATA, 'data = { train = ["a.json", 3] }'),
         "data.train[1]: 3; expected a string"),
        (swapped(TASKS, "[tasks.a]\n"), "tasks: 1 to be weighed; expected two or more"),
        (swapped(TASKS, '[tasks." a"]\n[tasks.b]'),
         f'tasks." a": {NAMES}'),
        ('methods = ["PCGrad"]\n' + PLAIN, f'methods[0]: "PCGrad"; expected {METHODS}'),
        ('methods = ["EW", "EW"]\n' + PLAIN, 'methods[1]: "EW" is there twice'),
        ('methods = [{ name = "mini" }]\n' + PLAIN, 'methods[0]: "mini" is no name for one'),
        ('methods = [{ name = "x", alphas = [1, 0] }]\n' + PLAIN,
         "methods[0].alphas: [1, 0]; expected 3 numbers"),
        ("weights = { temperature = 0 }\n" + PLAIN,
         'weights.temperature: 0.0; expected "auto" or a number above 0'),
        ("weights = { temperature = 'low' }\n" + PLAIN,
         'weights.temperature: "low"; expected "auto"'),
        ("run = { gpus = [0, 0] }\n" + PLAIN, "run.gpus: one of them is there twice"),
        ("run = { gpus = [0], gpus_per_run = 2 }\n" + PLAIN,
         "run.gpus_per_run: 2; expected at most the 1 that are listed"),
        ("run = { train = ' ' }\n" + PLAIN, "run.train: empty"),
        ("run = 3\n" + PLAIN, "run: 3; expected a table"),
        ("run = { gpus = [1.5] }\n" + PLAIN,
         "run.gpus[0]: 1.5; expected the number of a GPU, or its name, as GPU-... or MIG-..."),
        ('run = { gpus = [0, "0-3"] }\n' + PLAIN,
         "run.gpus[1]: '0-3'; expected the number of a GPU, or its name, as GPU-... or MIG-..."),
        ("splits = { test = 9007199254740993 }\n" + PLAIN,
         "splits.test: expected a share below 1, as 0.1, or a whole number of samples"),
        (swapped('"1/8"', '"1e-9999999999"'), f"sampling.mini: {SHARE}"),
        # Names that a command or a comment would not survive.
        (swapped("[tasks.vqa]", '[tasks."-rf"]'), f"tasks.-rf: {NAMES}"),
        (swapped("[tasks.vqa]", '[tasks."a\\nb"]'), f'tasks."a\\nb": {NAMES}'),
        (swapped('["score"]', "[]\ngroup = '-g'"), f'tasks.vqa.group: "-g"; {NAMES}'),
        (swapped('["score"]', '[]\ngroup = "g\\nrm"'), f'tasks.vqa.group: "g\\nrm"; {NAMES}'),
        (swapped('["score"]', "['-m']"), f"tasks.vqa.metrics[0]: '-m'; {NAMES}"),
        (swapped('["score"]', '[{name = "m\\u001b"}]'),
         f"tasks.vqa.metrics[0]: 'm\\x1b'; {NAMES}"),
        ('methods = [{ name = "-x" }]\n' + PLAIN, f"methods[0]: '-x'; {NAMES}"),
        ('methods = [{ name = "a\\nb" }]\n' + PLAIN, f"methods[0]: 'a\\nb'; {NAMES}"),
        ('methods = [{ name = "EW" }]\n' + PLAIN, 'methods[0]: "EW" is no name for one'),
        # What the weights could not be made with after days of training.
        ("weights = { alphas = [nan, 1, 1] }\n" + PLAIN,
         "weights.alphas[0]: nan; expected a finite number"),
        ("weights = { alphas = [7, 7, -7] }\n" + PLAIN,
         "weights.alphas.difficulty: -7; expected a number of 0 or more"),
        ("weights = { alphas = [0.3, 0.3, 0.3] }\n" + PLAIN,
         "weights.alphas: the alphas sum to 0.9; expected 1 within 0.02"),
        ("weights = { range = [5, 1] }\n" + PLAIN, "weights.range: [5, 1] does not contain 1"),
        ("weights = { range = [0.5, inf] }\n" + PLAIN,
         "weights.range[1]: inf; expected a finite number"),
        ('methods = ["EW", { name = "x", alphas = [1, 1, 0] }]\n' + PLAIN,
         "methods[1].alphas: the alphas sum to 2; expected 1 within 0.02"),
        # What Python has an error of its own for.
        ('output = "a\\u0000b"\n' + PLAIN, "output: has a NUL in it"),
        (swapped('"data.json"', '"a\\u0000b"'), "data.train: has a NUL in it"),
        (swapped('"data.json"', '["a", "a\\u0000b"]'), "data.train[1]: has a NUL in it"),
        (f"seed = {'9' * 5000}\n" + PLAIN, "a whole number in it has too many digits"),
        (f"seed = 0x{'f' * 5000}\n" + PLAIN,
         "seed: a number of thousands of digits; expected a whole number of at most 2^53"),
        ("seed = 9007199254740993\n" + PLAIN,
         "seed: 9007199254740993; expected a whole number of at most 2^53"),
        (swapped('["score"]', f"[]\nfixed_weight = {'9' * 400}"),
         f"tasks.vqa.fixed_weight: {'9' * 57}...; expected a finite number"),
        (f"weights = {{ temperature = {'9' * 400} }}\n" + PLAIN,
         f"weights.temperature: {'9' * 57}...; expected a finite number"),
        (f"weights = {{ alphas = [1, {'9' * 400}, 0] }}\n" + PLAIN,
         f"weights.alphas[1]: {'9' * 57}...; expected a finite number"),
        (f"weights = {{ alphas = [1, 0x{'f' * 5000}] }}\n" + PLAIN,
         "weights.alphas: a number of thousands of digits; expected 3 numbers"),
    ],
)  # fmt: skip
def test_a_wrong_project_file_is_refused_with_its_place(folder, text, message):
    with pytest.raises(visatb.DataError) as refusal:
        loaded(folder, text)
    assert str(refusal.value) == f"visatb.toml: {message}"


def test_what_is_no_toml_is_refused(folder):
    with pytest.raises(visatb.DataError, match=r"^visatb.toml: not TOML: .*line 1"):
        loaded(folder, "a = = 1")
    (folder / "visatb.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(visatb.DataError, match=r"^visatb.toml: not UTF-8$"):
        load_project("visatb.toml")
    with pytest.raises(
        visatb.FileError, match=r"^other.toml: No such file or directory; expected a project file$"
    ):
        load_project("other.toml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "data.json: not JSON: "),
        ("{}", "data.json: expected a list of samples"),
        ("[1]", "data.json: record 1: expected an object, a sample"),
        ('[{"id": 1, "source": "vqa"}]',
         'data.json: record 1: no "task"; it has id, source; expected data.task = the name of '
         "the field that holds it, or files of one task each, as tasks.NAME.train"),
        ('[{"task": "vqa", "uid": 1}]',
         'data.json: record 1: no "id"; it has task, uid; expected data.id = the name of the field '
         "that holds it, or data.number_records = true"),
        ("[{}]", 'data.json: record 1: no "id"; it has nothing; expected data.id'),
        (json.dumps([{f"f{n}": n for n in range(30)} | {"id": 1}]),
         'data.json: record 1: no "task"; it has f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11 '
         "and 19 more; expected"),
        ('[{"id": 1.5, "task": "vqa"}]', 'data.json: record 1: "id" is 1.5; expected a string'),
        ('[{"id": "a\\nb", "task": "vqa"}]',
         'data.json: record 1: "id" has a control character or half a character in it'),
        ('[{"id": 1, "task": "vqa"}, {"id": 1, "task": "gqa"}]',
         'data.json: sample "1" is of task "gqa", which visatb.toml does not name; expected vqa, '
         "caption, ocr"),
        ('[{"id": 1, "task": "vqa"}]',
         "visatb.toml: tasks.caption: the data has no sample to train"),
        ("\xff", "data.json: not UTF-8"),
        (f'[{{"id": {"9" * 5000}}}]', "data.json: a whole number in it has too many digits"),
    ],
)  # fmt: skip
def test_wrong_data_is_refused_with_its_place(folder, content, message):
    project = loaded(folder, PLAIN)
    (folder / "data.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(visatb.DataError, match="^" + re.escape(message)):
        visatb.procedure.make_plan(project)
    assert not (folder / "visatb-output").exists()


def test_an_id_twice_in_a_task_is_refused_and_may_be_numbered(folder):
    rows = samples()
    rows[3]["id"] = rows[0]["id"]
    write_data(folder, rows)
    project = loaded(folder, PLAIN)
    with pytest.raises(visatb.DataError) as refusal:
        visatb.procedure.make_plan(project)
    assert str(refusal.value) == (
        'data.json: id "0" of task "vqa" is there 2 times; ids name samples '
        "(data.number_records = true numbers them)"
    )
    numbered = PLAIN.replace('train = "data.json"', 'train = "data.json", number_records = true')
    assert planned(folder, numbered).subsets[0].samples == 200


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ('"1/101"', "1/101 of the 100 samples of ocr"),
        ("1e-10", "1/10000000000 of the 200 samples of vqa"),
    ],
)
def test_a_subset_that_rounds_to_nothing_is_refused(folder, rate, message):
    write_data(folder)
    project = loaded(folder, PLAIN.replace('"1/8"', rate))
    with pytest.raises(visatb.DataError) as refusal:
        visatb.procedure.make_plan(project)
    assert (
        str(refusal.value) == f"visatb.toml: sampling.mini: {message} is less than one; raise mini"
    )


def test_an_output_behind_a_ring_of_links_is_refused(folder, command):
    (folder / "ring").symlink_to("ring")
    write_data(folder)
    (folder / "visatb.toml").write_text('output = "ring/x"\n' + PLAIN, encoding="utf-8")
    for ran in (command("plan"), command("run")):
        assert (ran.code, ran.out) == (3, "")
        assert ran.err == (
            "visatb: ring/x/locks/plan.lock: cannot be written: Too many levels of symbolic links\n"
        )
    with pytest.raises(visatb.FileError, match="ring/x: cannot be written: Too many levels of sym"):
        visatb.procedure.make_plan(load_project("visatb.toml"))


# --- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("\ntrain =", "\n# train ="),
         "run.train: missing; expected the command that trains"),
        (lambda t: t.replace("--data {data}", ""), "run.train: does not name {data}"),
        (lambda t: t.replace("--output {output}", ""), "run.train: does not name {output}"),
        (lambda t: t.replace("--weights {weights}", ""),
         "run.train: does not name {weights}, so VisATB would train as EW does"),
        (lambda t: 'methods = ["EW", "DWA"]\n' + t,
         "run.train: does not name {method}, so DWA would train as EW does"),
        (lambda t: 'form = "simple"\n' + t,
         "run.base_model: missing; the simple form scores the model before any training"),
        (lambda t: t.replace("{data}", "{daat}"),
         'run.train: {daat} is no placeholder; expected "run", "method", "seed", "base_model", '
         '"python", "gpus", "gpu_count", "port", "data", "output", "weights", "samples", "steps", '
         '"epochs" or "batch_size"; a brace that is not meant so is {{daat}}'),
        (lambda t: t.replace("evaluate =", "# evaluate ="),
         "run.evaluate: missing; expected the command that evaluates"),
        (lambda t: t.replace("{model}", ""), "run.evaluate: does not name {model}"),
        (lambda t: t.replace("{scores}", ""),
         "run.evaluate: expected it to name {answers} or {scores}"),
        (lambda t: t.replace('metrics = ["score"]', 'evaluate = "x"', 1),
         "tasks.vqa.evaluate: does not name {model}"),
        (lambda t: t.replace('metrics = ["score"]', "", 1), "tasks.vqa.metrics: missing"),
        (lambda t: t.replace("{data}", "'{data}'"),
         "run.train: {data} stands inside quotes; visatb quotes what it fills in"),
        (lambda t: t.replace("{data}", "<<E\\nit's\\nE\\n{data}"),
         "run.train: {data} stands inside quotes (an apostrophe in a here-document opens some); "
         "visatb quotes what it fills in"),
        (lambda t: t.replace("{scores}", '\\"{tasks}\\" {scores}'),
         "run.evaluate: {tasks} stands inside quotes; visatb quotes what it fills in"),
        (lambda t: t.replace("{scores}", "{tasks} {scores}").replace("tasks.ocr", 'tasks."o,r"'),
         'run.evaluate: names {tasks}, whose names have commas between them, and "o,r" has one in '
         "it; expected {task}"),
    ],
)  # fmt: skip
def test_commands_that_cannot_do_it_are_refused(folder, change, message):
    project = loaded(folder, change(PLAIN + RUN))
    with pytest.raises(visatb.DataError) as refusal:
        check_commands(project)
    assert str(refusal.value) == f"visatb.toml: {message}"


def test_good_commands_are_not_refused(folder):
    check_commands(loaded(folder, PLAIN + RUN))
    text = (PLAIN + RUN).replace("{scores}", "{task} {scores}")
    check_commands(loaded(folder, text.replace("tasks.ocr", 'tasks."o,r"')))


def test_commands_are_checked_when_a_plan_is_made_and_may_be_missing_then(folder):
    write_data(folder)
    project = loaded(folder, (PLAIN + RUN).replace("{output}", "{otuput}"))
    with pytest.raises(visatb.DataError, match="run.train: {otuput} is no placeholder"):
        visatb.procedure.make_plan(project)
    assert not (folder / "visatb-output").exists()
    planned(folder, PLAIN + "[run]\ngpus = [0]\n")

"""What a project file says: tasks, data, subsets, and the commands that train and evaluate."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from .._arguments import FORMS
from .._errors import DataError, FileError
from .._paths import file_name
from .._sources import PathLike, shown
from .section import NAMES, Section, brief, either, is_name
from .weighing import WeightSettings, check_settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_FILE = "visatb.toml"
SPLITS = ("train", "validation", "test")

# How a final run weighs its tasks; STL trains each task alone.
STL, EW, VISATB = "STL", "EW", "VisATB"
# The trainer itself finds the weights of each step.
BY_STEP = ("TLA", "RLW", "DWA", "IGBv1")
METHODS = (STL, EW, VISATB, *BY_STEP)

# Where a name would be read as another kind of run.
RESERVED = ("base", "mini")


@dataclass(frozen=True)
class Metric:
    """A measure of a task."""

    name: str
    higher_is_better: bool


@dataclass(frozen=True)
class Task:
    """A task of the mix.

    Attributes:
        name: its name.
        metrics: what it is scored by; none is needed for a fixed weight.
        group: the group it is trained and weighed with.
        fixed_weight: its weight, where it is not weighed.
        zero_shot: only asked in the end, never trained.
        samples: how many it has, where no data is given.
        files: {split: its own files}.
        evaluate: a command of its own, in place of the project's.
    """

    name: str
    metrics: tuple[Metric, ...] = ()
    group: str | None = None
    fixed_weight: float | None = None
    zero_shot: bool = False
    samples: int | None = None
    files: tuple[tuple[str, tuple[str, ...]], ...] = ()
    evaluate: str | None = None

    @property
    def unit(self) -> str | None:
        """What it is weighed as; None where it is not weighed."""
        weighed = self.fixed_weight is None and not self.zero_shot
        return (self.group or self.name) if weighed else None


@dataclass(frozen=True)
class Data:
    """Where the samples are.

    Attributes:
        files: {split: files of samples that name their task}.
        hugging_face: a data set of `datasets`: a folder, or a name.
        config: its configuration.
        id, task, split: the fields of a sample that hold its id, its task, its split.
        together: the field whose equal values stay in one split, as "image".
        number_records: take a sample's place among all samples as its id.
    """

    files: tuple[tuple[str, tuple[str, ...]], ...] = ()
    hugging_face: str | None = None
    config: str | None = None
    id: str = "id"
    task: str = "task"
    split: str | None = None
    together: str | None = None
    number_records: bool = False


@dataclass(frozen=True)
class Sampling:
    """The shares of the data that the runs take, and how long a run is."""

    large: Fraction
    mini: Fraction
    seed: int
    batch_size: int
    epochs: int
    validation: Fraction | int = 0
    test: Fraction | int = 0


@dataclass(frozen=True)
class Method:
    """A way to weigh the final runs: its name, its kind (one of METHODS), alphas of its own."""

    name: str
    kind: str
    alphas: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Commands:
    """How a run is trained and evaluated.

    Attributes:
        train, evaluate: templates of shell commands.
        base_model: the model before any training.
        gpus: which there are.
        gpus_per_run: how many of them a command takes.
        jobs: how many commands run at once where there are no GPUs.
        keep_partial: leave what a training that was cut off wrote, for the command to go on from.
    """

    train: str | None = None
    evaluate: str | None = None
    base_model: str = ""
    gpus: tuple[str, ...] = ()
    gpus_per_run: int = 1
    jobs: int = 1
    keep_partial: bool = False


@dataclass(frozen=True)
class Project:
    """A whole project file.

    Attributes:
        file: how messages call it.
        folder: where it lies; its paths start there.
        output: the folder of everything that is written.
    """

    file: str
    folder: Path
    output: Path
    form: str
    tasks: tuple[Task, ...]
    data: Data
    sampling: Sampling
    methods: tuple[Method, ...]
    weights: WeightSettings
    commands: Commands

    @property
    def units(self) -> dict[str, tuple[Task, ...]]:
        """The tasks of every unit, in the order of their first task."""
        names = dict.fromkeys(task.unit for task in self.tasks if task.unit is not None)
        return {
            name: tuple(task for task in self.tasks if task.unit == name) for name in names if name
        }

    @property
    def fixed(self) -> tuple[Task, ...]:
        """The tasks of fixed weight."""
        return tuple(task for task in self.tasks if task.fixed_weight is not None)

    @property
    def trained(self) -> tuple[Task, ...]:
        """The tasks that are trained on."""
        return tuple(task for task in self.tasks if not task.zero_shot)

    @property
    def of_data(self) -> dict[str, Any]:
        """What it says of its data and of splits, by the place where it says so."""
        files = [("data", self.data.files)]
        files += [(f"tasks.{task.name}", task.files) for task in self.tasks]
        said = {f"{where}.{split}": list(names) for where, of in files for split, names in of}
        fields = {key: value for key, value in asdict(self.data).items() if key != "files"}
        parts = {"validation": self.sampling.validation, "test": self.sampling.test}
        return {
            **said,
            **{f"data.{key}": value for key, value in fields.items() if value is not None},
            **{
                f"splits.{key}": part if isinstance(part, int) else float(part)
                for key, part in parts.items()
            },
        }


def load_project(path: PathLike = DEFAULT_FILE) -> Project:
    """Reads a project file.

    Errors: FileError (it cannot be read), DataError (its message says where and what is wrong).
    """
    name = file_name("path", path)
    try:
        content = tomllib.loads(Path(name).read_bytes().decode())
    except OSError as reason:
        expected = "; expected a project file" if isinstance(reason, FileNotFoundError) else ""
        raise FileError(f"{shown(name)}: {reason.strerror}{expected}") from reason
    except UnicodeDecodeError:
        raise DataError(f"{shown(name)}: not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as reason:
        raise DataError(f"{shown(name)}: not TOML: {reason}") from None
    except ValueError:  # what `int` raises
        raise DataError(f"{shown(name)}: a whole number in it has too many digits") from None
    return _project(Section(content, shown(name)), Path(name).absolute().parent)


def _project(root: Section, folder: Path) -> Project:
    version = root.count("visatb_project")
    if version != 1:
        found = "missing" if version is None else str(version)
        raise root.fault("visatb_project", f"{found}; expected 1")
    project = Project(
        file=root.file,
        folder=folder,
        # Path.resolve has an error of its own for links that go round in a ring.
        output=Path(os.path.realpath(folder / (root.text("output") or "visatb-output"))),
        form=root.choice("form", FORMS, "full"),
        sampling=_sampling(root),
        methods=_methods(root),
        data=_data(root.section("data")),
        weights=_weights(root.section("weights")),
        commands=_commands(root.section("run")),
        tasks=_tasks(root.section("tasks")),
    )
    root.finish()
    _check_units(root, project)
    return project


def _sampling(root: Section) -> Sampling:
    section, splits = root.section("sampling"), root.section("splits")
    sampling = Sampling(
        large=section.rate("large", Fraction(1, 4)),
        mini=section.rate("mini", Fraction(1, 32)),
        seed=root.count("seed", 0, least=0) or 0,
        batch_size=section.count("batch_size", 128) or 128,
        epochs=section.count("epochs", 1) or 1,
        validation=splits.part("validation"),
        test=splits.part("test"),
    )
    section.finish()
    splits.finish()
    if sampling.mini >= sampling.large:
        what = f"{sampling.mini}; expected less than large, {sampling.large}"
        raise section.fault("mini", what)
    return sampling


def _data(section: Section) -> Data:
    data = Data(
        files=_files(section),
        hugging_face=section.text("hugging_face"),
        config=section.text("config"),
        id=section.text("id", "id") or "",
        task=section.text("task", "task") or "",
        split=section.text("split"),
        together=section.text("together"),
        number_records=bool(section.take("number_records", bool, False)),
    )
    section.finish()
    if data.hugging_face and data.files:
        raise section.fault("hugging_face", "there are files too; expected one of them")
    if data.config and not data.hugging_face:
        raise section.fault("config", "there is no hugging_face")
    return data


def _files(section: Section) -> tuple[tuple[str, tuple[str, ...]], ...]:
    files = ((split, section.texts(split)) for split in SPLITS)
    return tuple((split, names) for split, names in files if names)


def _tasks(section: Section) -> tuple[Task, ...]:
    return tuple(_task(name, section) for name in section.names())


def _task(name: str, tasks: Section) -> Task:
    section = tasks.section(name)
    if not is_name(name):
        raise tasks.fault(name, NAMES)
    task = Task(
        name=name,
        metrics=_metrics(section),
        group=section.name("group"),
        fixed_weight=section.number("fixed_weight"),
        zero_shot=bool(section.take("zero_shot", bool, False)),
        samples=section.count("samples"),
        files=_files(section),
        evaluate=section.text("evaluate"),
    )
    section.finish()
    _check_task(task, section)
    return task


def _check_task(task: Task, section: Section) -> None:
    if task.fixed_weight is not None:
        if task.fixed_weight < 0:
            raise section.fault("fixed_weight", f"{task.fixed_weight}; expected 0 or more")
        if task.group:
            raise section.fault("group", "a task of fixed weight is in no group")
        if task.zero_shot:
            raise section.fault("zero_shot", "a task of fixed weight is trained")
    if task.zero_shot:
        kind = dict(task.files).keys() & {"train", "validation"}
        if task.group or task.samples or kind:
            raise section.fault("zero_shot", "such a task has a test split only, and no group")


def _metrics(section: Section) -> tuple[Metric, ...]:
    metrics: list[Metric] = []
    for index, value in enumerate(section.take("metrics", list, []) or []):
        if isinstance(value, str):
            metric = Metric(value, higher_is_better=True)
        else:
            table = Section(value, section.file, f"{section.path}.metrics[{index}]")
            higher = table.take("higher_is_better", bool, True)
            metric = Metric(table.text("name") or "", higher_is_better=bool(higher))
            table.finish()
        if not is_name(metric.name):
            raise section.fault("metrics", f"{brief(metric.name)}; {NAMES}", item=index)
        if metric.name in {known.name for known in metrics}:
            raise section.fault("metrics", f'"{metric.name}" is there twice', item=index)
        metrics.append(metric)
    return tuple(metrics)


def _methods(root: Section) -> tuple[Method, ...]:
    methods: list[Method] = []
    for index, value in enumerate(root.take("methods", list, [EW, VISATB]) or []):
        if isinstance(value, str):
            method = Method(value, value)
        else:
            table = Section(value, root.file, f"methods[{index}]")
            alphas = _numbers(table, "alphas", 3)
            method = Method(table.text("name") or "", VISATB, alphas)
            check_settings(WeightSettings(alphas=alphas), table)
            table.finish()
        if method.kind not in METHODS:
            raise root.fault("methods", f'"{method.kind}"; expected {either(METHODS)}', item=index)
        is_another = method.name in METHODS and method.name != method.kind
        if not is_name(method.name):
            raise root.fault("methods", f"{brief(method.name)}; {NAMES}", item=index)
        if is_another or method.name in RESERVED or ":" in method.name:
            raise root.fault("methods", f'"{method.name}" is no name for one', item=index)
        if method.name in {known.name for known in methods}:
            raise root.fault("methods", f'"{method.name}" is there twice', item=index)
        methods.append(method)
    return tuple(methods)


def _weights(section: Section) -> WeightSettings:
    settings = WeightSettings(
        alphas=_numbers(section, "alphas", 3),
        temperature=_temperature(section),
        range=_numbers(section, "range", 2),
    )
    check_settings(settings, section)
    section.finish()
    return settings


def _temperature(section: Section) -> float | str | None:
    if section.is_text("temperature"):
        return section.choice("temperature", ("auto",), "auto")
    temperature = section.number("temperature")
    if temperature is not None and temperature <= 0:
        raise section.fault("temperature", f'{temperature}; expected "auto" or a number above 0')
    return temperature


def _numbers(section: Section, key: str, count: int) -> tuple[float, ...] | None:
    values = section.take(key, list)
    if values is None:
        return None
    plain = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(plain) != len(values) or len(plain) != count:
        raise section.fault(key, f"{brief(values)}; expected {count} numbers")
    return tuple(section.finite(key, value, item=item) for item, value in enumerate(plain))


def _commands(section: Section) -> Commands:
    gpus = _gpus(section)
    commands = Commands(
        train=section.text("train"),
        evaluate=section.text("evaluate"),
        base_model=section.text("base_model") or "",
        gpus=gpus,
        gpus_per_run=section.count("gpus_per_run", 1) or 1,
        jobs=section.count("jobs", 1) or 1,
        keep_partial=bool(section.take("keep_partial", bool, False)),
    )
    section.finish()
    if len(set(gpus)) < len(gpus):
        raise section.fault("gpus", "one of them is there twice")
    if gpus and commands.gpus_per_run > len(gpus):
        what = f"{commands.gpus_per_run}; expected at most the {len(gpus)} that are listed"
        raise section.fault("gpus_per_run", what)
    return commands


# What `is_gpu` takes, for messages.
GPU = "the number of a GPU, or its name, as GPU-... or MIG-..."


def _gpus(section: Section) -> tuple[str, ...]:
    gpus = section.take("gpus", list, []) or []
    for index, gpu in enumerate(gpus):
        if isinstance(gpu, bool) or not isinstance(gpu, (int, str)) or not is_gpu(str(gpu)):
            raise section.fault("gpus", f"{brief(gpu)}; expected {GPU}", item=index)
    return tuple(str(gpu) for gpu in gpus)


def is_gpu(text: str) -> bool:
    """Whether CUDA takes it for a GPU in CUDA_VISIBLE_DEVICES; it drops what it does not know."""
    return re.fullmatch(r"[0-9]{1,9}|(GPU|MIG)-[0-9A-Za-z/-]+", text) is not None


def _check_units(root: Section, project: Project) -> None:
    units, tasks = project.units, {task.name: task for task in project.tasks}
    if len(units) < 2:
        raise root.fault("tasks", f"{len(units)} to be weighed; expected two or more")
    for name, members in units.items():
        if name in tasks and members[0].group == name:
            raise _of_task(root, members[0].name).fault("group", f'"{name}" is a task too')
    _check_where_samples_are(root, project)


def _check_where_samples_are(root: Section, project: Project) -> None:
    """One way for all: the sizes alone, files of the whole, or files by task."""
    sized = [task for task in project.trained if task.samples is not None]
    by_task = [task for task in project.trained if dict(task.files).get("train")]
    whole = bool(project.data.hugging_face or dict(project.data.files).get("train"))
    ways = sum((bool(sized), bool(by_task), whole))
    if ways == 1 and (whole or len(sized) + len(by_task) == len(project.trained)):
        if sized or project.data.hugging_face:
            _check_no_files(root, project, "samples" if sized else "data.hugging_face")
        return
    if ways == 1:
        lacking = _first_without(project.trained, sized or by_task)
        key = "samples" if sized else "train"
        raise _of_task(root, lacking).fault(key, "missing, and other tasks have it")
    what = "nothing says where the samples are" if ways == 0 else "samples come from two places"
    raise root.fault(
        "",
        f"{what}; expected data.train or data.hugging_face, or for every task its train or its "
        "samples",
    )


def _check_no_files(root: Section, project: Project, instead: str) -> None:
    """Refuses files of any split, which nobody would read."""
    what = f"there is {instead} too, so no file is read; expected one of them"
    for split, _ in project.data.files:
        raise root.section("data").fault(split, what)
    for task in project.tasks:
        for split, _ in task.files:
            raise _of_task(root, task.name).fault(split, what)


def _of_task(root: Section, name: str) -> Section:
    """The table of a task, to say what is wrong in it."""
    return root.section("tasks").section(name)


def _first_without(tasks: Sequence[Task], having: Sequence[Task]) -> str:
    return next(task.name for task in tasks if task not in having)

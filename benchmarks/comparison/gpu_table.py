"""What a run on a GPU came to, as Markdown. Imports no PyTorch."""

from __future__ import annotations

from typing import Any

from .cases import Case
from .results import GPU_BOUNDS, Ratio, Record, measured, size_of, spoiled
from .table import SHORT, sizes, table, verdict, whos

NOT_RUN = "not run"
WRONG = "one side computes something else"
STAGES = ("build", "test", "sanitize", "bench")


def in_order(cases: list[Record]) -> list[Record]:
    """By form and size, and not as they were timed."""
    return sorted(
        cases,
        key=lambda case: (
            case["form"] != "logits",
            case["vocab"],
            case["dtype"],
            -case["valid_percent"],
        ),
    )


def markdown(found: Record, benchmark: Record, source: str, planned: list[Case]) -> list[str]:
    """Everything of a result file."""
    parts = [_measured_on(found, benchmark, source), _stages(found)]
    parts += ["### Targets", targets(benchmark["cases"], planned)]
    if benchmark["cases"]:
        parts += sizes(benchmark["cases"])
    for title, text in (
        ("Accuracy", _accuracy(benchmark.get("accuracy") or [])),
        ("A training step", _training(benchmark.get("training"))),
        ("Kernels, as they were compiled", _kernels(found)),
    ):
        parts += [f"### {title}", text]
    return [*parts, *(whos(benchmark) if benchmark["cases"] else [])]


def _measured_on(found: Record, benchmark: Record, source: str) -> str:
    gpu, versions = found.get("gpu") or {}, benchmark.get("versions") or {}
    names = ("liger_kernel", "quack-kernels", "cut-cross-entropy", "triton", "transformers")
    rivals = ", ".join(f"{name} {versions.get(name) or 'not installed'}" for name in names)
    changed = ", with changes that no commit has" if found.get("dirty") else ""
    return "\n".join(
        [
            f"From `{source}` of {found['date']}, commit {found['commit'][:9]}{changed}.",
            "",
            f"- {gpu.get('name', 'unknown GPU')}, driver {gpu.get('driver', 'unknown')}, "
            f"CUDA {versions.get('cuda_runtime') or 'unknown'}.",
            f"- visatb {versions.get('visatb', 'unknown')}, PyTorch "
            f"{versions.get('torch', 'unknown')}, {rivals}, "
            f"Python {versions.get('python', 'unknown')}.",
        ]
    )


def _stages(found: Record) -> str:
    """One row a stage of tools/gpu-check; what did not run is not hidden behind what did."""
    rows = []
    for name in STAGES:
        stage = found["stages"].get(name)
        if stage is None:
            rows.append([name, NOT_RUN, ""])
            continue
        notes = [
            f"{part}: {it['status']}: {it.get('reason', '')}".rstrip(": ")
            for part, it in stage["parts"].items()
            if it["status"] != "passed"
        ]
        rows.append([name, stage["status"], "; ".join(notes)])
    return table(["stage", "came to", "parts that did not pass"], rows)


def targets(cases: list[Record], planned: list[Case]) -> str:
    """Every target with every size it is for: its ratio and verdict, or that it was not run."""
    shapes = [_as_record(case) for case in planned]
    found = {_key(case): {r.what: r for r in measured(case, GPU_BOUNDS)} for case in cases}
    wrong = {_key(case): spoiled(case, GPU_BOUNDS) for case in cases}
    tables = []
    for form in ("logits", "linear"):
        of_form = [shape for shape in in_order(shapes) if shape["form"] == form]
        heads = list(dict.fromkeys(size_of(shape) for shape in of_form))
        rows = []
        for what, share in _goals(of_form):
            cells = dict.fromkeys(heads, "")
            limits: dict[str, None] = {}
            for shape in of_form:
                limit = _limit(what, shape)
                if limit is None or shape["valid_percent"] != share:
                    continue
                limits[limit] = None
                ratio = found.get(_key(shape), {}).get(what)
                lost = WRONG if what in wrong.get(_key(shape), ()) else NOT_RUN
                cells[size_of(shape)] = lost if ratio is None else _cell(ratio, limit)
            rows.append([f"{what}, {share}% valid", "; ".join(limits), *cells.values()])
        tables.append(table(["ratio of times", "target", *heads], rows))
    return "\n\n".join(tables)


def _cell(ratio: Ratio, limit: str) -> str:
    return verdict(ratio) if ratio.target == limit else NOT_RUN


def _goals(shapes: list[Record]) -> list[tuple[str, int]]:
    """What is bounded for any of the shapes, and for which share of valid rows."""
    return list(
        dict.fromkeys(
            (bound.what, shape["valid_percent"])
            for bound in GPU_BOUNDS
            for shape in shapes
            if _limit(bound.what, shape)
        )
    )


def _limit(what: str, shape: Record) -> str | None:
    """The bound of a ratio for a shape; forms differ in their contestants' names."""
    for bound in GPU_BOUNDS:
        is_linear = any("linear" in name or "products" in name for name in (bound.one, bound.other))
        if (
            bound.what == what
            and bound.sign
            and is_linear == (shape["form"] == "linear")
            and bound.applies(shape)
        ):
            return f"{bound.sign} {bound.limit:g}"
    return None


def _as_record(case: Case) -> Record:
    size = case.size
    return {
        "form": size.form,
        "rows": size.rows,
        "vocab": size.vocab,
        "hidden": size.hidden,
        "dtype": case.dtype,
        "valid_percent": case.valid,
    }


def _key(case: Record) -> tuple[Any, ...]:
    return (case["form"], size_of(case), case["dtype"], case["valid_percent"])


def _accuracy(cases: list[Record]) -> str:
    """Beside fp64: of logits and of the linear form."""
    if not cases:
        return f"{NOT_RUN.capitalize()}."
    tables = [
        "Against fp64. Errors of gradients of logits are in units of the largest lambda / D; those "
        "of the linear form are relative norms."
    ]
    for case in cases:
        rows = [
            [
                one["name"],
                *(_number(one.get(key)) for key in _COLUMNS[case["form"]]),
                {None: "", True: "met", False: "**missed**"}[one.get("met")],
            ]
            for one in case["contestants"]
            if "not_run" not in one or "met" in one
        ]
        head = f"{case['form']} {size_of(case)} {SHORT.get(case['dtype'], case['dtype'])}"
        tables.append(table([head, *_COLUMNS[case["form"]].values(), "promise"], rows))
    return "\n\n".join(tables)


_COLUMNS = {
    "logits": {
        "loss": "loss, relative",
        "gradient_max": "gradient, most",
        "gradient_mean": "on average",
        "correctly_rounded": "correctly rounded",
        "ulps_max": "others, units in the last place",
        "entry_max": "entry, relative",
    },
    "linear": {
        "loss": "loss, relative",
        "hidden": "gradient of hidden",
        "weight": "gradient of weight",
    },
}


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.5f}" if 0.01 < value <= 1 else f"{value:.2g}"


def _training(found: Record | None) -> str:
    if not found:
        return f"{NOT_RUN.capitalize()}."
    if "not_run" in found:
        return f"{NOT_RUN.capitalize()}: {found['not_run']}."
    shape = found["shape"]
    rows = []
    for step in found["steps"]:
        if "not_run" in step:
            rows.append([step["name"], f"{NOT_RUN}: {step['not_run']}", "", "", ""])
            continue
        times = [1e3 * seconds for seconds in step["times_s"]]
        rows.append(
            [
                step["name"],
                f"**{1e3 * step['median_s']:.2f}** ({min(times):.2f} to {max(times):.2f})",
                f"{(step['peak_extra_bytes'] or 0) / 1e6:,.0f}",
                f"{step['loss']:.6f}",
                _number(step.get("gradient_difference")),
            ]
        )
    words = (
        f"Forward and backward of a LlavaForConditionalGeneration of {found['parameters']:,} "
        f"random weights in bf16 (hidden size {shape['hidden']}, {shape['layers']} layers, "
        f"vocabulary {shape['vocab']}), {shape['batch']} sequences. The difference is the norm of "
        "that of all gradients, relative to those of the model's own loss."
    )
    heads = ["loss", "ms (least to most)", "extra MB", "value", "difference of gradients"]
    return f"{words}\n\n{table(heads, rows)}"


def _kernels(found: Record) -> str:
    """Registers and spills, as the compiler tells them."""
    parts = (found["stages"].get("build") or {}).get("parts", {})
    kernels = (parts.get("library") or {}).get("kernels") or []
    if not kernels:
        return "The compiler's table of registers is not in this file."
    spilling = [one for one in kernels if one["spill_stores"] or one["spill_loads"]]
    most = max(kernels, key=lambda one: one["registers"])
    words = (
        f"{len(kernels)} kernels, of which {len(spilling)} spill registers; the most registers: "
        f"{most['registers']}."
    )
    if not spilling:
        return words
    rows = [
        [
            f"`{one['name']}`",
            one["architecture"],
            str(one["registers"]),
            f"{one['spill_stores']} / {one['spill_loads']}",
        ]
        for one in spilling
    ]
    return f"{words}\n\n{table(['kernel', 'for', 'registers', 'spilled bytes out / in'], rows)}"

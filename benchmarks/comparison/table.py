"""Results as text: for the terminal after each case, and as Markdown. Imports no PyTorch."""

from __future__ import annotations

from .results import (
    DISTURBED,
    Ratio,
    Record,
    contestants,
    is_disturbed,
    median,
    plain,
    ratios,
    size_of,
)

SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
VERDICTS = {None: "", True: " met", False: " **missed**"}


def case_text(case: Record, cases: list[Record]) -> str:
    """Times, memory and ratios of one of the cases for a terminal."""
    faults = "" if "device" in case else f"{'page faults':>12}"
    lines = [
        f"{case['form']} {size_of(case)} {case['dtype']}, {case['valid_rows']} valid rows"
        f" (others used {case['cores_others_used']:.2f} cores meanwhile"
        f"{': disturbed' if is_disturbed(case) else ''})",
        f"  {'':<44}{'median ms':>10}{'min':>9}{'max':>9}{'extra MB':>10}{faults}",
    ]
    for name, contestant in contestants(case).items():
        if "not_run" in contestant:
            lines.append(f"  {name:<44}not run: {contestant['not_run']}")
            continue
        times = (median(contestant), min(contestant["times_s"]), max(contestant["times_s"]))
        middle, least, most = (_ms(seconds, case) for seconds in times)
        faults = ""
        if "page_faults" in contestant:
            counted = sorted(contestant["page_faults"])
            faults = f"{counted[len(counted) // 2]:>12}"
        numbers = f"{middle:>10}{least:>9}{most:>9}{_megabytes(contestant):>10}"
        lines.append(f"  {name:<44}{numbers}{faults}")
    lines += [
        f"  {name}: wrong: {c['wrong']}" for name, c in contestants(case).items() if "wrong" in c
    ]
    lines += [
        f"  {name}: {_plan(c['plan'])}" for name, c in contestants(case).items() if "plan" in c
    ]
    lines += [f"  {_ratio(ratio)}" for ratio in ratios(case, cases)]
    return "\n".join(lines)


def _ratio(ratio: Ratio) -> str:
    verdict = {None: "", True: ", met", False: ", missed"}[ratio.met]
    target = f" (target {ratio.target}{verdict})" if ratio.target else ""
    return f"{ratio.what} = {ratio.value:.2f}{target}"


def _ms(seconds: float, case: Record) -> str:
    """Milliseconds; a GPU's events tell microseconds."""
    return f"{1e3 * seconds:.{3 if 'device' in case else 1}f}"


def _plan(plan: Record) -> str:
    if "path" in plan:
        return f"{plan['path']}, cluster of {plan['cluster']}, {plan['threads']} threads"
    chunks = "1 chunk" if plan["chunks"] == 1 else f"up to {plan['chunks']} chunks"
    return f"{chunks} of {plan['chunk_rows']} rows, products by {plan['product']}"


def _megabytes(contestant: Record) -> str:
    peak = contestant["peak_extra_bytes"]
    return "?" if peak is None else f"{peak / 1e6:,.0f}"


def markdown(results: Record, source: str) -> str:
    """Everything of a result file."""
    return "\n\n".join([_measured_on(results, source), *sizes(results["cases"]), *whos(results)])


def sizes(everything: list[Record]) -> list[str]:
    """Times, ratios and notes by size."""
    parts = []
    for form, size in dict.fromkeys((case["form"], size_of(case)) for case in everything):
        cases = [case for case in everything if (case["form"], size_of(case)) == (form, size)]
        parts += [f"### {form.capitalize()} {size}", _times(cases)]
        if any(ratios(case, everything) for case in cases):
            parts.append(_ratios(cases, everything))
        parts += _notes(cases)
    return parts


def whos(results: Record) -> list[str]:
    """Who took part."""
    return ["### Contestants", _contestants(results)]


def _measured_on(results: Record, source: str) -> str:
    machine, versions = results["machine"], results["versions"]
    others = max(case["cores_others_used"] for case in results["cases"])
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    build = ", ".join(f"{key} {value}" for key, value in versions["visatb_build"].items())
    rivals = ", ".join(
        f"{name} {versions.get(name) or 'not installed'}"
        for name in ("liger_kernel", "cut-cross-entropy", "triton", "numpy", "scipy-openblas32")
    )
    return "\n".join(
        [
            f"From `{source}` of {results['date']}, commit {results['commit'][:9]}"
            f"{'+' if results['commit'].endswith('+') else ''}.",
            "",
            f"- {machine['cpu']}, {results['settings']['threads']} threads of {machine['cores']} "
            f"cores ({caches}), {machine['ram_bytes'] / 2**30:.0f} GiB; {machine['system']}, "
            f"{machine['libc']}; transparent huge pages: {machine['transparent_huge_pages']}; "
            f"others used up to {others:.2f} cores meanwhile.",
            f"- visatb {versions['visatb']} ({build}).",
            f"- PyTorch {versions['torch']} ({versions['torch_cpu_capability']}), {rivals}, "
            f"Python {versions['python']}.",
        ]
    )


def _times(cases: list[Record]) -> str:
    """One row a contestant, one column a dtype and share of valid rows."""
    columns = [contestants(case) for case in cases]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [
        [name, *(_cell(col.get(name), case) for col, case in zip(columns, cases, strict=True))]
        for name in names
    ]
    return table(["ms (least to most), extra MB", *_heads(cases)], rows)


def _cell(contestant: Record | None, case: Record) -> str:
    if contestant is None:
        return ""
    if "not_run" in contestant:
        return "not run"
    least, most = (_ms(limit(contestant["times_s"]), case) for limit in (min, max))
    wrong = ", **wrong**" if "wrong" in contestant else ""
    middle = _ms(median(contestant), case)
    return f"**{middle}** ({least} to {most}), {_megabytes(contestant)}{wrong}"


def _ratios(cases: list[Record], everything: list[Record]) -> str:
    """One row a ratio, with the target where there is one."""
    columns = [{ratio.what: ratio for ratio in ratios(case, everything)} for case in cases]
    names = list(dict.fromkeys(name for column in columns for name in column))
    targets: dict[str, str] = {}
    for column in columns:
        targets |= {name: ratio.target for name, ratio in column.items() if ratio.target}
    rows = [
        [name, *(verdict(column.get(name)) for column in columns), targets.get(name, "")]
        for name in names
    ]
    return table(["ratio", *_heads(cases), "target"], rows)


def verdict(ratio: Ratio | None) -> str:
    """A ratio, and whether its target was met."""
    if ratio is None:
        return ""
    return f"{ratio.value:.2f}{VERDICTS[ratio.met]}"


def _notes(cases: list[Record]) -> list[str]:
    """Below the tables: the plans of our linear form, and which cases were disturbed."""
    plans: dict[str, list[str]] = {}
    for case in cases:
        for name, contestant in contestants(case).items():
            if "plan" in contestant:
                plans.setdefault(f"{name}: {_plan(contestant['plan'])}", []).append(_head(case))
    notes = ["\n".join(f"- {what} ({'; '.join(heads)})." for what, heads in plans.items())]
    disturbed = [f"{_head(c)}: {c['cores_others_used']:.2f}" for c in cases if is_disturbed(c)]
    if disturbed:
        notes.append(
            f"(*) Disturbed: others used more than {DISTURBED} cores meanwhile "
            f"({'; '.join(disturbed)}). These times are worth little."
        )
    return [note for note in notes if note]


def _head(case: Record) -> str:
    return f"{SHORT.get(case['dtype'], case['dtype'])}, {case['valid_percent']}%"


def _heads(cases: list[Record]) -> list[str]:
    return [_head(case) + (" (*)" if is_disturbed(case) else "") for case in cases]


def _contestants(results: Record) -> str:
    """What each calls, its worst error, how long its first call took, or why it did not run."""
    rows: dict[tuple[str, str], list[tuple[str, Record]]] = {}
    for case in results["cases"]:
        for contestant in case["contestants"]:
            rows.setdefault((contestant["name"], contestant["what"]), []).append(
                (case["dtype"], contestant)
            )
    dtypes = list(dict.fromkeys(case["dtype"] for case in results["cases"]))
    heads = [f"error of loss, {SHORT.get(dtype, dtype)}" for dtype in dtypes]
    return table(
        ["name", "what is called", *heads, "longest first call", "not run"],
        [[*key, *_of_all_cases(found, dtypes)] for key, found in rows.items()],
    )


def _of_all_cases(found: list[tuple[str, Record]], dtypes: list[str]) -> list[str]:
    cells = []
    for dtype in dtypes:
        losses = [c["errors"]["loss"] for its, c in found if its == dtype and c.get("errors")]
        cells.append(f"{max(losses):.0e}" if losses else "")
    first = max(c.get("first_call_s", 0.0) for _, c in found)
    reasons = [c["not_run"] for _, c in found if "not_run" in c]
    reasons += [f"wrong: {c['wrong']}" for _, c in found if "wrong" in c and "not_run" not in c]
    return [*cells, f"{first:.1f} s" if first else "", plain(next(iter(reasons), ""))]


def table(head: list[str], rows: list[list[str]]) -> str:
    """As Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines
    )

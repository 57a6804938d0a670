"""Results as text: for the terminal after each case, and as Markdown. Imports no PyTorch."""

from __future__ import annotations

from .results import (
    DISTURBED,
    Ratio,
    Record,
    contestants,
    is_disturbed,
    median,
    ratios,
    size_of,
)

SHORT = {"float32": "fp32", "bfloat16": "bf16"}


def case_text(case: Record, cases: list[Record]) -> str:
    """Times, memory and ratios of one of the cases for a terminal."""
    lines = [
        f"{case['form']} {size_of(case)} {case['dtype']}, {case['valid_rows']} valid rows"
        f" (others used {case['cores_others_used']:.2f} cores meanwhile"
        f"{': disturbed' if is_disturbed(case) else ''})",
        f"  {'':<36}{'median ms':>10}{'min':>9}{'max':>9}{'extra MB':>10}{'page faults':>12}",
    ]
    for name, contestant in contestants(case).items():
        if "not_run" in contestant:
            lines.append(f"  {name:<36}not run: {contestant['not_run']}")
            continue
        times = [1e3 * seconds for seconds in contestant["times_s"]]
        numbers = f"{1e3 * median(contestant):>10.1f}{min(times):>9.1f}{max(times):>9.1f}"
        faults = sorted(contestant["page_faults"])[len(times) // 2]
        lines.append(f"  {name:<36}{numbers}{_megabytes(contestant):>10}{faults:>12}")
    lines += [
        f"  {name}: {_plan(c['plan'])}" for name, c in contestants(case).items() if "plan" in c
    ]
    lines += [f"  {_ratio(ratio)}" for ratio in ratios(case, cases)]
    return "\n".join(lines)


def _ratio(ratio: Ratio) -> str:
    verdict = {None: "", True: ", met", False: ", missed"}[ratio.met]
    target = f" (target {ratio.target}{verdict})" if ratio.target else ""
    return f"{ratio.what} = {ratio.value:.2f}{target}"


def _plan(plan: Record) -> str:
    chunks = "1 chunk" if plan["chunks"] == 1 else f"up to {plan['chunks']} chunks"
    return f"{chunks} of {plan['chunk_rows']} rows, products by {plan['product']}"


def _megabytes(contestant: Record) -> str:
    peak = contestant["peak_extra_bytes"]
    return "?" if peak is None else f"{peak / 1e6:,.0f}"


def markdown(results: Record, source: str) -> str:
    """Everything of a result file."""
    parts = [_measured_on(results, source)]
    sizes = list(dict.fromkeys((case["form"], size_of(case)) for case in results["cases"]))
    for form, size in sizes:
        cases = [c for c in results["cases"] if (c["form"], size_of(c)) == (form, size)]
        parts += [f"### {form.capitalize()} {size}", _times(cases)]
        if any(ratios(case, results["cases"]) for case in cases):
            parts.append(_ratios(cases, results["cases"]))
        parts += _notes(cases)
    parts += ["### Contestants", _contestants(results)]
    return "\n\n".join(parts)


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
    rows = [[name, *(_cell(column.get(name)) for column in columns)] for name in names]
    return _table(["ms (least to most), extra MB", *_heads(cases)], rows)


def _cell(contestant: Record | None) -> str:
    if contestant is None:
        return ""
    if "not_run" in contestant:
        return "not run"
    times = contestant["times_s"]
    spread = f"({1e3 * min(times):.1f} to {1e3 * max(times):.1f})"
    return f"**{1e3 * median(contestant):.1f}** {spread}, {_megabytes(contestant)}"


def _ratios(cases: list[Record], everything: list[Record]) -> str:
    """One row a ratio, with the target where there is one."""
    columns = [{ratio.what: ratio for ratio in ratios(case, everything)} for case in cases]
    names = list(dict.fromkeys(name for column in columns for name in column))
    targets = {name: r.target for column in columns for name, r in column.items() if r.target}
    rows = [
        [name, *(_verdict(column.get(name)) for column in columns), targets.get(name, "")]
        for name in names
    ]
    return _table(["ratio", *_heads(cases), "target"], rows)


def _verdict(ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio.value:.2f}" + {None: "", True: " met", False: " **missed**"}[ratio.met]


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
    return _table(
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
    return [*cells, f"{first:.1f} s" if first else "", next(iter(reasons), "")]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines
    )

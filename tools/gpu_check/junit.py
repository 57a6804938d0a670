"""Counts, reasons and first lines from a JUnit file, of pytest or of ctest."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

MOST_FAILURES = 20
LINE = 300
ERROR = re.compile(r"\berror\b|\bwrong\b|\[  FAILED|Sanitizer", re.IGNORECASE)


def read(path: Path) -> dict[str, Any] | None:
    """None where there is no whole file, as after a run that was cut."""
    try:
        root = ET.parse(path).getroot()  # noqa: S314 - It is of our own tests.
    except (OSError, ET.ParseError):
        return None
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    failures = []
    for case in root.iter("testcase"):
        bad = _child(case, "failure", "error")
        skipped = case.find("skipped")
        if bad is not None:
            counts["failed"] += 1
            failures.append({"name": _name(case), "message": _message(bad) or _said(case)})
        elif skipped is not None or case.get("status") in {"notrun", "disabled"}:
            counts["skipped"] += 1
            reasons[_message(skipped) if skipped is not None else "not run"] += 1
        else:
            counts["passed"] += 1
    return {
        **{key: counts[key] for key in ("passed", "failed", "skipped")},
        "skip_reasons": dict(reasons),
        "failures": failures[:MOST_FAILURES],
    }


def _child(case: ET.Element, *names: str) -> ET.Element | None:
    found = (case.find(name) for name in names)
    return next((child for child in found if child is not None), None)


def _name(case: ET.Element) -> str:
    parts = dict.fromkeys(part for part in (case.get("classname"), case.get("name")) if part)
    return "::".join(parts)


def _said(case: ET.Element) -> str:
    """The first words about an error in what the test printed, for ctest itself tells none."""
    lines = [line.strip() for line in (case.findtext("system-out") or "").splitlines()]
    return next((line[:LINE] for line in lines if ERROR.search(line)), "")


def _message(element: ET.Element) -> str:
    text = element.get("message") or element.text or ""
    return next((line.strip()[:LINE] for line in text.splitlines() if line.strip()), "")

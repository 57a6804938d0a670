"""What an evaluation wrote, checked to the last number before it counts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .._errors import DataError, FileError, cut
from .._numbers import LARGEST, finite
from .._strict_json import once
from .called import called

if TYPE_CHECKING:
    from .markers import Scores

_WRAPPED = "visatb_run_scores"
_WRAPPING = {_WRAPPED, "plan", "run", "scores"}


def read_scores(path: Path, plan: str, run: str, asked: Mapping[str, Sequence[str]]) -> Scores:
    """The scores in a file that an evaluation wrote.

    Args:
        path: {task: {metric: a number, or {sample: a number}}}, alone or as
            {"visatb_run_scores": 1, "plan": ..., "run": ..., "scores": ...}.
        plan: the identity that the file must have, if it has one.
        run: the same.
        asked: {task: its metrics}, all of which must be there, and nothing else.

    Errors: FileError, DataError.
    """
    name = called(path)
    content = _parsed(path, name)
    if _WRAPPED in content:
        content = _unwrapped(content, name, plan, run)
    check_scores(content, name, asked)
    return content


def check_scores(scores: object, name: str, asked: Mapping[str, Sequence[str]]) -> None:
    """Refuses scores that are not what was asked.

    Errors: DataError.
    """
    _check_keys(scores, asked, name, "task")
    assert isinstance(scores, dict)  # noqa: S101 - for the type; checked above
    for task, metrics in asked.items():
        _check_keys(scores[task], metrics, f"{name}: {task}", "metric")
        for metric in metrics:
            check_value(scores[task][metric], f"{name}: {task}.{metric}")


def check_ids(scores: Scores, name: str, ids: Mapping[str, Path]) -> None:
    """Refuses scores by sample that are not of the samples of their task.

    Args:
        scores: that have been checked.
        name: how messages call them.
        ids: {task: a file of ids, one a line}.

    Errors: DataError, FileError.
    """
    for task, path in ids.items():
        by_sample = {m: v for m, v in scores.get(task, {}).items() if isinstance(v, dict)}
        if not by_sample:
            continue
        expected = _lines(path)
        for metric, values in by_sample.items():
            place = f"{name}: {task}.{metric}"
            unknown = sorted(values.keys() - expected)
            if unknown:
                raise DataError(
                    f'{place}: "{cut(unknown[0])}" is no sample of it in {called(path)}'
                )
            if len(values) < len(expected):
                missing = cut(min(expected - values.keys()))
                raise DataError(
                    f'{place}: {len(values)} of {len(expected)} samples; "{missing}" is missing'
                )


def score_of(value: float | Mapping[str, float]) -> float:
    """The score itself: of scores by sample, their mean."""
    if isinstance(value, Mapping):
        return math.fsum(value.values()) / len(value)
    return value


def _parsed(path: Path, name: str) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise DataError(f"{name}: was not written") from None
    except IsADirectoryError:
        raise DataError(f"{name}: is a folder; expected a file of scores") from None
    except OSError as reason:
        raise FileError(f"{name}: {reason.strerror}") from reason
    except UnicodeDecodeError:
        raise DataError(f"{name}: not UTF-8") from None
    if not text.strip():
        raise DataError(f"{name}: empty")
    try:
        content = json.loads(
            text, object_pairs_hook=once(_twice(name)), parse_constant=_no_constant(name)
        )
    except (ValueError, RecursionError) as reason:
        if _is_cut_off(text, reason):
            raise DataError(f"{name}: cut off: the file was not written to its end") from None
        raise DataError(f"{name}: not JSON: {reason}") from None
    if not isinstance(content, dict):
        raise DataError(f"{name}: expected an object, {{task: {{metric: number}}}}")
    return content


def _is_cut_off(text: str, reason: Exception) -> bool:
    if not isinstance(reason, json.JSONDecodeError):
        return False
    return reason.pos >= len(text.rstrip()) or reason.msg.startswith("Unterminated string")


def _twice(name: str) -> Callable[[str], NoReturn]:
    def refuse(key: str) -> NoReturn:
        raise DataError(f'{name}: "{cut(key)}" is there twice')

    return refuse


def _no_constant(name: str) -> Callable[[str], None]:
    def refuse(constant: str) -> None:
        raise DataError(f"{name}: {constant} is no score; expected a finite number")

    return refuse


def _unwrapped(content: dict[str, Any], name: str, plan: str, run: str) -> dict[str, Any]:
    if content[_WRAPPED] != 1:
        raise DataError(f"{name}: {_WRAPPED}: {cut(repr(content[_WRAPPED]))}; expected 1")
    unknown = sorted(content.keys() - _WRAPPING)
    if unknown:
        raise DataError(f'{name}: "{cut(unknown[0])}" is unknown beside {_WRAPPED}')
    if content.get("plan", plan) != plan:
        raise DataError(f"{name}: scores of another plan")
    if content.get("run", run) != run:
        other = cut(str(content["run"]))
        raise DataError(f'{name}: scores of the run "{other}"; expected "{run}"')
    scores = content.get("scores")
    if not isinstance(scores, dict):
        raise DataError(f"{name}: scores: expected an object, {{task: {{metric: number}}}}")
    return scores


def _check_keys(found: object, expected: Iterable[str], place: str, what: str) -> None:
    expected = list(expected)
    if not isinstance(found, dict):
        raise DataError(f"{place}: expected an object with a {what} in every key")
    for key in expected:
        if key not in found:
            others = ", ".join(cut(other) for other in found if other not in expected)
            there = f"; there is {cut(others)}" if others else ""
            raise DataError(f'{place}: the {what} "{key}" is missing{there}')
    for key in found:
        if key not in expected:
            known = ", ".join(expected)
            raise DataError(f'{place}: "{cut(key)}" is no {what} that was asked; expected {known}')


def check_value(value: object, place: str) -> None:
    """Refuses what is neither a score nor scores by sample.

    Errors: DataError.
    """
    if isinstance(value, dict):
        if not value:
            raise DataError(f"{place}: no samples in it")
        for sample, number in value.items():
            if "\0" in sample:
                shown = json.dumps(cut(sample))
                raise DataError(f"{place}: sample {shown}; a name has no NUL in it")
            if finite(number, LARGEST) is None:
                shown = json.dumps(number)[:40]
                found = f'sample "{cut(sample)}" has {shown}'
                raise DataError(f"{place}: {found}; expected a finite number")
    elif finite(value, LARGEST) is None:
        shown = json.dumps(value)[:40]
        raise DataError(f"{place}: {shown}; expected a finite number, or one for every sample")


def _lines(path: Path) -> set[str]:
    try:
        return set(path.read_bytes().decode().split("\n")) - {""}
    except OSError as reason:
        raise FileError(f"{called(path)}: {reason.strerror}") from reason
    except UnicodeDecodeError:
        raise DataError(f"{called(path)}: not UTF-8") from None

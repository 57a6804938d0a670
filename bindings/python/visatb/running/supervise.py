"""The supervisor of one command: starts it, waits, checks its result, and records it.

A process of its own, in a session of its own, so that neither the end of `visatb run` nor that of
a terminal reaches it. It reads its order from standard input, and says on standard output what came
of it, to whoever still listens; what counts is what it leaves on the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from .._errors import DataError, FileError
from .._write import write_whole
from . import leftovers
from .called import called, near
from .command import SHELL, Command, Ended
from .locks import Lock, holder_of
from .markers import Marker, Scores, keep_file, save_failure
from .needed import check_needed, copy_needed
from .order import DONE, FAILED, STOPPED, TROUBLE, Order, Outcome
from .results_in import check_ids, check_scores, read_scores
from .wake import Bell

# How a line of ours begins in a log, of which each attempt has one first.
HEADER = "=== visatb run:"
_LAST_LINES, _TAIL = 12, 16384
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _NotDoneError(Exception):
    """The attempt is over, and its stage is not done."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


def main() -> int:
    """Carries out the order on standard input."""
    bell = Bell(_SIGNALS)
    try:
        order = Order.from_json(sys.stdin.read())
    except (ValueError, KeyError, TypeError):
        return 1  # whoever wrote it was killed while writing, and nothing has begun
    outcome = _carry_out(order, bell)
    # First, for what is told waits where nobody reads it.
    _free(order)
    with suppress(OSError):
        sys.stdout.write(outcome.to_json())
        sys.stdout.flush()
    # Standard output may be closed at its other end, of which Python would complain at exit.
    os._exit(0)


def _carry_out(order: Order, bell: Bell) -> Outcome:
    try:
        _take_over(order)
        _prepare(order, bell)
        _work(order, bell)
        outcome = Outcome(DONE)
    except _NotDoneError as error:
        outcome = error.outcome
    except (DataError, FileError) as error:
        outcome = Outcome(TROUBLE, str(error))
    except Exception as error:  # noqa: BLE001 - what nobody thought of must be said by somebody
        outcome = Outcome(TROUBLE, f"{type(error).__name__}: {error}")
    outcome = outcome.shortened()
    if outcome.kind in {FAILED, TROUBLE}:
        save_failure(Path(order.failure), order.attempt, outcome)
    return outcome


def _locks(order: Order) -> list[Lock]:
    return [Lock(descriptor, Path(path)) for descriptor, path in order.locks]


def _take_over(order: Order) -> None:
    """Ends what is left of attempts that held these locks, and says who holds them now.

    Nobody looks after such processes: their supervisor, and the command itself, are gone, or the
    locks were not free. They would write into the new attempt's files, and fill its GPUs.
    """
    host = os.uname().nodename
    for lock in _locks(order):
        before = holder_of(lock.path)
        if before.get("host") == host and before.get("attempt"):
            leftovers.end(str(before["attempt"]))
        lock.describe(
            {
                "host": host,
                "pid": os.getpid(),
                "run": order.run,
                "stage": order.stage,
                "attempt": order.attempt,
                "gpus": order.gpus,
                "since": time.time(),
            }
        )


def _free(order: Order) -> None:
    """Frees the locks, also those that a daemon of the command would hold on to."""
    for lock in _locks(order):
        lock.describe({})
        lock.release()


def _prepare(order: Order, bell: Bell) -> None:
    """Sees that everything is there, and nothing of an earlier attempt."""
    copy_needed(order.needed)
    check_needed(order.needed, lambda: _heed(bell))
    marker, failure = Path(order.marker), Path(order.failure)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        written = (marker, failure, _begun(order))
        parts = (part for one in written for part in one.parent.glob(f"{one.name}.*.part"))
        for old in (marker, failure, *parts):
            old.unlink(missing_ok=True)
        if order.fresh:
            _begun(order).unlink(missing_ok=True)
            _remove(Path(order.check.path))
        else:
            _keep_if_begun_alike(order)
    except OSError as reason:
        if isinstance(reason, FileError):
            raise
        place = called(marker.parent)
        raise FileError(f"{place}: cannot be cleared: {reason.strerror}") from reason


def _begun(order: Order) -> Path:
    return Path(order.marker).with_suffix(".begun")


def _keep_if_begun_alike(order: Order) -> None:
    """Removes what was begun with other things than there are now; says so for the next attempt.

    Errors: DataError (another command began it: what it wrote may be days of work).
    """
    begun, path = _begun(order), Path(order.check.path)
    state = [order.plan, *(needed.sha256 for needed in order.needed)]
    with suppress(FileNotFoundError, ValueError):
        was = json.loads(begun.read_bytes())
        if was == {"with": state, "command": order.template}:
            return
        if path.exists() and isinstance(was, dict) and was.get("with") == state:
            raise DataError(
                f"{called(path)}: was begun by another command than the project has now; expected "
                "it to be removed, or the command to be as it was"
            )
    _remove(path)
    write_whole(near(begun), json.dumps({"with": state, "command": order.template}).encode())


def _remove(path: Path) -> None:
    """Removes what an earlier attempt wrote; a link that leads to an empty folder stays.

    Errors: DataError (a link that leads to a folder with something in it), OSError.
    """
    if path.is_symlink() and path.is_dir():
        # What it leads to may be more than an attempt wrote.
        if any(path.iterdir()):
            raise DataError(
                f"{called(path)}: is a link to a folder that is not empty; expected that folder to "
                "be emptied, and then it is written into"
            )
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _work(order: Order, bell: Bell) -> None:
    began = time.time()
    try:
        log = Path(order.log).open("ab", buffering=0)  # noqa: SIM115 - closed below
    except OSError as reason:
        raise _unwritable(order, reason) from reason
    with log:
        _write_header(order, log)
        _end_well(order, _run(order, bell, log))
        scores = _checked(order, bell, log)
    Marker(
        plan=order.plan,
        run=order.run,
        stage=order.stage,
        attempt=order.attempt,
        command=order.line,
        host=os.uname().nodename,
        began=began,
        ended=time.time(),
        gpus=order.gpus,
        weights=order.weights,
        training=order.training,
        steps=order.steps,
        template=order.template,
        scores=scores,
    ).save(Path(order.marker))


def _write_header(order: Order, log: IO[bytes]) -> None:
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    gpus = f" on GPUs {order.gpus}" if order.gpus else ""
    host = os.uname().nodename
    line = " ".join(order.line.split("\n"))
    header = f"{HEADER} {order.label}, {when}, {host}{gpus}: {line}\n"
    try:
        log.write(header.encode("utf-8", "surrogateescape"))
    except OSError as reason:
        raise _unwritable(order, reason) from reason


def _unwritable(order: Order, reason: OSError) -> FileError:
    return FileError(f"{called(Path(order.log))}: cannot be written: {reason.strerror}")


def _run(order: Order, bell: Bell, log: IO[bytes]) -> Ended:
    try:
        command = Command(
            [SHELL, "-c", order.line],
            order.attempt,
            output=log,
            folder=order.folder,
            environment=order.environment,
            locks=[descriptor for descriptor, _ in order.locks],
        )
    except OSError as reason:
        raise FileError(f"{SHELL}: cannot be started: {reason.strerror}") from reason
    return command.wait(bell, order.grace)


def _end_well(order: Order, ended: Ended) -> None:
    if ended.was_stopped:
        raise _NotDoneError(Outcome(STOPPED, "was stopped"))
    if ended.code != 0:
        raise _failed(order, f"failed with exit code {ended.code}", with_log=True)


def _failed(order: Order, what: str, *, with_log: bool = False) -> _NotDoneError:
    log = Path(order.log)
    if with_log:
        lines = _last_lines(log)
        what += f"; the end of {called(log)}:" if lines else f"; {called(log)} says nothing"
        what += "".join(f"\n  {line}" for line in lines)
    return _NotDoneError(Outcome(FAILED, what))


def _last_lines(log: Path) -> list[str]:
    """What the attempt wrote last, without its header."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - _TAIL, 0))
        lines = file.read(_TAIL).decode(errors="replace").split("\n")
        # What a progress bar overwrote was never seen.
        shown = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in lines]
        begins = max(
            (i for i, line in enumerate(shown) if line.startswith("=== visatb")), default=-1
        )
        return [line[:300] for line in shown[begins + 1 :] if line][-_LAST_LINES:]
    return []


def _checked(order: Order, bell: Bell, log: IO[bytes]) -> Scores:
    """The scores, if what the command left is right."""
    check, path = order.check, Path(order.check.path)
    try:
        if check.kind == "model":
            _keep_model(path)
            return {}
        if check.kind == "answers":
            scores = _scored(order, bell, log)
        else:
            scores = read_scores(path, order.plan, order.run, check.asked)
        check_ids(scores, called(path), {task: Path(ids) for task, ids in check.ids.items()})
    except DataError as error:
        raise _failed(order, f"ended well, but {error}") from None
    return scores


def _keep_model(path: Path) -> None:
    """Sees that a model is there, and on the disk before its marker is.

    Errors: DataError (nothing is there), FileError.
    """
    try:
        inside = list(path.rglob("*")) if path.is_dir() else [path]
        files = [one for one in inside if one.is_file()]
        if not files:
            what = "is empty" if path.is_dir() else "was not written"
            raise DataError(f"{called(path)}: {what}")
        # A file is there after a power cut if the folders that name it are.
        folders = [one for one in inside if one.is_dir()] + [path] * path.is_dir()
        for one in (*files, *folders, path.parent):
            keep_file(one)
    except OSError as reason:
        if isinstance(reason, FileError):
            raise
        raise FileError(f"{called(path)}: cannot be kept: {reason.strerror}") from reason


def _scored(order: Order, bell: Bell, log: IO[bytes]) -> Scores:
    """Scores of answers, from a process that may import what is large."""
    import tempfile

    check = order.check
    wanted: dict[str, Any] = {
        "path": check.path,
        "asked": check.asked,
        "references": check.references,
    }
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as told:
        asked.write(json.dumps(wanted).encode())
        asked.seek(0)
        program = [sys.executable, str(Path(__file__).with_name("answers.py"))]
        command = Command(program, order.attempt, stdin=asked, output=told, errors=log)
        ended = command.wait(bell, order.grace)
        if ended.was_stopped:
            raise _NotDoneError(Outcome(STOPPED, "was stopped"))
        if ended.code != 0:
            raise _failed(order, "ended well, but its answers could not be scored", with_log=True)
        told.seek(0)
        result = json.load(told)
    if "error" in result:
        raise DataError(result["error"])
    for note in result["notes"]:
        log.write(f"{HEADER} {note}\n".encode("utf-8", "replace"))
    check_scores(result["scores"], called(Path(check.path)), check.asked)
    return dict(result["scores"])


def _heed(bell: Bell) -> None:
    if bell.wait(0):
        raise _NotDoneError(Outcome(STOPPED, "was stopped"))

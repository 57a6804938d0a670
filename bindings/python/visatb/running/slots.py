"""Where commands run: on GPUs, or so many at once; each place is a lock, so that none is shared."""

from __future__ import annotations

import hashlib
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from .._errors import FileError
from ..procedure.plan import file_name_of
from ..procedure.project import Commands
from . import locks
from .locks import Lock

# Below those that systems give to connections by themselves.
_PORTS = range(29500, 32768)

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Slot(NamedTuple):
    """A place for a command, held.

    Attributes:
        gpus: its GPUs; none where the project lists none.
        locks: what holds it.
    """

    gpus: tuple[str, ...]
    locks: tuple[Lock, ...]

    def release(self) -> None:
        """Gives it back."""
        for lock in self.locks:
            lock.release()


class Slots:
    """The places that this machine has, by a project's commands."""

    def __init__(self, output: Path, commands: Commands) -> None:
        self._folder = output / "locks" / f"on {_machine()}"
        self._commands = commands
        # Two projects on one machine do not begin their search at the same port.
        digest = hashlib.sha256(os.fsencode(output.absolute())).digest()
        self._first_port = int.from_bytes(digest[:4], "big") % len(_PORTS)

    @property
    def count(self) -> int:
        """How many there are."""
        commands = self._commands
        if not commands.gpus:
            return commands.jobs
        return len(commands.gpus) // commands.gpus_per_run

    def take(self) -> Slot | None:
        """A free place; None where there is none now.

        Errors: FileError.
        """
        if not self._commands.gpus:
            lock = next(filter(None, map(self._take, self._names())), None)
            return None if lock is None else Slot((), (lock,))
        return next(filter(None, map(self._take_gpus, self._groups())), None)

    def take_port(self) -> tuple[int, Lock]:
        """A port that nobody listens at, and no other command was given.

        Errors: FileError.
        """
        for port in (*_PORTS[self._first_port :], *_PORTS[: self._first_port]):
            lock = self._take(f"port {port}")
            if lock is not None:
                if _is_free(port):
                    return port, lock
                lock.release()
        raise FileError("no port is free for {port}")

    def holders(self) -> list[dict[str, Any]]:
        """Who says to hold the places, each once."""
        found = [locks.holder_of(self._path(name)) for name in self._names()]
        return [one for place, one in enumerate(found) if one and one not in found[:place]]

    def _names(self) -> list[str]:
        commands = self._commands
        if not commands.gpus:
            return [f"job {number}" for number in range(commands.jobs)]
        return [_of_gpu(gpu) for gpu in commands.gpus]

    def _groups(self) -> list[tuple[str, ...]]:
        """The GPUs that go together: neighbours in the list, as they are wired to each other.

        Any that are free would not do: of a command that ends, one may be free before the other.
        """
        gpus, each = self._commands.gpus, self._commands.gpus_per_run
        return [gpus[first : first + each] for first in range(0, self.count * each, each)]

    def _take_gpus(self, gpus: tuple[str, ...]) -> Slot | None:
        held: list[Lock] = []
        # Everyone in one order, so that of two who want the same ones, one gets them.
        for gpu in sorted(gpus):
            lock = self._take(_of_gpu(gpu))
            if lock is None:
                for other in held:
                    other.release()
                return None
            held.append(lock)
        return Slot(gpus, tuple(held))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.lock"

    def _take(self, name: str) -> Lock | None:
        return locks.take(self._path(name))


def _of_gpu(gpu: str) -> str:
    return f"gpu {file_name_of(gpu)}"


def _machine() -> str:
    """What is one machine's own: its containers have names of their own, and share its GPUs."""
    with suppress(OSError):
        boot = _BOOT.read_text(encoding="ascii").strip()
        if boot:
            return boot
    return file_name_of(os.uname().nodename)


def _is_free(port: int) -> bool:
    with suppress(OSError), socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", port))
        return True
    return False


def visible_gpus(slot: Slot, commands: Commands) -> tuple[str, int]:
    """What a command names as its GPUs, and how many they are.

    Without a list in the project, those that are visible to this process.
    """
    if slot.gpus:
        return ",".join(slot.gpus), len(slot.gpus)
    return os.environ.get("CUDA_VISIBLE_DEVICES", ""), commands.gpus_per_run

"""Show how far the demo has come: a bar on a terminal, one plain line per run anywhere else."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, 4:05."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """Roughly how long that is, in words."""
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes > 1 else "a minute" if minutes else "half a minute"


class RunProgress:
    """Counts the optimiser steps of all runs and says when the whole will be done.

    Answering takes time as well; it is part of the time a step has taken so far, so the estimate
    takes care of it by itself.
    """

    def __init__(self, console: Console, runs: int, steps: int) -> None:
        """Expect this many runs with this many steps altogether."""
        self.console = console
        self.runs, self.steps = runs, steps
        self.run = self.done = self.done_before_run = 0
        self.start = self.run_start = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[times]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.bar_id = self.bar.add_task("", total=None, times="")

    def __enter__(self) -> None:
        """Show the bar."""
        self.bar.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self.bar.stop()

    def _times(self) -> str:
        elapsed = time.monotonic() - self.start
        left = elapsed / self.done * (self.steps - self.done) if self.done else 0.0
        return f"elapsed {clock(elapsed)}, about {clock(left)} left"

    def drop(self, runs: int, steps: int) -> None:
        """Some of the runs that were expected will not happen."""
        self.runs -= runs
        self.steps -= steps

    def begin(self, name: str, steps: int) -> None:
        """A run of this many steps begins."""
        self.run += 1
        self.done_before_run = self.done
        self.run_start = time.monotonic()
        title = f"run {self.run:2d}/{self.runs}  {name:<18}"
        self.bar.update(self.bar_id, description=title, total=steps, completed=0, times="")

    def step(self) -> None:
        """One optimiser step is done."""
        self.done += 1
        completed = self.done - self.done_before_run
        self.bar.update(self.bar_id, completed=completed, times=self._times())

    def end(self, name: str, summary: str) -> None:
        """The run is trained and scored; leave one line that says how it came out."""
        seconds = time.monotonic() - self.run_start
        self.console.print(
            f"run {self.run:2d}/{self.runs}  {name:<18} {seconds:5.1f} s   {summary}"
            f"   {self._times()}",
            highlight=False,
            soft_wrap=True,
        )

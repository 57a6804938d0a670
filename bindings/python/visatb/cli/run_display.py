"""What `visatb run` shows while it works: lines in a pipe, a picture of the whole in a terminal.

The work is worth more than the talk about it: where nobody can be told any more, nobody is told.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Literal

from visatb._streams import complain, printable, silence
from visatb.running.order import Outcome
from visatb.running.progress import AtWork, Progress
from visatb.running.runner import place_of
from visatb.running.stages import Stage

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_SECONDS_BETWEEN_LINES = 60.0
# Of a line in a pipe: it may be shown anywhere.
_COLUMNS = 80


def display() -> Lines:
    """What fits standard output."""
    return Picture() if sys.stdout.isatty() else Lines()


class Lines:
    """A line for whatever happens, and about every minute one of the whole."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()

    def open(self) -> None:
        """Begins."""

    def close(self) -> None:
        """Leaves the terminal as it was."""

    def began(self, stage: Stage, gpus: str) -> None:
        """A stage was started here."""
        self.say(f"{stage.label} begins{_on(gpus)}")

    def elsewhere(self, stage: Stage, holder: dict[str, Any]) -> None:
        """A stage is at work already."""
        since = time.strftime("%H:%M:%S", time.localtime(holder["since"])) if holder else ""
        where = f" ({place_of(holder)}, since {since})" if since else ""
        self.say(f"{stage.label} is at work already{where}")

    def ended(self, stage: Stage, seconds: float) -> None:
        """A stage is done."""
        self.say(f"{stage.label} is done in {duration(seconds)}")

    def failed(self, stage: Stage, outcome: Outcome) -> None:
        """A stage is not done."""
        self.warn(f"{stage.label}: {outcome.message}")

    def say(self, text: str) -> None:
        """A line."""
        try:
            print(printable(text), flush=True)
        except (OSError, ValueError):
            silence(sys.stdout)

    def warn(self, text: str) -> None:
        """A line on standard error; of a log, several."""
        complain("visatb: " + "\n".join(printable(line) for line in text.split("\n")))

    def tick(self, progress: Progress) -> None:
        """A line of the whole, once a minute."""
        now = time.monotonic()
        if now - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = now
            self.say(self._whole(progress, _COLUMNS))

    def _whole(self, progress: Progress, columns: int) -> str:
        """The whole in one line; what is told elsewhere too goes where there is no room for it."""
        share = 100 * progress.steps // progress.all_steps if progress.all_steps else 0
        left = progress.seconds_left
        steps = f"{progress.steps:,}/{progress.all_steps:,} steps"
        stages = f"{progress.stages}/{progress.all_stages} stages"
        at_work = f"{len(progress.at_work)} at work"
        gone = f"{duration(time.monotonic() - self._began)} gone"
        to_come = [] if left is None else [f"about {duration(left)} left"]
        ways = [
            [f"{steps} ({share}%)", stages, at_work, gone, *to_come],
            [f"{steps} ({share}%)", stages, at_work, *to_come],
            [steps, stages, at_work, *to_come],
        ]
        lines = [", ".join(way) for way in ways]
        return next((line for line in lines if len(line) <= columns), lines[-1])


class Picture(Lines):
    """The whole, and what is at work, below the lines of what happened."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console

        self._console = Console(highlight=False, emoji=False)
        self._live: Live | None = None
        self._has_errors_apart = sys.stderr is not None and not sys.stderr.isatty()

    def open(self) -> None:
        """Begins."""
        from rich.live import Live

        # Without a thread of its own: it is refreshed by every tick.
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stderr=not self._has_errors_apart,
        )
        self._live.start()

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._live is not None:
            self._safely(self._live.stop)

    def say(self, text: str) -> None:
        """A line above the picture."""
        from rich.text import Text

        # As it is: to rich, the name with_mini:b: has a picture in it.
        self._safely(lambda: self._console.print(Text(printable(text))))

    def warn(self, text: str) -> None:
        """Lines above the picture; on standard error too where that is not the terminal."""
        from rich.text import Text

        if self._has_errors_apart:
            super().warn(text)
        lines = "\n".join(printable(line) for line in text.split("\n"))
        self._safely(lambda: self._console.print(Text(f"visatb: {lines}", style="bold")))

    def tick(self, progress: Progress) -> None:
        """Draws the picture anew."""
        live = self._live
        if live is not None:
            self._safely(lambda: live.update(self._drawn(progress), refresh=True))

    def _drawn(self, progress: Progress) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("at work", "GPUs", "steps", "elapsed"):
            side: Literal["left", "right"] = "left" if name in {"at work", "GPUs"} else "right"
            # What is too long for its column is folded; without this it is cut.
            table.add_column(name, justify=side, overflow="fold")
        for one in progress.at_work:
            name = printable(one.stage.label + (f" ({one.where})" if one.where else ""))
            table.add_row(Text(name), one.gpus, _steps(one), duration(one.elapsed))
        return Group(Text(self._whole(progress, self._console.width), style="bold"), table)

    def _safely(self, draw: Any) -> None:
        try:
            draw()
        except (OSError, ValueError):  # the terminal is gone
            self._live = None


def _on(gpus: str) -> str:
    return f" on GPU{'s' if ',' in gpus else ''} {gpus}" if gpus else ""


def _steps(one: AtWork) -> str:
    if not one.stage.is_training or one.steps is None:
        return ""
    total = one.stage.run.steps
    return f"{one.steps:,}/{total:,} ({100 * one.steps // total}%)"


def duration(seconds: float) -> str:
    """A time in words: 8.3 s, 12 min, 3 h 05 min, 2 d 4 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"

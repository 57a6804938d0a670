"""Whether somebody else was at work on the machine meanwhile, which makes times worthless."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")


class Load(NamedTuple):
    """Seconds: by the clock, that all cores were busy, that this process kept them so."""

    clock: float
    busy: float
    own: float

    @classmethod
    def now(cls) -> Load:
        """At this moment. Steal counts as busy: another virtual machine had the core."""
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
        user, nice, system, _idle, _wait, irq, soft, steal = map(int, fields)
        times = os.times()
        busy = (user + nice + system + irq + soft + steal) / TICKS
        return cls(time.monotonic(), busy, times.user + times.system)

    def others_since(self, before: Load) -> float:
        """How many cores others used on average."""
        others = (self.busy - before.busy) - (self.own - before.own)
        return max(0.0, others / (self.clock - before.clock))

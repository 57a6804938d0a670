"""One HTML page that shows weights and what they were made from, and its figures as files.

`write_report` is the whole of it. It needs matplotlib and Jinja2, which are imported when it is
called.
"""

from __future__ import annotations

from .write import Written, write_report

__all__ = ["Written", "write_report"]

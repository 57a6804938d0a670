"""The procedure of VisATB from a project file: what is trained on what, and in which order.

`load_project` reads the file, `make_plan` deals the data and says which runs there are,
`load_plan` reads what it wrote. The command line (`visatb plan`, `visatb run`) stands on these.
"""

from __future__ import annotations

from .plan import Plan, Run, load_plan
from .planning import make_plan
from .project import Project, load_project

__all__ = ["Plan", "Project", "Run", "load_plan", "load_project", "make_plan"]

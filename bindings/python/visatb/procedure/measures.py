"""Whether answers can be scored by a project's metrics, asked before anything is planned."""

from __future__ import annotations

from .._errors import DataError
from ..scoring import IDS, METRICS
from ..scoring import Metric as Measure
from .project import Metric, Project
from .section import either


def check_metric(project: Project, task: str, metric: Metric) -> Measure:
    """Refuses what answers cannot be scored by, where no command scores them itself.

    Returns:
        The measure of `visatb.scoring`; what it needs may not be installed.

    Errors: DataError.
    """
    measure, place = METRICS.get(metric.name), f"{project.file}: tasks.{task}.metrics"
    if measure is None:
        raise DataError(
            f'{place}: answers cannot be scored by "{metric.name}"; expected {either(METRICS)}, '
            "or a command that names {scores}"
        )
    if measure.higher_is_better != metric.higher_is_better:
        better = "higher" if measure.higher_is_better else "lower"
        raise DataError(f"{place}: of {metric.name}, {better} is better")
    if measure.references and project.data.id not in IDS:
        raise DataError(
            f'{project.file}: data.id: "{project.data.id}", by which answers are not matched with '
            f"samples; expected {either(IDS)}, or a command that names {{scores}}"
        )
    return measure

"""Validation scores from a model's answers: `score_answers`, `METRICS`, and `import_lmms_eval`.

NumPy only; captions need pycocoevalcap and Java, which are looked for when they are asked for.
"""

from .fields import IDS
from .lmms_eval import Imported, ImportedScore, ImportNote, import_lmms_eval, read_lmms_eval
from .pairs import MissingAnswersError
from .records import RecordSource
from .score import METRICS, Metric, SampleScores, score_answers

__all__ = [
    "IDS",
    "METRICS",
    "ImportNote",
    "Imported",
    "ImportedScore",
    "Metric",
    "MissingAnswersError",
    "RecordSource",
    "SampleScores",
    "import_lmms_eval",
    "read_lmms_eval",
    "score_answers",
]

"""Error rates with intervals over test speakers, paired tests, and the papers' conclusions."""

from studylib.statistics.comparisons import error_table, paired_tests
from studylib.statistics.conclusions import verdicts
from studylib.statistics.resampling import bootstrap

__all__ = ["bootstrap", "error_table", "paired_tests", "verdicts"]

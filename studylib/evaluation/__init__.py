"""Embeddings and trials -> scores, error rates with intervals, calibrated ratios."""

from studylib.evaluation.run import evaluate
from studylib.evaluation.scores import trial_scores
from studylib.statistics.error_rates import equal_error_rate

__all__ = ["equal_error_rate", "evaluate", "trial_scores"]

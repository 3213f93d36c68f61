"""Frames -> figures. Nothing is computed here that a table would not show; nothing is saved."""

from studylib.figures.runs import scores_and_det, training_curve

__all__ = ["scores_and_det", "training_curve"]

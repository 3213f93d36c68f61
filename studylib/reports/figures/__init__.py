"""Frames -> figures. Nothing is computed here that a table would not show; nothing is saved."""

from studylib.reports.figures.batch_size import eer_by_batch, eer_by_speakers, eer_by_utterances
from studylib.reports.figures.corpus import sessions, spectrograms, voices
from studylib.reports.figures.embeddings import geometry, speaker_maps
from studylib.reports.figures.results import (
    det_overlay,
    difference_matrix,
    eer_with_intervals,
    margin_by_scale,
    verdict_forest,
)
from studylib.reports.figures.robustness import from_easy_to_hard, trial_kinds
from studylib.reports.figures.runs import scores_and_det, training_curve
from studylib.reports.figures.trunks import eer_by_multiply_adds

__all__ = [
    "det_overlay",
    "difference_matrix",
    "eer_by_batch",
    "eer_by_multiply_adds",
    "eer_by_speakers",
    "eer_by_utterances",
    "eer_with_intervals",
    "from_easy_to_hard",
    "geometry",
    "margin_by_scale",
    "scores_and_det",
    "sessions",
    "speaker_maps",
    "spectrograms",
    "training_curve",
    "trial_kinds",
    "verdict_forest",
    "voices",
]

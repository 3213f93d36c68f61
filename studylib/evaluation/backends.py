"""What may stand between embeddings and decisions: s-norm, LDA + PLDA, calibration."""

from studylib.evaluation.calibration import Calibration, fit_calibration, load_calibration
from studylib.evaluation.plda import PldaBackend, TwoCovariance, fit_plda, fit_two_covariance
from studylib.evaluation.snorm import adaptive_snorm, speaker_means

__all__ = [
    "Calibration",
    "PldaBackend",
    "TwoCovariance",
    "adaptive_snorm",
    "fit_calibration",
    "fit_plda",
    "fit_two_covariance",
    "load_calibration",
    "speaker_means",
]

"""Thin ResNet-34, on the magnitude spectrogram."""

from studylib.models.features import N_BINS
from studylib.models.residual import ResNet34


class ThinResNet34(ResNet34):
    """ResNet-34 with a quarter of the channels.

    Source: Cai et al. 2018; Chung et al. 2020, section 3.1 and Table 1; squeeze-excitation and the
    order inside a block follow the latter's code. Paper B's crop of 2 s and 240 samples, (257, 199)
    magnitudes, becomes (128, 9, 25) before the mean over frequency; 2 s are 197 frames.
    """

    title = "Thin ResNet-34"
    features = "spectrogram"
    n_features = N_BINS
    max_pool = True
    last_stride = 2

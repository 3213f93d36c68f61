"""Thin ResNet-34, on the magnitude spectrogram."""

from studylib.models.features import N_BINS
from studylib.models.residual import ResNet34


class ThinResNet34(ResNet34):
    """ResNet-34 with a quarter of the channels.

    Source: Cai et al. 2018; Chung et al. 2020, section 3.1 and Table 1; squeeze-excitation and the
    order inside a block follow the latter's code. Paper B's crop of 2 s and 240 samples, (257, 199)
    magnitudes, becomes (128, 9, 25) before the mean over frequency; 2 s are 197 frames.

    Parameters
    ----------
    embedding_dim : int
        Length of the embedding.
    width : int
        Channels of the first stage; the others have 2, 4 and 8 times as many.
    pooling : str
        "sap" (self-attentive mean), or "asp", "tap", "statistics".
    normalise : str
        "mean_and_deviation" (over time, as in paper B's code), or "mean".
    window : str
        "hamming" (as in the paper), or "hann" (as in its authors' code for this trunk).
    """

    title = "Thin ResNet-34"
    features = "spectrogram"
    max_pool = True
    last_stride = 2

    def __init__(
        self,
        embedding_dim: int = 512,
        *,
        width: int = 16,
        pooling: str = "sap",
        normalise: str = "mean_and_deviation",
        window: str = "hamming",
    ):
        super().__init__(embedding_dim, N_BINS, width, pooling, normalise)
        self.feature_options = {"window": window}

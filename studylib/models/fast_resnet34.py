"""Fast ResNet-34, the trunk of most results of paper B."""

from studylib.models.features import N_MELS
from studylib.models.residual import ResNet34


class FastResNet34(ResNet34):
    """ResNet-34 with a quarter of the channels, which strides early in frequency.

    Source: Chung et al. 2020, section 3.1 and Table 1; squeeze-excitation and the order inside a
    block follow the authors' code. Paper B's crop of 2 s and 240 samples, (40, 202) log-mel,
    becomes (128, 5, 51) before the mean over frequency; 2 s are 201 frames.

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
    mels : int
        Number of mel filters.
    window : str
        "hamming", or "hann".
    log : bool
        Whether the mel spectrum is taken in logarithm.
    """

    title = "Fast ResNet-34"
    features = "log_mel"
    max_pool = False
    last_stride = 1

    def __init__(
        self,
        embedding_dim: int = 512,
        *,
        width: int = 16,
        pooling: str = "sap",
        normalise: str = "mean_and_deviation",
        mels: int = N_MELS,
        window: str = "hamming",
        log: bool = True,
    ):
        super().__init__(embedding_dim, mels, width, pooling, normalise)
        self.feature_options = {"window": window, "mels": mels, "log": log}

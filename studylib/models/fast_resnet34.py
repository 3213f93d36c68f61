"""Fast ResNet-34, the trunk of most results of paper B."""

from studylib.models.features import N_MELS
from studylib.models.residual import ResNet34


class FastResNet34(ResNet34):
    """ResNet-34 with a quarter of the channels, which strides early in frequency.

    Source: Chung et al. 2020, section 3.1 and Table 1; squeeze-excitation and the order inside a
    block follow the authors' code. Paper B's crop of 2 s and 240 samples, (40, 202) log-mel,
    becomes (128, 5, 51) before the mean over frequency; 2 s are 201 frames.
    """

    title = "Fast ResNet-34"
    features = "log_mel"
    n_features = N_MELS
    max_pool = False
    last_stride = 1

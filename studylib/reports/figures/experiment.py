"""Figures of a batch under one run's network."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.figure import Figure


def batch_similarities(similarities: Mapping[str, np.ndarray], n_utterances: int) -> Figure:
    """Heat maps (N * M, N * M) side by side on one scale; lines part the speakers.

    Parameters
    ----------
    similarities : mapping
        Title -> similarity of each crop to each other.
    n_utterances : int
        M, crops of each speaker.
    """
    figure, panels = plt.subplots(
        1, len(similarities), figsize=(5 * len(similarities), 4.4), squeeze=False
    )
    low = min(matrix.min() for matrix in similarities.values())
    high = max(matrix.max() for matrix in similarities.values())
    for axes, (title, matrix) in zip(panels[0], similarities.items(), strict=True):
        seaborn.heatmap(matrix, vmin=low, vmax=high, cmap="viridis", square=True, ax=axes)
        edges = np.arange(0, len(matrix) + 1, n_utterances)
        axes.hlines(edges, 0, len(matrix), color="white", linewidth=0.4)
        axes.vlines(edges, 0, len(matrix), color="white", linewidth=0.4)
        axes.set(title=title, xlabel="crop", ylabel="crop")
        axes.set_xticks(edges[:-1] + n_utterances / 2, [str(k) for k in range(len(edges) - 1)])
        axes.set_yticks(edges[:-1] + n_utterances / 2, [str(k) for k in range(len(edges) - 1)])
        axes.set(xlabel="crops by speaker", ylabel="crops by speaker")
    return figure

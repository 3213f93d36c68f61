"""Figures of a corpus: spectrograms, voices, sessions."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from studylib.corpora.store import SAMPLE_RATE
from studylib.reports.figures.style import COLOURS

SEXES = {"f": COLOURS[1], "m": COLOURS[5], "unknown": "#777777"}
SPLITS = {"train": "black", "dev": COLOURS[0], "test": COLOURS[1]}
VOICES = {
    "f0": "median F0 (Hz)",
    "words_per_minute": "speaking rate (words a minute)",
    "accent": "accent",
    "sex": "sex",
}
SESSIONS = {
    "seconds": "length of an utterance (s)",
    "snr": "signal-to-noise ratio (dB)",
    "reverberation": "reverberation time (s)",
    "low_pass": "low-pass corner (Hz)",
}


def spectrograms(sounds: Mapping[str, np.ndarray], seconds: float = 4.0) -> Figure:
    """One spectrogram a sound, on one time axis; each relative to its own loudest point.

    Parameters
    ----------
    sounds : mapping
        Title -> (S,) samples at 16 kHz. 25-ms Hamming windows every 10 ms, as the features have.
    """
    size = (9, 1.9 * len(sounds) + 0.3)
    figure, panels = plt.subplots(len(sounds), figsize=size, sharex=True)
    for axes, (title, samples) in zip(panels, sounds.items(), strict=True):
        signal = samples[: round(seconds * SAMPLE_RATE)].astype(np.float64)
        windows = {"NFFT": 400, "noverlap": 240, "window": np.hamming(400), "scale": "linear"}
        image = axes.specgram(signal, Fs=SAMPLE_RATE, cmap="magma", norm=LogNorm(), **windows)[3]
        loudest = max(image.get_array().max(), 1e-30)
        image.set_clim(1e-7 * loudest, loudest)
        axes.set(title=title, ylabel="frequency (Hz)", facecolor="black")
    panels[-1].set_xlabel("time (s); colours: 70 dB below the loudest point")
    return figure


def voices(utterances: pd.DataFrame) -> Figure:
    """How the speakers differ, by sex where it is known: F0, speaking rate, accent, as known."""
    speakers = utterances.drop_duplicates("speaker")
    sex = speakers["sex"].fillna("unknown") if "sex" in speakers else "unknown"
    return _histograms(speakers.assign(sex=sex), VOICES, hue="sex", palette=SEXES, multiple="stack")


def sessions(utterances: pd.DataFrame) -> Figure:
    """Distributions of the session effects by split, for the columns that the corpus has.

    If the outlines coincide, the splits differ in their speakers alone.
    """
    table = utterances.assign(seconds=utterances["length"] / SAMPLE_RATE)
    shares = {"stat": "percent", "common_norm": False, "fill": False, "element": "step"}
    return _histograms(table, SESSIONS, hue="split", palette=SPLITS, **shares)


def _histograms(table: pd.DataFrame, labels: Mapping[str, str], **looks) -> Figure:
    """One panel for each labelled column with any value; of words, the twelve commonest."""
    known = [name for name in labels if name in table and table[name].notna().any()]
    figure, panels = plt.subplots(1, len(known), figsize=(3.2 * len(known), 2.9), squeeze=False)
    for axes, name in zip(panels[0], known, strict=True):
        values = table
        if not pd.api.types.is_numeric_dtype(table[name]):
            common = table[name].value_counts().index[:12]  # as many as one reads
            values = table.assign(**{name: pd.Categorical(table[name], common)})
        seaborn.histplot(values, y=name, **looks, legend=name == known[-1], ax=axes)
        axes.set_ylabel(labels[name])
    return figure

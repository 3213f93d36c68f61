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
SPLITS = {"train": ("black", "-"), "dev": (COLOURS[0], "--"), "test": (COLOURS[1], ":")}
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
        axes.grid(False)
    panels[-1].set_xlabel("time (s); colours: 70 dB below the loudest point")
    return figure


def voices(utterances: pd.DataFrame) -> Figure:
    """How the speakers differ, by sex where it is known: F0, speaking rate, accent, as known."""
    speakers = utterances.drop_duplicates("speaker").reset_index(drop=True)
    speakers["sex"] = speakers["sex"].fillna("unknown") if "sex" in speakers else "unknown"
    figure, panels = _panels(speakers, VOICES)
    for name, axes in panels.items():
        if not pd.api.types.is_numeric_dtype(speakers[name]):
            common = speakers[name].value_counts().index[:12]  # as many as one reads
            speakers[name] = pd.Categorical(speakers[name], common)
        looks = {"hue": "sex", "palette": SEXES, "multiple": "stack", "legend": name == "sex"}
        seaborn.histplot(speakers, y=name, **looks, ax=axes)
        axes.set(ylabel=VOICES[name], xlabel="speakers")
    return figure


def sessions(utterances: pd.DataFrame) -> Figure:
    """Distributions of the session effects by split, for the columns that the corpus has.

    One curve a split: the share of its utterances at or below a value. If the three curves
    coincide, the splits differ in their speakers alone.
    """
    table = utterances.assign(seconds=utterances["length"] / SAMPLE_RATE)
    figure, panels = _panels(table, SESSIONS)
    for name, axes in panels.items():
        for split, (line, style) in SPLITS.items():
            values = table.loc[table["split"] == split, name].dropna()
            seaborn.ecdfplot(x=values, stat="percent", color=line, ls=style, label=split, ax=axes)
        axes.set(xlabel=SESSIONS[name], ylabel="utterances at or below (%)")
        if (missing := table[name].isna().mean()) > 0:
            axes.set_title(f"{100 * missing:.0f} % have none")
    axes.legend(frameon=False)
    return figure


def _panels(table: pd.DataFrame, labels: Mapping[str, str]) -> tuple[Figure, dict]:
    """A row of panels, one for each labelled column with any value."""
    known = [name for name in labels if name in table and table[name].notna().any()]
    figure, panels = plt.subplots(1, len(known), figsize=(3.2 * len(known), 2.9), squeeze=False)
    return figure, dict(zip(known, panels[0], strict=True))

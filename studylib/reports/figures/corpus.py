"""Figures of a corpus: spectrograms, voices, sessions."""

import textwrap
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

SAMPLE_RATE = 16_000
SEXES = {"f": ("women", "#CC6677", "//"), "m": ("men", "#332288", "")}
SPLITS = {"train": ("black", "-"), "dev": ("#0072B2", "--"), "test": ("#D55E00", ":")}


def spectrograms(sounds: Mapping[str, np.ndarray], seconds: float = 4.0) -> Figure:
    """One spectrogram a sound, on one time axis; each relative to its own loudest point.

    Parameters
    ----------
    sounds : mapping
        Title -> (S,) samples at 16 kHz. 25-ms Hamming windows every 10 ms, as the features have.
    """
    figure, panels = plt.subplots(
        len(sounds),
        1,
        figsize=(9, 2.1 * len(sounds) + 0.3),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, (title, samples) in zip(panels[:, 0], sounds.items(), strict=True):
        decibels = _decibels(samples[: round(seconds * SAMPLE_RATE)])
        extent = (0, len(decibels) / 100, 0, SAMPLE_RATE / 2000)
        image = axes.imshow(
            decibels.T,
            origin="lower",
            aspect="auto",
            extent=extent,
            vmin=-70,
            vmax=0,
            # Steps of 5 dB and no blending: a notebook of a quarter of the size.
            cmap=plt.get_cmap("magma", 14),
            interpolation="nearest",
        )
        axes.set_title(title, fontsize=9)
        axes.set_ylabel("frequency (kHz)")
    panels[-1, 0].set_xlabel("time (s)")
    figure.colorbar(image, ax=panels, label="power (dB below the loudest)", pad=0.01)
    return figure


def voices(utterances: pd.DataFrame) -> Figure | None:
    """How the speakers differ: median F0, speaking rate, accent; by sex where it is known.

    Parameters
    ----------
    utterances : DataFrame
        A corpus's table; whichever of f0, words_per_minute, accent, nationality, language and sex
        it has is shown. None if it has none of these.
    """
    speakers = utterances.drop_duplicates("speaker")
    numbers = {"f0": "median F0 (Hz)", "words_per_minute": "speaking rate (words a minute)"}
    kinds = ("accent", "nationality", "language")
    numbers = {name: label for name, label in numbers.items() if _is_known(speakers, name)}
    kinds = [name for name in kinds if _is_known(speakers, name)]
    if not numbers and not kinds and _is_known(speakers, "sex"):
        kinds = ["sex"]
    if not numbers and not kinds:
        return None
    figure, panels = _row(len(numbers) + len(kinds))
    for axes, (name, label) in zip(panels, numbers.items(), strict=False):
        edges = _edges(speakers[name].dropna(), 20)
        _stacked_histogram(axes, speakers, name, edges)
        axes.set(xlabel=label, ylabel="speakers")
    for axes, name in zip(panels[len(numbers) :], kinds, strict=True):
        _stacked_bars(axes, speakers, name)
    groups = _by_sex(speakers)
    handles = [plt.Rectangle((0, 0), 1, 1, **_looks(name)) for name in groups]
    labels = [f"{name} ({len(group)})" for name, group in groups.items()]
    figure.legend(handles, labels, loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    return figure


def sessions(utterances: pd.DataFrame) -> Figure:
    """What stands between speaker and microphone, by split: SNR, reverberation, low-pass.

    Length of utterances and sessions a speaker are always known; the effects are shown where the
    corpus knows them, as densities over the sessions that have them.
    """
    table = utterances.assign(
        seconds=utterances["length"] / SAMPLE_RATE,
        low_pass_khz=utterances.get("low_pass", pd.Series(np.nan, utterances.index)) / 1000,
    )
    table["sessions"] = table.groupby("speaker")["session"].transform("nunique")
    shown = {
        "seconds": ("length of an utterance (s)", "id", "utterances"),
        "sessions": ("sessions a speaker", "speaker", "speakers"),
        "snr": ("signal-to-noise ratio (dB)", "session", "sessions"),
        "reverberation": ("reverberation time (s)", "session", "sessions"),
        "low_pass_khz": ("low-pass corner (kHz)", "session", "sessions"),
    }
    if table.groupby("split")["sessions"].nunique().max() == 1:
        del shown["sessions"]  # by design, as in the embedded corpus
    shown = {name: label for name, label in shown.items() if _is_known(table, name)}
    figure, panels = _row(len(shown))
    for axes, (name, (label, unit, units)) in zip(panels, shown.items(), strict=True):
        rows = table.drop_duplicates(unit)
        edges = _edges(rows[name].dropna(), 15)
        for split, (line, style) in SPLITS.items():
            values = rows.loc[rows["split"] == split, name].dropna()
            if len(values):
                share = np.histogram(values, edges)[0] / len(values)
                axes.stairs(100 * share, edges, color=line, linestyle=style, label=split)
        axes.set(xlabel=label, ylabel=f"{units} (%)", ylim=(0, None))
        if (missing := rows[name].isna().mean()) > 0:
            axes.set_title(f"{100 * missing:.0f} % of the {units} have none", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    return figure


def _decibels(samples: np.ndarray) -> np.ndarray:
    """Power spectrogram (frames, 128) in dB relative to its highest value; 62.5 Hz a band."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), 400)[::160]
    power = np.abs(np.fft.rfft(frames * np.hamming(400), 512))[:, :256] ** 2
    power = power.reshape(len(power), 128, 2).sum(axis=2)
    return 10 * np.log10(power / max(power.max(), 1e-30) + 1e-12)


def _edges(values: pd.Series, bins: int) -> np.ndarray:
    """Edges of equal bins; whole numbers lie in the middle of a bin."""
    if not (values % 1 == 0).all():
        return np.histogram_bin_edges(values, bins)
    width = max(1, round((values.max() - values.min() + 1) / bins))
    return np.arange(values.min() - 0.5, values.max() + 0.5 + width, width)


def _is_known(table: pd.DataFrame, name: str) -> bool:
    return name in table and table[name].notna().any()


def _by_sex(speakers: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Name of a group -> its speakers; one group if no sex is known."""
    if not _is_known(speakers, "sex"):
        return {"speakers": speakers}
    groups = {name: speakers[speakers["sex"] == sex] for sex, (name, _, _) in SEXES.items()}
    groups["sex unknown"] = speakers[~speakers["sex"].isin(list(SEXES))]
    return {name: group for name, group in groups.items() if len(group)}


def _looks(group: str) -> dict[str, str | float]:
    fills = {name: (fill, hatch) for name, fill, hatch in SEXES.values()}
    fill, hatch = fills.get(group, ("#777777", ""))
    return {"facecolor": fill, "hatch": hatch, "edgecolor": "white", "linewidth": 0.5}


def _stacked_histogram(axes: plt.Axes, speakers: pd.DataFrame, name: str, edges) -> None:
    below = np.zeros(len(edges) - 1)
    for group, rows in _by_sex(speakers).items():
        counts = np.histogram(rows[name].dropna(), edges)[0]
        axes.bar(edges[:-1], counts, np.diff(edges), below, align="edge", **_looks(group))
        below += counts


def _stacked_bars(axes: plt.Axes, speakers: pd.DataFrame, name: str, most: int = 12) -> None:
    """Horizontal bars of the commonest values."""
    values = speakers[name].value_counts().index[:most][::-1]
    start = np.zeros(len(values))
    for group, rows in _by_sex(speakers).items():
        counts = rows[name].value_counts().reindex(values, fill_value=0).to_numpy()
        axes.barh(range(len(values)), counts, left=start, **_looks(group))
        start += counts
    labels = [textwrap.shorten(str(value), 22, placeholder="…") for value in values]
    axes.set_yticks(range(len(values)), labels, fontsize=8)
    left_out = speakers[name].nunique() - len(values)
    axes.set_title(f"{name} ({left_out} rarer left out)" if left_out else name, fontsize=9)
    axes.set_xlabel("speakers")


def _row(n: int) -> tuple[Figure, list[plt.Axes]]:
    """A figure of n panels side by side, at most four in a row."""
    columns = min(n, 4)
    rows = -(-n // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(3.1 * columns, 2.7 * rows), squeeze=False, layout="constrained"
    )
    for axes in panels.ravel()[n:]:
        axes.set_axis_off()
    return figure, list(panels.ravel()[:n])

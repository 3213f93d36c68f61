"""Short, noisy and reverberant crops, and what trained models make of them.

The test utterances are degraded once per condition and turned into features once; every trunk then
runs on these same features, so that all runs hear the same crops.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from studylib.corpora.acoustics import Session, apply_session
from studylib.corpora.store import SAMPLE_RATE, Corpus
from studylib.errors import StudyError
from studylib.files.paths import run_folder
from studylib.models.embedder import INT16_RANGE, Embedder, load_model

NOISE_SLOPE = -3.0  # dB an octave: pink, nearer to rooms and crowds than white noise
DIRECT = 0.0  # dB; direct sound and echo are equally strong, so that T60 alone changes
CHUNK = 64  # utterances whose features are held at a time


@dataclass(frozen=True)
class Condition:
    """What a test crop has gone through.

    Attributes
    ----------
    seconds : float
        Length of the one crop, taken from the middle of the utterance.
    snr : float or None
        Power of the recording, its own noise included, relative to that of the added noise, dB.
    reverberation : float or None
        Time in which the added room's echo falls by 60 dB (T60), s.
    """

    seconds: float
    snr: float | None = None
    reverberation: float | None = None


Questions = Mapping[str, Mapping[str, Condition]]


def questions_of(
    lengths: Iterable[float],
    snrs: Iterable[float],
    reverberations: Iterable[float],
    seconds: float,
) -> dict[str, dict[str, Condition]]:
    """Question -> level -> condition, the reference first, then from easy to hard.

    Parameters
    ----------
    lengths : iterable of float
        Crop lengths, s.
    snrs, reverberations : iterable of float
        dB and s; each of these crops is `seconds` long.
    """
    untouched = Condition(seconds)
    noisy = {f"{snr:g} dB": Condition(seconds, snr=snr) for snr in sorted(snrs, reverse=True)}
    echoing = {f"{t:g} s": Condition(seconds, reverberation=t) for t in sorted(reverberations)}
    return {
        "crop length": {f"{s:g} s": Condition(s) for s in sorted(lengths, reverse=True)},
        "added noise": {"as recorded": untouched} | noisy,
        "added reverberation": {"as recorded": untouched} | echoing,
    }


def choose_runs(runs: pd.DataFrame, names: Iterable[str] | None) -> pd.DataFrame:
    """The named runs, or all that have a trunk, each with its first seed.

    Parameters
    ----------
    runs : DataFrame
        From `results.collect_runs`.

    Raises
    ------
    StudyError
        A name that is no run of the study, or a baseline: it has no model to run again.
    """
    with_model = runs[runs["trunk"].notna()].drop_duplicates("run")
    if names is None:
        return with_model
    for name in names:
        if name not in set(with_model["run"]):
            raise StudyError(
                f"report.robustness.runs names {name!r}: expected a run of the study with a model "
                f"({', '.join(with_model['run'])})"
            )
    return with_model[with_model["run"].isin(list(names))]


def load_models(
    root: Path, study: str, runs: pd.DataFrame
) -> tuple[dict[str, Embedder], dict[str, str]]:
    """The models of runs (columns run, seed; one seed a run), and how each one is scored."""
    models, scorings = {}, {}
    for run, seed in zip(runs["run"], runs["seed"], strict=True):
        path = run_folder(root, study, "train", run, seed) / "model.safetensors"
        models[run], scorings[run] = load_model(path)
    return models, scorings


def usable_lengths(corpus: Corpus, rows: np.ndarray, lengths: Iterable[float]) -> list[float]:
    """The lengths (s) that at least half of the utterances reach.

    Shorter utterances are repeated to fill a crop, which adds no speech: beyond that point a curve
    would only look flat.
    """
    seconds = corpus.utterances["length"].to_numpy()[rows] / SAMPLE_RATE
    return [length for length in lengths if np.mean(seconds >= length) >= 0.5]


def degrade(samples: np.ndarray, condition: Condition, rng: np.random.Generator) -> np.ndarray:
    """One crop of an utterance as the condition leaves it.

    The whole utterance is put into the room and the noise, then cropped: a crop begins with the
    echo of what was said before.

    Parameters
    ----------
    samples : (S,) int16
        The whole utterance.
    condition : Condition
    rng : numpy Generator
        Draws room and noise: generators in one state give the same noise, scaled, at every
        signal-to-noise ratio.

    Returns
    -------
    (round(16,000 x seconds),) int16
        From the middle; an utterance that is shorter is repeated from its start.
    """
    session = Session(
        reverberation=condition.reverberation,
        direct=DIRECT,
        snr=condition.snr,
        noise_slope=NOISE_SLOPE,
        room_seed=int(rng.integers(2**32)),
    )
    length = round(condition.seconds * SAMPLE_RATE)
    if condition.snr is not None or condition.reverberation is not None:
        samples = apply_session(samples, session, rng)
    start = (len(samples) - length) // 2
    return samples[start : start + length] if start >= 0 else np.resize(samples, length)


def degraded(corpus: Corpus, rows: np.ndarray, condition: Condition, seed: int) -> np.ndarray:
    """The crops (U, samples) int16 of rows (U,); each utterance has a room and a noise of its own.

    An utterance's draws depend on the seed and its row alone, not on which others are asked for.
    """
    return np.stack(
        [degrade(corpus.samples(r), condition, np.random.default_rng([seed, r])) for r in rows]
    )


@torch.inference_mode()
def embed_degraded(
    models: Mapping[str, Embedder],
    corpus: Corpus,
    rows: np.ndarray,
    conditions: Iterable[Condition],
    *,
    seed: int,
    device: torch.device,
) -> dict[Condition, dict[str, np.ndarray]]:
    """Embeddings of the same degraded crops by every model, features computed once a condition.

    Returns
    -------
    dict
        Condition -> run -> (U, D) float32.
    """
    for model in models.values():
        model.eval().to(device)
    found = {}
    for condition in dict.fromkeys(conditions):
        crops = torch.from_numpy(degraded(corpus, rows, condition, seed))
        parts = [_embed(models, chunk.to(device)) for chunk in crops.split(CHUNK)]
        found[condition] = {run: np.concatenate([part[run] for part in parts]) for run in models}
    return found


def _embed(models: Mapping[str, Embedder], samples: Tensor) -> dict[str, np.ndarray]:
    waveform = samples.float() / INT16_RANGE
    # Features have no weights, so that trunks of one kind of features share them.
    kinds = {model.trunk.features: model.features for model in models.values()}
    features = {kind: module(waveform) for kind, module in kinds.items()}
    return {
        run: model.trunk(features[model.trunk.features]).float().cpu().numpy()
        for run, model in models.items()
    }

"""Whether the order of losses holds in hard trials: short, noisy and reverberant crops.

The test utterances are degraded once per condition and turned into features once; every trunk then
runs on these features, so that all runs embed the same crops. All conditions use the same resamples
of the test speakers: the growth of a run's error rate at a level is a paired comparison, on the
logarithm of the error rate as everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from studylib.corpora.acoustics import Session, apply_session
from studylib.corpora.store import SAMPLE_RATE, Corpus
from studylib.evaluation.scores import trial_scores
from studylib.files.tables import read_parquet
from studylib.models.embedder import Embedder, as_waveforms
from studylib.reports.settings import RobustnessSettings
from studylib.reports.study import cells_by_run, collect_scores, resample
from studylib.statistics.comparisons import error_table, paired_tests
from studylib.statistics.intervals import Cells, cells_of
from studylib.statistics.resampling import Resamples, bootstrap, ratios

PINK = -3.0  # dB an octave
SEED = 0  # of rooms and noise
CHUNK = 64  # utterances whose features are held at a time


# Seconds of the one crop, and what is added to the recording: noise and a room.
Condition = tuple[float, Session]
Factors = Mapping[str, Mapping[str, Condition]]
Models = Mapping[str, tuple[Embedder, str]]
Scores = Mapping[tuple[str, str, str], np.ndarray]


def factors_of(settings: RobustnessSettings, seconds: float, longest: float) -> Factors:
    """Factor -> level -> condition, the reference first, then from easy to hard.

    Noise is pink, nearer to rooms and crowds than white noise, and so many dB below the power of
    the recording, its own noise included. In the added rooms direct sound and echo are equally
    strong, so that T60 alone changes.

    Parameters
    ----------
    seconds : float
        Length of the noisy and of the reverberant crops.
    longest : float
        Longer crops are left out, s: a shorter utterance is repeated to fill its crop, which adds
        no speech.

    Returns
    -------
    dict
        Only factors of at least two levels.
    """
    lengths = [length for length in sorted(settings.lengths, reverse=True) if length <= longest]
    noises = {f"{n:g} dB": Session(snr=n, noise_slope=PINK) for n in sorted(settings.snrs)[::-1]}
    times = sorted(settings.reverberations)
    rooms = {f"{t:g} s": Session(reverberation=t, direct=0.0) for t in times}
    factors = {"crop length": {f"{length:g} s": (length, Session()) for length in lengths}}
    for factor, added in (("added noise", noises), ("added reverberation", rooms)):
        levels = {"as recorded": Session()} | added
        factors[factor] = {level: (seconds, session) for level, session in levels.items()}
    return {factor: levels for factor, levels in factors.items() if len(levels) > 1}


def degrade(samples: np.ndarray, condition: Condition, rng: np.random.Generator) -> np.ndarray:
    """One crop of an utterance, degraded by the condition.

    Room and noise are applied to the whole utterance before it is cropped: a crop begins with the
    echo of the speech before it.

    Parameters
    ----------
    samples : (S,) int16
        The whole utterance.
    rng : numpy Generator
        Draws room and noise: generators in one state give the same noise, scaled, at every
        signal-to-noise ratio.

    Returns
    -------
    (round(16,000 x seconds),) int16
        From the middle; an utterance that is shorter is repeated from its start.
    """
    seconds, session = condition
    session = replace(session, room_seed=int(rng.integers(2**32)))
    samples = apply_session(samples, session, rng)
    length = round(seconds * SAMPLE_RATE)
    start = (len(samples) - length) // 2
    return samples[start : start + length] if start >= 0 else np.resize(samples, length)


@torch.inference_mode()
def embed_degraded(
    models: Models, corpus: Corpus, rows: np.ndarray, condition: Condition, device: torch.device
) -> dict[str, np.ndarray]:
    """Embeddings of the same degraded crops by every model, features computed once.

    An utterance's room and noise depend on its row alone.

    Parameters
    ----------
    models : run -> model and how its trials are scored
        From `load_model`.
    rows : (U,) int
        Rows of the corpus.

    Returns
    -------
    dict
        Run -> (U, D) float32.
    """
    # Features have no weights, so that trunks of one kind of features share them.
    kinds = {model.trunk.features: model.features.to(device) for model, _ in models.values()}
    crops = [degrade(corpus.samples(r), condition, np.random.default_rng([SEED, r])) for r in rows]
    parts = {run: [] for run in models}
    for chunk in torch.from_numpy(np.stack(crops)).split(CHUNK):
        waveforms = as_waveforms(chunk.to(device))
        features = {kind: module(waveforms) for kind, module in kinds.items()}
        for run, (model, _) in models.items():
            trunk = model.eval().to(device).trunk
            parts[run].append(trunk(features[trunk.features]).float().cpu())
    return {run: torch.cat(part).numpy() for run, part in parts.items()}


def degraded_scores(
    models: Models, corpus: Corpus, rows: np.ndarray, factors: Factors, device: torch.device
) -> tuple[Scores, np.ndarray, np.ndarray]:
    """Scores of all pairs of the utterances, by every run at every level of every factor.

    Parameters as in `embed_degraded`.

    Returns
    -------
    dict
        (run, factor, level) -> (T,) scores.
    (T,) str, (T,) str
        The speakers of each pair.
    """
    first, second = np.triu_indices(len(rows), k=1)
    embeddings, scores = {}, {}
    for factor, levels in factors.items():
        for level, condition in levels.items():
            if condition not in embeddings:
                embeddings[condition] = embed_degraded(models, corpus, rows, condition, device)
            for run, vectors in embeddings[condition].items():
                scoring = models[run][1]
                scores[run, factor, level] = trial_scores(
                    vectors[:, None], first, second, scoring=scoring
                )
    speakers = corpus.utterances["speaker"].to_numpy(str)[rows]
    return scores, speakers[first], speakers[second]


def error_rates(
    scores: Scores, first_speaker: np.ndarray, second_speaker: np.ndarray, n_resamples: int
) -> tuple[pd.DataFrame, Cells]:
    """Error rates with 95 % intervals over speakers.

    Returns
    -------
    DataFrame
        run, factor, level, rate (EER), low, high (fractions).
    Cells
        The same error rates on the same resamples, for `growth_table`.
    """
    sides = first_speaker, second_speaker
    resamples = bootstrap(scores, np.equal(*sides), *sides, n_resamples=n_resamples)["eer"]
    cells = cells_of(resamples, {cell: [cell] for cell in scores})
    table = error_table(cells)[["rate", "low", "high"]]
    table.index = pd.MultiIndex.from_tuples(scores, names=["run", "factor", "level"])
    return table.reset_index(), cells


def growth_table(cells: Cells, factors: Factors, runs: Sequence[str]) -> pd.DataFrame:
    """How many times each run's error rate grows from the reference to the hardest level.

    Returns
    -------
    DataFrame
        run, factor, reference, hardest, ratio, low, high (95 % interval over speakers).
    """
    tables = []
    for factor, (reference, *_, hardest) in factors.items():
        pairs = [((run, factor, hardest), (run, factor, reference)) for run in runs]
        growth = 1 + paired_tests(cells, pairs)[["difference", "low", "high"]]
        growth = growth.rename(columns={"difference": "ratio"})
        tables.append(growth.assign(run=runs, factor=factor, reference=reference, hardest=hardest))
    return pd.concat(tables, ignore_index=True)


def list_rates(runs: pd.DataFrame, lists: Sequence[str], n_resamples: int) -> pd.DataFrame:
    """Error rates on trial lists of the study, from the scores of its experiments.

    Parameters
    ----------
    runs : DataFrame
        From `experiments_in`.

    Returns
    -------
    DataFrame
        run, factor ("trial list"), level (its name), rate, low, high.
    """
    levels = {name: resample(runs, name, n_resamples)["eer"] for name in lists}
    return _rates(runs, levels, "trial list")


def _rates(runs: pd.DataFrame, levels: Mapping[str, Resamples], factor: str) -> pd.DataFrame:
    """The columns of `list_rates` for the levels of a factor."""
    tables = {level: error_table(cells_by_run(runs, each)) for level, each in levels.items()}
    table = pd.concat(tables, names=["level", "run"])[["rate", "low", "high"]]
    return table.reset_index().assign(factor=factor)


def session_rates(
    runs: pd.DataFrame, trials: str, n_resamples: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Error rates with the target trials of one session, and with those of two sessions.

    The nontarget trials are the same in both, and so are the speakers: those of nontarget trials.

    Parameters
    ----------
    runs : DataFrame
        From `experiments_in`.
    trials : str
        Name of the trial list.

    Returns
    -------
    rates : DataFrame
        run, factor ("session"), level ("the same", "another"), rate, low, high.
    growth : DataFrame
        As in `growth_table`, from the same session to another, over speakers and any seeds.
        Both are empty where the list has no target trials of one of the two kinds.
    """
    common, scores = collect_scores(runs, trials)
    sessions = read_parquet(runs["folder"].iloc[0] / "utterances.parquet")["session"]
    same = np.equal(*(sessions.loc[common[side]].to_numpy(str) for side in ("first", "second")))
    nontarget, found = ~common["target"], {}
    compared = common.loc[nontarget, ["first_speaker", "second_speaker"]].stack().unique()
    targets = common["target"] & common["first_speaker"].isin(compared)
    for level, kept in {"the same": targets & same, "another": targets & ~same}.items():
        if not kept.any():
            return pd.DataFrame(), pd.DataFrame()
        kept = kept | nontarget
        part = common[kept]
        sides = part["first_speaker"].to_numpy(str), part["second_speaker"].to_numpy(str)
        of_runs = {name: values[kept] for name, values in scores.items()}
        kinds = part["target"].to_numpy()
        found[level] = bootstrap(of_runs, kinds, *sides, n_resamples=n_resamples)["eer"]
    cells = cells_by_run(runs, ratios(*found.values(), "session"))
    contrasts = [cells.contrast({run: 1.0}) for run in cells.names]
    values = [np.exp([contrast.value, *contrast.interval()]) for contrast in contrasts]
    growth = pd.DataFrame(values, columns=["ratio", "low", "high"]).assign(run=cells.names)
    growth = growth.assign(factor="session", reference="the same", hardest="another")
    return _rates(runs, found, "session"), growth

"""A trained model and trial lists -> embeddings, scores, error rates with intervals."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from studylib.config import EvaluateSettings
from studylib.corpus.hygiene import known_to_model, refuse_known_speakers
from studylib.corpus.reader import Corpus
from studylib.errors import StudyError
from studylib.metrics import equal_error_rate, equal_error_threshold, minimum_detection_cost
from studylib.provenance import start_manifest, write_json
from studylib.scoring import trial_scores
from studylib.statistics import eer_interval


def evaluate(
    model_file: Path,
    corpus: Corpus,
    settings: EvaluateSettings,
    out: Path,
    *,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure one trained run on every trial list of the settings and write the results.

    Parameters
    ----------
    model_file : Path
        A run's model.safetensors.
    corpus : Corpus
    settings : EvaluateSettings
        The first list of `trials` gives the headline; all of them are in the metrics.
    out : Path
        Replaced by: embeddings.npy (U, crops, D) float32; utterances.parquet, its U rows;
        scores/<list>.parquet; metrics.json; manifest.json.

    Returns
    -------
    dict
        What metrics.json holds.

    Raises
    ------
    StudyError
        A missing model or trial list, a list of speakers that the model knows, or a device that
        is not there.
    """
    from studylib.models import choose_device, embed, load_model

    device = choose_device(settings.device, settings.threads)
    manifest = start_manifest(settings.model_dump(mode="json"), None, device.type, __file__)
    model, scoring = load_model(model_file)
    trials = {name: corpus.trials(name) for name in settings.trials}
    _refuse_known_speakers(model_file, corpus, settings, report)
    rows = evaluated_rows(trials)
    report(f"embedding {len(rows):,} utterances, {settings.crops} crops each")
    embeddings = embed(
        model,
        corpus,
        rows,
        crops=settings.crops,
        crop_seconds=settings.crop_seconds,
        device=device,
    )
    return write_evaluation(
        embeddings, corpus, rows, trials, settings, out, scoring=scoring, manifest=manifest
    )


def _refuse_known_speakers(
    model_file: Path, corpus: Corpus, settings: EvaluateSettings, report: Callable[[str], None]
) -> None:
    known = known_to_model(model_file)
    if known is None:
        report(f"whom {model_file} knows is not told: unseen speakers are taken on trust")
    for each in known or []:
        for name in settings.trials:
            refuse_known_speakers(each, corpus, name)


def evaluated_rows(trials: dict[str, pd.DataFrame]) -> np.ndarray:
    """The rows of all utterances that occur in any trial list, ascending."""
    return np.unique(np.concatenate([t[["first", "second"]].to_numpy() for t in trials.values()]))


def write_evaluation(
    embeddings: np.ndarray,
    corpus: Corpus,
    rows: np.ndarray,
    trials: dict[str, pd.DataFrame],
    settings: EvaluateSettings,
    out: Path,
    *,
    scoring: str,
    manifest: dict[str, Any],
) -> dict[str, Any]:
    """Score all lists and write the folder `out`, whole or not at all (see `evaluate`)."""
    if not np.isfinite(embeddings).all():
        raise StudyError(f"{out}: the model gives embeddings that are not finite numbers")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "scores").mkdir(parents=True)
    utterances = corpus.utterances.iloc[rows]
    lists = {}
    for name, trial_list in trials.items():
        scores = score_list(embeddings, rows, trial_list, scoring=scoring)
        lists[name] = measure(scores, trial_list, corpus, settings)
        _scored(trial_list, corpus, scores).to_parquet(partial / "scores" / f"{name}.parquet")
    metrics = lists[settings.trials[0]] | {"trials": settings.trials[0], "lists": lists}
    np.save(partial / "embeddings.npy", embeddings)
    utterances.to_parquet(partial / "utterances.parquet")
    write_json(partial / "metrics.json", metrics)
    write_json(partial / "manifest.json", manifest | {"scoring": scoring})
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    return metrics


def score_list(
    embeddings: np.ndarray, rows: np.ndarray, trials: pd.DataFrame, *, scoring: str
) -> np.ndarray:
    """Scores (T,) of a trial list, given the embeddings (U, crops, D) of the corpus rows (U,)."""
    first, second = (np.searchsorted(rows, trials[side].to_numpy()) for side in ("first", "second"))
    return trial_scores(embeddings, first, second, scoring=scoring)


def measure(
    scores: np.ndarray, trials: pd.DataFrame, corpus: Corpus, settings: EvaluateSettings
) -> dict[str, Any]:
    """Error rates of one list: fractions, with a 95 % interval over speakers for the EER."""
    targets = trials["target"].to_numpy()
    speakers = corpus.utterances["speaker"].to_numpy()
    first, second = (speakers[trials[side].to_numpy()] for side in ("first", "second"))
    interval = eer_interval(scores, targets, first, second, n_resamples=settings.resamples, seed=0)
    return {
        "eer": equal_error_rate(scores, targets),
        "eer_interval": [interval.low, interval.high],
        "eer_threshold": equal_error_threshold(scores, targets),
        "min_dcf_0.01": minimum_detection_cost(scores, targets, target_prior=0.01),
        "min_dcf_0.05": minimum_detection_cost(scores, targets, target_prior=0.05),
        "n_target": int(targets.sum()),
        "n_nontarget": int((~targets).sum()),
        "n_speakers": len(np.unique(np.concatenate([first, second]).astype(str))),
    }


def _scored(trials: pd.DataFrame, corpus: Corpus, scores: np.ndarray) -> pd.DataFrame:
    """The list with its scores and the speaker of each side, rows of the corpus as in `trials`."""
    speakers = corpus.utterances["speaker"].astype("category")
    sides = {
        f"{side}_speaker": speakers.iloc[trials[side].to_numpy()].to_numpy()
        for side in ("first", "second")
    }
    return trials.assign(**sides, score=scores)

"""A trained model and trial lists -> embeddings, scores, error rates with intervals."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from studylib.corpora.hygiene import known_speakers, known_to_model, refuse_known_speakers
from studylib.corpora.reader import Corpus
from studylib.errors import StudyError
from studylib.evaluation.measures import TrialSides, measure_lists
from studylib.evaluation.protocols import EmbedCrops, embed_training, embed_utterances
from studylib.evaluation.scorers import scorer
from studylib.evaluation.settings import EvaluateSettings
from studylib.pipeline.provenance import start_manifest, write_json


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
        The first list of `trials` and the first back-end give the headline; all are in the metrics.
    out : Path
        Replaced by: embeddings.npy (U, crops, D) float32; utterances.parquet, its U rows;
        scores/<list>.parquet (score; score_<name> for each further back-end); metrics.json;
        manifest.json.

    Returns
    -------
    dict
        What metrics.json holds: the headline; `trials` and `backend`, what it is of; `calibration`
        and `lists` of that back-end (see `measures.measure_lists`); `further_backends`, the same of
        each other one.

    Raises
    ------
    StudyError
        A missing model or trial list, a list of speakers that the model (or the training set of
        a back-end) knows, or a device that is not there.
    """
    from studylib.models.devices import choose_device
    from studylib.models.embedder import embed, load_model

    device = choose_device(settings.device, settings.threads)
    manifest = start_manifest(settings.model_dump(mode="json"), None, device.type, __file__)
    model, scoring = load_model(model_file)
    trials = {name: corpus.trials(name) for name in settings.trials}
    _refuse_known_speakers(model_file, corpus, settings, report)
    report(f"embedding {len(evaluated_rows(trials)):,} utterances, protocol {settings.protocol}")

    def embed_crops(rows, crops, crop_seconds):
        return embed(model, corpus, rows, crops=crops, crop_seconds=crop_seconds, device=device)

    manifest |= {"scoring": scoring}
    return write_evaluation(
        embed_crops, corpus, trials, settings, out, scoring=scoring, manifest=manifest
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


def write_evaluation(
    embed_crops: EmbedCrops,
    corpus: Corpus,
    trials: dict[str, pd.DataFrame],
    settings: EvaluateSettings,
    out: Path,
    *,
    scoring: str,
    manifest: dict[str, Any],
) -> dict[str, Any]:
    """Embed, score and measure; write the folder `out`, whole or not at all (see `evaluate`)."""
    rows = evaluated_rows(trials)
    embeddings = embed_utterances(embed_crops, corpus, rows, settings)
    if not np.isfinite(embeddings).all():
        raise StudyError(f"{out}: the model gives embeddings that are not finite numbers")
    if (training := embed_training(embed_crops, corpus, settings)) is not None:
        for name in trials:
            refuse_known_speakers(known_speakers(corpus), corpus, name)
    lists = {name: _with_speakers(trial_list, corpus) for name, trial_list in trials.items()}
    told = {}
    for backend in settings.backends:
        score = scorer(backend, embeddings, training, settings, scoring=scoring)
        column = "score" if backend == settings.backends[0] else f"score_{backend}"
        for frame in lists.values():
            sides = (np.searchsorted(rows, frame[side].to_numpy()) for side in ("first", "second"))
            frame[column] = score(*sides)
        told[backend] = measure_lists(
            {name: frame[column].to_numpy() for name, frame in lists.items()},
            {name: _sides(frame) for name, frame in lists.items()},
            settings.resamples,
        )
    metrics = _headline(told, settings)
    _write(out, embeddings, corpus.utterances.iloc[rows], lists, metrics, manifest)
    return metrics


def evaluated_rows(trials: dict[str, pd.DataFrame]) -> np.ndarray:
    """The rows of all utterances that occur in any trial list, ascending."""
    return np.unique(np.concatenate([t[["first", "second"]].to_numpy() for t in trials.values()]))


def _with_speakers(trials: pd.DataFrame, corpus: Corpus) -> pd.DataFrame:
    """The list with the speaker of each side, rows of the corpus as in `trials`."""
    speakers = corpus.utterances["speaker"].astype("category")
    sides = {
        f"{side}_speaker": speakers.iloc[trials[side].to_numpy()].to_numpy()
        for side in ("first", "second")
    }
    return trials.assign(**sides)


def _sides(frame: pd.DataFrame) -> TrialSides:
    first, second = (frame[f"{side}_speaker"].to_numpy() for side in ("first", "second"))
    return TrialSides(frame["target"].to_numpy(), first, second)


def _headline(told: dict[str, dict], settings: EvaluateSettings) -> dict[str, Any]:
    """metrics.json: the first list by the first back-end on top, everything else below."""
    main, *further = settings.backends
    headline = told[main]["lists"][settings.trials[0]]
    return (
        headline
        | {"trials": settings.trials[0], "backend": main}
        | told[main]
        | {"further_backends": {backend: told[backend] for backend in further}}
    )


def _write(
    out: Path,
    embeddings: np.ndarray,
    utterances: pd.DataFrame,
    lists: dict[str, pd.DataFrame],
    metrics: dict[str, Any],
    manifest: dict[str, Any],
) -> None:
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "scores").mkdir(parents=True)
    for name, frame in lists.items():
        frame.to_parquet(partial / "scores" / f"{name}.parquet")
    np.save(partial / "embeddings.npy", embeddings)
    utterances.to_parquet(partial / "utterances.parquet")
    write_json(partial / "metrics.json", metrics)
    write_json(partial / "manifest.json", manifest)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)

"""A trained model and trial lists -> embeddings, scores, error rates with intervals."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from studylib.corpora.hygiene import known_speakers, known_to_model, refuse_known_speakers
from studylib.corpora.store import Corpus
from studylib.errors import StudyError
from studylib.evaluation.backends import BACKENDS
from studylib.evaluation.measures import measure_lists, read_metrics
from studylib.evaluation.protocols import EmbedCrops, embed_training, embed_utterances
from studylib.evaluation.settings import EvaluateSettings
from studylib.files.atomic import atomic_file, atomic_folder, write_json
from studylib.files.checksums import sha256

HEADLINE = ("eer", "eer_interval", "min_dcf_0.01", "min_dcf_0.05", "cllr")


def evaluate(
    model_file: Path,
    corpus: Corpus,
    settings: EvaluateSettings,
    out: Path,
    *,
    manifest: Mapping[str, Any] = {},
) -> dict[str, Any]:
    """Measure one trained run on every trial list of the settings and write the results.

    Parameters
    ----------
    model_file : Path
        A run's model.safetensors.
    corpus : Corpus
    settings : EvaluateSettings
        The first list of `trials` and the first back-end give the headline.
    out : Path
        Gets embeddings.npy (U, crops, D) float32; utterances.parquet, its U rows;
        scores/<list>.parquet (score; score_<name> for each further back-end); metrics.json, the
        headline; details.json, all other measures; and last manifest.json: `manifest`, and the
        SHA-256 of every other file in `out`. Nothing else there is touched.
    manifest : mapping
        Provenance of the results.

    Returns
    -------
    dict
        See `measures.read_metrics`.

    Raises
    ------
    StudyError
        A missing model or trial list, a list with training speakers of the model or of a
        back-end, or a device that is not available.
    """
    from studylib.models.devices import choose_device
    from studylib.models.embedder import embed, load_model

    device = choose_device(settings.device, settings.threads)
    model, scoring = load_model(model_file)
    known = known_to_model(model_file)
    if known is None:
        print(f"{model_file} has no list of its training speakers: the trials are not checked")
    for speakers in known or []:
        for name in settings.trials:
            refuse_known_speakers(speakers, corpus, name)

    def embed_crops(rows, crops, crop_seconds):
        return embed(model, corpus, rows, crops=crops, crop_seconds=crop_seconds, device=device)

    print(f"embedding for the trials {', '.join(settings.trials)}, protocol {settings.protocol}")
    return write_evaluation(embed_crops, corpus, settings, out, scoring, manifest)


def write_evaluation(
    embed_crops: EmbedCrops,
    corpus: Corpus,
    settings: EvaluateSettings,
    out: Path,
    scoring: str,
    manifest: Mapping[str, Any],
) -> dict[str, Any]:
    """Embed, score and measure; write the files (see `evaluate`)."""
    lists = {name: corpus.trials(name) for name in settings.trials}
    speakers = corpus.utterances["speaker"].astype("category")
    for trials, side in product(lists.values(), ("first", "second")):
        trials[f"{side}_speaker"] = speakers.iloc[trials[side]].to_numpy()
    rows = np.unique(np.concatenate([t[["first", "second"]].to_numpy() for t in lists.values()]))
    embeddings = embed_utterances(embed_crops, corpus, rows, settings)
    if not np.isfinite(embeddings).all():
        raise StudyError(f"{out}: the model gives embeddings that are not finite numbers")
    if (training := embed_training(embed_crops, corpus, settings)) is not None:
        for name in lists:
            refuse_known_speakers(known_speakers(corpus), corpus, name)
    measured = {}
    for backend in settings.backends:
        score = BACKENDS[backend](embeddings, training, settings, scoring)
        column = "score" if backend == settings.backends[0] else f"score_{backend}"
        for frame in lists.values():
            sides = (np.searchsorted(rows, frame[side].to_numpy()) for side in ("first", "second"))
            frame[column] = score(*sides)
        measured[backend] = measure_lists(lists, column, settings.resamples)
    main, *further = settings.backends
    first = measured[main]["lists"][settings.trials[0]]
    headline = {"trials": settings.trials[0], "backend": main}
    headline |= {name: first[name] for name in HEADLINE if name in first}
    details = {"scoring": scoring} | measured[main]
    details["further_backends"] = {backend: measured[backend] for backend in further}

    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").unlink(missing_ok=True)
    with atomic_file(out / "embeddings.npy") as path, path.open("wb") as file:
        np.save(file, embeddings)
    with atomic_file(out / "utterances.parquet") as path:
        corpus.utterances.iloc[rows].to_parquet(path)
    with atomic_folder(out / "scores") as folder:
        for name, frame in lists.items():
            frame.to_parquet(folder / f"{name}.parquet")
    write_json(out / "metrics.json", headline)
    write_json(out / "details.json", details)
    files = {
        p.relative_to(out).as_posix(): sha256(p) for p in sorted(out.rglob("*")) if p.is_file()
    }
    write_json(out / "manifest.json", {**manifest, "files": files})
    return read_metrics(out)

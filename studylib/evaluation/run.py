"""A trained model and trial lists -> embeddings, scores, error rates with intervals."""

import shutil
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from studylib.corpora.hygiene import known_speakers, known_to_model, refuse_known_speakers
from studylib.corpora.store import Corpus
from studylib.errors import StudyError
from studylib.evaluation.backends import BACKENDS
from studylib.evaluation.measures import measure_lists, read_metrics
from studylib.evaluation.protocols import EmbedCrops, embed_training, embed_utterances
from studylib.evaluation.settings import EvaluateSettings
from studylib.files.atomic import atomic_folder, write_json
from studylib.files.checksums import sha256
from studylib.files.disk import explained_full_disk

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
        headline; details.json, all other measures; and manifest.json: `manifest`, and the SHA-256
        of these files and of those in `out`/model. Replaced as a whole; what else is there stays.
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

    with explained_full_disk(out, "writing results"), atomic_folder(out) as folder:
        if out.exists():  # the model, and what else is there
            shutil.copytree(out, folder, dirs_exist_ok=True)
            shutil.rmtree(folder / "scores", ignore_errors=True)
            (folder / "manifest.json").unlink(missing_ok=True)
        with (folder / "embeddings.npy").open("wb") as file:  # np.save hides that a disk is full
            npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(embeddings))
            file.write(embeddings.data)
        corpus.utterances.iloc[rows].to_parquet(folder / "utterances.parquet")
        (folder / "scores").mkdir()
        for name, frame in lists.items():
            frame.to_parquet(folder / "scores" / f"{name}.parquet")
        write_json(folder / "metrics.json", headline)
        write_json(folder / "details.json", details)
        files = [path for part in ("", "model", "scores") for path in (folder / part).glob("*.*")]
        sums = {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(files)}
        write_json(folder / "manifest.json", {**manifest, "files": sums})
    return read_metrics(out)

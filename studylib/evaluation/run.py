"""A trained model and trial lists -> embeddings, scores, error rates with intervals."""

import shutil
from collections.abc import Mapping, Sequence
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
from studylib.evaluation.protocols import (
    EmbedCrops,
    Training,
    embed_training,
    embed_utterances,
)
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
    further: Sequence[Corpus] = (),
) -> dict[str, Any]:
    """Measure one trained run on every trial list of the settings and write the results.

    Parameters
    ----------
    model_file : Path
        A run's model.safetensors.
    corpus : Corpus
        What is learned besides the model, calibrations and back-ends, is learned on this one.
    settings : EvaluateSettings
        The first list of `trials` and the first back-end give the headline.
    out : Path
        Gets embeddings.npy (U, crops, D) float32; utterances.parquet, its U rows;
        scores/<list>.parquet (score; score_<name> for each further back-end); metrics.json, the
        headline; details.json, all other measures; also/<corpus>/, the same files for each further
        corpus; and manifest.json: `manifest`, and the SHA-256 of all these files and of those in
        `out`/model. Replaced as a whole; what else is there stays.
    manifest : mapping
        Provenance of the results.
    further : sequence of Corpus
        Further corpora to measure on, each on its list `main_list`.

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
        for other in further:
            refuse_known_speakers(speakers, other, other.main_list)

    def embed_crops(corpus, rows, crops, crop_seconds):
        return embed(model, corpus, rows, crops=crops, crop_seconds=crop_seconds, device=device)

    print(f"embedding for the trials {', '.join(settings.trials)}, protocol {settings.protocol}")
    return write_evaluation(embed_crops, corpus, settings, out, scoring, manifest, further)


def write_evaluation(
    embed_crops: EmbedCrops,
    corpus: Corpus,
    settings: EvaluateSettings,
    out: Path,
    scoring: str,
    manifest: Mapping[str, Any],
    further: Sequence[Corpus],
) -> dict[str, Any]:
    """Embed, score and measure; write the files (see `evaluate`)."""
    if (training := embed_training(embed_crops, corpus, settings)) is not None:
        for name in settings.trials:
            refuse_known_speakers(known_speakers(corpus), corpus, name)
        for other in further:
            refuse_known_speakers(known_speakers(corpus), other, other.main_list)
    given = embed_crops, scoring, training
    with explained_full_disk(out, "writing results"), atomic_folder(out) as folder:
        learned = _write_measures(*given, corpus, settings, folder, {})
        (folder / "also").mkdir()
        for other in further:
            own = settings.model_copy(update={"trials": [other.main_list]})
            place = folder / "also" / other.folder.name
            place.mkdir()
            _write_measures(*given, other, own, place, learned)
            _write_manifest(place, {**manifest, "corpus": other.provenance})
        for path in out.rglob("*"):  # the model, and what else is there
            place = path.relative_to(out)
            kept, ours = folder / place, place.parts[0] in ("manifest.json", "scores", "also")
            if path.is_file() and not ours and not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, kept)
        _write_manifest(folder, manifest)
    return read_metrics(out)


def _write_measures(
    embed_crops: EmbedCrops,
    scoring: str,
    training: Training | None,
    corpus: Corpus,
    settings: EvaluateSettings,
    out: Path,
    learned: Mapping[str, Mapping[str, Any]],
) -> dict[str, Mapping[str, Any]]:
    """Measure on one corpus and write all files but the manifest.

    Calibrations are `learned` (back-end -> calibration), or learned here; they are returned.
    """
    lists = {name: corpus.trials(name) for name in settings.trials}
    speakers = corpus.utterances["speaker"].astype("category")
    for trials, side in product(lists.values(), ("first", "second")):
        trials[f"{side}_speaker"] = speakers.iloc[trials[side]].to_numpy()
    rows = np.unique(np.concatenate([t[["first", "second"]].to_numpy() for t in lists.values()]))
    embeddings = embed_utterances(embed_crops, corpus, rows, settings)
    if not np.isfinite(embeddings).all():
        raise StudyError(f"{out}: the model gives embeddings that are not finite numbers")
    measured = {}
    for backend in settings.backends:
        score = BACKENDS[backend](embeddings, training, settings, scoring)
        column = "score" if backend == settings.backends[0] else f"score_{backend}"
        for frame in lists.values():
            sides = (np.searchsorted(rows, frame[side].to_numpy()) for side in ("first", "second"))
            frame[column] = score(*sides)
        given = {"corpus": corpus.folder.name, "learned": learned.get(backend)}
        measured[backend] = measure_lists(lists, column, settings.resamples, **given)
    main, *further = settings.backends
    first = measured[main]["lists"][settings.trials[0]]
    headline = {"trials": settings.trials[0], "backend": main}
    headline |= {name: first[name] for name in HEADLINE if name in first}
    details = {"scoring": scoring} | measured[main]
    details["further_backends"] = {backend: measured[backend] for backend in further}

    with (out / "embeddings.npy").open("wb") as file:  # np.save hides that a disk is full
        npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(embeddings))
        file.write(embeddings.data)
    corpus.utterances.iloc[rows].to_parquet(out / "utterances.parquet")
    (out / "scores").mkdir()
    for name, frame in lists.items():
        frame.to_parquet(out / "scores" / f"{name}.parquet")
    write_json(out / "metrics.json", headline)
    write_json(out / "details.json", details)
    return {backend: part["calibration"] for backend, part in measured.items()}


def _write_manifest(out: Path, manifest: Mapping[str, Any]) -> None:
    """Write manifest.json with the SHA-256 of the files beside it, of the model and the scores."""
    patterns = ("*.*", "model/*.*", "scores/*.*", "also/*/*.*", "also/*/scores/*.*")
    files = [path for pattern in patterns for path in out.glob(pattern)]
    sums = {path.relative_to(out).as_posix(): sha256(path) for path in sorted(files)}
    write_json(out / "manifest.json", {**manifest, "files": sums})

"""The committed results of a study, opened again without training: first seeds, in a few MB.

Beside the explorer, the pipeline keeps each run's vectors of the test utterances, in eight bits,
and the trial lists. `restore` makes of them a study of its own, results/<study>_restored/, on which
the report notebooks run: one seed, and scores that differ a little from the measured ones.
"""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from studylib.errors import StudyError
from studylib.evaluation.scores import dot_products, mean_unit_embeddings
from studylib.files.atomic import atomic_folder, read_json, write_json
from studylib.files.tables import read_parquet
from studylib.reports.study import Study, trial_lists

VECTORS = "first_seeds.safetensors"
PARTS = ("codes", "centre", "scale", "squares")
DOCUMENTS = ("manifest.json", "metrics.json", "details.json")
TEXTS = ("model/training.json", "model/curve.csv")


def keep_first_seeds(study: Study, folder: Path) -> None:
    """Write what `restore` needs of a study: about 0.1 MB a run.

    Runs whose headline is not of the back-end cosine are left out: the vectors do not give their
    scores.

    Parameters
    ----------
    folder : Path
        Gets trials/<list>.parquet, of all lists but "dev"; utterances.parquet; documents.json, the
        experiments' own small files; and first_seeds.safetensors, of each run codes (U, D) int8,
        centre (D,), scale and squares (U,). centre + scale * codes is the mean of an utterance's
        crops, each first scaled to length 1 where trials are scored by the cosine; squares is the
        mean squared length of the crops.
    """
    named = [(run, study.seeds[0]) for run in study.runs] + [(name, 0) for name in study.baselines]
    sources = [study.experiment(*one) for one in named]
    documents = {source.name: _documents(source) for source in sources}
    columns = ["first", "second", "target", "first_speaker", "second_speaker"]
    lists = [name for name in trial_lists(study) if name != "dev"]
    trials = {name: sources[0] / "scores" / f"{name}.parquet" for name in lists}
    trials = {name: read_parquet(path, columns) for name, path in trials.items()}
    sides = [frame[side] for frame in trials.values() for side in columns[:2]]
    utterances = read_parquet(sources[0] / "utterances.parquet")
    chosen = np.flatnonzero(utterances.index.isin(np.concatenate(sides)))

    kept = {}
    for source in sources:
        if documents[source.name]["metrics.json"]["backend"] != "cosine":
            del documents[source.name]
            continue
        crops = np.load(source / "embeddings.npy", mmap_mode="r")[chosen].astype(np.float64)
        cosine = documents[source.name]["details.json"]["scoring"] == "cosine"
        means = mean_unit_embeddings(crops) if cosine else crops.mean(axis=1)
        centre, squares = means.mean(axis=0), np.square(crops).sum(axis=2).mean(axis=1)
        scale = np.abs(means - centre).max(axis=1) / 127
        codes = np.rint((means - centre) / scale[:, None])
        for name, part in zip(PARTS, (codes, centre, scale, squares), strict=True):
            kept[f"{source.name}/{name}"] = part.astype(np.int8 if part is codes else np.float32)
    save_file(kept, folder / VECTORS)
    write_json(folder / "documents.json", documents)
    utterances.iloc[chosen].to_parquet(folder / "utterances.parquet")
    (folder / "trials").mkdir()
    for name, frame in trials.items():
        frame.to_parquet(folder / "trials" / f"{name}.parquet", compression="zstd")


def restore(root: Path, name: str) -> Path:
    """Make results/<name>_restored/ from what git holds of results/<name>/; returns its path.

    Raises
    ------
    StudyError
        If the study's results hold no first seeds.
    """
    study = root / "results" / name
    source = study / "embeddings"
    if not (source / VECTORS).exists():
        raise StudyError(f"{source / VECTORS} does not exist: expected a study with results")
    documents, vectors = read_json(source / "documents.json"), load_file(source / VECTORS)
    trials = {path.stem: read_parquet(path) for path in (source / "trials").glob("*.parquet")}
    utterances = read_parquet(source / "utterances.parquet")
    out = study.with_name(f"{name}_restored")
    with atomic_folder(out) as folder:
        (folder / "plan" / "reports").mkdir(parents=True)
        for path in (study / "plan" / "reports").glob("*.json"):
            plan = read_json(path)
            plan["seeds"] = plan["seeds"][:1]
            plan["runs"] = [r for r in plan["runs"] if f"{r}-{plan['seeds'][0]}" in documents]
            write_json(folder / "plan" / "reports" / path.name, plan)
        for experiment, own in documents.items():
            place = folder / "experiment" / experiment
            (place / "scores").mkdir(parents=True)
            (place / "model").mkdir()
            parts = [vectors[f"{experiment}/{name}"].astype(np.float64) for name in PARTS]
            means = parts[1] + parts[2][:, None] * parts[0]
            np.save(place / "embeddings.npy", means[:, None].astype(np.float32))
            utterances.to_parquet(place / "utterances.parquet")
            cosine = own["details.json"]["scoring"] == "cosine"
            for name, frame in trials.items():
                sides = [utterances.index.get_indexer(frame[side]) for side in ("first", "second")]
                scores = dot_products(means, *sides)
                if not cosine:  # minus the mean squared distance of the crops
                    scores = 2 * scores - parts[3][sides[0]] - parts[3][sides[1]]
                scored = frame.assign(score=scores)
                scored.to_parquet(place / "scores" / f"{name}.parquet")
            manifest = own["manifest.json"]
            evaluate = manifest["settings"]["evaluate"]
            evaluate["trials"] = [name for name in evaluate["trials"] if name in trials]
            manifest |= {"files": {}, "also": {}}
            for name, document in own.items():
                if name in TEXTS:
                    (place / name).write_text(document, "utf-8")
                else:
                    write_json(place / name, document)
    return out


def _documents(source: Path) -> dict[str, Any]:
    texts = {name: source / name for name in TEXTS if (source / name).exists()}
    texts = {name: path.read_text("utf-8") for name, path in texts.items()}
    return {name: read_json(source / name) for name in DOCUMENTS} | texts

"""A study's first seeds as a small study of their own, which git holds: reports without training.

results/<study>/embeddings/first_seeds/ has the layout of results/<study>/, so that the notebooks
open it by `study = "<study>/embeddings/first_seeds"` (robustness.ipynb needs the models besides).
"""

import shutil
from pathlib import Path

import numpy as np

from studylib.evaluation.scores import mean_unit_embeddings
from studylib.files.atomic import read_json, write_json
from studylib.files.tables import read_parquet
from studylib.reports.study import TRIALS, Study, trial_lists

LEFT_OUT = ("also", "scores", "*.npy", "*.parquet", "*.safetensors")


def keep_first_seeds(study: Study, folder: Path) -> None:
    """Write the first seed of every run, and the baselines, as a study into `folder`.

    Numbers are of 16 bits. Of the trials only the first list is kept, with the first back-end's
    scores; of the embeddings, those of other splits than "dev", the mean of an utterance's crops
    (each scaled to length 1) instead of the crops.
    """
    (folder / "plan" / "reports").mkdir(parents=True)
    for path in (study.folder / "plan" / "reports").glob("*.json"):
        plan = read_json(path) | {"seeds": study.seeds[:1]}
        write_json(folder / "plan" / "reports" / path.name, plan)
    main_list = trial_lists(study)[0]
    for source in study.experiments(study.seeds[:1]):
        kept = folder / "experiment" / source.name
        shutil.copytree(source, kept, ignore=shutil.ignore_patterns(*LEFT_OUT))
        manifest = read_json(source / "manifest.json")
        manifest["settings"]["evaluate"] |= {"trials": [main_list], "also": []}
        write_json(kept / "manifest.json", manifest | {"files": {}})
        utterances = read_parquet(source / "utterances.parquet")
        chosen = (utterances["split"] != "dev").to_numpy()
        utterances[chosen].to_parquet(kept / "utterances.parquet", compression="zstd")
        crops = np.load(source / "embeddings.npy", mmap_mode="r")[chosen]
        np.save(kept / "embeddings.npy", mean_unit_embeddings(crops)[:, None].astype(np.float16))
        scores = read_parquet(source / "scores" / f"{main_list}.parquet", [*TRIALS, "score"])
        scores["score"] = scores["score"].astype(np.float16)
        (kept / "scores").mkdir()
        scores.to_parquet(kept / "scores" / f"{main_list}.parquet", compression="zstd")

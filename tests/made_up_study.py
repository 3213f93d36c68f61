"""A made-up study in the layout of results/, for tests of reports: embeddings, scores, metrics."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from made_up import all_trials

from studylib.evaluation.settings import EvaluateSettings
from studylib.files.atomic import write_json
from studylib.reports.settings import ReportSettings
from studylib.statistics.error_rates import log_likelihood_ratio_cost, summary
from studylib.training.settings import RunSettings

TRAIN = {"crops": 1000, "speakers_per_batch": 10, "utterances_per_speaker": 2}
N_SPEAKERS, UTTERANCES, CROPS, DIMENSION = 16, 4, 2, 16
# run -> loss, and what else of its settings is its own. `noise` beside a speaker's centre of length
# 1 gives the made-up embeddings: EER 2 to 10 % for 0.6 to 0.9.
RUNS = {
    "softmax": {"loss": {"name": "softmax"}, "noise": 0.80},
    "aam_softmax": {"loss": {"name": "aam_softmax", "margin": 0.3, "scale": 15}, "noise": 0.65},
    "triplet": {"loss": {"name": "triplet", "margin": 0.3, "hard_fraction": 1.0}, "noise": 0.75},
    "untrained": {"loss": {"name": "softmax"}, "train": {"crops": 0}, "noise": 1.3},
}
CALIBRATION = {"scale": 12.0, "offset": -4.5, "target_prior": 0.05, "threshold": 0.62}
REPORTS = ("losses", "batch_size", "corpus", "embeddings", "robustness")


def write_study(root: Path, runs=RUNS, *, seeds=(0, 1), baselines=("logmel_whitened",)) -> Path:
    """Write results/made_up/ and params.yaml. Returns results/made_up."""
    study = root / "results" / "made_up"
    plan = {"study": "made_up", "corpus": "c", "runs": list(runs), "seeds": list(seeds)}
    plan |= {"baselines": list(baselines), "digest": "0"}
    (study / "plan" / "reports").mkdir(parents=True)
    settings = ReportSettings().model_dump(mode="json")
    for report in REPORTS:
        own = {"settings": settings.get(report, {})}
        write_json(study / "plan" / "reports" / f"{report}.json", plan | own)
    (root / "params.yaml").write_text("study: {name: made_up}\n")
    (root / "dvc.yaml").touch()
    for place, (run, entry) in enumerate(runs.items()):
        for seed in seeds:
            folder = study / "experiment" / f"{run}-{seed}"
            write_experiment(folder, run, seed, entry, rng=[place, seed])
    for baseline in baselines:
        write_experiment(study / "experiment" / f"{baseline}-0", baseline, 0, {"noise": 1.1})
    return study


def made_up_settings(run: str, entry: dict) -> RunSettings:
    """The settings of an entry of `runs`."""
    return RunSettings(
        study="made_up",
        name=run,
        corpus={"name": "c", "source": "embedded"},
        loss=entry["loss"],
        trunk={"name": "compact_tdnn", "channels": 128} | entry.get("trunk", {}),
        train=TRAIN | entry.get("train", {}),
    )


def write_experiment(folder: Path, run: str, seed: int, entry: dict, rng=0, **manifest) -> None:
    """Write one experiment's results; `manifest` has what a variant's manifest has besides."""
    (folder / "scores").mkdir(parents=True)
    settings = {"loss": None, "trunk": None, "train": None}
    if "loss" in entry:
        trained = made_up_settings(run, entry).model_dump(mode="json")
        settings = {key: trained[key] for key in settings}
        train = trained["train"]  # whole batches, until enough crops were seen
        batch = train["speakers_per_batch"] * train["utterances_per_speaker"]
        facts = {"steps": math.ceil(train["crops"] / batch)}
        facts |= {"crops": facts["steps"] * batch}
        facts |= {"training_speakers": train["training_speakers"] or 200}
        (folder / "model").mkdir()
        write_json(folder / "model" / "training.json", facts)
        curve = pd.DataFrame({"crops": [20, facts["crops"]], "loss": [2.0, 1.0]})
        curve.assign(dev_eer=[np.nan, 0.1]).to_csv(folder / "model" / "curve.csv", index=False)
    evaluate = EvaluateSettings(trials=["test", "test_hard", "dev"]).model_dump(mode="json")
    document = {"study": "made_up", "run": run, "seed": seed, "digests": {}, "machine": {}}
    document |= {"corpus": {"source": "made up", "checksums": {}}, "files": {}}
    document["settings"] = settings | {"corpus": {"name": "c"}, "evaluate": evaluate}
    write_json(folder / "manifest.json", document | manifest)

    speakers = np.repeat(np.arange(N_SPEAKERS), UTTERANCES)
    embeddings = made_up_embeddings(entry["noise"], np.random.default_rng(rng))
    np.save(folder / "embeddings.npy", embeddings)
    names = [f"test-{speaker:04d}" for speaker in speakers]
    utterances = pd.DataFrame({"id": [f"{n}/{i}" for i, n in enumerate(names)], "speaker": names})
    utterances = utterances.assign(split="test", sex=np.where(speakers % 2, "m", "f"))
    utterances = utterances.assign(session=utterances["id"], recording=utterances["id"])
    utterances.to_parquet(folder / "utterances.parquet")
    means = embeddings.mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    trials = all_trials(N_SPEAKERS, UTTERANCES)
    trials["score"] = (means[trials["first"]] * means[trials["second"]]).sum(axis=1)
    lists = {"test": trials, "test_hard": trials.iloc[::2], "dev": trials.iloc[1::2]}
    measured = {}
    for name, frame in lists.items():
        frame.to_parquet(folder / "scores" / f"{name}.parquet")
        numbers = summary(frame["score"].to_numpy(), frame["target"].to_numpy())
        measured[name] = numbers | {"eer_interval": [0.5 * numbers["eer"], 2 * numbers["eer"]]}
    ratios = CALIBRATION["scale"] * trials["score"] + CALIBRATION["offset"]
    measured["test"]["cllr"] = log_likelihood_ratio_cost(ratios, trials["target"])
    write_json(folder / "metrics.json", {"trials": "test", "backend": "cosine"})
    details = {"scoring": "cosine", "calibration": CALIBRATION, "lists": measured}
    write_json(folder / "details.json", details | {"further_backends": {}})


def made_up_embeddings(noise: float, rng: np.random.Generator) -> np.ndarray:
    """(U, crops, D) float32: centres that all runs share, noise partly shared, partly the run's."""
    shared = np.random.default_rng(99)
    centres = shared.standard_normal((N_SPEAKERS, DIMENSION)) / np.sqrt(DIMENSION)
    shape = (N_SPEAKERS * UTTERANCES, CROPS, DIMENSION)
    common, own = shared.standard_normal(shape), rng.standard_normal(shape)
    moved = noise * (0.8 * common + 0.6 * own) / np.sqrt(DIMENSION)
    return (np.repeat(centres, UTTERANCES, axis=0)[:, None] + moved * 1.4).astype(np.float32)

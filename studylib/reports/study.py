"""What a report reads: the experiments of a study, each described by its own manifest.

`results/<study>/plan/reports/<report>.json` names the runs, seeds and baselines and holds the
report's own settings. A run's settings are read from the manifest of its results.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from studylib.errors import StudyError
from studylib.evaluation.measures import read_metrics
from studylib.files.atomic import read_json
from studylib.files.checksums import changed_files
from studylib.files.tables import read_parquet
from studylib.statistics.intervals import Cells, cells_of
from studylib.statistics.resampling import Resamples, bootstrap

MEASURES = ("eer", "min_dcf_0.01", "min_dcf_0.05", "cllr")
# Training settings besides the batch that must agree when losses are compared.
OTHER_SETTINGS = ("crop_seconds", "max_utterances_per_speaker", "optimizer", "weight_decay")
OTHER_SETTINGS += ("augmentation", "initial_weights", "keep")
TRIALS = ["first", "second", "target", "first_speaker", "second_speaker"]


@dataclass(frozen=True)
class Study:
    """The experiments that one report compares.

    Attributes
    ----------
    name : str
    folder : Path
        results/<name>.
    corpus : str
        Name of its folder under data/.
    runs, baselines : list of str
    seeds : list of int
    settings : dict
        The report's own section, defaults filled in.
    """

    name: str
    folder: Path
    corpus: str
    runs: list[str]
    seeds: list[int]
    baselines: list[str]
    settings: dict[str, Any]

    def experiment(self, run: str, seed: int) -> Path:
        """The folder of the results of a run, or of a baseline (seed 0)."""
        return self.folder / "experiment" / f"{run}-{seed}"

    def experiments(self, seeds: Sequence[int], runs: Sequence[str] | None = None) -> list[Path]:
        """The folders of runs with these seeds and of baselines (seed 0): all unless named."""
        names = runs or [*self.runs, *self.baselines]
        pairs = [(run, s) for run in names for s in ([0] if run in self.baselines else seeds)]
        return [self.experiment(run, seed) for run, seed in pairs]

    def sources(self, folders: Mapping[str, Path]) -> dict[str, Any]:
        """What a report on these experiments comes from, for its manifest.json."""
        digests = {name: read_manifest(folder)["digests"] for name, folder in folders.items()}
        report = {"study": self.name, "corpus": self.corpus, "settings": self.settings}
        return report | {"experiments": digests}


def read_study(root: Path, study: str, report: str) -> Study:
    """The plan of one report; `study` may be empty: the one of params.yaml.

    Raises
    ------
    StudyError
        If the study has no plan yet.
    """
    name = study or yaml.safe_load((root / "params.yaml").read_text("utf-8"))["study"]["name"]
    folder = root / "results" / name
    path = folder / "plan" / "reports" / f"{report}.json"
    if not path.exists():
        raise StudyError(f"{path} does not exist: plan the study {name} first (`studylib study`)")
    plan = {key: value for key, value in read_json(path).items() if key not in ("study", "digest")}
    return Study(name, folder, **plan)


def collect_experiments(study: Study) -> pd.DataFrame:
    """One row a run and seed, baselines last, in the order of the study.

    Index <run>-<seed>. Columns: run, seed, folder; loss (None for untrained networks and
    baselines), margin, scale (None where a loss has none); trunk (its name, with the numbers that
    tell apart two runs of this study on one trunk), crops, batch (N x M), utterances_per_speaker,
    learning_rate, training_speakers (None: all); other_settings (a text that differs where anything
    else does); backend; MEASURES on the first trial list (cllr None where nothing was calibrated);
    eer_dev (nan where nothing was scored on development trials).

    Raises
    ------
    StudyError
        If an experiment has no results yet, one of its files has changed since, or another corpus
        was used than for the first. What is not of the present plan or corpus is printed.
    """
    folders = study.experiments(study.seeds)
    corpus = read_manifest(folders[0])["corpus"]
    for folder in folders:
        if read_manifest(folder)["corpus"] != corpus:
            raise StudyError(f"{folder} has another corpus than {folders[0].name}: run it again")
    if old := [folder.name for folder in folders if not is_of_plan(folder)]:
        print("not of the present plan and corpus, run them again:", ", ".join(old))
    return experiments_in(folders)


def is_of_plan(folder: Path) -> bool:
    """Whether results are of the present plan and corpus, where those are there (not in git)."""
    manifest, study, root = read_manifest(folder), folder.parents[1], folder.parents[3]
    corpus = root / "data" / manifest["settings"]["corpus"]["name"] / "corpus.json"
    if corpus.exists() and read_json(corpus)["checksums"] != manifest["corpus"]["checksums"]:
        return False
    plans = (study / "plan").glob(f"[eb]*/{manifest['run']}.json")  # experiment or baseline
    digests = manifest["digests"].items()
    return all(read_json(plan)[key] == value for plan in plans for key, value in digests)


def some_utterances(
    utterances: pd.DataFrame, split: str, n_speakers: int, n_utterances: int
) -> np.ndarray:
    """Row positions (R,) of at most n speakers of a split, and at most n utterances of each.

    Drawn at random, the same ones each time; ascending.
    """
    known = utterances["split"].unique()
    if split not in known:
        raise StudyError(f"no utterances of the split {split!r} here: expected {', '.join(known)}")
    part = utterances.reset_index(drop=True).query("split == @split").sample(frac=1, random_state=0)
    speakers = part["speaker"].unique()[:n_speakers]
    part = part[part["speaker"].isin(speakers)].groupby("speaker").head(n_utterances)
    return np.sort(part.index.to_numpy())


def collect_variants(study: Study) -> pd.DataFrame:
    """The experiments run by hand, as in `collect_experiments`; index variants/<folder>.

    `run` is the run that a variant changes. Those of another corpus or without a trial list of the
    study, which were made before its settings changed, and those with a changed file are left out.
    """
    first, folders = read_manifest(study.experiments(study.seeds)[0]), []
    for path in sorted(study.folder.glob("variants/*/manifest.json")):
        manifest = read_json(path)
        lists = set(manifest["settings"]["evaluate"]["trials"])
        whole = not changed_files(path.parent, manifest["files"])
        if manifest["corpus"] == first["corpus"] and lists >= set(trial_lists(study)) and whole:
            folders.append(path.parent)
    return experiments_in(folders).rename("variants/{}".format)


def experiments_in(folders: Iterable[Path]) -> pd.DataFrame:
    """One row a folder of results; index its name. See `collect_experiments`."""
    manifests = {folder: read_manifest(folder) for folder in folders}
    trunks = [manifest["settings"].get("trunk") for manifest in manifests.values()]
    rows = []
    for folder, manifest in manifests.items():
        for path in changed_files(folder, manifest["files"]):
            raise StudyError(f"{path} has changed since {folder.name} was measured: run it again")
        metrics = read_metrics(folder)
        row = {"run": manifest["run"], "seed": manifest["seed"], "folder": folder}
        row |= _settings(manifest["settings"], trunks)
        row |= {key: metrics.get(key) for key in ("backend", *MEASURES)}
        row["eer_dev"] = metrics["lists"].get("dev", {}).get("eer", np.nan)
        rows.append(row)
    columns = None if rows else ["run", "folder"]
    return pd.DataFrame(rows, index=[folder.name for folder in manifests], columns=columns)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an experiment's results; StudyError where there is none."""
    path = folder / "manifest.json"
    if not path.exists():
        raise StudyError(f"{path} does not exist: run {folder.name} first (uv run dvc repro)")
    return read_json(path)


def trial_lists(study: Study) -> list[str]:
    """The trial lists that the experiments were scored on; the first gives the headline."""
    return read_manifest(study.experiments(study.seeds)[0])["settings"]["evaluate"]["trials"]


def _settings(settings: Mapping[str, Any], trunks: list[Mapping | None]) -> dict[str, Any]:
    if settings["loss"] is None:  # a baseline
        return {"loss": None}
    loss, train = settings["loss"], settings["train"]
    numbers = dict(loss["parameters"])
    others = {key: train[key] for key in OTHER_SETTINGS}
    return {
        "loss": loss["name"] if train["crops"] else None,
        "margin": _number(numbers.pop("margin", None)),
        "scale": _number(numbers.pop("scale", None)),
        "trunk": _trunk_label(settings["trunk"], trunks),
        "crops": train["crops"],
        "batch": train["speakers_per_batch"] * train["utterances_per_speaker"],
        "utterances_per_speaker": train["utterances_per_speaker"],
        "learning_rate": _number(train["learning_rate"]),
        "training_speakers": train["training_speakers"],
        "other_settings": str(numbers | others),
    }


def _number(value: object) -> object:
    """A number of a run; a schedule as its two ends."""
    return f"{value['initial']:g} to {value['final']:g}" if isinstance(value, dict) else value


def _trunk_label(trunk: Mapping[str, Any], trunks: list[Mapping | None]) -> str:
    """The trunk's name, and its numbers that differ among the study's runs on it."""
    alike = [other["parameters"] for other in trunks if other and other["name"] == trunk["name"]]
    own = trunk["parameters"].items()
    differing = [f"{k}={v}" for k, v in own if any(other.get(k) != v for other in alike)]
    return " ".join([trunk["name"], *differing])


def collect_scores(runs: pd.DataFrame, trials: str) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The scores of every experiment on one trial list.

    Returns
    -------
    DataFrame
        The list itself: first, second, target, first_speaker, second_speaker.
    dict
        Index of `runs` -> (T,) scores, in the list's order.

    Raises
    ------
    StudyError
        If two experiments were scored on different lists.
    """
    common, scores = None, {}
    for name, folder in runs["folder"].items():
        frame = read_parquet(folder / "scores" / f"{trials}.parquet")
        common = frame[TRIALS] if common is None else common
        if not np.array_equal(common[["first", "second"]], frame[["first", "second"]]):
            raise StudyError(f"{folder} has other trials than the runs before: run {name} again")
        scores[name] = frame["score"].to_numpy(np.float64)
    return common, scores


def resample(
    runs: pd.DataFrame, trials: str, n_resamples: int, *, measures=("eer",), seed: int = 0
) -> dict[str, Resamples]:
    """All experiments on the same resamples of the speakers of one trial list, by measure.

    Calibration keeps the order of scores, so calibrated scores are used for all measures; Cllr is
    meaningful only for experiments that have a calibration.
    """
    common, scores = collect_scores(runs, trials)
    for name, folder in runs["folder"].items():
        calibration = read_metrics(folder)["calibration"]
        scores[name] = scores[name] * calibration.get("scale", 1) + calibration.get("offset", 0)
    sides = (common[f"{side}_speaker"].to_numpy().astype(str) for side in ("first", "second"))
    targets = common["target"].to_numpy()
    settings = {"measures": measures, "n_resamples": n_resamples, "seed": seed}
    return bootstrap(scores, targets, *sides, **settings)


def cells_by_run(runs: pd.DataFrame, resamples: Resamples) -> Cells:
    """The seeds of each run as one cell."""
    members = {run: list(group.index) for run, group in runs.groupby("run", sort=False)}
    return cells_of(resamples, members)

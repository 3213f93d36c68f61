"""The results of a study's runs, gathered into frames and written as tables."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from studylib.errors import StudyError
from studylib.evaluation.calibration import Calibration
from studylib.files.paths import run_folder
from studylib.files.tables import read_parquet
from studylib.pipeline.params import Params
from studylib.pipeline.provenance import read_manifest
from studylib.statistics.resampling import Resamples, bootstrap
from studylib.statistics.comparisons import error_table
from studylib.statistics.intervals import Cells, cells_of

OTHER_SETTINGS = ("crop_seconds", "max_utterances_per_speaker", "optimizer", "weight_decay")
OTHER_SETTINGS += ("augmentation", "initial_weights", "keep")


def collect_runs(root: Path, params: Params) -> pd.DataFrame:
    """One row a run and seed, baselines included, in the order of params.yaml.

    Index <run>-<seed>. Columns: run, loss (None for untrained networks and baselines), seed,
    folder, what metrics.json holds for the first trial list, `eer_<list>` for every list, and how
    it was trained: trunk, crops, batch (N x M), utterances_per_speaker, training_speakers (None:
    all), margin, scale, and other_settings that tell runs of a loss apart, in one text.

    Raises
    ------
    StudyError
        If a run has not been evaluated yet.
    """
    rows = [
        _row(root, params, run, seed, _training_facts(params, run))
        for run in params.study.runs
        for seed in params.study.seeds
    ]
    rows += [_row(root, params, name, 0, {"loss": None}) for name in params.study.baselines]
    names = [f"{row['run']}-{row['seed']}" for row in rows]
    return pd.DataFrame(rows, index=names).astype({"loss": object})


def _training_facts(params: Params, run: str) -> dict:
    entry = params.runs[run]
    train = params.train | entry.train
    numbers = {key: _setting(entry.loss.get(key)) for key in ("margin", "scale")}
    speakers, utterances = train["speakers_per_batch"], train["utterances_per_speaker"]
    return {
        "loss": entry.loss["name"] if train["crops"] else None,
        "trunk": _trunk_label(params.trunk, entry.trunk),
        "crops": train["crops"],
        "batch": speakers * utterances,
        "utterances_per_speaker": utterances,
        "training_speakers": train.get("training_speakers"),
        "other_settings": _other_settings(entry.loss, train),
    } | numbers


def _other_settings(loss: dict, train: dict) -> str:
    """What else decides a run's outcome, but for its learning rate: that may fit the rest."""
    numbers = {key: value for key, value in loss.items() if key not in ("name", "margin", "scale")}
    numbers |= {key: train[key] for key in OTHER_SETTINGS if key in train}
    return json.dumps(numbers, sort_keys=True)


def _trunk_label(shared: dict, own: dict) -> str:
    """The trunk's name, and the numbers by which a run's differs: another width, another trunk."""
    name = own.get("name", shared["name"])
    numbers = {key: value for key, value in own.items() if value != shared.get(key)}
    return name + "".join(f" {key}={value}" for key, value in numbers.items() if key != "name")


def _setting(value: object) -> object:
    """A loss's number as it stands in a table; a schedule as its two ends."""
    return f"{value['initial']:g} to {value['final']:g}" if isinstance(value, dict) else value


def _row(root: Path, params: Params, run: str, seed: int, facts: dict) -> dict:
    folder = run_folder(root, params.study.name, "evaluate", run, seed)
    path = folder / "metrics.json"
    if not path.exists():
        raise StudyError(
            f"{path} does not exist: evaluate the run {run}, seed {seed}, first (uv run dvc repro)"
        )
    metrics = {"backend": "cosine"} | _metrics(folder)
    for key in ("calibration", "further_backends"):  # told by `backend_table`
        metrics.pop(key, None)
    lists = metrics.pop("lists")
    low, high = metrics.pop("eer_interval")
    eers = {f"eer_{name}": values["eer"] for name, values in lists.items()}
    return (
        {"run": run, "seed": seed, "folder": folder}
        | facts
        | metrics
        | {"eer_low": low, "eer_high": high}
        | eers
    )


def collect_scores(runs: pd.DataFrame, trials: str) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The scores of every run on one trial list.

    Parameters
    ----------
    runs : DataFrame
        From `collect_runs`.
    trials : str
        Name of the list.

    Returns
    -------
    DataFrame
        The list itself: first, second, target, first_speaker, second_speaker.
    dict
        Index of `runs` -> (T,) scores, in the list's order.

    Raises
    ------
    StudyError
        If scores are missing, or two runs were scored on different lists.
    """
    columns = ["first", "second", "target", "first_speaker", "second_speaker"]
    common, scores = None, {}
    for name, folder in runs["folder"].items():
        path = folder / "scores" / f"{trials}.parquet"
        if not path.exists():
            raise StudyError(f"{path} does not exist: evaluate the run {name} again (dvc repro)")
        frame = read_parquet(path)
        if common is None:
            common = frame[columns]
        elif not np.array_equal(common[["first", "second"]], frame[["first", "second"]]):
            raise StudyError(f"{path} holds other trials than the runs before: evaluate it again")
        scores[name] = frame["score"].to_numpy()
    return common, scores


def backend_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of what each back-end makes of the same embeddings, first trial list.

    Index run. Columns: eer_<backend> for every back-end, a fraction; cllr and min_cllr of the
    headline, bits, where its scores were calibrated on development trials.
    """
    rows = []
    for run, folder in zip(runs["run"], runs["folder"], strict=True):
        metrics = _metrics(folder)
        row = {"run": run, f"eer_{metrics.get('backend', 'cosine')}": metrics["eer"]}
        for backend, told in metrics.get("further_backends", {}).items():
            row[f"eer_{backend}"] = told["lists"][metrics["trials"]]["eer"]
        rows.append(row | {key: metrics[key] for key in ("cllr", "min_cllr") if key in metrics})
    table = pd.DataFrame(rows).groupby("run", sort=False).mean()
    last = [name for name in ("cllr", "min_cllr") if name in table]
    return table[[*table.columns.difference(last, sort=False), *last]]


def resample(
    runs: pd.DataFrame, trials: str, n_resamples: int, *, measure: str = "eer"
) -> Resamples:
    """All runs on the same resamples of the speakers of one trial list.

    Cllr is that of the calibrated scores; all runs must have been calibrated.
    """
    common, scores = collect_scores(runs, trials)
    if measure == "cllr":
        scores = _calibrated(runs, scores)
    return bootstrap(
        scores,
        common["target"].to_numpy(),
        common["first_speaker"].to_numpy().astype(str),
        common["second_speaker"].to_numpy().astype(str),
        measures=[measure],
        n_resamples=n_resamples,
    )[measure]


def _calibrated(runs: pd.DataFrame, scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Log-likelihood ratios, by each run's calibration."""
    return {
        name: Calibration(**_metrics(folder)["calibration"]).log_likelihood_ratios(scores[name])
        for name, folder in runs["folder"].items()
    }


def _metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def cells_by_run(runs: pd.DataFrame, resamples: Resamples) -> Cells:
    """The seeds of each run as one cell."""
    members = {run: list(group.index) for run, group in runs.groupby("run", sort=False)}
    return cells_of(resamples, members)


def measure_table(runs: pd.DataFrame, trials: str, n_resamples: int) -> pd.DataFrame:
    """Detection costs and Cllr of every run, with intervals.

    Returns
    -------
    DataFrame
        One row a measure and run, the best first: measure, run, value (mean over seeds), low, high.
    """
    measured = {"min_dcf_0.01": runs, "min_dcf_0.05": runs}
    if "cllr" in runs and runs["cllr"].notna().any():
        measured["cllr"] = runs[runs["cllr"].notna()]
    parts = []
    for measure, of in measured.items():
        resamples = resample(of, trials, n_resamples, measure=measure)
        table = error_table(cells_by_run(of, resamples)).sort_values("rate")
        table = table.rename(columns={"rate": "value"}).rename_axis("run").reset_index()
        parts.append(table[["run", "value", "low", "high"]].assign(measure=measure))
    return pd.concat(parts, ignore_index=True)[["measure", "run", "value", "low", "high"]]


def study_manifest(root: Path, params: Params, runs: pd.DataFrame) -> dict:
    """The settings of the study and, for each trained run, where and when it was made.

    What all runs share (machine, packages, source) stands once; a list where runs differ.
    """
    common = ("device", "processor", "system", "python", "packages", "source", "started")
    manifests = {
        name: read_manifest(run_folder(root, params.study.name, "train", run, seed))
        for name, run, seed in runs[runs["trunk"].notna()][["run", "seed"]].itertuples()
    }
    shared = {key: _distinct(manifest[key] for manifest in manifests.values()) for key in common}
    return {
        "settings": params.model_dump(mode="json"),
        "training": shared,
        "seconds": {name: manifest["seconds"] for name, manifest in manifests.items()},
        "corpus": next(iter(manifests.values()))["corpus"] if manifests else None,
    }


def _distinct(values: Iterable) -> object:
    found = []
    for value in values:
        if value not in found:
            found.append(value)
    return found[0] if len(found) == 1 else found


def write_tables(table: pd.DataFrame, folder: Path, name: str) -> None:
    """Write one table as CSV (all digits), Markdown and LaTeX (as shown)."""
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / f"{name}.csv", index=False)
    (folder / f"{name}.md").write_text(markdown(table), encoding="utf-8")
    table.to_latex(folder / f"{name}.tex", index=False, escape=True, float_format="%.3f")


def markdown(table: pd.DataFrame) -> str:
    """A Markdown table; numbers with up to three decimals."""
    lines = [list(table.columns), ["---"] * table.shape[1], *_shown(table)]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _shown(table: pd.DataFrame) -> list[list[str]]:
    def show(value) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.3f}".rstrip("0").rstrip(".")
        return "" if value is None else str(value)

    return [[show(value) for value in row] for row in table.itertuples(index=False)]

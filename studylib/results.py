"""The results of a study's runs, gathered into frames and written as tables."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from studylib.config import Params
from studylib.errors import StudyError
from studylib.paths import run_folder


def collect_runs(root: Path, params: Params) -> pd.DataFrame:
    """One row a run and seed, baselines included, in the order of params.yaml.

    Columns: run, loss (None for untrained networks and baselines), seed, folder, what metrics.json
    holds for the first trial list, `eer_<list>` for every list, and how it was trained: trunk,
    crops, speakers_per_batch, utterances_per_speaker.

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
    return pd.DataFrame(rows)


def _training_facts(params: Params, run: str) -> dict:
    entry = params.runs[run]
    train = params.train | entry.train
    return {
        "loss": entry.loss["name"] if train["crops"] else None,
        "trunk": (params.trunk | entry.trunk)["name"],
        "crops": train["crops"],
        "speakers_per_batch": train["speakers_per_batch"],
        "utterances_per_speaker": train["utterances_per_speaker"],
    }


def _row(root: Path, params: Params, run: str, seed: int, facts: dict) -> dict:
    folder = run_folder(root, params.study.name, "evaluate", run, seed)
    path = folder / "metrics.json"
    if not path.exists():
        raise StudyError(
            f"{path} does not exist: evaluate the run {run}, seed {seed}, first (uv run dvc repro)"
        )
    metrics = json.loads(path.read_text(encoding="utf-8"))
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


def collect_scores(runs: pd.DataFrame, trials: str) -> tuple[pd.DataFrame, dict]:
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
        The list itself: target, first_speaker, second_speaker.
    dict
        (run, seed) -> (T,) scores, in the list's order.

    Raises
    ------
    StudyError
        If two runs were scored on different lists.
    """
    columns = ["first", "second", "target", "first_speaker", "second_speaker"]
    common, scores = None, {}
    for run, seed, folder in runs[["run", "seed", "folder"]].itertuples(index=False):
        path = folder / "scores" / f"{trials}.parquet"
        if not path.exists():
            raise StudyError(f"{path} does not exist: evaluate the run {run}, seed {seed}, again")
        frame = pd.read_parquet(path)
        if common is None:
            common = frame[columns]
        elif not np.array_equal(common[["first", "second"]], frame[["first", "second"]]):
            raise StudyError(f"{path} holds other trials than the runs before: evaluate it again")
        scores[run, int(seed)] = frame["score"].to_numpy()
    return common, scores


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

"""How the size of a batch, and the number of training speakers, moves the error rate."""

from pathlib import Path

import pandas as pd

from studylib.files.paths import run_folder
from studylib.pipeline.params import Params
from studylib.pipeline.provenance import read_manifest
from studylib.reports.results import cells_by_run, collect_runs, resample
from studylib.reports.settings import BatchSizeRuns
from studylib.statistics.comparisons import error_table, paired_tests
from studylib.statistics.intervals import Cells

# Each list of report.batch_size, and what its runs differ in.
VARIED = {
    "equal_crops": "batch",
    "equal_steps": "batch",
    "training_speakers": "training_speakers",
}
OF_A_RUN = ["loss", "batch", "steps", "crops", "training_speakers"]
RATE_COLUMNS = ["rate", "low", "high", "seeds", "seed_sd", "speaker_sd"]
TEST_COLUMNS = ["difference", "low", "high", "p", "p_holm", "speakers_needed"]


def named_runs(root: Path, params: Params, compared: BatchSizeRuns) -> pd.DataFrame:
    """The rows of `results.collect_runs` that a study names, with what each run really saw.

    Columns besides: steps; crops and training_speakers are the numbers seen, which the settings
    only bound (a run ends with a whole batch; null means all speakers).
    """
    runs = collect_runs(root, params)
    runs = runs[runs["run"].isin(compared.names)]
    manifests = [
        read_manifest(run_folder(root, params.study.name, "train", run, seed))
        for run, seed in runs[["run", "seed"]].itertuples(index=False)
    ]
    seen = {
        key: [manifest[key] for manifest in manifests]
        for key in ("steps", "crops", "training_speakers")
    }
    return runs.assign(**seen).astype({"batch": int})  # baselines, which have none, are gone


def size_tables(
    runs: pd.DataFrame, compared: BatchSizeRuns, *, trials: str, n_resamples: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Error rates by size, and each loss's largest size tested against its smallest.

    Parameters
    ----------
    runs : DataFrame
        From `named_runs`.
    compared : BatchSizeRuns
    trials : str
        Name of the trial list.
    n_resamples : int
        Of its speakers, the same for all runs.

    Returns
    -------
    rates : DataFrame
        One row a comparison (list of `report.batch_size`) and run, by loss and size: comparison,
        loss, run, size (batch in crops, or training speakers), batch, steps, crops,
        training_speakers, and what `comparisons.error_table` says of the run's seeds together.
    tests : DataFrame
        One row a comparison and loss of several sizes: smallest, largest, difference (-0.1: the
        error rate at the largest is 10 % lower), low, high, p, p_holm (over all rows) and
        speakers_needed. Both empty where a study names no runs.
    """
    if runs.empty:
        rates = pd.DataFrame(columns=["comparison", "run", "size", *OF_A_RUN, *RATE_COLUMNS])
        columns = ["comparison", "loss", "smallest", "largest", *TEST_COLUMNS]
        return rates, pd.DataFrame(columns=columns)
    cells = cells_by_run(runs, resample(runs, trials, n_resamples))
    rates = _rates(runs, compared, cells)
    return rates, _tests(rates, cells)


def _rates(runs: pd.DataFrame, compared: BatchSizeRuns, cells: Cells) -> pd.DataFrame:
    table = runs.groupby("run", sort=False)[OF_A_RUN].first().join(error_table(cells))
    parts = [
        table.loc[names].assign(comparison=comparison, size=table.loc[names, VARIED[comparison]])
        for comparison, names in compared
    ]
    rates = pd.concat(parts).rename_axis("run").reset_index()
    order = ["comparison", "loss", "run", "size", *OF_A_RUN[1:], *RATE_COLUMNS]
    by_size = rates.sort_values("size", kind="stable")
    places = by_size.groupby(["comparison", "loss"], sort=False).indices
    rows = [
        place
        for comparison, _ in compared
        for loss in dict.fromkeys(rates["loss"])
        for place in places.get((comparison, loss), [])
    ]
    return by_size.iloc[rows][order].reset_index(drop=True)


def _tests(rates: pd.DataFrame, cells: Cells) -> pd.DataFrame:
    """Each loss's largest size against its smallest, wherever it has several."""
    several = rates[rates.duplicated(["comparison", "loss"], keep=False)]
    groups = several.groupby(["comparison", "loss"], sort=False)
    first, last = groups.first(), groups.last()  # rates are sorted by size
    tests = paired_tests(cells, zip(last["run"], first["run"], strict=True))[TEST_COLUMNS]
    ends = pd.DataFrame({"smallest": first["size"], "largest": last["size"]}).reset_index()
    return ends.join(tests)

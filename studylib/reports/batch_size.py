"""The error rate against the size of a batch and the number of training speakers."""

import pandas as pd

from studylib.files.atomic import read_json
from studylib.reports.settings import BatchSizeRuns
from studylib.reports.study import Study, cells_by_run, collect_experiments, resample
from studylib.statistics.comparisons import error_table, paired_tests
from studylib.statistics.intervals import Cells

# Each list of report.batch_size, and what its runs differ in.
VARIED = {
    "equal_crops": "batch",
    "equal_steps": "batch",
    "training_speakers": "training_speakers",
}
FACTS = ["loss", "batch", "steps", "crops", "training_speakers"]
RATE_COLUMNS = ["rate", "low", "high", "seeds", "seed_sd", "speaker_sd"]
TEST_COLUMNS = ["difference", "low", "high", "p", "p_holm", "speakers_needed"]


def compared_runs(study: Study) -> tuple[BatchSizeRuns, pd.DataFrame]:
    """The lists of `report.batch_size`, and the experiments of all runs in them.

    The frame is that of `collect_experiments` but for steps, crops and training_speakers, which are
    what a run really saw. Settings only bound these: a run ends with a whole batch, and null means
    all speakers.
    """
    compared = BatchSizeRuns(**study.settings)
    runs = collect_experiments(study)
    runs = runs[runs["run"].isin(compared.names)]
    seen = [read_json(folder / "model" / "training.json") for folder in runs["folder"]]
    columns = {
        key: [int(facts[key]) for facts in seen] for key in ("steps", "crops", "training_speakers")
    }
    return compared, runs.assign(**columns).astype({"batch": int})


def size_tables(
    runs: pd.DataFrame, compared: BatchSizeRuns, *, trials: str, n_resamples: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Error rates by size, and each loss's largest size tested against its smallest.

    Parameters
    ----------
    runs : DataFrame
        From `compared_runs`.
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
        speakers_needed. Both are empty where a study names no runs.
    """
    if runs.empty:
        return pd.DataFrame(columns=["comparison", *FACTS]), pd.DataFrame(columns=TEST_COLUMNS)
    cells = cells_by_run(runs, resample(runs, trials, n_resamples)["eer"])
    rates = _rates(runs, compared, cells)
    return rates, _tests(rates, cells)


def _rates(runs: pd.DataFrame, compared: BatchSizeRuns, cells: Cells) -> pd.DataFrame:
    table = runs.groupby("run", sort=False)[FACTS].first().join(error_table(cells))
    table["loss"] = pd.Categorical(table["loss"], table["loss"].unique())  # sorted as in the study
    parts = [
        table.loc[names]
        .assign(comparison=comparison, size=table.loc[names, VARIED[comparison]])
        .sort_values(["loss", "size"])
        for comparison, names in compared
        if names
    ]
    rates = pd.concat(parts).rename_axis("run").reset_index().astype({"loss": str})
    return rates[["comparison", "loss", "run", "size", *FACTS[1:], *RATE_COLUMNS]]


def _tests(rates: pd.DataFrame, cells: Cells) -> pd.DataFrame:
    several = rates[rates.duplicated(["comparison", "loss"], keep=False)]
    groups = several.groupby(["comparison", "loss"], sort=False)
    first, last = groups.first(), groups.last()  # rates are sorted by size
    tests = paired_tests(cells, zip(last["run"], first["run"], strict=True))[TEST_COLUMNS]
    ends = pd.DataFrame({"smallest": first["size"], "largest": last["size"]}).reset_index()
    return ends.join(tests)

"""The error rate against the size of a batch and the number of training speakers."""

import pandas as pd

from studylib.files.atomic import read_json
from studylib.reports.study import Study, cells_by_run, collect_experiments, resample
from studylib.statistics.comparisons import error_table, paired_tests

# Each list of report.batch_size, and what its runs differ in.
VARIED = {"equal_crops": "batch", "equal_steps": "batch", "training_speakers": "training_speakers"}
FACTS = ["loss", "batch", "steps", "crops", "training_speakers"]


def compared_runs(study: Study) -> pd.DataFrame:
    """The experiments of all runs in the lists of `report.batch_size`.

    As in `collect_experiments`, except that steps, crops and training_speakers are what a run
    actually used. Settings only bound these: a run ends with a whole batch, and null means all
    speakers.
    """
    runs = collect_experiments(study)
    runs = runs[runs["run"].isin({run for names in study.settings.values() for run in names})]
    seen = [read_json(folder / "model" / "training.json") for folder in runs["folder"]]
    columns = {key: [facts[key] for facts in seen] for key in FACTS[2:]}
    return runs.assign(**columns).astype(dict.fromkeys(FACTS[1:], int))


def size_tables(
    runs: pd.DataFrame, study: Study, *, trials: str, n_resamples: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Error rates by size, and each loss's largest size tested against its smallest.

    Parameters
    ----------
    runs : DataFrame
        From `compared_runs`.
    study : Study
    trials : str
        Name of the trial list.
    n_resamples : int
        Of its speakers, the same for all runs.

    Returns
    -------
    rates : DataFrame
        One row a comparison (list of `report.batch_size`) and run, by loss and size: comparison,
        run, FACTS, columns of `comparisons.error_table` over the run's seeds, size (batch in
        crops, or training speakers).
    tests : DataFrame
        One row a comparison and loss of several sizes: comparison, loss, smallest, largest, and
        columns of `comparisons.paired_tests` for the largest (first) and the smallest (second).
        Both are empty where a study names no runs.
    """
    if runs.empty:
        return pd.DataFrame(columns=["comparison", *FACTS]), pd.DataFrame(columns=["comparison"])
    cells = cells_by_run(runs, resample(runs, trials, n_resamples)["eer"])
    table = runs.groupby("run", sort=False)[FACTS].first().join(error_table(cells))
    parts = {
        comparison: table.assign(size=table[VARIED[comparison]]).loc[names]
        for comparison, names in study.settings.items()
    }
    rates = pd.concat(parts, names=["comparison", "run"]).reset_index()
    rates = rates.sort_values(["comparison", "loss", "size"], ignore_index=True)
    of_sizes = {"smallest": ("size", "first"), "largest": ("size", "last")}
    of_runs = {"first": ("run", "last"), "second": ("run", "first")}
    ends = rates.groupby(["comparison", "loss"], as_index=False).agg(**of_sizes, **of_runs)
    ends = ends[ends["smallest"] < ends["largest"]].reset_index(drop=True)
    tests = paired_tests(cells, zip(ends.pop("first"), ends.pop("second"), strict=True))
    return rates, ends.join(tests)

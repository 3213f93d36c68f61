"""The error rate against the size of a batch and the number of training speakers."""

import pandas as pd

from studylib.files.atomic import read_json
from studylib.reports.losses import chosen_runs
from studylib.reports.study import Study, cells_by_run, collect_experiments, resample
from studylib.statistics.comparisons import error_table, paired_tests

# Each comparison: what its runs differ in, and what else they may not differ in.
COMPARISONS = {
    "equal_crops": ("batch", ["planned", "training_speakers"]),
    "equal_steps": ("batch", ["steps", "training_speakers"]),
    "training_speakers": ("training_speakers", ["planned", "batch"]),
}
FACTS = ["loss", "batch", "steps", "crops", "training_speakers"]
# What no comparison may differ in
ALIKE = ["loss", "margin", "scale", "trunk", "utterances_per_speaker", "other_settings"]


def trained_runs(study: Study) -> pd.DataFrame:
    """The experiments of all trained runs, with what decides how they may be compared.

    As in `collect_experiments`, except that steps, crops and training_speakers are what a run
    actually used. Settings only bound these: a run ends with a whole batch, and null means all
    speakers. Besides, planned: the settings' crops.
    """
    runs = collect_experiments(study)
    runs = runs[runs["loss"].notna()]
    seen = [read_json(folder / "model" / "training.json") for folder in runs["folder"]]
    columns = {key: [facts[key] for facts in seen] for key in FACTS[2:]}
    return runs.assign(planned=runs["crops"], **columns).astype(dict.fromkeys(FACTS[1:], int))


def _of_chosen_rates(part: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Of each loss and size the chosen run, and tried; all runs of a study without the list dev."""
    if runs["eer_dev"].isna().all():
        return part.assign(tried=1)
    sizes = part.groupby("loss")["size"].transform("nunique")
    common = part.groupby(["loss", "learning_rate"])["size"].transform("nunique") == sizes
    part = part[common | ~common.groupby(part["loss"]).transform("any")]
    seeds = runs[["run", "eer_dev"]].join(part[["loss", "size"]], on="run", how="inner")
    tried = chosen_runs(seeds, ["loss", "size"]).set_index("run")["tried"]
    return part.join(tried, how="inner")


def size_tables(
    runs: pd.DataFrame, *, trials: str, n_resamples: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Error rates by size, and each loss's largest size tested against its smallest.

    Parameters
    ----------
    runs : DataFrame
        From `trained_runs`. Of each loss, those with most sizes that differ in nothing else (but
        the learning rate) are compared, and of each size the run chosen on development speakers,
        of learning rates that all sizes were run with, if there are such.
    trials : str
        Name of the trial list.
    n_resamples : int
        Of its speakers, the same for all runs.

    Returns
    -------
    rates : DataFrame
        One row a comparison (of COMPARISONS) and run, by loss and size: comparison, run, FACTS,
        learning_rate, tried (from how many rates it was chosen), columns of
        `comparisons.error_table` over the run's seeds, size (batch in crops, or training speakers).
    tests : DataFrame
        One row a comparison and loss: comparison, loss, smallest, largest, and columns of
        `comparisons.paired_tests` for the largest (first) and the smallest (second).
        Both are empty where a study varies no size.
    """
    firsts, parts = runs.drop_duplicates("run").set_index("run"), {}
    for comparison, (size, same) in COMPARISONS.items():
        groups = firsts.groupby([*ALIKE, *same], sort=False, dropna=False)
        sizes, group = groups[size].transform("nunique"), groups.ngroup()
        most = sizes.groupby(firsts["loss"]).idxmax()
        largest = group == firsts["loss"].map(group[most].set_axis(most.index))
        part = firsts[[*FACTS, "learning_rate"]].assign(size=firsts[size])[(sizes > 1) & largest]
        parts[comparison] = _of_chosen_rates(part, runs)
    rates = pd.concat(parts, names=["comparison", "run"]).reset_index()
    if rates.empty:
        return rates, rates[["comparison"]]
    compared = runs[runs["run"].isin(rates["run"])]
    cells = cells_by_run(compared, resample(compared, trials, n_resamples)["eer"])
    rates = rates.join(error_table(cells), on="run")
    rates = rates.sort_values(["comparison", "loss", "size"], ignore_index=True)
    of_sizes = {"smallest": ("size", "first"), "largest": ("size", "last")}
    of_runs = {"first": ("run", "last"), "second": ("run", "first")}
    ends = rates.groupby(["comparison", "loss"], as_index=False).agg(**of_sizes, **of_runs)
    tests = paired_tests(cells, zip(ends.pop("first"), ends.pop("second"), strict=True))
    return rates, ends.join(tests)

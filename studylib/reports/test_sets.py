"""The study's runs on the further corpora of `evaluate.also`, beside its own test speakers.

One recording of a speaker gives the speaker away by its channel, which a linear system hears too:
the baseline logmel_whitened, fitted on the study's training speakers, measures how much.
"""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from studylib.evaluation.measures import read_metrics
from studylib.files.tables import read_parquet
from studylib.reports.corpus import recorded_once
from studylib.reports.figures.style import run_title
from studylib.reports.study import Study, cells_by_run, read_manifest, resample
from studylib.statistics.agreement import rank_agreement
from studylib.statistics.comparisons import error_table
from studylib.statistics.resampling import Resamples

WHITENED = "logmel_whitened"
COSTS = ["min_cllr", "cllr", "min_dcf_0.05", "act_dcf_0.05"]
TRAVELS = 0.1  # bits of Cllr above the least possible that a calibration may cost
FEWEST = 3  # losses to rank


def on_test_set(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """The experiments of `study.collect_experiments` with the folders of their results there."""
    return runs.assign(folder=[folder / "also" / name for folder in runs["folder"]])


def resample_further(runs: pd.DataFrame, n_resamples: int) -> dict[str, Resamples]:
    """EERs on each further corpus, its speakers resampled independently of any other's."""
    names = read_manifest(runs["folder"].iloc[0])["settings"]["evaluate"].get("also", [])
    found = {}
    for seed, name in enumerate(names, start=1):
        there = on_test_set(runs, name)
        trials = read_metrics(there["folder"].iloc[0])["trials"]
        found[name] = resample(there, trials, n_resamples, seed=seed)["eer"]
    return found


def test_set_table(
    study: Study, runs: pd.DataFrame, resamples: Mapping[str, Resamples]
) -> pd.DataFrame:
    """One row a test set and run, in the order of `resamples`, whose first is the study's own.

    Columns test_set, trials, run, loss; rate, low, high (the EER, a fraction); logmel_whitened (the
    EER of this baseline there, where the study has it); COSTS (means over seeds) and calibrated_on.
    """
    parts = []
    for name, rates in resamples.items():
        there = runs if name == study.corpus else on_test_set(runs, name)
        measured = [read_metrics(folder) for folder in there["folder"]]
        costs = pd.DataFrame(measured, runs.index).reindex(columns=["trials", *COSTS])
        costs["calibrated_on"] = [each["calibration"].get("corpus") for each in measured]
        first = pd.concat([runs[["run", "loss"]], costs], axis="columns").groupby("run")
        table = error_table(cells_by_run(runs, rates))[["rate", "low", "high"]]
        table = table.rename_axis("run").join(first[["loss", "trials", "calibrated_on"]].first())
        table = table.join(first[COSTS].mean()).assign(test_set=name)
        table[WHITENED] = table["rate"].get(WHITENED, np.nan)
        parts.append(table.reset_index())
    columns = ["test_set", "trials", "run", "loss", "rate", "low", "high"]
    return pd.concat(parts)[[*columns, WHITENED, *COSTS, "calibrated_on"]]


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """EER (%) and interval of each run (rows) on each test set (columns), for readers."""
    shown = 100 * table[["rate", "low", "high"]]
    texts = [f"{rate:.2f} [{low:.2f}, {high:.2f}]" for rate, low, high in shown.to_numpy()]
    names = [run_title(run, loss) for run, loss in zip(table["run"], table["loss"], strict=True)]
    cells = table.assign(EER=texts, name=names)
    shape = {"index": "name", "columns": "test_set", "values": "EER"}
    return cells.pivot_table(**shape, aggfunc="first", sort=False)


def agreement_table(
    runs: pd.DataFrame, compared: Collection[str], resamples: Mapping[str, Resamples]
) -> pd.DataFrame:
    """How far each further test set ranks the losses as the study's own does.

    Parameters
    ----------
    runs : DataFrame
    compared : collection of str
        One run of each loss, on one trunk.
    resamples : name -> Resamples
        The study's own test set first.

    Returns
    -------
    DataFrame
        test_set, and what `rank_agreement` gives; empty with fewer than FEWEST losses.
    """
    runs = runs[runs["run"].isin(compared)]
    own, *others = (cells_by_run(runs, rates) for rates in resamples.values())
    rows = [rank_agreement(own, there) for there in (others if len(compared) >= FEWEST else [])]
    table = pd.DataFrame(rows, columns=["spearman", "low", "high", "pairs_kept"])
    table.insert(0, "test_set", list(resamples)[1:][: len(rows)])
    return table


def sentences(
    study: Study, runs: pd.DataFrame, table: pd.DataFrame, agreement: pd.DataFrame
) -> str:
    """What the test sets show, as a Markdown list: rankings, calibrations, channels."""
    trained = table[table["loss"].notna()]
    lines = [_ranking(row) for row in agreement.itertuples()]
    for name, part in trained.groupby("test_set", sort=False):
        there = runs if name == study.corpus else on_test_set(runs, name)
        if name != study.corpus and part["cllr"].notna().all():
            lines.append(_calibration(name, part))
        if recorded_once(read_parquet(there["folder"].iloc[0] / "utterances.parquet")):
            lines.append(_channel(name, part))
    if table["test_set"].nunique() == 1:
        synthetic = read_manifest(runs["folder"].iloc[0])["corpus"]["source"] == "embedded"
        lines.append("Nothing real was heard." if synthetic else "No further set was heard.")
    return "".join(f"- {line}\n" for line in lines)


def _ranking(row) -> str:
    verdict = "agrees" if row.low > 0 else "contradicts" if row.high < 0 else "not shown"
    return (
        f"**{row.test_set}, ranking: {verdict}.** Spearman {row.spearman:.2f} [{row.low:.2f}, "
        f"{row.high:.2f}] over losses; two losses keep their order with a probability of "
        f"{row.pairs_kept:.2f}."
    )


def _calibration(name: str, trained: pd.DataFrame) -> str:
    cllr, least = trained[["cllr", "min_cllr"]].mean()
    travels = "travels" if cllr < min(least + TRAVELS, 1) else "does not travel"
    return (
        f"**{name}, calibration: {travels}.** Learned on {trained['calibrated_on'].iloc[0]}, it "
        f"costs {cllr:.3f} bits of Cllr where {least:.3f} is the least (means of the trained runs)."
    )


def _channel(name: str, trained: pd.DataFrame) -> str:
    text = f"**{name}, channel: one recording a speaker**, which gives the speaker away; {WHITENED}"
    linear, better = trained[WHITENED].iloc[0], (trained["high"] < trained[WHITENED]).sum()
    if np.isnan(linear):
        return f"{text}, which would measure how far, was not run."
    numbers = f"EER of {100 * linear:.2f} %; {better} of {len(trained)} trained runs"
    return f"{text}, a linear system, has an {numbers} have an interval below it."

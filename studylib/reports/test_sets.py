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
COLUMNS = ["test_set", "trials", "run", "loss", "rate", "low", "high", WHITENED, *COSTS]
COLUMNS += ["calibrated_on"]
TRAVELS = 0.1  # bits of Cllr above the least possible that a calibration may cost
FEWEST = 3  # losses to rank


def on_test_sets(study: Study, runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Test set -> the experiments with the folders of their results there; the study's own first.

    `runs` is from `study.collect_experiments`.
    """
    further = read_manifest(runs["folder"].iloc[0])["settings"]["evaluate"].get("also", [])
    there = {name: [folder / "also" / name for folder in runs["folder"]] for name in further}
    return {study.corpus: runs} | {name: runs.assign(folder=there[name]) for name in further}


def resample_sets(
    sets: Mapping[str, pd.DataFrame], own: Resamples, n_resamples: int
) -> dict[str, Resamples]:
    """EERs on each test set, its speakers resampled independently of any other's; `own` first."""
    (name, _), *further = sets.items()
    found = {name: own}
    for seed, (name, runs) in enumerate(further, start=1):
        trials = read_metrics(runs["folder"].iloc[0])["trials"]
        found[name] = resample(runs, trials, n_resamples, seed=seed)["eer"]
    return found


def test_set_table(
    sets: Mapping[str, pd.DataFrame], resamples: Mapping[str, Resamples]
) -> pd.DataFrame:
    """One row a test set and run.

    Columns test_set, trials, run, loss; rate, low, high (the EER, a fraction); logmel_whitened (the
    EER of this baseline there, where the study has it); COSTS (means over seeds) and calibrated_on.
    """
    parts = {}
    for name, runs in sets.items():
        measured = [read_metrics(folder) for folder in runs["folder"]]
        costs = pd.DataFrame(measured, runs.index).reindex(columns=["trials", *COSTS])
        costs["calibrated_on"] = [each["calibration"].get("corpus") for each in measured]
        by_run = pd.concat([runs[["run", "loss"]], costs], axis="columns").groupby("run")
        table = error_table(cells_by_run(runs, resamples[name])).rename_axis("run")
        table = table.join(by_run[["loss", "trials", "calibrated_on"]].first())
        table[WHITENED] = table["rate"].get(WHITENED, np.nan)
        parts[name] = table.join(by_run[COSTS].mean())
    return pd.concat(parts, names=["test_set"]).reset_index()[COLUMNS]


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
    (_, own), *further = resamples.items()
    rows = [
        {"test_set": name} | rank_agreement(cells_by_run(runs, own), cells_by_run(runs, there))
        for name, there in further
        if len(compared) >= FEWEST
    ]
    return pd.DataFrame(rows, columns=["test_set", "spearman", "low", "high", "pairs_kept"])


def sentences(
    sets: Mapping[str, pd.DataFrame], table: pd.DataFrame, agreement: pd.DataFrame
) -> str:
    """What the test sets show, as a Markdown list: rankings, calibrations, channels."""
    own, trained = next(iter(sets)), table[table["loss"].notna()]
    lines = [_ranking(row) for row in agreement.itertuples()]
    for name, part in trained.groupby("test_set", sort=False):
        if name != own and part["cllr"].notna().all():
            lines.append(_calibration(name, part))
        if recorded_once(read_parquet(sets[name]["folder"].iloc[0] / "utterances.parquet")):
            lines.append(_channel(name, part))
    if len(sets) == 1:
        synthetic = read_manifest(sets[own]["folder"].iloc[0])["corpus"]["source"] == "embedded"
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

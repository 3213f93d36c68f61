"""The study's runs on the further corpora of `evaluate.also`, beside its own test speakers.

One recording of a speaker gives the speaker away by its channel, which a linear system hears too:
the baseline logmel_whitened, fitted on the study's training speakers, measures how much.
"""

from collections.abc import Collection, Mapping

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
        table["logmel_whitened"] = table["rate"].get(WHITENED)
        parts.append(table.reset_index())
    columns = ["test_set", "trials", "run", "loss", "rate", "low", "high"]
    return pd.concat(parts)[[*columns, "logmel_whitened", *COSTS, "calibrated_on"]]


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """EER (%) and interval of each run (rows) on each test set (columns), for readers."""
    shown = 100 * table[["rate", "low", "high"]]
    texts = [f"{rate:.2f} [{low:.2f}, {high:.2f}]" for rate, low, high in shown.to_numpy()]
    names = [run_title(run, loss) for run, loss in zip(table["run"], table["loss"], strict=True)]
    cells = table.assign(EER=texts, name=names)
    wide = cells.pivot(index="name", columns="test_set", values="EER")
    return wide.reindex(index=dict.fromkeys(names), columns=table["test_set"].unique())


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
    (_, own), *others = [(name, cells_by_run(runs, rates)) for name, rates in resamples.items()]
    rows = [
        {"test_set": name} | rank_agreement(own, there)
        for name, there in (others if len(compared) >= FEWEST else [])
    ]
    return pd.DataFrame(rows, columns=["test_set", "spearman", "low", "high", "pairs_kept"])


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
    means = trained[COSTS].mean()
    close = means["cllr"] < min(means["min_cllr"] + TRAVELS, 1)
    travels = "travels" if close else "does not travel"
    worse = "; 1 bit is as good as no score" if means["cllr"] > 1 else ""
    return (
        f"**{name}, calibration: {travels}.** Learned on {trained['calibrated_on'].iloc[0]}, it "
        f"costs {means['cllr']:.3f} bits of Cllr where {means['min_cllr']:.3f} is the least"
        f"{worse}; its threshold {means['act_dcf_0.05']:.3f} where {means['min_dcf_0.05']:.3f} is "
        "the least (5 % targets; means of the trained runs)."
    )


def _channel(name: str, trained: pd.DataFrame) -> str:
    text = f"**{name}, channel: one recording a speaker**, which gives the speaker away"
    if (linear := trained["logmel_whitened"].iloc[0]) is None:
        return f"{text}; the baseline {WHITENED}, which would measure how far, was not run."
    better = int((trained["high"] < linear).sum())
    return (
        f"{text}: a linear system ({WHITENED}) has an EER of {100 * linear:.2f} %; "
        f"{better} of {len(trained)} trained runs have an interval below it."
    )

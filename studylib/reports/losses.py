"""The tables of losses.ipynb: error rates with intervals, paired tests, conclusions, variants.

A fair comparison of losses chooses on development speakers only, with the same budget for every
setting of a loss.
"""

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from studylib.losses import LOSSES
from studylib.reports.figures.runs import det_points
from studylib.reports.figures.style import look, run_title
from studylib.reports.study import MEASURES, cells_by_run, collect_scores
from studylib.statistics.comparisons import error_table, paired_tests
from studylib.statistics.resampling import Resamples

SETTINGS = ["loss", "crops", "trunk", "batch", "utterances_per_speaker", "margin", "scale"]
VARIANT = ["EER", "from", "to", "difference", "at least", "at most"]
JUDGED = ["seed", *SETTINGS, "backend", "training_speakers", "other_settings"]
PRINTED = {"rate": "EER (%)", "low": "from", "high": "to"}
PRINTED |= {"seed_sd": "spread over seeds (%)", "speaker_sd": "over speakers (%)"}
PRINTED |= {"min_dcf_0.01": "minDCF 0.01", "min_dcf_0.05": "minDCF 0.05", "cllr": "Cllr (bits)"}


def run_table(runs: pd.DataFrame, resamples: Mapping[str, Resamples]) -> pd.DataFrame:
    """Error rates and costs of every run with their intervals, the lowest EER first.

    Index run. Columns as in `comparisons.error_table` (of the EER, a fraction, mean over seeds);
    for each other measure <measure>, <measure>_low and <measure>_high (Cllr in bits, of the runs
    that are calibrated); the run's SETTINGS.
    """
    table = error_table(cells_by_run(runs, resamples["eer"])).rename_axis("run")
    for measure in MEASURES[1:]:
        known = runs.dropna(subset=measure)
        costs = error_table(cells_by_run(known, resamples[measure])) if len(known) else table[:0]
        names = {"rate": measure, "low": f"{measure}_low", "high": f"{measure}_high"}
        table = table.join(costs[list(names)].rename(columns=names))
    return table.join(runs.groupby("run")[SETTINGS].first()).sort_values("rate")


def printed_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row a run for readers: names in print, PRINTED.

    The spread over seeds (of one run) and over test speakers are standard deviations in per cent of
    the EER.
    """
    names = pd.Series(map(run_title, table.index, table["loss"]), table.index, name="run")
    rates = (100 * table[["rate", "low", "high", "seed_sd", "speaker_sd"]]).map("{:.2f}".format)
    costs = table.filter(MEASURES).map("{:.2f}".format)
    shown = pd.concat([names, rates, costs, table[["seeds", "trunk"]]], axis="columns")
    return shown.rename(columns=PRINTED).replace("nan", "")


def variant_table(runs: pd.DataFrame, variants: pd.DataFrame, resamples: Resamples) -> pd.DataFrame:
    """The experiments run by hand, each beside the run that it is a variant of.

    Parameters
    ----------
    runs, variants : DataFrame
        From `study.collect_experiments` and `study.collect_variants`.
    resamples : Resamples
        EERs of both.

    Returns
    -------
    DataFrame
        Index variants/<folder>; columns run (the parent), EER, from, to, difference (relative, from
        the parent's EER), at least, at most, on the same resampled speakers. Variants of runs that
        the study no longer has are left out.
    """
    variants = variants[variants["run"].isin(runs["run"])]
    names = pd.concat([runs["run"], variants.index.to_series()])
    cells = cells_by_run(names.to_frame("run"), resamples)
    rates = error_table(cells).loc[variants.index, ["rate", "low", "high"]]
    tests = paired_tests(cells, variants["run"].items())[["difference", "low", "high"]]
    rates.columns, tests.columns = VARIANT[:3], VARIANT[3:]
    return pd.concat([variants["run"], rates, tests.set_axis(variants.index)], axis="columns")


def det_table(
    runs: pd.DataFrame, table: pd.DataFrame, chosen: Collection[str], trials: str
) -> pd.DataFrame:
    """The DET curves of the runs in `chosen` and of what was not trained, the lowest EER first.

    Columns run (as in print), false_alarms, misses (%) and loss. Of the first seed, in the order of
    the EERs of all seeds.
    """
    firsts = runs.drop_duplicates("run").set_index("run").loc[table.index]
    firsts = firsts[firsts["loss"].isna() | firsts.index.isin(chosen)]
    common, scores = collect_scores(firsts, trials)
    parts = []
    for run, loss in firsts["loss"].items():
        points = 100 * det_points(scores[run], common["target"])
        part = pd.DataFrame(points, columns=["false_alarms", "misses"])
        parts.append(part.assign(run=run_title(run, loss), loss=loss))
    return pd.concat(parts)[["run", "false_alarms", "misses", "loss"]]


def curve_table(runs: pd.DataFrame) -> pd.DataFrame:
    """The training curves of all runs and seeds: run (as in print), seed, crops, loss, dev_eer (%).

    dev_eer is blank where it was not measured.
    """
    parts = []
    for row in runs[runs["loss"].notna()].itertuples():
        curve = pd.read_csv(row.folder / "model" / "curve.csv")
        curve["dev_eer"] = 100 * curve.get("dev_eer", np.nan)
        parts.append(curve.assign(run=run_title(row.run, row.loss), seed=row.seed))
    return pd.concat(parts)[["run", "seed", "crops", "loss", "dev_eer"]]


def at_the_common_budget(runs: pd.DataFrame) -> pd.DataFrame:
    """The trained runs on the number of training crops that most of them have seen."""
    trained = runs[runs["loss"].notna()]
    return trained[trained["crops"] == trained.drop_duplicates("run")["crops"].mode().iloc[0]]


def chosen_runs(trained: pd.DataFrame, keys: Sequence[str] = ("trunk", "loss")) -> pd.DataFrame:
    """The run that represents each loss on each trunk, or all runs alike in other columns.

    The run named as the loss, or its only run (tried 1); otherwise the run with the lowest mean
    EER on development speakers. The best of twelve settings is better by chance alone than the
    best of four, so `verdicts` compares losses only where as many were tried of each.

    Parameters
    ----------
    trained : DataFrame
        From `at_the_common_budget`.
    keys : sequence of str
        Columns, among them loss.

    Returns
    -------
    DataFrame
        The keys, run, eer_dev (mean over seeds) and tried (from how many). Where several runs are
        alike and have no development EER, none is there.
    """
    keys, alike = list(keys), {"sort": False, "dropna": False}
    runs = trained.groupby([*keys, "run"], as_index=False, **alike)["eer_dev"].mean()
    runs["tried"] = runs.groupby(keys, **alike)["run"].transform("size")
    runs.loc[runs["run"] == runs["loss"], "tried"] = 1
    best = runs.sort_values(["tried", "eer_dev"]).drop_duplicates(keys).sort_index()
    return best[(best["tried"] == 1) | best["eer_dev"].notna()]


def runs_to_judge(trained: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """The trained runs in the form of `verdicts`; `chosen` from `chosen_runs`."""
    tried = trained["run"].map(chosen.set_index("run")["tried"])
    alike = chosen_runs(trained, JUDGED[1:])  # but for the learning rate
    rates = trained["run"].map(alike.set_index("run")["tried"]).fillna(0).astype(int)
    judged = trained[JUDGED].assign(cell=trained["run"], chosen=tried.notna(), rates=rates)
    return judged.assign(tried=tried.fillna(1).astype(int))


def sentences(conclusions: pd.DataFrame) -> str:
    """The conclusions of `verdicts` as a Markdown list: claim, verdict, the numbers behind it."""
    lines = []
    for row in conclusions.itertuples():
        why = "; ".join(filter(None, [row.evidence, row.missing and f"needs {row.missing}"]))
        for loss in LOSSES:
            why = re.sub(rf"\b{loss}\b", look(loss).title, why)
        lines.append(f"- **{row.id}, {row.verdict}.** *{row.claim}* {why}.\n")
    return "".join(lines)


def varied(trained: pd.DataFrame, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of `run_table` of losses that were run with several values of some setting.

    Parameters
    ----------
    trained : DataFrame
        From `at_the_common_budget`.
    table : DataFrame

    Returns
    -------
    dict
        margin: losses with several margins and several scales (no schedules of the scale). loss:
        with several utterances of each speaker, in batches of equally many crops. Each has the
        columns comparison and size for `eer_by_size`, whose lines are named by the key. What the
        study does not vary is left out.
    """
    table = table[table.index.isin(trained["run"])]
    scales = table.assign(comparison=table["loss"], size=pd.to_numeric(table["scale"], "coerce"))
    scales = scales.dropna(subset=["margin", "size"]).astype({"margin": str})
    several = scales.groupby("loss")[["margin", "size"]].transform("nunique").gt(1)
    alike = table.groupby(["trunk", "loss", "batch", "crops"])["utterances_per_speaker"]
    utterances = table[alike.transform("nunique") > 1].assign(comparison="utterances")
    utterances["size"] = utterances["utterances_per_speaker"].astype(int)
    frames = {"margin": scales[several.all(axis=1)], "loss": utterances}
    return {name: frame.reset_index() for name, frame in frames.items() if len(frame)}

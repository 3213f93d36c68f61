"""What losses.ipynb shows: error rates with intervals, paired tests, conclusions, variants."""

import re
from collections.abc import Collection, Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from studylib.losses import LOSSES
from studylib.models.trunk_table import trunk_sizes
from studylib.reports.figures.style import look, per_cent, run_title
from studylib.reports.study import cells_by_run, collect_scores, read_manifest
from studylib.statistics.comparisons import error_table, paired_tests
from studylib.statistics.intervals import cells_of
from studylib.statistics.resampling import Resamples

COSTS = ("min_dcf_0.01", "min_dcf_0.05", "cllr")


def measured(runs: pd.DataFrame) -> list[str]:
    """The measures of a study; Cllr where any of its runs is calibrated."""
    return ["eer", *(COSTS if runs["cllr"].notna().any() else COSTS[:-1])]


def eer_table(runs: pd.DataFrame, resamples: Mapping[str, Resamples]) -> pd.DataFrame:
    """EER of every run with its interval, the best first.

    Index run. Columns as in `comparisons.error_table` (rate: a fraction, mean over seeds), loss and
    trunk; backend_<name>, the EER of every further back-end, means over seeds.
    """
    table = error_table(cells_by_run(runs, resamples["eer"])).rename_axis("run")
    table = table.join(runs.groupby("run")[["loss", "trunk"]].first())
    further = runs.filter(regex="^backend_").groupby(runs["run"]).mean()
    return table.join(further).sort_values("rate")


def cost_table(runs: pd.DataFrame, resamples: Mapping[str, Resamples]) -> pd.DataFrame:
    """Detection costs and Cllr (bits) of every run that has them, the best first.

    Columns measure, run, value (mean over seeds), low, high.
    """
    rows = dict.fromkeys(COSTS, runs) | {"cllr": runs[runs["cllr"].notna()]}
    tables = {
        measure: error_table(cells_by_run(rows[measure], resamples[measure])).sort_values("rate")
        for measure in COSTS
        if measure in resamples
    }
    table = pd.concat(tables, names=["measure", "run"]).rename(columns={"rate": "value"})
    return table[["value", "low", "high"]].reset_index()


def printed_table(table: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """One row a run for readers: per cent, names in print.

    The spread over seeds (of one run) and over test speakers are standard deviations in per cent of
    the EER.
    """
    names = {"min_dcf_0.01": "minDCF 0.01", "min_dcf_0.05": "minDCF 0.05", "cllr": "Cllr (bits)"}
    values = costs.pivot(index="run", columns="measure", values="value").rename(columns=names)
    shown = pd.DataFrame(index=table.index)
    shown["run"] = [run_title(run, loss) for run, loss in table["loss"].items()]
    if table["trunk"].nunique() > 1:
        shown["trunk"] = table["trunk"]
    shown["EER (%)"] = table["rate"].map(per_cent)
    shown["95 % interval"] = intervals_in_print(table)
    for column in table.filter(regex="^backend_"):
        shown[f"EER (%), {column.removeprefix('backend_')}"] = table[column].map(per_cent)
    for name in filter(values.__contains__, names.values()):
        shown[name] = values[name].map("{:.3f}".format)
    shown["seeds"] = table["seeds"]
    shown["spread over seeds (%)"] = (100 * table["seed_sd"]).map("{:.1f}".format)
    shown["over speakers (%)"] = (100 * table["speaker_sd"]).map("{:.1f}".format)
    return shown.replace("nan", "")


def intervals_in_print(table: pd.DataFrame) -> list[str]:
    ends = table[["low", "high"]].itertuples(index=False)
    return [f"{per_cent(low)} to {per_cent(high)}" for low, high in ends]


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
        Columns variant, run (the parent), seed, EER (%), 95 % interval, difference (%) from the
        parent's EER, its 95 % interval and p, on the same resampled speakers. Empty without
        variants; differences are blank where the study has no such run.
    """
    members = {run: list(group.index) for run, group in runs.groupby("run", sort=False)}
    cells = cells_of(resamples, members | {name: [name] for name in variants.index})
    table = error_table(cells).loc[variants.index].join(variants[["run", "seed", "folder"]])
    rows = []
    for row, interval in zip(table.itertuples(), intervals_in_print(table), strict=True):
        shown = {"variant": row.folder.name, "run": row.run, "seed": row.seed}
        shown |= {"EER (%)": per_cent(row.rate), "95 % interval": interval}
        if row.run in members:
            test = paired_tests(cells, [(row.Index, row.run)]).iloc[0]
            shown["difference (%)"] = f"{100 * test['difference']:+.1f}"
            shown["its interval"] = f"{100 * test['low']:+.1f} to {100 * test['high']:+.1f}"
            shown["p"] = f"{test['p']:.2g}"
        rows.append(shown)
    return pd.DataFrame(rows)


def paired_differences(
    runs: pd.DataFrame, table: pd.DataFrame, resamples: Resamples
) -> pd.DataFrame:
    """Tests of every two trained runs of `eer_table`, the better first: see `paired_tests`."""
    order = table.index[table["loss"].notna()]
    trained = cells_by_run(runs[runs["loss"].notna()], resamples)  # their seeds alone
    return paired_tests(trained, combinations(order, 2))


def first_seeds(
    runs: pd.DataFrame, table: pd.DataFrame, chosen: Collection[str], trials: str
) -> tuple[pd.DataFrame, dict[str, tuple[str | None, np.ndarray]]]:
    """What a DET figure shows: run -> (loss, scores) of the first seed, by the EER of all seeds.

    Of the runs in `chosen` and of what was not trained; and the trial list.
    """
    firsts = runs.drop_duplicates("run").set_index("run").loc[table.index]
    firsts = firsts[firsts["loss"].isna() | firsts.index.isin(chosen)]
    common, scores = collect_scores(firsts, trials)
    return common, {run: (firsts["loss"][run], scores[run]) for run in firsts.index}


def sentences(conclusions: pd.DataFrame) -> str:
    """The conclusions of `verdicts` as a Markdown list: claim, verdict, the numbers behind it."""
    lines = []
    for row in conclusions.itertuples():
        why = "; ".join(filter(None, [row.evidence, row.missing and f"needs {row.missing}"]))
        lines.append(f"- **{row.id}, {row.verdict}.** *{row.claim}* {_named_in_print(why)}.\n")
    return "".join(lines)


def _named_in_print(text: str) -> str:
    return re.sub(r"\w+", lambda word: look(word[0]).title if word[0] in LOSSES else word[0], text)


def trunk_costs(trained: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """What the trunks of the losses that were trained on several cost, beside the error rates.

    Columns run, those of `eer_table` and of `trunk_sizes`. Empty where each loss has one trunk.
    """
    several = trained[trained.groupby("loss")["trunk"].transform("nunique") > 1]
    sizes = {}
    for run in several.drop_duplicates("run").itertuples():
        trunk = read_manifest(run.folder)["settings"]["trunk"]
        sizes[run.run] = trunk_sizes(trunk["name"], trunk["parameters"])
    costs = pd.DataFrame.from_dict(sizes, orient="index").rename_axis("run")
    return table.join(costs, how="inner").reset_index()

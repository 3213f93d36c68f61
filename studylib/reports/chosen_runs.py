"""Which run stands for each loss, and what sets of runs differ in one number alone.

A fair comparison of losses chooses on development speakers only, with the same budget for every
setting of a loss.
"""

import pandas as pd

from studylib.errors import StudyError

JUDGED = ["loss", "seed", "crops", "trunk", "batch", "utterances_per_speaker", "training_speakers"]
JUDGED += ["backend", "other_settings", "margin", "scale"]


def at_the_common_budget(runs: pd.DataFrame) -> pd.DataFrame:
    """The trained runs on the number of training crops that most of them have seen."""
    trained = runs[runs["loss"].notna()]
    return trained[trained["crops"] == trained.drop_duplicates("run")["crops"].mode().iloc[0]]


def main_trunk(runs: pd.DataFrame) -> str | None:
    """The trunk on which losses are compared: of most runs. None where there is but one."""
    trunks = runs.drop_duplicates("run")["trunk"].dropna()
    return trunks.mode().iloc[0] if trunks.nunique() > 1 else None


def chosen_runs(trained: pd.DataFrame) -> pd.DataFrame:
    """The run that stands for each loss on each trunk.

    The run that bears the loss's name stands for it, and so does its only run (tried 1); otherwise
    the run with the lowest mean EER on development speakers. The best of twelve settings is better
    by luck alone than the best of four, so `verdicts` compares losses only where as many were
    tried of each.

    Parameters
    ----------
    trained : DataFrame
        From `at_the_common_budget`.

    Returns
    -------
    DataFrame
        Columns trunk, loss, run, tried (from how many) and eer_dev (mean over seeds; nan where
        nothing was scored on development trials). A loss of several settings without a development
        EER is left out.

    Raises
    ------
    StudyError
        If the settings of a loss have different numbers of seeds.
    """
    trained = trained.assign(eer_dev=trained.get("eer_dev", float("nan")))
    runs = trained.groupby(["trunk", "loss", "run"], as_index=False, sort=False).agg(
        eer_dev=("eer_dev", "mean"), seeds=("seed", "nunique")
    )
    rows = []
    for (trunk, loss), settings in runs.groupby(["trunk", "loss"], sort=False):
        own = settings[settings["run"] == loss]
        tried = 1 if len(own) else len(settings)
        if tried > 1 and settings["seeds"].nunique() > 1:
            counts = ", ".join(f"{row.run} {row.seeds}" for row in settings.itertuples())
            raise StudyError(f"{loss}: none is chosen, as the numbers of seeds differ: {counts}")
        best = own if len(own) else settings.sort_values("eer_dev", kind="stable")
        if tried == 1 or best["eer_dev"].notna().all():
            row = best.iloc[0]
            rows.append((trunk, loss, row["run"], tried, row["eer_dev"]))
    return pd.DataFrame(rows, columns=["trunk", "loss", "run", "tried", "eer_dev"])


def runs_to_judge(trained: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """The trained runs as `verdicts` wants them; `chosen` from `chosen_runs`."""
    tried = trained["run"].map(chosen.set_index("run")["tried"])
    return trained[JUDGED].assign(
        cell=trained["run"], chosen=tried.notna(), tried=tried.fillna(1).astype(int)
    )


def margins_and_scales(runs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The runs of the losses that were run with several margins and several scales.

    `runs` are trained, `table` has a row a run: rate, low, high. Columns of the result: loss,
    margin, scale (numbers, or texts for schedules), rate, low, high.
    """
    cells = runs.drop_duplicates("run").set_index("run").dropna(subset=["margin", "scale"])
    several = cells.groupby("loss")[["margin", "scale"]].transform("nunique").gt(1).all(axis=1)
    return cells.loc[several, ["loss", "margin", "scale"]].join(table[["rate", "low", "high"]])


def by_utterances(runs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The runs of the losses that were run with several utterances of each speaker in a batch.

    Batches hold equally many crops, or their size would be compared as well. Arguments as in
    `margins_and_scales`. By loss and size: columns comparison, run, loss, size (M), rate, low,
    high.
    """
    facts = runs.drop_duplicates("run").set_index("run")
    alike = facts.groupby(["trunk", "loss", "batch", "crops"], dropna=False)
    several = facts[alike["utterances_per_speaker"].transform("nunique") > 1]
    rows = several.rename(columns={"utterances_per_speaker": "size"})[["loss", "size"]]
    rows = rows.assign(comparison="utterances").astype({"size": int})
    rows = rows.join(table[["rate", "low", "high"]])
    return rows.rename_axis("run").reset_index().sort_values(["loss", "size"], ignore_index=True)

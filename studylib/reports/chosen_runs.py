"""Which settings of each loss were tried, and which of them stands for it.

A fair comparison of losses chooses on development speakers only, with the same budget for every
setting of a loss.
"""

from collections.abc import Collection

import pandas as pd

from studylib.errors import StudyError


def runs_to_judge(runs: pd.DataFrame, without: Collection[str] = ()) -> pd.DataFrame:
    """The trained runs as `verdicts` wants them, but for those named in `without`.

    A loss with several settings is represented by the run that bears its name, otherwise by the
    setting with the lowest mean EER on development speakers.
    """
    columns = ["loss", "seed", "crops", "trunk", "batch", "utterances_per_speaker"]
    columns += ["training_speakers", "backend", "other_settings"]
    columns += [name for name in ("margin", "scale") if name in runs]
    trained = _trained(runs, without)
    judged = trained[columns].assign(cell=trained["run"])
    chosen = chosen_settings(runs, without)
    return judged.assign(
        chosen=judged["cell"].isin(chosen["setting"]),
        tried=judged["cell"].map(chosen.set_index("setting")["tried"]).fillna(1).astype(int),
    )


def chosen_settings(runs: pd.DataFrame, without: Collection[str] = ()) -> pd.DataFrame:
    """The setting that stands for each loss on each trunk, of the runs not named in `without`.

    The run that bears the loss's name stands for it untuned (tried 1), and so does its only run.
    A loss of several settings is left out where nothing was scored on development trials.

    Returns
    -------
    DataFrame
        Columns trunk, loss, setting, tried (from how many), eer (on development trials, if tuned).
    """
    trained = _trained(runs, without)
    of_loss = trained.groupby(["trunk", "loss"])["run"]
    untuned = (trained["run"] == trained["loss"]) | (of_loss.transform("nunique") == 1)
    by_name = trained[untuned].groupby(["trunk", "loss"])["run"].first()
    parts = [by_name.rename("setting").reset_index().assign(tried=1)]
    known = pd.MultiIndex.from_frame(trained[["trunk", "loss"]]).isin(by_name.index)
    if "eer_dev" in trained:
        tuned = trained[~known].assign(trials="dev")
        tuned = tuned.assign(setting=tuned["run"], eer=tuned["eer_dev"])
        for trunk, of_trunk in tuned.groupby("trunk"):
            parts.append(best_on_development(of_trunk).reset_index().assign(trunk=trunk))
    return pd.concat(parts, ignore_index=True)


def best_on_development(development: pd.DataFrame) -> pd.DataFrame:
    """Pick each loss's best setting by its mean EER on development speakers.

    The best of twelve settings is better by luck alone than the best of four, so `verdicts`
    compares losses only where as many were tried of each.

    Parameters
    ----------
    development : DataFrame
        One row a training run: loss, setting (a name), seed, crops (seen in training), trials (the
        name of the list) and eer.

    Returns
    -------
    DataFrame
        Index loss; columns setting, eer (mean over its seeds) and tried (settings in all).

    Raises
    ------
    StudyError
        A missing column, a list other than development, or settings tried unequally: each needs as
        many seeds, on as many crops.
    """
    needed = ["loss", "setting", "seed", "crops", "trials", "eer"]
    if missing := [column for column in needed if column not in development]:
        raise StudyError(f"The table of development results lacks {', '.join(missing)}.")
    lists = sorted(set(development["trials"].astype(str)))
    if len(lists) != 1 or not lists[0].startswith("dev"):
        raise StudyError(
            f"Settings are chosen on one list of development trials (named dev...), not on "
            f"{', '.join(lists) or 'none'}."
        )
    if development.duplicated(["loss", "setting", "seed"]).any():
        raise StudyError("A run occurs twice in the table of development results.")
    runs = development.groupby(["loss", "setting"], sort=True)
    settings = runs.agg(eer=("eer", "mean"), seeds=("seed", "nunique"), crops=("crops", "sum"))
    if len(settings[["seeds", "crops"]].drop_duplicates()) > 1:
        told = "; ".join(
            f"{row.Index[1]} {row.seeds} runs, {row.crops:,.0f} crops"
            for row in settings.itertuples()
        )
        raise StudyError(f"The tuning budgets differ, so no setting is chosen: {told}.")
    settings = settings.reset_index().sort_values("eer", kind="stable")
    best = settings.groupby("loss")[["setting", "eer"]].first()
    return best.assign(tried=settings["loss"].value_counts())


def settings_grid(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean EER of every margin and scale of the losses that were run with several of both.

    Columns: loss, margin and scale (as text where one is a schedule), eer.
    """
    trained = runs[runs["margin"].notna() & runs["scale"].notna() & runs["loss"].notna()]
    several = trained.groupby("loss")[["margin", "scale"]].transform("nunique").gt(1).all(axis=1)
    cells = trained[several]
    for column in ("margin", "scale"):
        if cells[column].map(lambda value: isinstance(value, str)).any():
            cells = cells.astype({column: str})
    return cells.groupby(["loss", "margin", "scale"], as_index=False, sort=True)["eer"].mean()


def by_utterances(runs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Error rates of the losses that were run with several utterances of each speaker in a batch.

    Batches hold equally many crops, or their size would be compared as well.

    Parameters
    ----------
    runs : DataFrame
        From `collect_runs`.
    table : DataFrame
        From `comparisons.error_table`, by run.

    Returns
    -------
    DataFrame
        By loss and M: columns run, loss, size (M), rate, low, high.
    """
    facts = _trained(runs).drop_duplicates("run").set_index("run")
    alike = facts.groupby(["trunk", "loss", "batch", "crops"], dropna=False)
    several = facts[alike["utterances_per_speaker"].transform("nunique") > 1]
    rows = several.rename(columns={"utterances_per_speaker": "size"})[["loss", "size"]]
    rows = rows.astype({"size": int}).join(table[["rate", "low", "high"]])
    return rows.rename_axis("run").reset_index().sort_values(["loss", "size"], ignore_index=True)


def _trained(runs: pd.DataFrame, without: Collection[str] = ()) -> pd.DataFrame:
    return runs[runs["loss"].notna() & ~runs["run"].isin(without)]

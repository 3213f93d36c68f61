"""Does the ranking of losses depend on the trunk? Each trunk's losses, tested in pairs."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from studylib.files.atomic import read_json
from studylib.models.trunk_table import trunk_sizes
from studylib.reports.figures.style import look
from studylib.reports.losses import at_the_common_budget, chosen_runs
from studylib.reports.study import cells_by_run, read_manifest
from studylib.statistics.comparisons import error_table, paired_tests
from studylib.statistics.resampling import Resamples

IN_PRINT = {"equal_crops": "equal crops", "other_crops": "the crops of each trunk"}


def compare_trunks(
    runs: pd.DataFrame, resamples: Resamples
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The losses that several trunks share, at the common number of crops and at other numbers.

    Parameters
    ----------
    runs : DataFrame
        From `study.collect_experiments`. A trunk's run of a loss is chosen as in `chosen_runs`.
    resamples : Resamples
        Their EERs.

    Returns
    -------
    rates : DataFrame
        One row a comparison (of IN_PRINT), trunk and loss: these, run, crops, seconds of training
        (nan where not recorded), size (multiply-adds of 2 s), columns of `error_table`. Empty
        where two trunks do not share two losses.
    tests : DataFrame
        comparison, trunk, and `paired_tests` of every two losses on it; Holm's correction is over
        all rows.
    text : str
        Markdown: on how many trunks each loss of a pair is the better one. The interval is of this
        number on the resampled test speakers (percentiles; seeds are not resampled).
    """
    equal = at_the_common_budget(runs)
    other = runs[runs["loss"].notna()].drop(equal.index)
    parts = {name: chosen_runs(part) for name, part in zip(IN_PRINT, (equal, other), strict=True)}
    chosen = pd.concat(parts, names=["comparison", None]).reset_index("comparison")
    shared = chosen.groupby(["comparison", "loss"])["trunk"].transform("nunique") > 1
    chosen = chosen[shared]
    chosen = chosen[chosen.groupby(["comparison", "trunk"])["loss"].transform("nunique") > 1]
    if chosen.empty:
        return chosen, chosen, ""
    cells, firsts = cells_by_run(runs, resamples), runs.drop_duplicates("run").set_index("run")
    trunks = [read_manifest(path)["settings"]["trunk"] for path in firsts["folder"][chosen["run"]]]
    sizes = [trunk_sizes(trunk["name"], trunk["parameters"])["multiply_adds"] for trunk in trunks]
    seconds = [_seconds(path) for path in firsts["folder"][chosen["run"]]]
    rates = chosen.join(firsts["crops"], on="run").assign(seconds=seconds, size=sizes)
    keys, names = ["comparison", "trunk"], {"loss": "other_loss", "run": "other_run"}
    others = chosen[[*keys, *names]].rename(columns=names)
    pairs = chosen.merge(others, on=keys).query("loss < other_loss").reset_index(drop=True)
    found = paired_tests(cells, zip(pairs["run"], pairs["other_run"], strict=True))
    tests = pairs[[*keys, "loss", "other_loss"]].join(found)
    logs = dict(zip(cells.names, cells.speakers, strict=True))
    text = "".join(_sentences(tests, logs))
    return rates.join(error_table(cells), on="run"), tests, text


def _seconds(folder) -> float:
    path = folder.parents[1] / "timing" / f"{folder.name}.json"
    return read_json(path)["seconds"] if path.exists() else np.nan


def _sentences(tests: pd.DataFrame, logs: dict[str, np.ndarray]) -> Iterator[str]:
    for (where, *losses), rows in tests.groupby(["comparison", "loss", "other_loss"], sort=False):
        first, second = (look(loss).title for loss in losses)
        lower, sure = rows["difference"] < 0, rows["p_holm"] < 0.05
        differences = [logs[row.first] - logs[row.second] for row in rows.itertuples()]
        low, high = np.percentile((np.array(differences) < 0).sum(axis=0), [2.5, 97.5])
        better, worse = (lower & sure).sum(), (~lower & sure).sum()
        verdict = "depends" if better and worse else "is not shown to depend"
        yield (
            f"- At {IN_PRINT[where]}, {first} has a lower EER than {second} on {lower.sum()} of "
            f"{len(rows)} trunks [{low:.0f}, {high:.0f}]; after Holm's correction it is better on "
            f"{better} and worse on {worse}: their ranking {verdict} on the trunk.\n"
        )

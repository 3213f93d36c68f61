"""The conclusions of all studies that have a report: results/*/losses/verdicts.csv together."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from studylib.errors import StudyError
from studylib.files.atomic import read_json


def read_verdicts(results: Path) -> pd.DataFrame:
    """One row a study and conclusion: study, and the columns of `statistics.verdicts`.

    Parameters
    ----------
    results : Path
        The folder of all studies' results.

    Raises
    ------
    StudyError
        No study has a report.
    """
    files = {path.parts[-3]: path for path in sorted(results.glob("*/losses/verdicts.csv"))}
    if not files:
        raise StudyError(f"{results} has no losses/verdicts.csv of any study: run one first")
    texts = {"evidence": str, "side": str}
    tables = {study: pd.read_csv(path, dtype=texts) for study, path in files.items()}
    return pd.concat(tables, names=["study", None]).reset_index("study")


def study_table(results: Path, studies: Iterable[str]) -> pd.DataFrame:
    """One row a study: study, corpus, and trunk and training crops of most of its runs."""
    parts = []
    for study in studies:
        losses = results / study / "losses"
        runs = pd.read_csv(losses / "eer.csv").reindex(columns=["trunk", "crops"])
        corpus = read_json(losses / "manifest.json")["corpus"]
        parts.append(runs.mode().reindex([0]).assign(study=study, corpus=corpus))
    return pd.concat(parts)[["study", "corpus", "trunk", "crops"]]


def agreements(verdicts: pd.DataFrame) -> pd.DataFrame:
    """What holds everywhere and what does not: one row a conclusion, a column a kind of verdict.

    Cells name the studies.
    """
    kinds = verdicts.assign(verdict=verdicts["verdict"].str.split(",").str[0])
    rows = {"index": ["id", "claim"], "columns": "verdict", "values": "study"}
    return kinds.pivot_table(**rows, aggfunc=", ".join, fill_value="", sort=False)

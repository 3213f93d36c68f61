"""The conclusions of all studies that have a report: results/*/losses/verdicts.csv together."""

from pathlib import Path

import pandas as pd

from studylib.files.atomic import read_json
from studylib.statistics.conclusions import UNTESTED

DESCRIBED = ["trunk", "crops"]  # by the commonest value


def read_verdicts(results: Path) -> pd.DataFrame:
    """One row a study and conclusion: study, the columns of `statistics.verdicts`.

    Raises
    ------
    ValueError
        No study has a report.
    """
    files = {path.parent.parent.name: path for path in results.glob("*/losses/verdicts.csv")}
    tables = {study: pd.read_csv(files[study]) for study in sorted(files)}
    table = pd.concat(tables, names=["study", None]).reset_index("study")
    # Studies measured before this column existed state the side in the evidence.
    claimed = table["evidence"].str.extract(r"claimed (above|below)", expand=False)
    return table.assign(side=table.get("side", claimed).fillna(claimed))


def study_table(results: Path, studies: list[str]) -> pd.DataFrame:
    """One row a study: study, corpus, and trunk and training crops of most of its runs."""
    rows = []
    for study in studies:
        losses = results / study / "losses"
        runs = pd.read_csv(losses / "eer.csv").reindex(columns=["loss", *DESCRIBED]).dropna()
        common = {
            key: values.mode().iloc[0] for key, values in runs[DESCRIBED].items() if len(runs)
        }
        corpus = read_json(losses / "manifest.json").get("corpus")
        rows.append({"study": study, "corpus": corpus} | common)
    return pd.DataFrame(rows)


def verdict_words(verdicts: pd.DataFrame) -> pd.DataFrame:
    """One row a conclusion, one column a study: verdict, effect and 95 % interval (%)."""
    effects = (100 * verdicts[["effect", "low", "high"]]).map("{:+.1f}".format)
    numbers = effects["effect"] + " % [" + effects["low"] + ", " + effects["high"] + "]"
    cells = verdicts["verdict"] + numbers.radd(": ").where(verdicts["effect"].notna(), "")
    cells = verdicts.assign(cell=cells).pivot(index="id", columns="study", values="cell")
    return cells.loc[verdicts["id"].unique()]


def agreements(verdicts: pd.DataFrame) -> str:
    """What holds everywhere and what does not, one Markdown line a conclusion."""
    lines = []
    kinds = verdicts["verdict"].str.split(",").str[0]
    for (id, claim), part in verdicts.assign(kind=kinds).groupby(["id", "claim"], sort=False):
        tested = part[part["kind"] != UNTESTED]
        found = [
            f"{kind} in {len(rows)} ({', '.join(rows['study'])})"
            for kind, rows in tested.groupby("kind")
        ]
        words = "; ".join(found) or UNTESTED
        lines.append(f"- **{id}** *{claim}* Of {len(tested)} studies that test it: {words}.\n")
    return "".join(lines)

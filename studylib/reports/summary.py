"""The conclusions of all studies that have a report: results/*/losses/verdicts.csv together."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from studylib.errors import StudyError
from studylib.files.atomic import read_json
from studylib.statistics.conclusions import UNTESTED

DESCRIBED = ["trunk", "crops"]  # by the commonest value


def read_verdicts(results: Path, studies: Sequence[str] | None = None) -> pd.DataFrame:
    """One row a study and conclusion: study, and the columns of `statistics.verdicts`.

    Parameters
    ----------
    results : Path
        The folder of all studies' results.
    studies : sequence of str, optional
        Their order; unless given, all that have a report, by name.

    Raises
    ------
    StudyError
        A study without a report, or no report at all.
    """
    files = {path.parts[-3]: path for path in sorted(results.glob("*/losses/verdicts.csv"))}
    if missing := set(studies or ["any study"] * (not files)) - set(files):
        raise StudyError(f"{results} has no losses/verdicts.csv of {', '.join(sorted(missing))}")
    texts = {"evidence": str, "side": str}
    tables = {study: pd.read_csv(files[study], dtype=texts) for study in studies or files}
    table = pd.concat(tables, names=["study", None]).reset_index("study")
    # Reports older than this column state the side in the evidence.
    claimed = table["evidence"].str.extract(r"claimed (above|below)", expand=False)
    return table.assign(side=table.get("side", claimed).where(lambda side: side.notna(), claimed))


def study_table(results: Path, studies: Iterable[str]) -> pd.DataFrame:
    """One row a study: study, corpus, and trunk and training crops of most of its runs."""
    rows = []
    for study in studies:
        losses = results / study / "losses"
        runs = pd.read_csv(losses / "eer.csv").reindex(columns=["loss", *DESCRIBED]).dropna()
        common = {
            key: values.mode().iloc[0] for key, values in runs[DESCRIBED].items() if len(runs)
        }
        rows.append({"study": study, "corpus": read_json(losses / "manifest.json")["corpus"]})
        rows[-1] |= common
    return pd.DataFrame(rows)


def verdict_words(verdicts: pd.DataFrame) -> pd.DataFrame:
    """One row a conclusion, one column a study: verdict, effect and 95 % interval (%)."""
    effects = (100 * verdicts[["effect", "low", "high"]]).map("{:+.1f}".format)
    numbers = effects["effect"] + " % [" + effects["low"] + ", " + effects["high"] + "]"
    cells = verdicts["verdict"] + numbers.radd(": ").where(verdicts["verdict"] != UNTESTED, "")
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

"""What a report leaves behind: tables, figures and where its numbers come from, in one folder."""

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from studylib.files.atomic import atomic_folder, write_json
from studylib.files.paths import project_root
from studylib.reports.figures.style import save_figure
from studylib.reports.study import Study, read_manifest


def write_report(
    out: str,
    study: Study,
    runs: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Figure | None],
) -> None:
    """Write the folder `out` whole, in place of the old one; nothing where `out` is empty.

    Parameters
    ----------
    out : str
        From the project's root.
    study : Study
    runs : DataFrame
        The experiments that the report read.
    tables : name -> DataFrame
        <name>.csv (all digits) and <name>.md.
    figures : name -> Figure
        <name>.png and <name>.pdf; None is left out.
    """
    if not out:
        return
    manifests = {name: read_manifest(folder) for name, folder in runs["folder"].items()}
    machines = {json.dumps(each["machine"]): each["machine"] for each in manifests.values()}
    sources = {
        "study": study.name,
        "corpus": study.corpus,
        "settings": study.settings,
        "experiments": {name: each["digests"] for name, each in manifests.items()},
        "machines": list(machines.values()),
    }
    with atomic_folder(project_root() / out) as folder:
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False)
            (folder / f"{name}.md").write_text(markdown(table), encoding="utf-8")
        for name, figure in figures.items():
            if figure is not None:
                save_figure(figure, folder, name)
        write_json(folder / "manifest.json", sources)


def markdown(table: pd.DataFrame) -> str:
    """A Markdown table; numbers with up to three decimals."""

    def show(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.3f}".rstrip("0").rstrip(".")
        return "" if value is None else str(value)

    rows = [[show(value) for value in row] for row in table.itertuples(index=False)]
    lines = [list(table.columns), ["---"] * table.shape[1], *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)

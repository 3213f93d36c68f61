"""The output of a report in one folder: tables, figures and the sources of its numbers."""

from collections.abc import Mapping

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
        <name>.csv, numbers with six digits.
    figures : name -> Figure
        <name>.png and <name>.pdf; None is left out.
    """
    if not out:
        return
    digests = {name: read_manifest(folder)["digests"] for name, folder in runs["folder"].items()}
    sources = {"study": study.name, "corpus": study.corpus, "settings": study.settings}
    with atomic_folder(project_root() / out) as folder:
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        for name, figure in figures.items():
            if figure is not None:
                save_figure(figure, folder, name)
        write_json(folder / "manifest.json", sources | {"experiments": digests})

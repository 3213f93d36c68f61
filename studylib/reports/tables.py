"""The output of a report in one folder: tables, figures and the sources of its numbers."""

from collections.abc import Mapping
from typing import Any

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
    """Write the report on the experiments `runs` of a study: see `write_folder`."""
    digests = {name: read_manifest(folder)["digests"] for name, folder in runs["folder"].items()}
    sources = {"study": study.name, "corpus": study.corpus, "settings": study.settings}
    write_folder(out, tables, figures, sources | {"experiments": digests})


def write_folder(
    out: str,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Figure | None],
    sources: Mapping[str, Any],
) -> None:
    """Write the folder `out` whole, in place of the old one; nothing where `out` is empty.

    Parameters
    ----------
    out : str
        From the project's root.
    tables : name -> DataFrame
        <name>.csv, numbers with six digits.
    figures : name -> Figure
        <name>.png, <name>.pdf and <name>.svg; None is left out.
    sources : mapping
        manifest.json: what the numbers come from.
    """
    if not out:
        return
    with atomic_folder(project_root() / out) as folder:
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        for name, figure in figures.items():
            if figure is not None:
                save_figure(figure, folder, name)
        write_json(folder / "manifest.json", sources)

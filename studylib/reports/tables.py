"""The output of a report in one folder: tables, figures and the sources of its numbers."""

import pandas as pd
from matplotlib.figure import Figure

from studylib.files.atomic import atomic_folder, write_json
from studylib.files.paths import project_root
from studylib.reports.figures.style import save_figure


def write_report(
    out: str, tables: dict[str, pd.DataFrame], figures: dict[str, Figure | None], sources: dict
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
    sources : dict
        manifest.json: what the numbers come from, as `Study.sources` gives it.
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

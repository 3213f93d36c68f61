"""A study's page, results/<study>/index.html: headline, conclusions, links to all it has made.

The page and the executed notebooks beside it (html/) hold their own style and need no network.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from string import Template

import pandas as pd
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html

from studylib.errors import StudyError
from studylib.files.atomic import atomic_file, atomic_folder
from studylib.reports.losses import sentences

LINKED = {".html", ".csv", ".png", ".pdf", ".svg"}
HEAD = Template(Path(__file__).with_suffix(".html").read_text("utf-8"))


def write_page(folder: Path) -> None:
    """Write index.html and html/<notebook>.html of the results of one study.

    Parameters
    ----------
    folder : Path
        results/<study>: losses/, executed notebooks in notebooks/, and other reports.

    Raises
    ------
    StudyError
        The losses have no report yet.
    """
    losses = folder / "losses"
    if not (losses / "table.csv").exists():
        raise StudyError(f"{losses} holds no report: run `studylib notebook losses` first")
    exporter = HTMLExporter(template_name="basic")
    with atomic_folder(folder / "html") as html:
        for notebook in sorted(folder.glob("notebooks/**/*.ipynb")):
            page = notebook.relative_to(folder / "notebooks").with_suffix(".html")
            (html / page).parent.mkdir(exist_ok=True)
            body, _ = exporter.from_filename(str(notebook))
            (html / page).write_text(HEAD.substitute(title=notebook.stem) + body, encoding="utf-8")
    table = pd.read_csv(losses / "table.csv", dtype=str, keep_default_na=False)
    conclusions = pd.read_csv(losses / "verdicts.csv").fillna({"evidence": "", "missing": ""})
    parts = [
        f"# The study {folder.name}: which loss has the lowest error rate?",
        "![Equal error rates with intervals](losses/eer.png)",
        table.to_html(index=False, border=0),
        "## The papers' conclusions, tested here",
        sentences(conclusions),
        "![Conclusions with intervals](losses/verdicts.png)",
        "## Figures, tables and executed notebooks",
        *_links(folder),
    ]
    with atomic_file(folder / "index.html") as partial:
        body = markdown2html("\n\n".join(parts))
        partial.write_text(HEAD.substitute(title=folder.name) + body, encoding="utf-8")


def _links(folder: Path) -> Iterator[str]:
    """One line a folder: links to its pages, tables and figures."""
    files = [*folder.glob("*/*"), *folder.glob("html/*/*")]
    shown = sorted(path.relative_to(folder) for path in files if path.suffix in LINKED)
    for report, paths in groupby(shown, lambda path: path.parent):
        yield f"**{report}**: " + " · ".join(f"[{path.name}]({path})" for path in paths)

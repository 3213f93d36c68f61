"""A study's page leads to what the study has made; the summary says what all studies found."""

import re

import nbformat
import numpy as np
import pandas as pd
import pytest

from studylib.errors import StudyError
from studylib.files.atomic import write_json
from studylib.reports.figures.results import verdict_grid
from studylib.reports.page import write_page
from studylib.reports.summary import agreements, read_verdicts

CLAIMS = {"id": ["B3", "B4"], "claim": ["GE2E beats triplet.", "Angular is the best."]}
NUMBERS = {"effect": [-0.2, np.nan], "low": [-0.3, np.nan], "high": [-0.1, np.nan]}
NUMBERS |= {"claimed": [0.0, np.nan], "missing": ["", "runs"]}
EVIDENCE = {"evidence": ["ge2e against angular_prototypical: -20 %, claimed below +0 %", ""]}


@pytest.fixture
def results(tmp_path):
    """Two studies with a report each."""
    table = pd.DataFrame(CLAIMS | NUMBERS | EVIDENCE)
    for study, verdict in (("a", "supported"), ("b", "undecided, one seed")):
        losses = tmp_path / study / "losses"
        losses.mkdir(parents=True)
        verdicts = table.assign(verdict=[verdict, "not tested here"])
        verdicts.assign(side="below").to_csv(losses / "verdicts.csv", index=False)
        printed = pd.DataFrame({"run": ["GE2E"], "EER (%)": ["2.10"]})
        printed.to_csv(losses / "table.csv", index=False)
        write_json(losses / "manifest.json", {})
    return tmp_path


def test_every_link_of_the_page_leads_to_a_file_and_nothing_comes_from_a_network(results):
    study = results / "a"
    for name in ("losses/eer", "losses/verdicts"):
        for kind in ("png", "pdf", "svg"):
            (study / f"{name}.{kind}").touch()
    cells = [nbformat.v4.new_markdown_cell("# A question"), nbformat.v4.new_code_cell("1 + 1")]
    for name in ("losses", "experiment/ge2e-0"):
        path = study / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    write_page(study)
    pages = [study / "index.html", *study.glob("html/**/*.html")]
    assert len(pages) == 3
    for page in pages:
        text = page.read_text()
        assert "width=device-width" in text
        for link in re.findall(r'(?:href|src)="([^"#]+)', text):
            assert (page.parent / link).exists(), link
    index = pages[0].read_text()
    assert "GE2E against Angular prototypical: -20 %" in index
    assert "needs runs" in index
    assert "2.10" in index
    linked = {"losses/eer.svg", "losses/table.csv", "html/experiment/ge2e-0.html"}
    assert linked <= set(re.findall('href="([^"]+)', index))
    (study / "losses" / "table.csv").unlink()
    with pytest.raises(StudyError, match="studylib notebook losses"):
        write_page(study)


def test_the_summary_has_a_row_a_conclusion_and_a_column_a_study(results):
    verdicts = read_verdicts(results)
    assert verdicts["side"][verdicts["id"] == "B3"].tolist() == ["below", "below"]
    table = agreements(verdicts).droplevel("claim")
    assert table.loc["B3", ["supported", "undecided", "not tested here"]].tolist() == ["a", "b", ""]
    assert table.loc["B4", "not tested here"] == "a, b"
    first, second = verdict_grid(verdicts).axes
    assert (first.get_title(), second.get_title()) == ("a", "b")
    assert first.texts[0].get_text() == "supported\n-20 % [-30, -10]"
    with pytest.raises(StudyError, match=r"no losses/verdicts\.csv of any study"):
        read_verdicts(results / "a")

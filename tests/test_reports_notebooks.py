"""The report notebooks run as often as one likes, and write only where `out` says."""

import matplotlib
import nbformat
import pytest
from made_up_study import RUNS, write_study

from studylib.errors import StudyError
from studylib.files.paths import project_root

matplotlib.use("Agg")
NOTEBOOKS = project_root() / "notebooks"
SIZES = {
    f"ge2e_batch{2 * speakers}": {
        "loss": {"name": "ge2e"},
        "train": {"speakers_per_batch": speakers},
        "noise": 0.7,
    }
    for speakers in (10, 20)
}
SETTINGS = {"batch_size": {"equal_crops": list(SIZES)}}


def run_all(name: str, names: dict, parameters: str) -> None:
    """Run all cells as a kernel does that papermill has given parameters."""
    for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            injected = "parameters" in cell.metadata.get("tags", [])
            for source in [cell.source, *[f"# Parameters\n{parameters}"] * injected]:
                names["In"].append(source)
                exec(source, names)


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_study(tmp_path, RUNS | SIZES, settings=SETTINGS)


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("losses", {"eer.csv", "verdicts.csv", "table.md", "det.png", "differences.pdf"}),
        ("batch_size", {"eer.csv", "ends.csv", "eer_by_batch.png"}),
    ],
)
def test_all_cells_run_twice_with_a_user_s_variables_and_write_only_where_out_says(
    study, name, written
):
    names = {"In": [], "x": 3, "facts": {}, "margin": 1}
    out = f"out = 'results/made_up/{name}'\nn_resamples = 20"
    run_all(name, names, out)
    report = study / name
    assert written <= {path.name for path in report.iterdir()}
    before = content(study)
    run_all(name, names, "n_resamples = 10")  # by hand: nothing is written
    assert content(study) == before
    with pytest.raises(StudyError, match="unknown parameter 'resamples'"):
        run_all(name, names, "resamples = 10")

"""The report notebooks run as often as one likes, and write only where `out` says."""

import matplotlib
import nbformat
import pytest
from made_up_study import RUNS, write_study

from studylib.errors import StudyError
from studylib.files.paths import project_root
from studylib.models.embedder import Embedder, save_model

matplotlib.use("Agg")
NOTEBOOKS = project_root() / "notebooks"
GE2E = {"loss": {"name": "ge2e"}, "noise": 0.7}
SIZES = {"ge2e": GE2E, "ge2e_large": GE2E | {"train": {"speakers_per_batch": 20}}}
ROBUSTNESS = "runs = ['softmax', 'untrained']; lengths = [0.5, 1]; snrs = [0]"
ROBUSTNESS += "; reverberations = [0.3]; n_speakers = 4; n_utterances = 2; n_resamples = 10"
REPORTS = [
    ("losses", "n_resamples = 20", "eer.csv verdicts.csv table.csv det.png differences.pdf"),
    ("batch_size", "n_resamples = 20", "eer.csv ends.csv eer_by_batch.png"),
    ("corpus", "seconds = 1.0", "splits.csv voices.png sessions.pdf"),
    ("embeddings", "n_utterances = 3", "explorer.html metadata.tsv coordinates.csv"),
    ("robustness", ROBUSTNESS, "rates.csv growth.csv added_noise.png order.csv"),
]


def run_all(name: str, names: dict, parameters: str) -> None:
    """Run all cells as a kernel does that papermill has given parameters."""
    for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            injected = "parameters" in cell.metadata.get("tags", [])
            for source in [cell.source, *[f"# Parameters\n{parameters}"] * injected]:
                names["In"].append(source)
                exec(source, names)


@pytest.fixture
def study(tmp_path, monkeypatch, tiny_corpus):
    """A made-up study, with a corpus and untrained models."""
    monkeypatch.chdir(tmp_path)
    folder = write_study(tmp_path, RUNS | SIZES)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "c").symlink_to(tiny_corpus.folder)
    model = Embedder("compact_tdnn", {"embedding_dim": 16, "channels": 8})
    for run in RUNS:
        path = folder / "experiment" / f"{run}-0" / "model" / "model.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_model(model, path, scoring="cosine")
    return folder


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("name", "own", "written"), REPORTS)
def test_all_cells_run_twice_with_a_user_s_variables_and_write_only_where_out_says(
    study, name, own, written
):
    names = {"In": [], "x": 3, "facts": {}, "margin": 1}
    run_all(name, names, f"out = 'results/made_up/{name}'\n{own}")
    assert set(written.split()) <= {path.name for path in (study / name).iterdir()}
    before = content(study)
    run_all(name, names, own)  # by hand: nothing is written
    assert content(study) == before
    with pytest.raises(StudyError, match="unknown parameter 'resamples'"):
        run_all(name, names, "resamples = 10")
    matplotlib.pyplot.close("all")


def test_a_study_of_one_run_has_empty_comparisons(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    study = write_study(tmp_path, {"softmax": RUNS["softmax"]}, seeds=(0,), baselines=())
    run_all("losses", {"In": []}, "out = 'results/made_up/losses'\nn_resamples = 10")
    assert (study / "losses" / "eer.png").exists()
    assert not (study / "losses" / "differences.png").exists()
    run_all("summary", {"In": []}, "out = 'results/summary'")
    names = {path.name for path in (tmp_path / "results" / "summary").iterdir()}
    assert names >= {"verdicts.csv", "studies.csv", "verdicts.png", "verdicts.svg"}
    run_all("batch_size", {"In": []}, "out = 'results/made_up/batch_size'")
    assert "No runs of made_up differ" in capsys.readouterr().out
    assert {path.name for path in (study / "batch_size").glob("*.csv")} == {"eer.csv", "ends.csv"}

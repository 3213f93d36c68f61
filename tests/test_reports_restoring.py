"""A study opened again from its first seeds: nearly the same scores, and every report runs."""

import json

import matplotlib
import numpy as np
import pytest
from made_up_study import write_study
from test_reports_notebooks import run_all

from studylib.errors import StudyError
from studylib.evaluation.scores import trial_scores
from studylib.files.tables import read_parquet
from studylib.reports.restoring import keep_first_seeds, restore
from studylib.reports.study import read_study

matplotlib.use("Agg")
RUNS = {
    "softmax": {"loss": {"name": "softmax"}, "noise": 0.8},
    "prototypical": {"loss": {"name": "prototypical"}, "noise": 0.7},
}


def test_a_restored_study_has_nearly_the_measured_scores_and_its_reports_run(tmp_path, monkeypatch):
    study = write_study(tmp_path, RUNS)
    folder = study / "experiment" / "prototypical-0"
    details = json.loads((folder / "details.json").read_text())
    (folder / "details.json").write_text(json.dumps(details | {"scoring": "euclidean"}))
    (study / "embeddings").mkdir()
    keep_first_seeds(read_study(tmp_path, "", "embeddings"), study / "embeddings")
    with pytest.raises(StudyError, match=r"other/embeddings/first_seeds\S* does not exist"):
        restore(tmp_path, "other")
    restored = restore(tmp_path, "made_up")
    assert restored == tmp_path / "results" / "made_up_restored"
    assert not list(restored.glob("experiment/*-1"))
    for name, scoring in (("softmax-0", "cosine"), ("prototypical-0", "euclidean")):
        scores = read_parquet(restored / "experiment" / name / "scores" / "test.parquet")
        crops = np.load(study / "experiment" / name / "embeddings.npy")
        measured = trial_scores(crops, scores["first"], scores["second"], scoring=scoring)
        assert np.abs(scores["score"] - measured).max() < 0.03 * measured.std()  # 16 dimensions
    monkeypatch.chdir(tmp_path)
    for report in ("losses", "batch_size", "embeddings"):
        run_all(report, {"In": []}, "study = 'made_up_restored'")
    matplotlib.pyplot.close("all")

"""A study's first seeds, opened as a study: the measured scores, and every report runs."""

import matplotlib
import numpy as np
from made_up_study import write_study
from test_reports_notebooks import run_all

from studylib.files.tables import read_parquet
from studylib.reports.first_seeds import keep_first_seeds
from studylib.reports.study import collect_experiments, collect_scores, read_study

matplotlib.use("Agg")


def test_the_first_seeds_are_a_study_with_the_measured_scores_and_its_reports_run(
    tmp_path, monkeypatch
):
    study = write_study(tmp_path)
    kept = study / "embeddings" / "first_seeds"
    keep_first_seeds(read_study(tmp_path, "", "embeddings"), kept)
    runs = collect_experiments(read_study(tmp_path, "made_up/embeddings/first_seeds", "losses"))
    assert set(runs["seed"]) == {0}
    _, scores = collect_scores(runs, "test")
    for name, ours in scores.items():
        measured = read_parquet(study / "experiment" / name / "scores" / "test.parquet")["score"]
        np.testing.assert_allclose(ours, measured, rtol=2**-10, atol=1e-6)
    monkeypatch.chdir(tmp_path)
    for report in ("losses", "batch_size", "embeddings"):
        run_all(report, {"In": []}, "study = 'made_up/embeddings/first_seeds'")
    matplotlib.pyplot.close("all")

"""Embeddings of several runs: the same utterances in all, and maps of them."""

import numpy as np
import pandas as pd
import pytest
from made_up_study import UTTERANCES, write_study

from studylib.errors import StudyError
from studylib.reports.embeddings import Embeddings, embedding_map, read_embeddings
from studylib.reports.study import read_study, some_utterances

RUNS = ["logmel_whitened", "aam_softmax", "untrained"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    write_study(root)
    return read_study(root, "", "embeddings")


@pytest.fixture(scope="module")
def embeddings(study):
    return read_embeddings(study, RUNS, [1])


def test_a_vector_is_the_unit_mean_of_unit_crops_and_runs_keep_their_order(study, embeddings):
    crops = np.load(study.experiment("aam_softmax", 1) / "embeddings.npy").astype(np.float64)
    for vector, two in zip(embeddings.vectors["aam_softmax-1"], crops, strict=True):
        mean = sum(crop / np.linalg.norm(crop) for crop in two) / 2
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), rtol=1e-12)
    table = embeddings.runs
    assert list(table.index) == list(embeddings.vectors)
    assert list(table["run"]) == RUNS
    assert list(table["seed"]) == [0, 1, 1]
    assert list(table["loss"]) == [None, "aam_softmax", None]


def test_runs_of_different_utterances_are_not_compared(tmp_path):
    folder = write_study(tmp_path) / "experiment" / "triplet-0" / "utterances.parquet"
    pd.read_parquet(folder).assign(id="other").to_parquet(folder)
    with pytest.raises(StudyError, match=r"triplet-0 holds other utterances than .*softmax"):
        read_embeddings(read_study(tmp_path, "", "embeddings"), ["softmax", "triplet"], [0])


def test_the_choice_of_utterances_keeps_to_its_limits():
    names = [f"{split}-{s}" for split in ("dev", "test") for s in range(6) for _ in range(5)]
    table = pd.DataFrame({"speaker": names, "split": [name[:-2] for name in names]})
    table.index += 100
    rows = some_utterances(table, "test", n_speakers=4, n_utterances=3)
    assert list(rows) == sorted(set(rows))
    assert set(table.iloc[rows]["split"]) == {"test"}
    assert list(table.iloc[rows]["speaker"].value_counts()) == [3, 3, 3, 3]
    with pytest.raises(StudyError, match=r"'train' .*expected dev, test"):
        some_utterances(table, "train", 4, 3)


def test_a_map_has_a_row_an_utterance_and_run_and_resembles_the_first(embeddings):
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))
    vectors = embeddings.vectors["aam_softmax-1"]
    two = {"one": vectors, "mirrored": -vectors @ turn}
    runs = pd.DataFrame({"loss": [None, "triplet"], "eer": [0.1, 0.2]}, index=list(two))
    maps = embedding_map(Embeddings(embeddings.utterances, runs, two), "pca")
    one, mirrored = (maps[maps["run"] == run] for run in two)
    assert list(one["id"]) == list(mirrored["id"]) == list(embeddings.utterances["id"])
    np.testing.assert_allclose(one[["x", "y"]], mirrored[["x", "y"]], atol=1e-9)
    centred = vectors - vectors.mean(axis=0)
    variances = np.linalg.eigvalsh(centred.T @ centred)[::-1]
    np.testing.assert_allclose(np.square(one[["x", "y"]]).sum(), variances[:2])


def test_a_map_by_neighbours_puts_speakers_of_clear_clusters_together(embeddings):
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(16, 16)), UTTERANCES, axis=0)
    vectors = centres + 0.01 * rng.normal(size=centres.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    one = Embeddings(embeddings.utterances, embeddings.runs.iloc[:1], {"one": vectors})
    points = embedding_map(one, "tsne")[["x", "y"]].to_numpy()
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = embeddings.utterances["speaker"].to_numpy()[distances.argmin(axis=1)]
    assert np.mean(nearest == embeddings.utterances["speaker"]) > 0.95

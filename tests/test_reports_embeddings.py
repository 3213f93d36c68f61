"""Embeddings of several runs: maps, what the explorer says pair by pair, and its page."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
import soundfile
from made_up_study import UTTERANCES, write_study

from studylib.errors import StudyError
from studylib.files.atomic import read_json, write_json
from studylib.reports import embeddings as report
from studylib.reports.embeddings import Embeddings, embedding_map, read_embeddings
from studylib.reports.experiment import disagreements
from studylib.reports.explorer_page import explorer_page, frame
from studylib.reports.study import read_study, some_utterances

RUNS = ["logmel_whitened", "aam_softmax", "untrained"]
EVERY = ("test", (200, 10))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    write_study(root)
    return read_study(root, "", "embeddings")


@pytest.fixture(scope="module")
def embeddings(study):
    return read_embeddings(study, RUNS, [1], *EVERY)


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
        read_embeddings(read_study(tmp_path, "", "embeddings"), ["softmax", "triplet"], [0], *EVERY)


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
    maps = embedding_map(Embeddings(embeddings.utterances, embeddings.runs, two), "pca")
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


def test_two_runs_disagree_where_one_is_wrong_at_its_own_threshold():
    trials = pd.DataFrame({"target": [True] * 3 + [False] * 3, "first": 0, "second": range(6)})
    trials = trials.assign(first_speaker="a", second_speaker="b")
    right, wrong = np.array([0.9, 0.8, 0.7, 0.3, 0.2, 0.1]), np.array([9.0, 7, 2, 8, 1, 0])
    rows = disagreements(trials, wrong, right)
    assert sorted(rows["second"]) == [2, 3]
    assert disagreements(trials, right, wrong).empty


def test_cosines_of_an_utterance_equal_their_definition_speaker_by_speaker(embeddings):
    speakers = embeddings.utterances["speaker"].to_numpy()
    for run, table in report.utterance_tables(embeddings).items():
        vectors = embeddings.vectors[run]
        for row in (0, 5, 63):
            means = {}
            for speaker in np.unique(speakers):
                others = (speakers == speaker) & (np.arange(len(speakers)) != row)
                means[speaker] = np.mean(vectors[others] @ vectors[row])
            own, other, nearest, *neighbours = table.loc[row]
            assert own == pytest.approx(means.pop(speakers[row]))
            assert other == pytest.approx(max(means.values()))
            assert nearest == max(means, key=means.get)
            distances = np.linalg.norm(vectors - vectors[row], axis=1)
            assert neighbours == list(np.argsort(distances)[1:6])


def test_the_pair_of_speakers_that_a_run_mixes_up_and_a_moved_utterance_come_first(embeddings):
    vectors = embeddings.vectors["aam_softmax-1"].copy()
    vectors[12:16] = vectors[28:32]  # speakers 3 and 7
    vectors[0] = -vectors[0]
    moved = embeddings.vectors | {"aam_softmax-1": vectors}
    mixed = Embeddings(embeddings.utterances, embeddings.runs, moved)
    found = report.findings(mixed, report.utterance_tables(mixed))
    found = found.set_index(["kind", "run", "right"]).sort_index()
    worst = found.loc["speakers", "aam_softmax-1", ""].iloc[0]
    assert worst["what"] == "test-0003 and test-0007"
    assert "% of 16 pairs of utterances accepted" in worst["numbers"]
    assert {worst["first"] // 4, worst["second"] // 4} == {3, 7}
    assert found.loc["outliers", "aam_softmax-1", ""].iloc[0]["what"] == "test-0000/0"
    rows = found.loc["differences", "untrained-1", "aam_softmax-1"]
    cosines = [float(text.split()[-1]) for text in rows["numbers"]]
    expected = [vectors[row.first] @ vectors[row.second] for row in rows.itertuples()]
    assert cosines == pytest.approx(expected, abs=0.0051)


def test_a_page_holds_its_scripts_and_sound_and_names_nothing_on_the_network(
    embeddings, tiny_corpus, tmp_path
):
    table = tiny_corpus.utterances.query("split == 'test'").iloc[:20].reset_index(drop=True)
    vectors = {run: vectors[:20] for run, vectors in embeddings.vectors.items()}
    manifest = read_json(embeddings.runs["folder"].iloc[0] / "manifest.json")
    write_json(tmp_path / "manifest.json", manifest)
    heard = Embeddings(table, embeddings.runs.assign(folder=tmp_path), vectors)
    assert report.sounds(heard, tiny_corpus.folder) == report.sounds(heard, tmp_path) == []
    write_json(tmp_path / "manifest.json", manifest | {"corpus": tiny_corpus.description})
    clips = report.sounds(heard, tiny_corpus.folder)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(clips[3].split(",")[1])))
    assert (len(samples), rate) == (3 * 16_000, 16_000)

    page = explorer_page(heard, {"pca": embedding_map(heard)}, clips, "speaker")
    assert all(clip in page for clip in clips)
    assert "src=" not in page.split("<body")[0].replace('src=\\"', "")
    assert 'rel="stylesheet"' not in page
    assert "srcdoc=" in frame(page)


def test_exported_pairs_of_files_have_a_line_an_utterance_in_the_same_order(embeddings, tmp_path):
    report.export(embeddings, {"pca": embedding_map(embeddings)}, tmp_path)
    names = pd.read_csv(tmp_path / "metadata.tsv", sep="\t")
    assert list(names["id"]) == list(embeddings.utterances["id"])
    whole = pd.read_parquet(tmp_path / "vectors.parquet").set_index(["run", "id"])
    for run, vectors in embeddings.vectors.items():
        np.testing.assert_allclose(np.loadtxt(tmp_path / f"{run}.tsv"), vectors, atol=1e-6)
        np.testing.assert_allclose(whole.loc[run], vectors, atol=1e-6)
    assert set(pd.read_csv(tmp_path / "coordinates.csv")["run"]) == set(embeddings.vectors)

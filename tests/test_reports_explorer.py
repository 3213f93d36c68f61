"""The explorer: what it says of each run, pair by pair, and the page that it becomes."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
import soundfile
from made_up_study import write_study

from studylib.files.atomic import read_json, write_json
from studylib.reports.embeddings import (
    Embeddings,
    embedding_map,
    export,
    findings,
    read_embeddings,
    sounds,
    utterance_tables,
)
from studylib.reports.experiment import disagreements
from studylib.reports.explorer_page import explorer_page, frame
from studylib.reports.study import read_study

RUNS = ["aam_softmax-0", "untrained-0"]


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    write_study(root)
    study = read_study(root, "", "embeddings")
    return read_embeddings(study, ["aam_softmax", "untrained"], [0])


def test_two_runs_disagree_where_one_is_wrong_at_its_own_threshold():
    trials = pd.DataFrame({"target": [True] * 3 + [False] * 3, "first": 0, "second": range(6)})
    trials = trials.assign(first_speaker="a", second_speaker="b")
    right, wrong = np.array([0.9, 0.8, 0.7, 0.3, 0.2, 0.1]), np.array([9.0, 7, 2, 8, 1, 0])
    rows = disagreements(trials, wrong, right)
    assert sorted(rows["second"]) == [2, 3]
    assert disagreements(trials, right, wrong).empty


def test_cosines_of_an_utterance_equal_their_definition_speaker_by_speaker(embeddings):
    tables, speakers = utterance_tables(embeddings), embeddings.utterances["speaker"].to_numpy()
    for run in RUNS:
        vectors = embeddings.vectors[run]
        for row in (0, 5, 63):
            means = {}
            for speaker in np.unique(speakers):
                others = (speakers == speaker) & (np.arange(len(speakers)) != row)
                means[speaker] = np.mean(vectors[others] @ vectors[row])
            own, other, nearest, *neighbours = tables[run].loc[row]
            assert own == pytest.approx(means.pop(speakers[row]))
            assert other == pytest.approx(max(means.values()))
            assert nearest == max(means, key=means.get)
            distances = np.linalg.norm(vectors - vectors[row], axis=1)
            assert neighbours == list(np.argsort(distances)[1:6])


def test_the_pair_of_speakers_that_a_run_mixes_up_and_a_moved_utterance_come_first(embeddings):
    moved = {run: vectors.copy() for run, vectors in embeddings.vectors.items()}
    vectors = moved["aam_softmax-0"]
    vectors[12:16] = vectors[28:32]  # speakers 3 and 7
    vectors[0] = -vectors[0]
    mixed = Embeddings(embeddings.utterances, embeddings.runs, moved)
    found = (
        findings(mixed, utterance_tables(mixed)).set_index(["kind", "run", "right"]).sort_index()
    )
    worst = found.loc["speakers", "aam_softmax-0", ""].iloc[0]
    assert worst["what"] == "test-0003 and test-0007"
    assert "% of 16 pairs of utterances accepted" in worst["numbers"]
    assert {worst["first"] // 4, worst["second"] // 4} == {3, 7}
    assert found.loc["outliers", "aam_softmax-0", ""].iloc[0]["what"] == "test-0000/0"
    rows = found.loc["differences", "untrained-0", "aam_softmax-0"]
    cosines = [float(text.split()[-1]) for text in rows["numbers"]]
    means = mixed.vectors["aam_softmax-0"]
    expected = [means[row.first] @ means[row.second] for row in rows.itertuples()]
    assert cosines == pytest.approx(expected, abs=0.0051)


def test_a_page_holds_its_scripts_and_sound_and_names_nothing_on_the_network(
    embeddings, tiny_corpus, tmp_path
):
    table = tiny_corpus.utterances.query("split == 'test'").iloc[:20].reset_index(drop=True)
    vectors = {run: vectors[:20] for run, vectors in embeddings.vectors.items()}
    folder = tmp_path / "aam_softmax-0"
    folder.mkdir()
    manifest = read_json(embeddings.runs["folder"].iloc[0] / "manifest.json")
    write_json(folder / "manifest.json", manifest)
    heard = Embeddings(table, embeddings.runs.assign(folder=folder), vectors)
    assert sounds(heard, tiny_corpus.folder) == sounds(heard, tmp_path) == []
    manifest["corpus"] = tiny_corpus.description
    write_json(folder / "manifest.json", manifest)
    clips = sounds(heard, tiny_corpus.folder)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(clips[3].split(",")[1])))
    assert (len(samples), rate) == (3 * 16_000, 16_000)

    page = explorer_page(heard, {"pca": embedding_map(heard)}, sounds=clips)
    assert all(clip in page for clip in clips)
    assert "src=" not in page.split("<body")[0].replace('src=\\"', "")
    assert 'rel="stylesheet"' not in page
    assert "srcdoc=" in frame(page)


def test_exported_pairs_of_files_have_a_line_an_utterance_in_the_same_order(embeddings, tmp_path):
    export(embeddings, {"pca": embedding_map(embeddings)}, tmp_path)
    names = pd.read_csv(tmp_path / "metadata.tsv", sep="\t")
    assert list(names["id"]) == list(embeddings.utterances["id"])
    for run in RUNS:
        vectors = np.loadtxt(tmp_path / f"{run}.tsv")
        np.testing.assert_allclose(vectors, embeddings.vectors[run], atol=1e-6)
    whole = pd.read_parquet(tmp_path / "vectors.parquet").set_index(["run", "id"])
    np.testing.assert_allclose(whole.loc[RUNS[1]], embeddings.vectors[RUNS[1]], atol=1e-6)
    assert set(pd.read_csv(tmp_path / "coordinates.csv")["run"]) == set(RUNS)

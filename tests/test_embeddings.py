"""Embeddings of several runs: the same utterances, or a sentence that says what is wrong."""

import json

import numpy as np
import pandas as pd
import pytest

from studylib.errors import StudyError
from studylib.pipeline.params import read_params
from studylib.reports.embeddings import (
    choose,
    geometry_table,
    read_embeddings,
    save,
    speaker_map,
    speaker_maps,
    turned_onto,
)

PARAMS = """
study: {name: small, runs: [softmax, untrained], seeds: [0, 1], baselines: [logmel_mean_std]}
corpus: {name: none, source: embedded}
trunk: {name: compact_tdnn}
train: {crops: 1000, speakers_per_batch: 4, utterances_per_speaker: 2}
evaluate: {}
runs:
  softmax: {loss: {name: softmax}}
  untrained: {loss: {name: softmax}, train: {crops: 0}}
"""


def utterance_table(n_speakers=6, n_utterances=5):
    rows = [
        {"id": f"{split}-{s}-{u}", "speaker": f"{split}-{s}", "split": split, "sex": "fm"[s % 2]}
        for split in ("dev", "test")
        for s in range(n_speakers)
        for u in range(n_utterances)
    ]
    return pd.DataFrame(rows, index=range(100, 100 + len(rows)))


def write_run(folder, utterances, seed):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    crops = rng.normal(size=(len(utterances), 3, 8)).astype(np.float32)
    np.save(folder / "embeddings.npy", crops)
    utterances.to_parquet(folder / "utterances.parquet")
    eer = 0.1 * (seed + 1)
    metrics = {"eer": eer, "lists": {"official": {"eer": eer}, "dev": {"eer": eer / 2}}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return crops


@pytest.fixture
def study(tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    evaluated = tmp_path / "results" / "small" / "evaluate"
    crops = {
        run: write_run(evaluated / run, utterance_table(), seed)
        for seed, run in enumerate(("softmax-1", "untrained-1", "logmel_mean_std-0"))
    }
    return tmp_path, read_params(tmp_path / "params.yaml"), crops


def test_a_vector_is_the_unit_mean_of_unit_crops(study):
    root, params, crops = study
    utterances, runs = read_embeddings(root, params, ["softmax"], seed=1)
    assert list(utterances["id"]) == [f"test-{s}-{u}" for s in range(6) for u in range(5)]
    for row, three in enumerate(crops["softmax-1"][30:].astype(np.float64)):
        mean = sum(crop / np.linalg.norm(crop) for crop in three) / 3
        expected = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(runs["softmax"].vectors[row], expected, rtol=1e-12)


def test_runs_and_baselines_stand_side_by_side_in_the_order_asked_for(study):
    root, params, _ = study
    names = ["logmel_mean_std", "softmax", "untrained"]
    utterances, runs = read_embeddings(root, params, names, seed=1)
    table = geometry_table(runs, utterances["speaker"])
    assert list(table["run"]) == names
    assert [run.loss for run in runs.values()] == [None, "softmax", None]
    assert list(table["eer"]) == pytest.approx([0.3, 0.1, 0.2])


def test_the_error_rate_is_that_of_the_split_where_a_list_has_its_name(study):
    root, params, _ = study
    for split, expected in (("test", 0.1), ("dev", 0.05)):
        _, runs = read_embeddings(root, params, ["softmax"], seed=1, split=split)
        assert runs["softmax"].eer == pytest.approx(expected)


def test_a_run_that_was_not_evaluated_is_named_with_what_to_do(study):
    root, params, _ = study
    with pytest.raises(StudyError, match=r"softmax-0 .* train and evaluate softmax with seed 0"):
        read_embeddings(root, params, ["softmax"], seed=0)


def test_a_name_of_nothing_is_told_from_a_run_not_yet_evaluated(study):
    root, params, _ = study
    with pytest.raises(StudyError, match=r"softmaxx-0 does not exist: .*\(softmax, untrained\)"):
        read_embeddings(root, params, ["softmaxx"], seed=1)


def test_a_variant_of_a_run_has_the_loss_and_the_seeds_of_its_run(study):
    root, params, _ = study
    write_run(root / "results/small/evaluate/softmax+scale=9-1", utterance_table(), 5)
    _, runs = read_embeddings(root, params, ["softmax+scale=9"], seed=1)
    assert runs["softmax+scale=9"].loss == "softmax"


def test_runs_of_different_utterances_are_not_compared(study):
    root, params, _ = study
    write_run(root / "results/small/evaluate/softmax-0", utterance_table(), 0)
    write_run(root / "results/small/evaluate/untrained-0", utterance_table(5), 0)
    with pytest.raises(StudyError, match=r"untrained-0 holds other utterances than .* softmax"):
        read_embeddings(root, params, ["softmax", "untrained"], seed=0)


def test_a_split_that_was_not_evaluated_is_named_with_those_that_were(study):
    root, params, _ = study
    with pytest.raises(StudyError, match=r"'train' .*dev, test"):
        read_embeddings(root, params, ["softmax"], seed=1, split="train")


def test_no_runs_at_all_are_refused(study):
    root, params, _ = study
    with pytest.raises(StudyError, match="at least one"):
        read_embeddings(root, params, [], seed=1)


def test_the_choice_keeps_to_its_limits_and_does_not_depend_on_the_order_of_rows():
    utterances = utterance_table()
    rows = choose(utterances, "test", n_speakers=4, n_utterances=3)
    chosen = utterances.iloc[rows]
    assert set(chosen["split"]) == {"test"}
    assert list(chosen["speaker"].value_counts()) == [3, 3, 3, 3]
    shuffled = utterances.sample(frac=1, random_state=0)
    again = shuffled.iloc[choose(shuffled, "test", n_speakers=4, n_utterances=3)]
    assert set(again["id"]) == set(chosen["id"])


def test_all_maps_show_the_same_utterances_and_results_replace_older_ones(study):
    root, params, _ = study
    utterances, runs = read_embeddings(root, params, ["softmax", "untrained"], seed=1)
    maps = speaker_maps(runs, utterances, np.arange(20))
    ids = maps.groupby("run")["id"].agg(list)
    assert ids["softmax"] == ids["untrained"] == list(utterances["id"][:20])
    table = geometry_table(runs, utterances["speaker"])
    folder = root / "results" / "small" / "embeddings"
    folder.mkdir()
    (folder / "old.png").touch()
    save(folder, table, {})
    assert [path.name for path in folder.iterdir()] == ["geometry.csv"]
    stored = pd.read_csv(folder / "geometry.csv", keep_default_na=False)
    assert list(stored["run"]) == ["softmax", "untrained"]
    np.testing.assert_allclose(stored["d_prime"], table["d_prime"], rtol=1e-12)


def test_a_turned_and_mirrored_map_is_turned_back():
    rng = np.random.default_rng(2)
    reference = rng.normal(size=(30, 2))
    angle = 1.1
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (reference * (1, -1)) @ turn + (5.0, -3.0)
    centred = reference - reference.mean(axis=0)
    np.testing.assert_allclose(turned_onto(moved, reference), centred, atol=1e-12)


def test_a_map_of_too_few_utterances_is_refused():
    with pytest.raises(StudyError, match="a map of 5 utterances: expected at least 10"):
        speaker_map(np.ones((5, 2)))

"""Evaluation files and figures against the loops they shorten."""

import json
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import full_disk
from trees import files_of

from studylib.corpora.hygiene import known_speakers
from studylib.corpora.store import open_corpus
from studylib.errors import StudyError
from studylib.evaluation.baselines import evaluate_baseline, mean_and_deviation, whitening
from studylib.evaluation.measures import measure_lists, read_metrics
from studylib.evaluation.run import evaluate
from studylib.evaluation.settings import EvaluateSettings
from studylib.files.checksums import sha256
from studylib.models.embedder import load_model
from studylib.models.features import LogMel
from studylib.statistics.error_rates import equal_error_rate

SETTINGS = EvaluateSettings(trials=["test", "test_same_sex"], crops=3, resamples=50, threads=1)


def test_scores_are_the_mean_of_all_pairs_of_crops(tiny_corpus, model_file, tmp_path):
    out = tmp_path / "out"
    metrics = evaluate(model_file, tiny_corpus, SETTINGS, out)
    scores = pd.read_parquet(out / "scores" / "test.parquet")
    model, _ = load_model(model_file)
    for trial in scores.sample(5, random_state=0).itertuples():
        sides = [_crops_by_hand(model, tiny_corpus, row) for row in (trial.first, trial.second)]
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in sides)
        assert trial.score == pytest.approx(float((a @ b.T).mean()), abs=1e-5)
        same = trial.first_speaker == trial.second_speaker
        assert trial.target == same
    assert metrics["n_target"] == 8 * (4 * 3 // 2)
    assert metrics["n_nontarget"] == (8 * 7 // 2) * 16
    assert metrics == read_metrics(out)
    assert metrics["eer_interval"][0] <= metrics["eer"] <= metrics["eer_interval"][1]


def _crops_by_hand(model, corpus, row):
    """Three 4-s crops: at the start, in the middle, at the end."""
    samples = corpus.samples(row)
    last = len(samples) - 64_000
    crops = [samples[start : start + 64_000] for start in (0, last // 2, last)]
    with torch.no_grad():
        return model(torch.from_numpy(np.stack(crops))).double().numpy()


def test_the_first_back_end_gives_the_headline(tiny_corpus, model_file, tmp_path):
    keys = {"trials": ["test", "dev"], "backends": ["plda", "cosine", "snorm"]}
    settings = EvaluateSettings(crops=2, crop_seconds=2.0, resamples=20, threads=1, **keys)
    out = tmp_path / "out"
    metrics = evaluate(model_file, tiny_corpus, settings, out)
    headline = json.loads((out / "metrics.json").read_text())
    assert headline["backend"] == "plda"
    assert headline["eer"] == metrics["lists"]["test"]["eer"]
    assert {"min_cllr", "act_dcf_0.01", "act_dcf_0.05"} <= set(metrics["lists"]["test"])
    assert set(metrics["further_backends"]) == {"cosine", "snorm"}
    frame = pd.read_parquet(out / "scores" / "test.parquet")
    columns = {"plda": "score", "cosine": "score_cosine", "snorm": "score_snorm"}
    for backend, column in columns.items():
        lists = metrics if backend == "plda" else metrics["further_backends"][backend]
        expected = equal_error_rate(frame[column], frame["target"])
        assert lists["lists"]["test"]["eer"] == expected


def test_the_manifest_names_every_file_and_the_model_is_spared(tiny_corpus, model_file, tmp_path):
    out = tmp_path / "out"
    (out / "model").mkdir(parents=True)
    (out / "model" / "curve.csv").write_text("crops,loss")
    (out / "manifest.json").write_text("of older results")
    facts = {"run": "triplet", "seed": 3}
    evaluate(model_file, tiny_corpus, SETTINGS, out, manifest=facts)
    manifest = json.loads((out / "manifest.json").read_text())
    files = manifest.pop("files")
    assert manifest == facts
    found = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert set(files) == found - {"manifest.json"} >= {"model/curve.csv", "scores/test.parquet"}
    assert all(sha256(out / name) == digest for name, digest in files.items())


def test_a_full_disk_at_any_file_keeps_the_old_results(tiny_corpus, model_file, tmp_path, capfd):
    out, few = tmp_path / "out", SETTINGS.model_copy(update={"crops": 2})
    evaluate(model_file, tiny_corpus, SETTINGS, out)
    old = files_of(out)
    sentence = r"The disk is full, .*: writing results in .*out"
    for size in sorted({len(content) for content in old.values()} - {0}):
        with full_disk(max(size // 2, 1000)), pytest.raises(StudyError, match=sentence):
            evaluate(model_file, tiny_corpus, few, out)
        capfd.readouterr()  # pytest's own file of the output is short again
        assert files_of(out) == old
        assert {path.name for path in tmp_path.iterdir()} == {"out", "model.safetensors"}
    evaluate(model_file, tiny_corpus, few, out)
    assert files_of(out).keys() == old.keys()


def test_whitening_makes_the_within_speaker_covariance_the_identity():
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(200), 10)
    mixing = rng.normal(size=(5, 5))
    vectors = 3 * rng.normal(size=(200, 5))[speakers] + rng.normal(size=(2000, 5)) @ mixing
    white = vectors @ whitening(vectors, speakers)
    within = white - np.stack([white[speakers == s].mean(0) for s in range(200)])[speakers]
    np.testing.assert_allclose(within.T @ within / 1800, np.eye(5), atol=1e-4)


def test_the_baseline_s_vector_is_the_mean_and_deviation_of_log_mel(tiny_corpus):
    vector = mean_and_deviation(tiny_corpus, np.array([2]), 1, 1.0)[0, 0]
    samples = tiny_corpus.samples(2)
    start = (len(samples) - 16_000) // 2
    crop = torch.from_numpy(samples[start : start + 16_000]).float()[None] / 32768
    frames = LogMel()(crop)[0].double().numpy()
    expected = np.concatenate([frames.mean(1), frames.std(1)])
    np.testing.assert_allclose(vector, expected, rtol=1e-5, atol=1e-5)


def scored_list(rng, shift):
    """All pairs of two utterances of 30 speakers; scores that are no log-likelihood ratios."""
    speakers = np.repeat(np.arange(30), 2)
    i, j = np.triu_indices(len(speakers), 1)
    trials = pd.DataFrame({"first_speaker": speakers[i], "second_speaker": speakers[j]})
    trials["target"] = speakers[i] == speakers[j]
    trials["score"] = 0.1 * (rng.normal(size=len(i)) + 2.5 * trials["target"]) + shift
    return trials


@pytest.fixture(scope="module")
def lists():
    rng = np.random.default_rng(0)
    return {"test": scored_list(rng, 0.5), "dev": scored_list(rng, 0.5)}


def test_calibration_is_learned_on_dev_and_judged_on_the_others(lists):
    measured = measure_lists(lists, "score", 50, corpus="own")
    assert "cllr" not in measured["lists"]["dev"]
    calibration, test = measured["calibration"], measured["lists"]["test"]
    target, score = lists["test"]["target"], lists["test"]["score"]
    llr = calibration["scale"] * score + calibration["offset"]
    of_targets, of_others = np.log2(1 + np.exp(-llr[target])), np.log2(1 + np.exp(llr[~target]))
    assert test["cllr"] == pytest.approx((of_targets.mean() + of_others.mean()) / 2)
    assert test["min_cllr"] <= test["cllr"] < 0.6
    accepted = score >= calibration["threshold"]
    cost = np.mean(~accepted[target]) + 19 * np.mean(accepted[~target])
    assert test["min_dcf_0.05"] <= test["act_dcf_0.05"] == pytest.approx(cost)


def test_without_a_calibration_the_reason_is_named_and_the_rest_measured(lists):
    perfect = lists["dev"].assign(score=lists["dev"]["target"].astype(float))
    test = {"test": lists["test"]}
    for found, why in ((test, "no list 'dev'"), (test | {"dev": perfect}, "perfectly")):
        measured = measure_lists(found, "score", 50, corpus="own")
        assert why in measured["calibration"]["skipped"]
        assert not {"cllr", "min_cllr", "act_dcf_0.01"} & set(measured["lists"]["test"])


@pytest.fixture
def copied(tiny_corpus, tmp_path):
    """The tiny corpus under another name, as a further test set."""
    return open_corpus(shutil.copytree(tiny_corpus.folder, tmp_path / "copied"))


def test_a_copy_as_a_further_corpus_has_equal_numbers(tiny_corpus, copied, model_file, tmp_path):
    keys = {"trials": ["test", "dev"], "backends": ["cosine", "snorm"]}
    settings = EvaluateSettings(crops=2, crop_seconds=2.0, resamples=20, threads=1, **keys)
    given = {"manifest": {"run": "triplet", "corpus": "own"}, "further": [copied]}
    for name, measure in (
        ("network", partial(evaluate, model_file)),
        ("baseline", partial(evaluate_baseline, "logmel_whitened")),
    ):
        out = tmp_path / name
        own, there = measure(tiny_corpus, settings, out, **given), out / "also" / "copied"
        other = read_metrics(there)
        assert other["calibration"] == own["calibration"]
        assert own["calibration"]["corpus"] == tiny_corpus.folder.name
        assert other["lists"]["test"] == own["lists"]["test"]
        one, two = (each["further_backends"]["snorm"]["lists"]["test"] for each in (own, other))
        assert one == two
        manifest = json.loads((there / "manifest.json").read_text())
        assert (manifest["run"], manifest["corpus"]) == ("triplet", copied.provenance)


def test_speakers_that_the_model_knows_are_refused(tiny_corpus, copied, model_file, tmp_path):
    copied.description["population"] = "elsewhere"
    speaker = tiny_corpus.utterances.query("split == 'test'")["speaker"].iloc[0]
    for corpus in (tiny_corpus, copied):  # the own and a further one
        # As if another corpus of the same people had a test speaker to train on.
        known = known_speakers(corpus, [speaker])
        (tmp_path / "known_speakers.json").write_text(json.dumps([known]))
        words = rf"knows 1 of the 8 .*{corpus.folder.name}, trial list 'test' \({speaker}\)"
        with pytest.raises(StudyError, match=words):
            evaluate(model_file, tiny_corpus, SETTINGS, tmp_path / "out", further=[copied])
        assert not (tmp_path / "out").exists()

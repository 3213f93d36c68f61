"""Degraded crops and their error rates against plain transcriptions and the plain evaluation."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import all_trials
from made_up_study import write_study

from studylib.corpora.acoustics import Session, apply_session
from studylib.models.embedder import Embedder, embed
from studylib.reports import robustness as report
from studylib.reports.settings import RobustnessSettings
from studylib.reports.study import experiments_in
from studylib.statistics.error_rates import equal_error_rate

CPU = torch.device("cpu")
SCORINGS = {"softmax": "cosine", "prototypical": "euclidean", "untrained": "cosine"}
SETTINGS = RobustnessSettings(lengths=[0.5, 2, 30], snrs=[20, 0], reverberations=[0.6])
FACTORS = report.factors_of(SETTINGS, 2, 4)


def power(samples):
    return np.mean(samples.astype(np.float64) ** 2)


@pytest.fixture(scope="module")
def rows(tiny_corpus):
    return np.flatnonzero(tiny_corpus.utterances["split"] == "test")


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    trunk = {"embedding_dim": 16, "channels": 8}
    return {run: (Embedder("compact_tdnn", trunk), SCORINGS[run]) for run in SCORINGS}


@pytest.fixture(scope="module")
def tables(tiny_corpus, rows, models):
    scored = report.degraded_scores(models, tiny_corpus, rows, FACTORS, CPU)
    rates, cells = report.error_rates(*scored, 50)
    return rates, report.growth_table(cells, FACTORS, list(SCORINGS))


def test_every_level_adds_the_same_noise_at_the_power_asked_for():
    speech = (2000 * np.random.default_rng(0).standard_normal(32_000)).astype(np.int16)
    noises = []
    for snr in (20, 0):
        condition = (2, Session(snr=snr, noise_slope=-3.0))
        noisy = report.degrade(speech, condition, np.random.default_rng(1))
        noises.append(noisy.astype(np.int32) - speech)
        ratio = 10 * np.log10(power(speech) / power(noises[-1]))
        assert ratio == pytest.approx(snr, abs=0.05)
    assert np.corrcoef(noises)[0, 1] > 0.99


def test_a_room_acts_on_the_whole_utterance_before_the_crop():
    speech = np.zeros(64_000, dtype=np.int16)
    speech[23_000] = 20_000  # a click just before the crop begins
    room = Session(reverberation=0.9, direct=0.0)
    crop = report.degrade(speech, (1, room), np.random.default_rng(3))
    seed = int(np.random.default_rng(3).integers(2**32))
    whole = apply_session(speech, replace(room, room_seed=seed), np.random.default_rng(0))
    assert power(crop) > 0
    np.testing.assert_array_equal(crop, whole[24_000:40_000])


def test_the_clean_condition_is_the_plain_evaluation_of_the_same_crops(tiny_corpus, rows, models):
    for seconds in (0.5, 6):  # an utterance shorter than 6 s is repeated
        ours = report.embed_degraded(models, tiny_corpus, rows, (seconds, Session()), CPU)
        for run, (model, _) in models.items():
            plain = embed(model, tiny_corpus, rows, crops=1, crop_seconds=seconds, device=CPU)
            np.testing.assert_allclose(ours[run], plain[:, 0], rtol=1e-4, atol=1e-5)


def test_an_utterance_is_degraded_alike_whichever_others_are_asked_for(tiny_corpus, rows, models):
    condition = (2, Session(snr=0, reverberation=0.6))
    whole = report.embed_degraded(models, tiny_corpus, rows, condition, CPU)
    few = report.embed_degraded(models, tiny_corpus, rows[3:5], condition, CPU)
    for run, vectors in few.items():
        np.testing.assert_allclose(vectors, whole[run][3:5], rtol=1e-4, atol=1e-5)


def test_levels_go_from_the_reference_to_the_hardest_and_leave_out_what_is_too_long():
    assert {factor: list(levels) for factor, levels in FACTORS.items()} == {
        "crop length": ["2 s", "0.5 s"],
        "added noise": ["as recorded", "20 dB", "0 dB"],
        "added reverberation": ["as recorded", "0.6 s"],
    }
    untouched = {FACTORS[f]["as recorded"] for f in ("added noise", "added reverberation")}
    assert untouched == {FACTORS["crop length"]["2 s"]}
    assert list(report.factors_of(SETTINGS, 2, 1)) == ["added noise", "added reverberation"]


def test_a_rate_is_that_of_all_pairs_scored_one_by_one(tables, tiny_corpus, rows, models):
    rates = tables[0][tables[0]["level"] == "0 dB"].set_index("run")["rate"]
    trials = all_trials(8, 4)
    noise = FACTORS["added noise"]["0 dB"]
    for run, vectors in report.embed_degraded(models, tiny_corpus, rows, noise, CPU).items():
        if SCORINGS[run] == "cosine":
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        apart = vectors[trials["first"]].astype(float) - vectors[trials["second"]]
        expected = equal_error_rate(-np.square(apart).sum(axis=1), trials["target"])
        assert rates[run] == pytest.approx(expected, abs=1e-4)


def test_growth_is_the_ratio_of_the_hardest_level_to_the_reference(tables):
    rates, growth = tables
    assert len(rates) == len(SCORINGS) * sum(map(len, FACTORS.values()))
    assert rates["rate"].between(rates["low"], rates["high"]).all()
    eers = rates.set_index(["run", "factor", "level"])["rate"]
    for row in growth.itertuples():
        hardest = eers[row.run, row.factor, row.hardest]
        assert row.ratio == pytest.approx(hardest / eers[row.run, row.factor, row.reference])
        assert row.low <= row.ratio <= row.high


def test_rates_on_the_study_s_lists_are_those_of_its_scores(tmp_path):
    folder = write_study(tmp_path, seeds=(0,)) / "experiment" / "triplet-0"
    rates = report.list_rates(experiments_in([folder]), ["test", "test_hard"], 20)
    rates = rates.set_index("level")
    for name in ("test", "test_hard"):
        scores = pd.read_parquet(folder / "scores" / f"{name}.parquet")
        expected = equal_error_rate(scores["score"], scores["target"])
        assert rates["rate"][name] == pytest.approx(expected)
    assert set(rates["run"]) == {"triplet"}


def test_target_trials_of_one_session_and_of_two_have_their_own_rates(tmp_path):
    folder = write_study(tmp_path, seeds=(0,)) / "experiment" / "triplet-0"
    runs = experiments_in([folder])
    assert report.session_rates(runs, "test", 20)[0].empty  # a session an utterance
    utterances = pd.read_parquet(folder / "utterances.parquet")
    utterances["session"] = utterances["speaker"] + [f"/{i % 4 // 2}" for i in range(64)]
    utterances.to_parquet(folder / "utterances.parquet")
    path = folder / "scores" / "test.parquet"
    trials = pd.read_parquet(path)
    same = trials["first"] // 2 == trials["second"] // 2
    alone = trials["first_speaker"].eq("0")  # who has target trials of one session, no others
    trials[~alone | same].to_parquet(path)
    rates, growth = report.session_rates(runs, "test", 20)
    trials, same = trials[~alone], same[~alone]
    expected = [
        equal_error_rate(trials["score"][kept], trials["target"][kept])
        for kept in (same | ~trials["target"], ~same)
    ]
    assert rates["level"].tolist() == ["the same", "another"]
    assert rates["rate"].to_numpy() == pytest.approx(expected)
    assert growth["ratio"].item() == pytest.approx(expected[1] / expected[0])
    assert growth["low"].item() < growth["ratio"].item() < growth["high"].item()

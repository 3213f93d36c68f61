"""Degraded crops and their error rates against plain transcriptions and the plain evaluation."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

from studylib.corpora.acoustics import Session, apply_session
from studylib.errors import StudyError
from studylib.models.embedder import Embedder, embed
from studylib.reports import figures
from studylib.reports.robustness import (
    Condition,
    choose_runs,
    degrade,
    degraded,
    embed_degraded,
    questions_of,
    usable_lengths,
)
from studylib.reports.robustness_costs import condition_rates, summary, trial_kinds, trial_rates
from studylib.statistics.error_rates import equal_error_rate

matplotlib.use("Agg")
CPU = torch.device("cpu")
LOSSES = {"softmax": "softmax", "prototypical": "prototypical", "untrained": None}
SCORINGS = {"softmax": "cosine", "prototypical": "euclidean", "untrained": "cosine"}
QUESTIONS = questions_of([0.5, 2], [20, 0], [0.6], 2)


def power(samples):
    return np.mean(samples.astype(np.float64) ** 2)


@pytest.fixture(scope="module")
def rows(tiny_corpus):
    return np.flatnonzero(tiny_corpus.utterances["split"] == "test")


@pytest.fixture(scope="module")
def speakers(tiny_corpus, rows):
    return tiny_corpus.utterances["speaker"].to_numpy(str)[rows]


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    return {run: Embedder("compact_tdnn", {"embedding_dim": 16, "channels": 8}) for run in LOSSES}


@pytest.fixture(scope="module")
def embeddings(tiny_corpus, rows, models):
    conditions = [condition for levels in QUESTIONS.values() for condition in levels.values()]
    return embed_degraded(models, tiny_corpus, rows, conditions, seed=0, device=CPU)


@pytest.fixture(scope="module")
def tables(embeddings, speakers):
    return condition_rates(embeddings, QUESTIONS, SCORINGS, LOSSES, speakers, 50)


@pytest.mark.parametrize("snr", [20, 10, 0])
def test_added_noise_has_the_power_asked_for(snr):
    speech = (2000 * np.random.default_rng(0).standard_normal(32_000)).astype(np.int16)
    noisy = degrade(speech, Condition(2, snr=snr), np.random.default_rng(1))
    noise = noisy.astype(np.int32) - speech
    assert 10 * np.log10(power(speech) / power(noise)) == pytest.approx(snr, abs=0.05)


def test_every_level_of_noise_is_the_same_noise():
    speech = (500 * np.random.default_rng(0).standard_normal(32_000)).astype(np.int16)
    loud, soft = (
        degrade(speech, Condition(2, snr=snr), np.random.default_rng(1)).astype(float) - speech
        for snr in (0, 10)
    )
    assert np.corrcoef(loud, soft)[0, 1] > 0.999


def test_a_room_acts_on_the_whole_utterance_before_the_crop():
    speech = np.zeros(64_000, dtype=np.int16)
    speech[23_000] = 20_000  # a click just before the crop begins
    crop = degrade(speech, Condition(1, reverberation=0.9), np.random.default_rng(3))
    seed = int(np.random.default_rng(3).integers(2**32))
    room = Session(reverberation=0.9, direct=0.0, room_seed=seed)
    whole = apply_session(speech, room, np.random.default_rng(0))
    assert power(crop) > 0
    np.testing.assert_array_equal(crop, whole[24_000:40_000])


def test_a_short_utterance_is_repeated_and_a_clean_one_untouched():
    speech = np.arange(10_000, dtype=np.int16)
    crop = degrade(speech, Condition(1), np.random.default_rng(0))
    np.testing.assert_array_equal(crop, np.concatenate([speech, speech[:6000]]))
    crop = degrade(speech, Condition(0.5), np.random.default_rng(0))
    np.testing.assert_array_equal(crop, speech[1000:9000])


def test_an_utterance_is_degraded_alike_whichever_others_are_asked_for(tiny_corpus, rows):
    condition = Condition(1, snr=5, reverberation=0.3)
    all_of_them = degraded(tiny_corpus, rows[:4], condition, seed=7)
    np.testing.assert_array_equal(degraded(tiny_corpus, rows[2:3], condition, 7)[0], all_of_them[2])
    assert (degraded(tiny_corpus, rows[:4], condition, seed=8) != all_of_them).any()


def test_the_clean_condition_is_the_plain_evaluation_of_the_same_crops(
    tiny_corpus, rows, models, embeddings
):
    for seconds in (0.5, 2):
        for run, model in models.items():
            plain = embed(model, tiny_corpus, rows, crops=1, crop_seconds=seconds, device=CPU)
            ours = embeddings[Condition(seconds)][run]
            np.testing.assert_allclose(ours, plain[:, 0], rtol=1e-4, atol=1e-5)


def test_two_passes_give_the_same_bits(tiny_corpus, rows, models, embeddings):
    condition = Condition(2, reverberation=0.6)
    again = embed_degraded(models, tiny_corpus, rows, [condition], seed=0, device=CPU)
    for run, vectors in again[condition].items():
        np.testing.assert_array_equal(vectors, embeddings[condition][run])


def test_levels_go_from_the_reference_to_the_hardest_and_share_the_untouched_crop():
    assert {question: list(levels) for question, levels in QUESTIONS.items()} == {
        "crop length": ["2 s", "0.5 s"],
        "added noise": ["as recorded", "20 dB", "0 dB"],
        "added reverberation": ["as recorded", "0.6 s"],
    }
    untouched = {
        QUESTIONS[question]["as recorded"] for question in ("added noise", "added reverberation")
    }
    assert untouched == {QUESTIONS["crop length"]["2 s"]}


def test_lengths_that_most_utterances_do_not_reach_are_left_out(tiny_corpus, rows):
    median = tiny_corpus.utterances["length"].to_numpy()[rows].mean() / 16_000
    assert usable_lengths(tiny_corpus, rows, [1, 2 * median]) == [1]


def test_every_run_has_a_rate_with_its_interval_at_every_level(tables):
    rates, _ = tables
    assert list(rates.columns) == ["run", "loss", "question", "level", "eer", "low", "high"]
    expected = {
        (run, question, level)
        for question, levels in QUESTIONS.items()
        for level in levels
        for run in LOSSES
    }
    assert set(rates[["run", "question", "level"]].itertuples(index=False, name=None)) == expected
    assert len(rates) == len(expected)
    assert rates["eer"].between(rates["low"], rates["high"]).all()
    assert rates.loc[rates["run"] == "untrained", "loss"].isna().all()


def test_a_rate_is_that_of_all_pairs_scored_one_by_one(tables, embeddings, speakers):
    rates, _ = tables
    rates = rates[rates["level"] == "0 dB"].set_index("run")["eer"]
    pairs = [(i, j) for i in range(len(speakers)) for j in range(i + 1, len(speakers))]
    targets = [speakers[i] == speakers[j] for i, j in pairs]
    for run, vectors in embeddings[Condition(2, snr=0)].items():
        if SCORINGS[run] == "cosine":
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        scores = [-np.sum((vectors[i].astype(float) - vectors[j]) ** 2) for i, j in pairs]
        assert rates[run] == pytest.approx(equal_error_rate(scores, targets), abs=1e-4)


def test_a_cost_is_the_ratio_of_the_hardest_level_to_the_reference(tables):
    rates, prices = tables
    eers = rates.set_index(["run", "question", "level"])["eer"]
    for cost in prices.itertuples():
        hardest = eers[cost.run, cost.question, cost.hardest]
        ratio = hardest / eers[cost.run, cost.question, cost.reference]
        assert cost.ratio == pytest.approx(ratio)
        assert cost.low <= cost.ratio <= cost.high
    trained = prices[prices["loss"].notna()]
    growth = np.log1p(trained["relative"]).groupby(trained["question"]).sum()
    np.testing.assert_allclose(growth, 0, atol=1e-9)  # relative to the mean of all
    assert prices.loc[prices["loss"].isna(), ["relative", "p_holm"]].isna().all(axis=None)


def test_a_run_that_alone_fails_in_noise_is_found():
    rng = np.random.default_rng(0)
    speakers = np.repeat([f"s{n:02d}" for n in range(20)], 4)
    centres = rng.normal(size=(20, 8)).repeat(4, axis=0)
    questions = {"added noise": {"clean": Condition(1), "0 dB": Condition(1, snr=0)}}
    runs = ("a", "b", "c", "fails")
    spread = {(run, c): 0.7 for run in runs for c in questions["added noise"].values()}
    spread["fails", Condition(1, snr=0)] = 2.0
    made = {
        c: {run: centres + spread[run, c] * rng.normal(size=centres.shape) for run in runs}
        for c in questions["added noise"].values()
    }
    losses = dict.fromkeys(runs, "softmax")
    _, prices = condition_rates(
        made, questions, dict.fromkeys(runs, "cosine"), losses, speakers, 200
    )
    prices = prices.set_index("run")
    assert prices.loc["fails", "p_holm"] < 0.05
    assert prices.loc["fails", "relative"] > 0.5
    assert (prices.drop("fails")["ratio"] < prices.loc["fails", "low"]).all()


def made_trials(utterances):
    first, second = np.triu_indices(len(utterances), 1)
    speaker = utterances["speaker"].to_numpy(str)
    return pd.DataFrame(
        {
            "first": utterances.index[first],
            "second": utterances.index[second],
            "target": speaker[first] == speaker[second],
            "first_speaker": speaker[first],
            "second_speaker": speaker[second],
        }
    )


def test_kinds_of_trial_are_those_the_corpus_can_tell_apart(tiny_corpus):
    test = tiny_corpus.utterances.query("split == 'test'").drop(columns=["sex", "accent"])
    trials = made_trials(test)
    assert [name for name, _ in trial_kinds(trials, test)] == ["all"]  # a session an utterance
    number = np.arange(len(test))
    sex = np.where(number // 4 < 6, "f", "m")  # two men are too few
    known = test.assign(sex=sex, accent=np.where(number // 4 % 2, "x", "y"))
    known["session"] = known["speaker"] + [f"-{n % 4 // 2}" for n in number]
    kinds = dict(trial_kinds(trials, known))
    assert list(kinds) == [
        "all", "same sex", "women", "same accent", "within a session", "across sessions",
    ]  # fmt: skip
    for name, mask in kinds.items():
        for trial in trials[mask].itertuples():
            a, b = known.loc[trial.first], known.loc[trial.second]
            assert name != "same accent" or a["accent"] == b["accent"]
            assert name != "women" or a["sex"] == b["sex"] == "f"
            if trial.target and name in ("within a session", "across sessions"):
                assert (a["session"] == b["session"]) == (name == "within a session")
    assert kinds["women"].sum() == 24 * 23 / 2


def test_a_kinds_rate_is_that_of_its_trials(tiny_corpus):
    test = tiny_corpus.utterances.query("split == 'test'")
    trials = made_trials(test)
    scores = np.random.default_rng(0).normal(size=len(trials)) + trials["target"].to_numpy()
    rates, prices = trial_rates({"a": scores}, trials, test, {"a": None}, 20)
    rates = rates.set_index("level")
    for name, mask in trial_kinds(trials, test):
        expected = equal_error_rate(scores[mask], trials.loc[mask, "target"])
        assert rates.loc[name, "eer"] == pytest.approx(expected)
    assert prices[["reference", "hardest"]].drop_duplicates().values.tolist() == [
        ["all", "same sex"], ["all", "same accent"],
    ]  # fmt: skip
    assert prices["ratio"].tolist() == pytest.approx(
        [rates.loc[kind, "eer"] / rates.loc["all", "eer"] for kind in prices["hardest"]]
    )


def test_two_speakers_of_unknown_sex_or_accent_are_not_the_same(tiny_corpus):
    test = tiny_corpus.utterances.query("split == 'test'")
    speakers = test["speaker"].unique()
    unknown = dict(zip(speakers[-3:], (None, "", np.nan), strict=True))
    for column in ("sex", "accent"):
        same = pd.Series(np.where(test["speaker"].isin(list(unknown)), None, "f"), test.index)
        told = test.assign(**{column: same.astype(object)})
        for speaker, value in unknown.items():
            told.loc[told["speaker"] == speaker, column] = value
        mask = dict(trial_kinds(made_trials(told), told))[f"same {column}"]
        n = len(test) - 3 * 4
        assert mask.sum() == n * (n - 1) / 2


def test_without_levels_to_compare_there_are_no_rates_and_no_costs():
    rates, prices = condition_rates({}, {"added noise": {}}, {}, LOSSES, np.array(["a"]), 20)
    assert rates.empty
    assert prices.empty
    assert {"run", "question", "eer"} <= set(rates.columns)


def test_the_summary_names_the_best_trained_run_and_how_far_the_order_is_kept():
    eers = {"4 s": (0.1, 0.2, 0.3), "1 s": (0.4, 0.3, 0.2)}
    rates = pd.DataFrame(
        [
            {"run": run, "loss": "softmax", "question": "crop length", "level": level, "eer": eer}
            for level, of_level in eers.items()
            for run, eer in zip("abc", of_level, strict=True)
        ]
        + [{"run": "u", "loss": None, "question": "crop length", "level": "4 s", "eer": 0.01}]
    )
    table = summary(rates).set_index("level")
    assert list(table["best_run"]) == ["a", "c"]
    assert list(table["rank_correlation"]) == pytest.approx([1, -1])


def test_runs_are_the_studys_with_a_model_each_once():
    runs = pd.DataFrame(
        {"run": ["a", "a", "b", "base"], "seed": [3, 4, 3, 0], "trunk": ["t", "t", "t", None]}
    )
    assert choose_runs(runs, None)[["run", "seed"]].values.tolist() == [["a", 3], ["b", 3]]
    assert list(choose_runs(runs, ["b"])["run"]) == ["b"]
    with pytest.raises(StudyError, match=r"names 'base': expected a run .* \(a, b\)"):
        choose_runs(runs, ["base"])


def test_figures_show_every_run_by_name(tables, tiny_corpus):
    rates, prices = tables
    for question in QUESTIONS:
        figure = figures.from_easy_to_hard(rates, prices, question)
        figure.canvas.draw()
        left, right = figure.axes
        assert {text.get_text() for text in left.texts} == set(LOSSES)
        assert len(right.get_yticklabels()) == len(LOSSES)
        matplotlib.pyplot.close(figure)
    test = tiny_corpus.utterances.query("split == 'test'")
    trials = made_trials(test)
    scores = {run: np.random.default_rng(0).normal(size=len(trials)) for run in LOSSES}
    kinds, _ = trial_rates(scores, trials, test, LOSSES, 20)
    figure = figures.trial_kinds(kinds)
    figure.canvas.draw()
    assert [axes.get_title() for axes in figure.axes] == list(kinds["level"].unique())
    matplotlib.pyplot.close(figure)

"""Each conclusion gets the verdict that the numbers put in, and names what it lacks."""

import numpy as np
import pandas as pd
import pytest
from test_statistics_intervals import cells_with

from studylib.statistics.conclusions import verdicts
from studylib.statistics.evidence import spread
from studylib.statistics.resampling import Resamples

N_SPEAKERS = 41
USUAL = {"crops": 1000, "trunk": "t", "backend": "cosine", "chosen": False, "tried": 1, "rates": 1}
VARIED = ["margin", "scale", "utterances_per_speaker", "batch"]


def resampled(rates, *, own=0.02, trials=0):
    """Resamples of runs with these error rates: speakers move all alike, and each by `own`."""
    common = 0.15 * np.random.default_rng(0).normal(size=(1, 4000))
    noise = common + own * np.random.default_rng([1, trials]).normal(size=(len(rates), 4000))
    estimates = np.array(list(rates.values()))
    return Resamples(
        runs=tuple(rates),
        estimates=estimates,
        speakers=estimates[:, None] * np.exp(noise),
        pairs=estimates[:, None] * np.ones((1, 2)),
        speaker_names=tuple(f"s{k}" for k in range(N_SPEAKERS)),
        floor=1e-6,
    )


def study(cells, *, seeds=3, seed_sd=0.02):
    """Runs table and error rates: cells is a list of dicts with name, loss, rate and settings."""
    offsets = seed_sd * np.array({1: [0.0], 3: [-1.0, 0.0, 1.0]}[seeds])
    rows, rates = [], {}
    for cell in cells:
        for k, offset in enumerate(offsets):
            run = f"{cell['cell']}-{k}"
            rates[run] = cell["rate"] * np.exp(offset)
            row = {key: value for key, value in cell.items() if key != "rate"}
            rows.append({"run": run, "seed": k, **USUAL, **row})
    runs = pd.DataFrame(rows).set_index("run")
    return runs.reindex(columns=[*runs, *(c for c in VARIED if c not in runs)]), rates


def losses(**rates):
    return [{"cell": loss, "loss": loss, "rate": rate} for loss, rate in rates.items()]


def ask(id, cells, *, own=0.02, seed_sd=0.02, trunk=None, other=None, **settings):
    # On these speakers seeds differ by what each run makes of them, too.
    runs, rates = study(cells, seed_sd=np.hypot(seed_sd, own), **settings)
    lists = {"test": resampled(rates, own=own)}
    if other is not None:
        on_hard = {run: other(run) * rate for run, rate in rates.items()}
        lists["hard"] = resampled(on_hard, own=own, trials=1)
    table = verdicts(runs, lists, trunk=trunk)
    assert list(table["id"]) == ["B1", "B2", "B3", "B4", "B5", "B6", "A1", "A2", "A3"]
    return table.set_index("id").loc[id]


def grid(loss, rates):
    return [
        {"cell": f"{loss}-{m}-{s}", "loss": loss, "margin": m, "scale": s, "rate": rate}
        for (m, s), rate in rates.items()
    ]


FOUR = [(0.1, 15), (0.1, 30), (0.2, 15), (0.2, 30)]


BEST = dict(softmax=0.1, am_softmax=0.09, aam_softmax=0.08, triplet=0.1, ge2e=0.08)
BEST |= dict(prototypical=0.08, angular_prototypical=0.07)
OF_A = dict(aam_softmax=0.07, softmax=0.1, coco=0.09, center=0.1, contrastive=0.1, triplet=0.1)


@pytest.mark.parametrize(
    ("id", "rates", "verdict"),
    [
        ("B3", dict(ge2e=0.08, prototypical=0.085, triplet=0.10), "supported"),
        ("B3", dict(ge2e=0.08, prototypical=0.099, triplet=0.10), "undecided"),
        ("B3", dict(ge2e=0.08, prototypical=0.12, triplet=0.10), "contradicted"),
        ("B4", BEST, "supported"),
        ("B4", dict(angular_prototypical=0.08, triplet=0.10), "not tested here"),
        ("B4", dict(angular_prototypical=0.08, aam_softmax=0.06), "contradicted"),
        ("A1", OF_A | {"coco": 0.07}, "undecided"),
        ("A1", OF_A | {"coco": 0.06}, "contradicted"),
    ],
)
def test_a_better_loss_beats_all_others_and_one_that_beats_it_refutes_the_claim(id, rates, verdict):
    assert ask(id, losses(**rates))["verdict"] == verdict


def test_the_decisive_comparison_is_the_weakest_link_as_a_relative_difference():
    row = ask("B3", losses(ge2e=0.08, prototypical=0.085, triplet=0.10))
    assert row["effect"] == pytest.approx(-0.15, abs=1e-3)
    assert row["high"] < 0 == row["claimed"]
    assert "ge2e against triplet: -20.0 % [" in row["evidence"]
    single = ask("B3", losses(ge2e=0.08, prototypical=0.12, triplet=0.10), seeds=1)
    assert single["verdict"] == "contradicted, one seed"
    assert single["effect"] == pytest.approx(0.2, abs=1e-3)


def test_more_noise_makes_a_verdict_undecided_and_gives_the_speakers_it_takes():
    noisy = ask("B3", losses(ge2e=0.08, prototypical=0.085, triplet=0.10), own=0.2)
    assert noisy["verdict"] == "undecided"
    # Two means over three runs with noise 0.2 each; log 0.85 = -0.163; t = 2.09, twice 0.02 / 1.7
    # of the seeds.
    expected = N_SPEAKERS * (2 * 0.2**2 / 3) / ((0.163 / 2.09) ** 2 - 2 * 0.02**2 / 3)
    assert noisy["speakers_needed"] == pytest.approx(expected, rel=0.1)
    by_seeds = ask("B3", losses(ge2e=0.08, prototypical=0.085, triplet=0.10), seed_sd=0.3)
    assert (by_seeds["verdict"], by_seeds["speakers_needed"]) == ("undecided", np.inf)


def test_missing_runs_are_named_and_nothing_is_concluded():
    row = ask("B3", losses(ge2e=0.08, triplet=0.10))
    assert row["verdict"] == "not tested here"
    assert row["missing"] == "one chosen setting of prototypical"
    assert "ge2e against triplet" in row["evidence"]
    nothing = ask("A3", losses(softmax=0.1))
    assert nothing["missing"].startswith("one setting with trunk sinc_xvector, loss aam_softmax")
    assert np.isnan(nothing["p"])


def test_losses_are_not_compared_where_more_settings_were_tried_of_one():
    cells = losses(ge2e=0.08, prototypical=0.085, triplet=0.10)
    row = ask("B3", [cell | {"tried": 4 if cell["loss"] == "triplet" else 1} for cell in cells])
    missing = "as many settings tried of each loss (ge2e 1, prototypical 1, triplet 4)"
    assert (row["verdict"], row["missing"]) == ("not tested here", missing)
    worse = losses(ge2e=0.12, prototypical=0.12, triplet=0.10)
    worse = [cell | {"tried": 4 if cell["loss"] == "ge2e" else 1} for cell in worse]
    refuted = ask("B3", worse)  # by the pair that was tuned alike
    assert refuted["verdict"] == "contradicted"
    assert "ge2e against" not in refuted["evidence"]


@pytest.mark.parametrize(
    ("chosen", "verdict"),
    [(None, "not tested here"), (0.1, "supported"), (0.2, "contradicted")],
)
def test_of_several_settings_the_one_chosen_on_development_speakers_counts(chosen, verdict):
    cells = losses(ge2e=0.08, prototypical=0.08)
    for margin, rate in ((0.1, 0.1), (0.2, 0.05)):
        cell = {"cell": f"triplet-{margin}", "loss": "triplet", "margin": margin, "rate": rate}
        cells.append(cell | {"chosen": margin == chosen})
    assert ask("B3", cells)["verdict"] == verdict


@pytest.mark.parametrize(
    ("rate", "verdict"), [(0.10, "supported"), (0.11, "undecided"), (0.125, "contradicted")]
)
def test_b1_compares_triplet_with_the_median_setting_at_the_stated_tolerance(rate, verdict):
    settings = grid("am_softmax", dict(zip(FOUR, [0.08, 0.10, 0.10, 0.2], strict=True)))
    settings += grid("aam_softmax", dict(zip(FOUR, [0.08, 0.10, 0.10, 0.3], strict=True)))
    row = ask("B1", settings + losses(triplet=rate))
    assert (row["verdict"], row["claimed"]) == (verdict, pytest.approx(0.1))
    assert row["effect"] == pytest.approx(rate / 0.1 - 1, abs=0.005)
    assert "at least 3 settings" in ask("B1", losses(triplet=rate))["missing"]


EVEN = dict(zip(FOUR, [0.100, 0.101, 0.099, 0.100], strict=True))
WIDE = dict(zip(FOUR, [0.07, 0.10, 0.14, 0.20], strict=True))


@pytest.mark.parametrize(
    ("of_aam", "noise", "verdict"),
    [
        (WIDE, {}, "supported"),
        (EVEN, {}, "contradicted"),
        (EVEN, {"own": 0.3}, "undecided"),
        (WIDE, {"seeds": 1}, "not tested here"),
    ],
)
def test_b2_finds_spread_beyond_noise_and_seeds(of_aam, noise, verdict):
    cells = grid("am_softmax", WIDE) + grid("aam_softmax", of_aam)
    assert ask("B2", cells, **noise)["verdict"] == verdict


def test_the_interval_of_a_spread_covers_it():
    # Twelve settings whose log error rates have the standard deviation 0.1, read on few speakers.
    generator, studies, noise = np.random.default_rng(0), 300, 0.1
    truth = generator.normal(size=12)
    truth *= 0.1 / truth.std(ddof=1)
    below = above = 0
    for number in range(studies):
        estimates = truth + noise * generator.normal(size=12)
        keys = {"interactions": np.zeros(12), "resamples": 300, "seed": number}
        cells = cells_with(estimates, noise, np.zeros(12), np.full(12, 2), **keys)
        low, high = spread(cells, range(12)).interval()
        above, below = above + (low > 0.1), below + (high < 0.1)
    assert above + below < 0.08 * studies
    assert below < 0.04 * studies


def varied(loss, column, rates):
    """Cells of one loss that differ in one column."""
    return [
        {"cell": f"{loss}-{value}", "loss": loss, column: value, "rate": rate}
        for value, rate in rates.items()
    ]


BIG = {"cell": "big", "loss": "prototypical", "utterances_per_speaker": 3, "batch": 800}
TWICE = {"cell": "fast", "loss": "prototypical", "utterances_per_speaker": 2, "rate": 0.12}


@pytest.mark.parametrize(
    ("rates", "others", "verdict"),
    [
        ({2: 0.08, 3: 0.09, 4: 0.1}, [], "supported"),
        ({2: 0.08, 3: 0.09, 4: 0.07}, [], "contradicted"),
        ({2: 0.08, 3: 0.081}, [], "undecided"),
        ({3: 0.08, 4: 0.09}, [], "not tested here"),
        # Cells that differ in something else are no part of the comparison.
        ({2: 0.08, 3: 0.09}, [BIG | {"rate": 0.05}], "supported"),
        ({2: 0.08, 3: 0.09}, [TWICE | {"batch": 800}], "supported"),
        ({2: 0.08, 3: 0.09}, [TWICE], "not tested here"),
    ],
)
def test_b5_compares_two_utterances_with_each_other_number_tried(rates, others, verdict):
    cells = varied("prototypical", "utterances_per_speaker", rates)
    assert ask("B5", [*cells, *others])["verdict"] == verdict


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ({"am_softmax": 0.0}, "supported"),
        ({"am_softmax": 0.2}, "contradicted"),
        ({"am_softmax": 0.0, "prototypical": -0.1}, "contradicted"),
        ({"am_softmax": 0.0, "prototypical": 0.0}, "undecided"),
        ({"aam_softmax": 0.0}, "supported"),
        ({"am_softmax": 0.0, "aam_softmax": 0.2}, "contradicted"),
        ({}, "not tested here"),
    ],
)
def test_b6_asks_for_a_gain_of_metric_losses_and_none_of_classification(gains, verdict):
    cells = []
    for loss, gain in ({"prototypical": 0.1, "angular_prototypical": 0.15} | gains).items():
        cells += varied(loss, "batch", {200 * 2**k: 0.1 * (1 - gain) ** k for k in range(3)})
    row = ask("B6", cells)
    assert row["verdict"] == verdict
    assert "angular_prototypical, each doubling of batch: -15.0 %" in row["evidence"]


@pytest.mark.parametrize(
    ("tried", "chosen", "verdict"),
    [
        ((3, 3), ("slow", "fast"), "supported"),  # 0.12, then 0.08
        ((3, 3), ("fast", "fast"), "contradicted"),  # 0.06, then 0.08
        ((3, 1), ("slow", "fast"), "not tested here"),
        ((0, 0), (), "not tested here"),
    ],
)
def test_b6_compares_the_learning_rate_chosen_at_each_size_of_as_many(tried, chosen, verdict):
    cells = varied("angular_prototypical", "batch", {200: 0.1, 800: 0.08})
    cells += varied("am_softmax", "batch", {200: 0.1, 800: 0.1})
    for rate, eers in {"slow": (0.12, 0.2), "fast": (0.06, 0.08)}.items():
        for place, batch in enumerate((200, 800)):
            cell = {"cell": f"{rate}{batch}", "loss": "prototypical", "batch": batch}
            stands = rate in chosen[place : place + 1]
            cells.append(cell | {"rate": eers[place], "rates": stands * tried[place]})
    row = ask("B6", cells)
    assert row["verdict"] == verdict
    assert ("prototypical with at least 2 values of batch" in row["missing"]) == (tried != (3, 3))


@pytest.mark.parametrize(
    ("growth", "seed_sd", "verdict"),
    [
        (1.6, 0.02, "supported"),
        (2.5, 0.02, "contradicted"),
        (2.0, 0.02, "undecided"),
        # What a seed makes of a run it makes on both lists, and so not of the growth.
        (1.6, 0.5, "supported"),
    ],
)
def test_a2_compares_how_much_a_harder_list_costs(growth, seed_sd, verdict):
    def other(run):
        return growth if run.startswith("aam") else 2.0

    row = ask("A2", losses(**OF_A), other=other, seed_sd=seed_sd)
    assert row["verdict"] == verdict
    assert row["effect"] == pytest.approx(growth / 2 - 1, abs=1e-3)
    assert "harder trial list" in ask("A2", losses(**OF_A))["missing"]


def test_a_verdict_that_holm_s_correction_takes_away_is_undecided():
    pair = losses(ge2e=0.08, prototypical=0.09435, triplet=0.10)
    alone = ask("B3", pair)
    assert (alone["verdict"], alone["p"]) == ("supported", alone["p_holm"])
    beside = losses(aam_softmax=0.1, softmax=0.1, coco=0.1, center=0.1, contrastive=0.1)
    row = ask("B3", pair + beside)  # A1 is tested as well
    assert 0.025 < row["p"] < 0.05
    assert row["p_holm"] == pytest.approx(2 * row["p"])
    assert row["verdict"] == "undecided"
    assert f"supported by itself (p {row['p']:.2g})" in row["evidence"]


@pytest.mark.parametrize(
    ("rate", "verdict"), [(0.1, "supported"), (0.11, "undecided"), (0.13, "contradicted")]
)
def test_a3_compares_two_whole_systems_across_trunks(rate, verdict):
    sinc = {"cell": "sinc", "loss": "aam_softmax", "trunk": "sinc_xvector", "rate": rate}
    plda = {"cell": "plda", "loss": "softmax", "trunk": "xvector", "backend": "plda", "rate": 0.1}
    assert ask("A3", [sinc, plda], trunk="sinc_xvector")["verdict"] == verdict

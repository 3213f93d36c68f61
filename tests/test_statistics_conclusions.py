"""Each conclusion gets the verdict that the numbers put in, and names what it lacks."""

import numpy as np
import pandas as pd
import pytest

from studylib.errors import StudyError
from studylib.statistics.comparisons import speakers_needed
from studylib.statistics.conclusions import verdicts
from studylib.statistics.evidence import spread
from studylib.statistics.intervals import Cells, cells_of
from studylib.statistics.resampling import Resamples

N_SPEAKERS = 41
USUAL = {"crops": 1000, "trunk": "t", "backend": "cosine", "chosen": False, "tried": 1}
VARIED = ["margin", "scale", "utterances_per_speaker", "batch"]


def resampled(rates, *, own=0.02, seed=0, names=None, trials=0):
    """Resamples of runs with these error rates: speakers move all alike, and each by `own`."""
    common = 0.15 * np.random.default_rng(0).normal(size=(1, 4000))
    noise = common + own * np.random.default_rng([1, trials]).normal(size=(len(rates), 4000))
    estimates = np.array(list(rates.values()))
    return Resamples(
        runs=tuple(rates),
        estimates=estimates,
        speakers=estimates[:, None] * np.exp(noise),
        pairs=estimates[:, None] * np.ones((1, 2)),
        speaker_names=tuple(names or (f"s{k}" for k in range(N_SPEAKERS))),
        seed=seed,
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
        ("A1", OF_A, "supported"),
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
    reverse = ask("B3", losses(ge2e=0.08, prototypical=0.12, triplet=0.10))
    assert reverse["effect"] == pytest.approx(0.2, abs=1e-3)


def test_the_same_difference_is_undecided_with_more_noise_and_tells_how_many_speakers_it_takes():
    noisy = ask("B3", losses(ge2e=0.08, prototypical=0.085, triplet=0.10), own=0.2)
    assert noisy["verdict"] == "undecided"
    # Two means over three runs with noise 0.2 each; log 0.85 = -0.163; t = 2.09, twice 0.02 / 1.7
    # of the seeds.
    expected = N_SPEAKERS * (2 * 0.2**2 / 3) / ((0.163 / 2.09) ** 2 - 2 * 0.02**2 / 3)
    assert noisy["speakers_needed"] == pytest.approx(expected, rel=0.1)
    by_seeds = ask("B3", losses(ge2e=0.08, prototypical=0.085, triplet=0.10), seed_sd=0.3)
    assert by_seeds["verdict"] == "undecided"
    assert by_seeds["speakers_needed"] == np.inf


def test_without_repeated_seeds_the_verdict_says_so():
    single = ask("B3", losses(ge2e=0.08, prototypical=0.085, triplet=0.10), seeds=1)
    assert single["verdict"] == "supported, one seed"


def test_missing_runs_are_named_and_nothing_is_concluded():
    row = ask("B3", losses(ge2e=0.08, triplet=0.10))
    assert row["verdict"] == "not tested here"
    assert row["missing"] == "one chosen setting of prototypical"
    assert "ge2e against triplet" in row["evidence"]
    nothing = ask("A3", losses(softmax=0.1))
    assert nothing["verdict"] == "not tested here"
    assert nothing["missing"].startswith("one setting with trunk sinc_xvector, loss aam_softmax")
    assert np.isnan(nothing["p"])


def test_losses_are_not_compared_where_more_settings_were_tried_of_one():
    cells = losses(ge2e=0.08, prototypical=0.085, triplet=0.10)
    tuned = [cell | {"tried": 4 if cell["loss"] == "triplet" else 1} for cell in cells]
    row = ask("B3", tuned)
    assert row["verdict"] == "not tested here"
    missing = "as many settings tried of each loss (ge2e 1, prototypical 1, triplet 4)"
    assert (row["missing"], row["evidence"]) == (missing, "")
    worse = losses(ge2e=0.12, prototypical=0.12, triplet=0.10)
    worse = [cell | {"tried": 4 if cell["loss"] == "ge2e" else 1} for cell in worse]
    refuted = ask("B3", worse)  # by the pair that was tuned alike
    assert refuted["verdict"] == "contradicted"
    assert "ge2e against" not in refuted["evidence"]
    assert ask("B3", [cell | {"tried": 4} for cell in cells])["verdict"] == "supported"


def test_several_settings_of_a_loss_need_one_chosen_on_development_speakers():
    cells = losses(ge2e=0.08, prototypical=0.08) + [
        {"cell": f"triplet-{m}", "loss": "triplet", "margin": m, "rate": rate}
        for m, rate in ((0.1, 0.1), (0.2, 0.05))
    ]
    assert ask("B3", cells)["missing"] == "one chosen setting of triplet"
    chosen = [cell | {"chosen": cell["cell"] == "triplet-0.1"} for cell in cells]
    assert ask("B3", chosen)["verdict"] == "supported"
    other = [cell | {"chosen": cell["cell"] == "triplet-0.2"} for cell in cells]
    assert ask("B3", other)["verdict"] == "contradicted"


def test_b1_compares_triplet_with_the_median_setting_at_the_stated_tolerance():
    settings = grid("am_softmax", dict(zip(FOUR, [0.08, 0.10, 0.10, 0.2], strict=True)))
    settings += grid("aam_softmax", dict(zip(FOUR, [0.08, 0.10, 0.10, 0.3], strict=True)))
    for rate, verdict in ((0.10, "supported"), (0.11, "undecided"), (0.125, "contradicted")):
        row = ask("B1", settings + losses(triplet=rate))
        assert row["verdict"] == verdict
        assert row["effect"] == pytest.approx(rate / 0.1 - 1, abs=0.005)
        assert row["claimed"] == pytest.approx(0.1)
    assert "at least 3 settings" in ask("B1", losses(triplet=0.1))["missing"]


def test_b2_finds_spread_beyond_noise_and_seeds():
    even = dict(zip(FOUR, [0.100, 0.101, 0.099, 0.100], strict=True))
    wide = dict(zip(FOUR, [0.07, 0.10, 0.14, 0.20], strict=True))
    assert ask("B2", grid("am_softmax", wide) + grid("aam_softmax", wide))["verdict"] == "supported"
    row = ask("B2", grid("am_softmax", wide) + grid("aam_softmax", even))
    assert row["verdict"] == "contradicted"
    assert row["effect"] < 0.05
    noisy = ask("B2", grid("am_softmax", wide) + grid("aam_softmax", even), own=0.3)
    assert noisy["verdict"] == "undecided"
    single = ask("B2", grid("am_softmax", wide) + grid("aam_softmax", wide), seeds=1)
    assert single["verdict"] == "not tested here"


def test_the_spread_of_equal_settings_is_not_made_by_noise():
    # Eight settings that do not matter: means over three runs, each moved by speakers and seeds.
    generator = np.random.default_rng(1)
    found, claimed = [], 0
    for _ in range(20):
        settings = [(m, s) for m in (0.1, 0.2, 0.3, 0.4) for s in (15, 30)]
        sd = np.sqrt(0.1**2 / 3 + 0.1**2 / 3)
        rates = 0.1 * np.exp(sd * generator.normal(size=8))
        cells = grid("am_softmax", dict(zip(settings, rates, strict=True)))
        row = ask(
            "B2",
            cells + grid("aam_softmax", dict(zip(settings, rates, strict=True))),
            own=0.1,
            seed_sd=0.1,
        )
        found.append(row["effect"])
        claimed += row["verdict"] == "supported"
    assert np.median(found) < 0.06
    assert claimed == 0


def test_the_interval_of_a_spread_covers_it():
    # Twelve settings whose log error rates have the standard deviation 0.1, read on few speakers.
    generator, studies, noise = np.random.default_rng(0), 300, 0.1
    truth = generator.normal(size=12)
    truth *= 0.1 / truth.std(ddof=1)
    missed = {"below": 0, "above": 0}
    for _ in range(studies):
        estimates = truth + noise * generator.normal(size=12)
        cells = Cells(
            names=tuple(map(str, range(12))),
            estimates=estimates,
            speakers=estimates[:, None] + noise * generator.normal(size=(12, 300)),
            pairs=estimates[:, None] * np.ones((1, 2)),
            n_seeds=np.full(12, 2),
            seed_sds=np.zeros(12),
            interactions=np.zeros(12),
            n_speakers=N_SPEAKERS,
            floor=1e-6,
        )
        low, high = spread(cells, range(12)).interval()
        missed["above"] += low > 0.1
        missed["below"] += high < 0.1
    assert sum(missed.values()) < 0.08 * studies
    assert missed["below"] < 0.04 * studies


def varied(loss, column, rates):
    """Cells of one loss that differ in one column."""
    return [
        {"cell": f"{loss}-{value}", "loss": loss, column: value, "rate": rate}
        for value, rate in rates.items()
    ]


def test_b5_compares_two_utterances_with_each_other_number_tried():
    def verdict(rates, others=()):
        cells = varied("prototypical", "utterances_per_speaker", rates)
        return ask("B5", [*cells, *others])["verdict"]

    assert verdict({2: 0.08, 3: 0.09, 4: 0.1}) == "supported"
    assert verdict({2: 0.08, 3: 0.09, 4: 0.07}) == "contradicted"
    assert verdict({2: 0.08, 3: 0.081}) == "undecided"
    assert verdict({3: 0.08, 4: 0.09}) == "not tested here"
    # Cells of another batch size are no part of the comparison.
    other = varied("prototypical", "utterances_per_speaker", {3: 0.05})[0]
    assert verdict({2: 0.08, 3: 0.09}, [other | {"cell": "big", "batch": 800}]) == "supported"


def test_b6_asks_for_a_gain_of_metric_losses_and_none_of_classification():
    def row(**gains):
        cells = []
        for loss, gain in gains.items():
            cells += varied(loss, "batch", {200 * 2**k: 0.1 * (1 - gain) ** k for k in range(3)})
        return ask("B6", cells)

    metric = {"prototypical": 0.1, "angular_prototypical": 0.15}
    supported = row(**metric, am_softmax=0.0)
    assert supported["verdict"] == "supported"
    assert "prototypical, each doubling of batch: -10.0 %" in supported["evidence"]
    assert row(**metric, am_softmax=0.2)["verdict"] == "contradicted"
    assert row(**metric | {"prototypical": -0.1}, am_softmax=0.0)["verdict"] == "contradicted"
    assert row(**metric | {"prototypical": 0.0}, am_softmax=0.0)["verdict"] == "undecided"
    assert row(**metric, aam_softmax=0.0)["verdict"] == "supported"
    assert row(**metric, am_softmax=0.0, aam_softmax=0.2)["verdict"] == "contradicted"
    assert row(**metric)["missing"] == "am_softmax or aam_softmax with at least 2 values of batch"


def test_a2_compares_how_much_a_harder_list_costs():
    cells = losses(
        aam_softmax=0.08, softmax=0.1, coco=0.1, center=0.1, contrastive=0.1, triplet=0.1
    )

    def harder(of_aam):
        return lambda run: of_aam if run.startswith("aam") else 2.0

    assert ask("A2", cells, other=harder(1.6))["verdict"] == "supported"
    assert ask("A2", cells, other=harder(2.5))["verdict"] == "contradicted"
    assert ask("A2", cells, other=harder(2.0))["verdict"] == "undecided"
    row = ask("A2", cells, other=harder(1.6))
    assert row["effect"] == pytest.approx(-0.2, abs=1e-3)
    assert "harder trial list" in ask("A2", cells)["missing"]
    # What a seed makes of a run it makes on both lists, and so not of the rise.
    assert ask("A2", cells, other=harder(1.6), seed_sd=0.5)["verdict"] == "supported"


def test_a_verdict_that_does_not_survive_holm_s_correction_is_undecided():
    pair = losses(ge2e=0.08, prototypical=0.09435, triplet=0.10)
    alone = ask("B3", pair)
    assert alone["verdict"] == "supported"
    assert alone["p"] == alone["p_holm"]
    beside = losses(aam_softmax=0.1, softmax=0.1, coco=0.1, center=0.1, contrastive=0.1)
    row = ask("B3", pair + beside)  # A1 is tested as well
    assert 0.025 < row["p"] < 0.05
    assert row["p_holm"] == pytest.approx(2 * row["p"])
    assert row["verdict"] == "undecided"
    assert f"supported by itself (p {row['p']:.2g})" in row["evidence"]


def test_one_comparison_on_the_wrong_side_needs_fewer_speakers_to_refute_than_all_to_hold():
    rates = dict(
        softmax=0.1, am_softmax=0.1, aam_softmax=0.08, triplet=0.1, ge2e=0.0905, prototypical=0.1
    )
    cells = losses(angular_prototypical=0.09, **rates)
    row = ask("B4", cells, own=0.1)
    assert row["verdict"] == "undecided"
    # By AAM-softmax, at a sixth of 5 %, halved as B3 is tested as well; by GE2E, never.
    runs, rates = study(cells, seed_sd=np.hypot(0.02, 0.1))
    members = {cell: list(group.index) for cell, group in runs.groupby("cell")}
    contrast = cells_of(resampled(rates, own=0.1), members).contrast(
        {"angular_prototypical": 1.0, "aam_softmax": -1.0}
    )
    expected = speakers_needed(contrast, N_SPEAKERS, level=1 - 0.05 / 6 / 2)
    assert row["speakers_needed"] == expected < 1000


def test_cells_that_differ_in_more_than_what_is_varied_are_named_and_not_mixed_up():
    cells = [
        {"cell": name, "loss": "prototypical", "utterances_per_speaker": m, "rate": rate}
        for name, m, rate in (("p2", 2, 0.08), ("p2_fast", 2, 0.12), ("p3", 3, 0.1))
    ]
    row = ask("B5", cells)
    assert row["verdict"] == "not tested here"
    expected = "one setting of prototypical for each utterances_per_speaker, not p2, p2_fast"
    assert row["missing"] == expected
    apart = [cell | {"other_settings": cell["cell"][2:]} for cell in cells]
    assert ask("B5", apart)["verdict"] == "supported"


def test_a3_compares_two_whole_systems_across_trunks():
    sinc = {"cell": "sinc", "loss": "aam_softmax", "trunk": "sinc_xvector", "backend": "cosine"}
    plda = {"cell": "plda", "loss": "softmax", "trunk": "xvector", "backend": "plda"}
    for rate, verdict in ((0.1, "supported"), (0.11, "undecided"), (0.13, "contradicted")):
        cells = [sinc | {"rate": rate}, plda | {"rate": 0.1}]
        assert ask("A3", cells, trunk="sinc_xvector")["verdict"] == verdict
    runs, rates = study([sinc | {"rate": 0.1}, plda | {"rate": 0.1}])
    with pytest.raises(StudyError, match="Name the trunk"):
        verdicts(runs, {"test": resampled(rates)})


def test_untrained_networks_stand_for_no_loss():
    cells = [
        *losses(ge2e=0.08, prototypical=0.08, triplet=0.1),
        {"cell": "untrained", "loss": "triplet", "crops": 0, "rate": 0.3},
    ]
    assert ask("B3", cells)["verdict"] == "supported"


def test_a_table_that_cannot_be_compared_is_refused():
    runs, rates = study(losses(ge2e=0.08, triplet=0.1))
    lists = {"test": resampled(rates)}
    with pytest.raises(StudyError, match="equal numbers of training crops"):
        verdicts(runs.assign(crops=[1, 1, 1, 2, 2, 2]), lists)
    others = [f"t{number}" for number in range(N_SPEAKERS)]
    with pytest.raises(StudyError, match="other speakers"):
        verdicts(runs, lists | {"hard": resampled(rates, names=others)})

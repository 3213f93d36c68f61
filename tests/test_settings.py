"""Which setting of a loss stands for it: on development speakers, from equal budgets."""

from itertools import product

import pandas as pd
import pytest

from studylib.errors import StudyError
from studylib.reports.chosen_runs import (
    best_on_development,
    by_utterances,
    runs_to_judge,
    settings_grid,
)


def tuned_runs() -> pd.DataFrame:
    """As from `collect_runs`: AM-softmax in four settings, triplet in one, and nobody trained.

    From row to row the EER rises by 0.01 on test speakers and falls by 0.01 on development ones.
    """
    settings = [("am_softmax", m, s) for m, s in product((0.1, 0.2), (15, 30))]
    settings += [("triplet", 0.3, None), (None, None, None)]
    rows = [
        {"run": f"{loss}_m{margin}_s{scale}", "loss": loss, "margin": margin, "scale": scale}
        | {"seed": seed}
        for (loss, margin, scale), seed in product(settings, (0, 1))
    ]
    runs = pd.DataFrame(rows).assign(
        trunk="compact_tdnn",
        crops=100,
        batch=8,
        utterances_per_speaker=2,
        training_speakers=None,
        backend="cosine",
        other_settings="{}",
    )
    return runs.assign(eer=0.01 * (runs.index + 1), eer_dev=1 - 0.01 * (runs.index + 1))


def test_a_loss_is_represented_by_its_best_setting_on_development_speakers():
    judged = runs_to_judge(tuned_runs())
    chosen = judged[judged["chosen"]]
    assert set(chosen["cell"]) == {"triplet_m0.3_sNone", "am_softmax_m0.2_s30"}
    assert set(chosen[chosen["loss"] == "am_softmax"]["tried"]) == {4}
    assert set(chosen[chosen["loss"] == "triplet"]["tried"]) == {1}
    assert judged["loss"].notna().all()


def test_the_run_that_bears_the_loss_s_name_stands_for_it_untuned():
    runs = tuned_runs().replace({"run": {"am_softmax_m0.1_s15": "am_softmax"}})
    judged = runs_to_judge(runs)
    chosen = judged[judged["chosen"] & (judged["loss"] == "am_softmax")]
    assert set(chosen["cell"]) == {"am_softmax"}
    assert set(chosen["tried"]) == {1}


def test_the_grid_holds_the_losses_run_with_several_margins_and_scales():
    grid = settings_grid(tuned_runs())
    assert set(grid["loss"]) == {"am_softmax"}
    assert len(grid) == 4
    assert grid.loc[0, "eer"] == pytest.approx((0.01 + 0.02) / 2)


def development(**changes):
    rows = [
        {"loss": loss, "setting": f"{loss}-{m}", "seed": seed, "crops": 1000, "trials": "dev"}
        for loss in ("am", "triplet")
        for m in (0.1, 0.2)
        for seed in (0, 1)
    ]
    eers = [0.10, 0.12, 0.09, 0.125, 0.2, 0.2, 0.3, 0.05]
    return pd.DataFrame(rows).assign(eer=eers, **changes)


def test_the_setting_with_the_lowest_mean_development_eer_is_chosen_for_each_loss():
    chosen = best_on_development(development())
    assert chosen["setting"].to_dict() == {"am": "am-0.2", "triplet": "triplet-0.2"}
    assert chosen["eer"].tolist() == pytest.approx([0.1075, 0.175])
    assert chosen["tried"].tolist() == [2, 2]


def test_how_many_settings_were_tried_is_told_for_each_loss():
    chosen = best_on_development(development().iloc[:-2])
    assert chosen["tried"].to_dict() == {"am": 2, "triplet": 1}


def test_unequal_budgets_test_lists_and_incomplete_tables_are_refused():
    table = development()
    for unequal in (table.iloc[:-1], table.assign(crops=[1000] * 7 + [2000])):
        with pytest.raises(StudyError, match="budgets differ"):
            best_on_development(unequal)
    with pytest.raises(StudyError, match="development trials"):
        best_on_development(development(trials="test"))
    with pytest.raises(StudyError, match="development trials"):
        best_on_development(development(trials=["dev", "dev_hard"] * 4))
    with pytest.raises(StudyError, match="twice"):
        best_on_development(development(seed=0))
    with pytest.raises(StudyError, match="lacks crops"):
        best_on_development(table.drop(columns="crops"))


def test_utterances_of_a_speaker_are_compared_in_batches_of_one_size():
    facts = [
        ("ge2e", 120, 2),
        ("ge2e", 120, 5),
        ("ge2e", 128, 4),
        ("triplet", 120, 2),
        (None, 0, 1),
    ]
    runs = pd.DataFrame(facts, columns=["loss", "batch", "utterances_per_speaker"])
    runs = runs.assign(run=list("abcde"), trunk="t", crops=1000)
    runs = pd.concat([runs, runs])  # two seeds
    table = pd.DataFrame({"rate": 0.1, "low": 0.08, "high": 0.12}, index=list("eabcd"))
    table.loc["b", "rate"] = 0.11
    rows = by_utterances(runs, table)
    assert rows[["run", "loss", "size", "rate"]].to_numpy().tolist() == [
        ["a", "ge2e", 2, 0.1],
        ["b", "ge2e", 5, 0.11],
    ]

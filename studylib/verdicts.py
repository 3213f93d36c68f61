"""The papers' conclusions as stated tests: a claim, the runs it compares, a verdict from numbers.

Each conclusion of papers A and B is a sentence and a question: which log error rates it compares,
and on which side of which bound it says that their difference lies. "Better" means below 0; "not
worse" and "no gain" allow a relative margin that is stated beforehand; "sensitive" means a standard
deviation over settings above that margin. The answer:

supported        every 95 % interval lies wholly on the claimed side of its bound
contradicted     one lies wholly on the other side (after Holm's correction for their number)
undecided        neither, with these speakers and seeds
not tested here  runs that the claim needs do not exist; they are named

Without repeated seeds an answer holds for these very networks, and says so ("..., one seed").

References
----------
A: Coria et al. 2020. B: Chung et al. 2020. Which numbers test a claim is this study's choice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from studylib.bootstrap import Resamples, with_other_list
from studylib.comparisons import holm, speakers_needed
from studylib.errors import StudyError
from studylib.questions import (
    Answer,
    Study,
    Test,
    best_value,
    better,
    degrades_less,
    gain,
    not_worse_than_most,
    sensitive,
    systems_compete,
)
from studylib.statistics import Cells, cells_of


@dataclass(frozen=True)
class Conclusion:
    id: str
    claim: str
    question: Callable[[Study], Answer]


CONCLUSIONS = (
    Conclusion(
        "B1",
        "Vanilla triplet is competitive with most settings of AM- and AAM-softmax.",
        partial(not_worse_than_most, loss="triplet", than=("am_softmax", "aam_softmax")),
    ),
    Conclusion(
        "B2",
        "AM- and AAM-softmax are very sensitive to margin and scale.",
        partial(sensitive, losses=("am_softmax", "aam_softmax"), to=("margin", "scale")),
    ),
    Conclusion(
        "B3",
        "GE2E and prototypical beat triplet.",
        partial(better, losses=("ge2e", "prototypical"), than=("triplet",)),
    ),
    Conclusion(
        "B4",
        "Angular prototypical is the best of all losses.",
        partial(
            better,
            losses=("angular_prototypical",),
            than=("softmax", "am_softmax", "aam_softmax", "triplet", "ge2e", "prototypical"),
        ),
    ),
    Conclusion(
        "B5",
        "Two utterances a speaker, as in the test, are the best for prototypical.",
        partial(best_value, losses=("prototypical",), of="utterances_per_speaker", value=2),
    ),
    Conclusion(
        "B6",
        "A larger batch helps metric losses and not classification.",
        partial(
            gain,
            of="batch",
            helps=("prototypical", "angular_prototypical"),
            not_helps=("am_softmax", "aam_softmax"),
        ),
    ),
    Conclusion(
        "A1",
        "AAM-softmax is the best of softmax, CoCo, AAM, center, contrastive and triplet.",
        partial(
            better,
            losses=("aam_softmax",),
            than=("softmax", "coco", "center", "contrastive", "triplet"),
        ),
    ),
    Conclusion(
        "A2",
        "AAM-softmax's embeddings are more robust: harder trials cost it less than other losses.",
        partial(
            degrades_less,
            loss="aam_softmax",
            than=("softmax", "coco", "center", "contrastive", "triplet"),
        ),
    ),
    Conclusion(
        "A3",
        "SincTDNN with AAM-softmax and cosine is competitive with x-vector and PLDA.",
        partial(
            systems_compete,
            first={"trunk": "sinc_xvector", "loss": "aam_softmax", "backend": "cosine"},
            second={"trunk": "xvector", "backend": "plda"},
        ),
    ),
)


def verdicts(
    runs: pd.DataFrame,
    resamples: Mapping[str, Resamples],
    *,
    trunk: str | None = None,
    margin: float = 0.1,
) -> pd.DataFrame:
    """Ask every conclusion of a study.

    Parameters
    ----------
    runs : DataFrame
        One row a training run (index: its name in `resamples`). Columns cell (runs of one cell
        differ in their seed alone), loss, seed; and, as far as they apply, crops (seen in
        training), chosen (bool: the loss's setting chosen on development speakers), tried (from how
        many, 1 unless given), margin, scale, utterances_per_speaker, batch, trunk, backend.
    resamples : trial list -> Resamples
        The first list decides; others, of the same speakers and seed, are the harder lists of A2.
    trunk : str, optional
        On which losses are compared; needed where there are several.
    margin : float
        Relative: what "competitive", "no gain" and "sensitive" mean.

    Returns
    -------
    DataFrame
        One row a conclusion: id, claim, verdict; of the decisive comparison its relative effect
        with low and high, claimed (the bound) and p against that bound; p_holm over all conclusions
        tested; speakers_needed to decide (undecided only; infinite: more seeds, not speakers);
        evidence and missing in words.

    Raises
    ------
    StudyError
        Columns, runs or a trunk missing, cells whose runs differ in more than their seed, or runs
        of one trunk trained on different numbers of crops.
    """
    study = _study(runs, resamples, trunk, margin)
    table = pd.DataFrame([_row(conclusion, study) for conclusion in CONCLUSIONS])
    tested = table["p"].notna()
    table.insert(table.columns.get_loc("p") + 1, "p_holm", np.nan)
    table.loc[tested, "p_holm"] = holm(table.loc[tested, "p"])
    return table


def _row(conclusion: Conclusion, study: Study) -> dict:
    tests, missing = conclusion.question(study)
    verdict, decisive = _decide(tests, missing)
    row = {"id": conclusion.id, "claim": conclusion.claim, "verdict": verdict}
    row |= dict.fromkeys(["effect", "low", "high", "claimed", "p", "speakers_needed"], np.nan)
    if decisive is not None:
        contrast = decisive.contrast
        values = np.expm1([contrast.value, *contrast.interval(), decisive.bound])
        row |= dict(zip(["effect", "low", "high", "claimed"], values, strict=True))
        row["p"] = decisive.p_value()
    if verdict.startswith("undecided"):
        row["speakers_needed"] = max(_needed(t, study) for t in tests if not t.holds())
    row["evidence"] = "; ".join(test.sentence() for test in tests)
    row["missing"] = "; ".join(missing)
    return row


def _decide(tests: list[Test], missing: list[str]) -> tuple[str, Test | None]:
    """The verdict and the comparison that decided it: the surest refutation or the weakest link."""
    if not tests:
        return "not tested here", None
    corrected = holm([test.p_value() for test in tests])
    refuted = [p < 0.05 and test.on_wrong_side() for p, test in zip(corrected, tests, strict=True)]
    one_seed = ", one seed" if any(np.isnan(test.contrast.seed_sd) for test in tests) else ""
    if any(refuted):
        decisive = min(
            (test for test, wrong in zip(tests, refuted, strict=True) if wrong),
            key=Test.p_value,
        )
        return "contradicted" + one_seed, decisive
    weakest = min(tests, key=Test.certainty)
    if missing:
        return "not tested here", weakest
    if all(test.holds() for test in tests):
        return "supported" + one_seed, weakest
    return "undecided" + one_seed, weakest


def _needed(test: Test, study: Study) -> float:
    distance = abs(test.contrast.value - test.bound)
    return speakers_needed(test.contrast, study.cells.n_speakers, distance=distance)


def _study(runs, resamples: Mapping[str, Resamples], trunk: str | None, margin: float) -> Study:
    for column in ("cell", "loss", "seed"):
        if column not in runs:
            raise StudyError(f"The table of runs lacks the column {column}.")
    if not resamples or not 0 < margin < 1:
        raise StudyError("Verdicts need a resampled trial list and a margin between 0 and 1.")
    runs = runs.assign(
        chosen=runs["chosen"].astype(bool) if "chosen" in runs else False,
        tried=runs.get("tried", 1),
    )
    if "crops" in runs:
        runs = runs[runs["crops"] > 0]  # an untrained network stands for no loss
    constant = runs.drop(columns="seed").groupby("cell", sort=False)
    mixed = (constant.nunique(dropna=False) > 1).any(axis=1)
    if mixed.any():
        raise StudyError(f"The runs of cell {mixed.idxmax()} differ in more than their seed.")
    settings = constant.first()
    _check_trunks(settings, trunk)
    members = {cell: list(group.index) for cell, group in runs.groupby("cell", sort=False)}
    first, *others = resamples.items()
    return Study(
        settings=settings,
        cells=cells_of(first[1], members),
        other_lists={name: _both_lists(first[1], other, members, name) for name, other in others},
        margin=float(np.log1p(margin)),
        trunk=trunk,
    )


def _check_trunks(settings: pd.DataFrame, trunk: str | None) -> None:
    if "trunk" in settings:
        names = sorted(settings["trunk"].unique())
        if trunk not in (names if len(names) > 1 else [None, *names]):
            raise StudyError(f"Name the trunk to compare losses on: one of {', '.join(names)}.")
    elif trunk is not None:
        raise StudyError(f"The table of runs has no column trunk to find {trunk!r} in.")
    if "crops" in settings:
        rows = settings if trunk is None else settings[settings["trunk"] == trunk]
        if rows["crops"].nunique() > 1:
            told = ", ".join(f"{cell} {crops:,}" for cell, crops in rows["crops"].items())
            raise StudyError(f"Losses are compared at equal numbers of training crops, not {told}.")


def _both_lists(main: Resamples, other: Resamples, members, name: str) -> Cells:
    on_other = {
        f"{cell}@{name}": [f"{run}@{name}" for run in runs] for cell, runs in members.items()
    }
    return cells_of(with_other_list(main, other, name), members | on_other)

"""The papers' conclusions as stated tests: a claim, the runs it compares, a verdict from numbers.

Each conclusion of papers A and B is a sentence and a question: which log error rates it compares,
and on which side of which bound it says that their difference lies. "Better" means below 0; "not
worse" and "no gain" allow a relative margin that is stated beforehand; "sensitive" means a standard
deviation over settings above that margin. The answer:

supported        every 95 % interval lies wholly on the claimed side of its bound
contradicted     one lies wholly on the other side (after Holm's correction for their number)
undecided        neither, with these speakers and seeds, or not after Holm's correction for the
                 number of conclusions that the study tests
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

from studylib.errors import StudyError
from studylib.statistics.bootstrap import Resamples, rises
from studylib.statistics.comparisons import holm, speakers_needed
from studylib.statistics.intervals import cells_of
from studylib.statistics.questions import (
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

ALPHA = 0.05
UNTESTED = "not tested here"


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
        with low and high, claimed (the bound) and p against that bound (where it refutes, corrected
        for the number of comparisons); p_holm, corrected over all conclusions tested;
        speakers_needed to decide (undecided only; infinite: more seeds, not speakers); evidence and
        missing in words.

    Raises
    ------
    StudyError
        Columns, runs or a trunk missing, cells whose runs differ in more than their seed, or runs
        of one trunk trained on different numbers of crops.
    """
    study = _study(runs, resamples, trunk, margin)
    answers = [conclusion.question(study) for conclusion in CONCLUSIONS]
    rulings = [_rule(*answer) for answer in answers]
    decided = np.array([ruling.verdict != UNTESTED for ruling in rulings])
    corrected = np.where(decided, [ruling.p for ruling in rulings], np.nan)
    corrected[decided] = holm(corrected[decided])
    level = 1 - ALPHA / max(decided.sum(), 1)
    rows = [
        _row(conclusion, answer, ruling, p_holm, partial(_needed, study=study, level=level))
        for conclusion, answer, ruling, p_holm in zip(
            CONCLUSIONS, answers, rulings, corrected, strict=True
        )
    ]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Ruling:
    """A verdict by itself, the comparison that decides it, and how sure that is."""

    verdict: str
    decisive: Test | None
    p: float


def _rule(tests: list[Test], missing: list[str]) -> Ruling:
    """Decided by the surest refutation or by the weakest link."""
    if not tests:
        return Ruling(UNTESTED, None, np.nan)
    corrected = holm([test.p_value() for test in tests])
    refuting = [
        (p, number)
        for number, (p, test) in enumerate(zip(corrected, tests, strict=True))
        if p < ALPHA and test.on_wrong_side()
    ]
    if refuting:
        p, number = min(refuting)
        return Ruling("contradicted", tests[number], float(p))
    weakest = min(tests, key=Test.certainty)
    if missing:
        return Ruling(UNTESTED, weakest, weakest.p_value())
    verdict = "supported" if all(test.holds() for test in tests) else "undecided"
    return Ruling(verdict, weakest, weakest.p_value())


def _row(
    conclusion: Conclusion,
    answer: Answer,
    ruling: Ruling,
    p_holm: float,
    needed: Callable[[list[Test]], float],
) -> dict:
    tests, missing = answer
    verdict, evidence = ruling.verdict, [test.sentence() for test in tests]
    if verdict in ("supported", "contradicted") and p_holm >= ALPHA:
        evidence.append(f"{verdict} were it the only question (p {ruling.p:.2g})")
        verdict = "undecided"
    undecided = verdict == "undecided"
    if any(np.isnan(test.contrast.seed_sd) for test in tests) and verdict != UNTESTED:
        verdict += ", one seed"
    row = {"id": conclusion.id, "claim": conclusion.claim, "verdict": verdict}
    row |= dict.fromkeys(["effect", "low", "high", "claimed"], np.nan)
    if ruling.decisive is not None:
        contrast = ruling.decisive.contrast
        values = np.expm1([contrast.value, *contrast.interval(), ruling.decisive.bound])
        row |= dict(zip(["effect", "low", "high", "claimed"], values, strict=True))
    return row | {
        "p": ruling.p,
        "p_holm": p_holm,
        "speakers_needed": needed(tests) if undecided else np.nan,
        "evidence": "; ".join(evidence),
        "missing": "; ".join(missing),
    }


def _needed(tests: list[Test], *, study: Study, level: float) -> float:
    """How many speakers would decide the question, were all values to stay as they are.

    One comparison on the wrong side is enough to contradict; all must hold to support. `level` is
    that of Bonferroni's intervals for the conclusions tested.
    """
    wrong = [test for test in tests if test.on_wrong_side()]
    if wrong:
        level = 1 - (1 - level) / len(tests)
    numbers = [
        speakers_needed(
            test.contrast,
            study.cells.n_speakers,
            distance=abs(test.contrast.value - test.bound),
            level=level,
        )
        for test in wrong or tests
    ]
    return min(numbers) if wrong else max(numbers)


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
        rises={name: cells_of(rises(first[1], other, name), members) for name, other in others},
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

"""The papers' conclusions as stated tests: a claim, what it compares, a verdict from numbers.

supported        every 95 % interval lies wholly on the claimed side of its bound
contradicted     one lies wholly on the other side (after Holm's correction for their number)
undecided        neither, with these speakers and seeds, or not after Holm's correction for the
                 number of conclusions that the study tests
not tested here  runs that the claim needs do not exist; they are named

Without repeated seeds a verdict holds for these networks only and ends with ", one seed".

References
----------
A: Coria et al. 2020. B: Chung et al. 2020. Which numbers test a claim is this study's choice.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd

from studylib.statistics import evidence
from studylib.statistics.comparisons import holm, speakers_needed
from studylib.statistics.evidence import Comparison, Study
from studylib.statistics.intervals import cells_of
from studylib.statistics.resampling import Resamples, ratios

ALPHA = 0.05
UNTESTED = "not tested here"

CLAIMS = {
    "B1": "Vanilla triplet is competitive with most settings of AM- and AAM-softmax.",
    "B2": "AM- and AAM-softmax are very sensitive to margin and scale.",
    "B3": "GE2E and prototypical beat triplet.",
    "B4": "Angular prototypical is the best of all losses.",
    "B5": "Two utterances a speaker, as in the test, are the best for prototypical.",
    "B6": "A larger batch helps metric losses and not classification.",
    "A1": "AAM-softmax is the best of softmax, CoCo, AAM, center, contrastive and triplet.",
    "A2": "AAM-softmax's embeddings are more robust: harder trials cost it less than other losses.",
    "A3": "SincTDNN with AAM-softmax and cosine is competitive with x-vector and PLDA.",
}
MARGINS = ("am_softmax", "aam_softmax")
PROTOTYPES = ("prototypical", "angular_prototypical")
OTHERS_OF_B = ("softmax", *MARGINS, "triplet", "ge2e", "prototypical")
OTHERS_OF_A = ("softmax", "coco", "center", "contrastive", "triplet")
SINC_TDNN = {"trunk": "sinc_xvector", "loss": "aam_softmax", "backend": "cosine"}
X_VECTOR = {"trunk": "xvector", "backend": "plda"}
EVIDENCE = {
    "B1": partial(evidence.not_worse_than_most, loss="triplet", than=MARGINS),
    "B2": partial(evidence.sensitive, losses=MARGINS),
    "B3": partial(evidence.better, losses=("ge2e", "prototypical"), than=("triplet",)),
    "B4": partial(evidence.better, losses=("angular_prototypical",), than=OTHERS_OF_B),
    "B5": partial(evidence.best, loss="prototypical", column="utterances_per_speaker", value=2),
    "B6": partial(evidence.gain, column="batch", helps=PROTOTYPES, not_helps=MARGINS),
    "A1": partial(evidence.better, losses=("aam_softmax",), than=OTHERS_OF_A),
    "A2": partial(evidence.degrades_less, loss="aam_softmax", than=OTHERS_OF_A),
    "A3": partial(evidence.systems_compete, first=SINC_TDNN, second=X_VECTOR),
}
FACTS = ("effect", "low", "high", "claimed", "p", "side")  # of the comparison that decides
COLUMNS = ("id", "claim", "verdict", *FACTS, "p_holm", "speakers_needed", "evidence", "missing")


def verdicts(
    runs: pd.DataFrame,
    resamples: Mapping[str, Resamples],
    *,
    trunk: str | None = None,
    tolerance: float = 0.1,
) -> pd.DataFrame:
    """Test every conclusion on a study's runs.

    Parameters
    ----------
    runs : DataFrame
        One row a run (index: its name in `resamples`), all trained on equally many crops. Columns
        cell (runs of one cell differ in their seed alone), loss, seed, crops, chosen (bool: the
        loss's setting chosen on development speakers), tried (from how many), rates (from how many
        learning rates the cell was chosen, all else equal; 0: another was), margin, scale,
        utterances_per_speaker, batch, trunk, backend.
    resamples : trial list -> Resamples
        The first list decides; others, of the same speakers, are the harder lists of A2.
    trunk : str, optional
        On which losses are compared; the only one unless given.
    tolerance : float
        Relative: what "competitive", "no gain" and "sensitive" mean.

    Returns
    -------
    DataFrame
        One row a conclusion: id, claim, verdict; of the decisive comparison its relative effect
        with low and high, claimed (the bound), p against that bound (where it refutes, corrected
        for the number of comparisons) and the claimed side of it, "above" or "below"; p_holm,
        corrected over all conclusions tested; speakers_needed to decide (undecided only; infinite:
        more seeds, not speakers); evidence and missing in words.
    """
    assert runs["crops"].nunique() == 1
    settings = runs.drop(columns="seed").groupby("cell", sort=False).first()
    members = {cell: list(group.index) for cell, group in runs.groupby("cell", sort=False)}
    (_, main), *others = resamples.items()
    cells = cells_of(main, members)
    harder = {name: cells_of(ratios(main, other, name), members) for name, other in others}
    trunk = trunk or settings["trunk"].iloc[0]
    study = Study(settings, cells, harder, float(np.log1p(tolerance)), trunk)
    rows = []
    for id, claim in CLAIMS.items():
        found = list(EVIDENCE[id](study))
        comparisons = [part for part in found if isinstance(part, Comparison)]
        missing = [part for part in found if isinstance(part, str)]
        row = {"id": id, "claim": claim, "comparisons": comparisons, "missing": missing}
        row["evidence"] = [each.sentence() for each in comparisons]
        rows.append(row | _decided(comparisons, missing))
    tested = [row for row in rows if row["verdict"] != UNTESTED]
    level = 1 - ALPHA / max(len(tested), 1)  # Bonferroni's, for the speakers needed
    for row, p_holm in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = p_holm
        if row["verdict"] != "undecided" and p_holm >= ALPHA:
            row["evidence"].append(f"{row['verdict']} by itself (p {row['p']:.2g})")
            row["verdict"] = "undecided"
        if row["verdict"] == "undecided":
            row["speakers_needed"] = _needed(row["comparisons"], level)
        if max(cells.n_seeds) == 1:
            row["verdict"] += ", one seed"
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.assign(**{name: table[name].map("; ".join) for name in ("evidence", "missing")})


def _decided(comparisons: list[Comparison], missing: list[str]) -> dict:
    """The verdict of a conclusion alone: by its surest refutation, or its least sure comparison."""
    if not comparisons:
        return {"verdict": UNTESTED}
    facts = pd.DataFrame([each.facts() for each in comparisons])
    certainties = np.array([each.certainty() for each in comparisons])
    refuting = np.where(certainties < 0, holm(facts["p"]), 1.0)
    decisive, verdict = certainties.argmin(), "undecided"
    if refuting.min() < ALPHA:
        decisive, verdict, facts["p"] = refuting.argmin(), "contradicted", refuting
    elif missing:
        verdict = UNTESTED
    elif (certainties > 0).all() and (facts["p"] < ALPHA).all():
        verdict = "supported"
    return {"verdict": verdict} | facts.loc[decisive].to_dict()


def _needed(comparisons: list[Comparison], level: float) -> float:
    """Number of speakers that would decide a conclusion, at the same values.

    One comparison on the wrong side is enough to contradict; all must hold to support.
    """
    wrong = [each for each in comparisons if each.certainty() < 0]
    level = 1 - (1 - level) / len(comparisons) if wrong else level
    numbers = [
        speakers_needed(each.contrast, bound=each.bound, level=level)
        for each in wrong or comparisons
    ]
    return min(numbers) if wrong else max(numbers)

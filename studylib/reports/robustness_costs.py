"""Which losses survive: error rates by condition and by kind of trial, and what they cost.

Within one question all runs and all levels are read on the same resamples of the test speakers:
what a level costs a run, and whether it costs that run more than the others, are paired
comparisons, made on the logarithm of the error rate as everywhere (see statistics.py). So are two
kinds of trial, where both are of the same speakers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from studylib.corpora.trials import is_known
from studylib.evaluation.scores import trial_scores
from studylib.reports.robustness import Condition, Questions
from studylib.statistics.bootstrap import bootstrap, rises
from studylib.statistics.comparisons import holm
from studylib.statistics.intervals import Cells, Contrast, cells_of, interval_of

FEWEST_SPEAKERS = 5  # a kind of trial with fewer has no interval worth showing
RATES = ("run", "loss", "question", "level", "eer", "low", "high")
COSTS = ("run", "loss", "question", "reference", "hardest")
COSTS += ("ratio", "low", "high", "relative", "p_holm")
KIND = "kind of trial"
HARDER = (("all", "same sex"), ("all", "same accent"), ("within a session", "across sessions"))


def condition_rates(
    embeddings: Mapping[Condition, Mapping[str, np.ndarray]],
    questions: Questions,
    scorings: Mapping[str, str],
    losses: Mapping[str, str | None],
    speakers: np.ndarray,
    n_resamples: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Error rates at every level of every question, and what the hardest level costs.

    Parameters
    ----------
    embeddings : condition -> run -> (U, D)
        From `embed_degraded`.
    scorings, losses : run -> how its trials are scored, its loss (None if untrained)
    speakers : (U,) str
        All pairs of the U utterances are trials.

    Returns
    -------
    DataFrame
        run, loss, question, level, eer, low, high: fractions, with 95 % intervals over speakers.
    DataFrame
        See `costs`.
    """
    first, second = np.triu_indices(len(speakers), k=1)
    targets = speakers[first] == speakers[second]
    rates, prices = [], []
    for question, levels in questions.items():
        if len(levels) < 2:
            continue
        scores = {
            (run, level): trial_scores(
                vectors[:, None], first, second, scoring=scorings[run], block=1024
            )
            for level, condition in levels.items()
            for run, vectors in embeddings[condition].items()
        }
        named = {_name(*key): values for key, values in scores.items()}
        of_sides = targets, speakers[first], speakers[second]
        resamples = bootstrap(named, *of_sides, n_resamples=n_resamples)
        cells = cells_of(resamples, {name: [name] for name in named})
        rates.append(_rows(cells, {_name(*key): key for key in scores}, losses, question))
        reference, *_, hardest = levels

        def growth(weights, cells=cells, reference=reference, hardest=hardest):
            ends = {_name(run, hardest): weight for run, weight in weights.items()}
            ends |= {_name(run, reference): -weight for run, weight in weights.items()}
            return cells.contrast(ends)

        prices.append(costs(growth, losses, question, reference, hardest))
    return _joined(rates, RATES), _joined(prices, COSTS)


def _joined(parts: list[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def costs(
    growth: Callable[[Mapping[str, float]], Contrast],
    losses: Mapping[str, str | None],
    question: str,
    reference: str,
    hardest: str,
) -> pd.DataFrame:
    """How many times each run's error rate grows from the reference to the hardest level.

    Parameters
    ----------
    growth : callable
        Weights of runs -> the weighted sum of the growth of their log error rates.

    Returns
    -------
    DataFrame
        run, loss, question, reference, hardest, ratio, low, high (95 % interval over speakers),
        relative (the ratio divided by the trained runs' geometric mean, minus 1) and p_holm (the
        hypothesis that relative is 0, corrected over the trained runs). The last two are nan for
        untrained runs and where fewer than two runs are trained.
    """
    trained = [run for run, loss in losses.items() if loss is not None]
    mean = dict.fromkeys(trained, 1 / max(len(trained), 1))
    rows = []
    for run, loss in losses.items():
        own = growth({run: 1.0})
        low, high = np.exp(own.interval())
        row = {"run": run, "loss": loss, "question": question}
        row |= {"reference": reference, "hardest": hardest}
        row |= {"ratio": float(np.exp(own.value)), "low": float(low), "high": float(high)}
        row |= {"relative": np.nan, "p_holm": np.nan}
        if loss is not None and len(trained) > 1:
            against = growth({each: (each == run) - share for each, share in mean.items()})
            row |= {"relative": float(np.expm1(against.value)), "p_holm": against.p_value()}
        rows.append(row)
    table = pd.DataFrame(rows).astype({"loss": object})
    tested = table["p_holm"].notna()
    if tested.any():
        table.loc[tested, "p_holm"] = holm(table.loc[tested, "p_holm"])
    return table


def trial_kinds(trials: pd.DataFrame, utterances: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """The kinds of trial the corpus can tell apart: (name, mask (T,) bool).

    Sex and accent restrict non-targets to speakers who share them; a session restricts targets to
    pairs within one, or across two. What a corpus does not know is left out, and so is a kind that
    leaves fewer than five speakers.

    Parameters
    ----------
    trials : DataFrame
        first, second (index values of `utterances`), target, first_speaker, second_speaker.
    utterances : DataFrame
        Columns session, and sex and accent where they are known.
    """
    target = trials["target"].to_numpy()

    def sides(column: str) -> list[np.ndarray]:
        values = utterances[column]
        return [values.loc[trials[side]].to_numpy() for side in ("first", "second")]

    def shared(column: str) -> np.ndarray:
        first, second = sides(column)
        known = pd.Series(is_known(utterances[column]), utterances.index)
        return (first == second) & known.loc[trials["first"]].to_numpy()

    kinds = {"all": np.ones(len(trials), dtype=bool)}
    if "sex" in utterances:
        first, second = sides("sex")
        kinds["same sex"] = shared("sex")
        kinds |= {
            name: (first == sex) & (second == sex) for name, sex in (("women", "f"), ("men", "m"))
        }
    if "accent" in utterances:
        kinds["same accent"] = shared("accent")
    first, second = sides("session")
    if (within := target & (first == second)).any():
        kinds["within a session"] = within | ~target
        kinds["across sessions"] = ~within
    for name, mask in kinds.items():
        found = trials.loc[mask & target, "first_speaker"].nunique()
        if found >= FEWEST_SPEAKERS and (mask & ~target).any():
            yield name, mask


def trial_rates(
    scores: Mapping[str, np.ndarray],
    trials: pd.DataFrame,
    utterances: pd.DataFrame,
    losses: Mapping[str, str | None],
    n_resamples: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Error rates of each kind of trial, from scores (T,) of one list that exist already.

    Returns
    -------
    DataFrame
        run, loss, question ("kind of trial"), level, eer, low, high.
    DataFrame
        See `costs`: of same sex and same accent against all, of two sessions against one, where
        both kinds are of the same speakers.
    """
    runs = {run: [run] for run in scores}
    resamples, parts, prices = {}, [], []
    for level, mask in trial_kinds(trials, utterances):
        part = trials[mask]
        resamples[level] = bootstrap(
            {run: of_run[mask] for run, of_run in scores.items()},
            part["target"].to_numpy(),
            *(part[f"{side}_speaker"].to_numpy(str) for side in ("first", "second")),
            n_resamples=n_resamples,
        )
        cells = cells_of(resamples[level], runs)
        parts.append(_rows(cells, {run: (run, level) for run in runs}, losses, KIND))
    for reference, hardest in HARDER:
        main, other = resamples.get(reference), resamples.get(hardest)
        if main and other and main.speaker_names == other.speaker_names:
            growth = cells_of(rises(main, other, hardest), runs).contrast
            prices.append(costs(growth, losses, KIND, reference, hardest))
    return _joined(parts, RATES), _joined(prices, COSTS)


def _rows(
    cells: Cells, keys: Mapping[str, tuple[str, str]], losses: Mapping, question: str
) -> pd.DataFrame:
    """One row a cell; `keys` are run and level of each."""
    rows = []
    for name, (run, level) in keys.items():
        interval = interval_of(cells, name)
        rate = {"eer": interval.estimate, "low": interval.low, "high": interval.high}
        rows.append({"run": run, "loss": losses[run], "question": question, "level": level} | rate)
    return pd.DataFrame(rows).astype({"loss": object})


def _name(run: str, level: str) -> str:
    return f"{run}, {level}"


def summary(rates: pd.DataFrame) -> pd.DataFrame:
    """One row a question and level: best run, its EER, and whether the order of runs is kept.

    `median_eer` is over the trained runs; `rank_correlation` is Spearman's, of the trained runs'
    EERs with those at the question's first level.
    """
    trained = rates[rates["loss"].notna()]
    rows = []
    for (question, level), cell in trained.groupby(["question", "level"], sort=False):
        eers = cell.set_index("run")["eer"]
        of_question = trained[trained["question"] == question]
        first = of_question[of_question["level"] == of_question["level"].iloc[0]]
        ranks = pd.DataFrame({"here": eers, "first": first.set_index("run")["eer"]}).rank()
        row = {"question": question, "level": level, "best_run": eers.idxmin()}
        row |= {"best_eer": eers.min(), "median_eer": eers.median()}
        rows.append(row | {"rank_correlation": ranks["here"].corr(ranks["first"])})
    return pd.DataFrame(rows)

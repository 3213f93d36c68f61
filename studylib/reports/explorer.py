"""What the explorer of embeddings.ipynb says of each run: neighbours, confusions, outliers.

Scores are cosines of the utterances' vectors, over all pairs of the utterances shown, for all
losses alike. A pair is judged at the threshold at which the run's misses equal its false alarms.
"""

from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from studylib.corpora.store import open_corpus
from studylib.reports.corpus import player
from studylib.reports.embeddings import Embeddings
from studylib.reports.study import read_manifest
from studylib.statistics.error_rates import equal_error_point, operating_points

NEIGHBOURS = 5
SHOWN = 10  # rows of each table
SOUND_BYTES = 4_300_000  # of all clips together, about
CLIP_SECONDS = (1.0, 3.0)  # a clip at least and at most
BYTES_A_SECOND = 5_400  # of MP3 as text


def misjudged(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How far each trial is on the wrong side of the threshold of equal errors.

    Parameters
    ----------
    scores : (T,) float
    targets : (T,) bool

    Returns
    -------
    (T,) float64
        In standard deviations of all scores; positive for a miss or a false alarm.
    """
    _, threshold = equal_error_point(*operating_points(scores, targets))
    return np.where(targets, threshold - scores, scores - threshold) / scores.std()


def wrong_then_right(wrong: np.ndarray, right: np.ndarray, most: int = SHOWN) -> np.ndarray:
    """The trials that one run gets wrong and another right, (at most `most`,) int.

    Parameters
    ----------
    wrong, right : (T,) float
        From `misjudged`. Trials on which the two differ most come first.
    """
    places = np.flatnonzero((wrong > 0) & (right <= 0))
    return places[np.argsort(right[places] - wrong[places], kind="stable")[:most]]


@threadpool_limits.wrap(limits=1)
def utterance_table(embeddings: Embeddings) -> dict[str, dict[str, np.ndarray]]:
    """What each run makes of each utterance.

    Returns
    -------
    dict
        <run>-<seed> -> own (U,), the mean cosine with the speaker's other utterances (nan where
        there are none); other (U,), the highest mean cosine with the utterances of another
        speaker; nearest (U,), this speaker; neighbours (U, 5), the rows of the nearest utterances.
    """
    names, numbers = np.unique(embeddings.utterances["speaker"], return_inverse=True)
    counts = np.bincount(numbers)
    own_place = np.arange(len(numbers)), numbers
    tables = {}
    for run, vectors in embeddings.vectors.items():
        cosines = vectors @ vectors.T
        sums = cosines @ np.eye(len(names))[numbers]
        with np.errstate(invalid="ignore"):
            own = (sums[own_place] - 1) / np.where(counts == 1, np.nan, counts - 1)[numbers]
        means = sums / counts
        means[own_place] = -np.inf
        np.fill_diagonal(cosines, -np.inf)
        tables[run] = {
            "own": own,
            "other": means.max(axis=1),
            "nearest": names[means.argmax(axis=1)],
            "neighbours": np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBOURS],
        }
    return tables


@threadpool_limits.wrap(limits=1)
def findings(embeddings: Embeddings, tables: dict[str, dict[str, np.ndarray]]) -> pd.DataFrame:
    """The most confused speakers and outliers of each run, and what another run gets right.

    Parameters
    ----------
    embeddings : Embeddings
    tables : dict
        From `utterance_table`.

    Returns
    -------
    DataFrame
        kind ("speakers", "outliers" or "differences"), run, right (the run that is right; empty but
        for differences), what, numbers (texts), first and second (rows of the utterances to hear).
    """
    utterances = embeddings.utterances
    speakers, ids = (utterances[name].to_numpy(str) for name in ("speaker", "id"))
    first, second = np.triu_indices(len(utterances), 1)
    same = speakers[first] == speakers[second]
    sides = np.sort([speakers[first], speakers[second]], axis=0)
    pairs = pd.DataFrame({"a": sides[0], "b": sides[1]})[~same]
    cosines, wrong, rows = {}, {}, []
    for run, vectors in embeddings.vectors.items():
        cosines[run] = (vectors @ vectors.T)[first, second].astype(np.float32)
        wrong[run] = misjudged(cosines[run], same).astype(np.float32)
        between = pairs.assign(accepted=wrong[run][~same] > 0, cosine=cosines[run][~same])
        rows += [("speakers", run, "", *row) for row in _confused(between, first, second)]
        rows += [("outliers", run, "", *row) for row in _outliers(tables[run], ids)]
    for run, right in permutations(wrong, 2):
        for place in wrong_then_right(wrong[run], wrong[right]):
            kind = "missed: one speaker" if same[place] else "accepted: two speakers"
            what = f"{ids[first[place]]} and {ids[second[place]]}, {kind}"
            numbers = f"cosine {cosines[run][place]:.2f}, under B {cosines[right][place]:.2f}"
            rows.append(("differences", run, right, what, numbers, first[place], second[place]))
    columns = ["kind", "run", "right", "what", "numbers", "first", "second"]
    return pd.DataFrame(rows, columns=columns)


def _confused(between: pd.DataFrame, first: np.ndarray, second: np.ndarray) -> Iterator[tuple]:
    """The pairs of speakers with most false alarms, and their most similar two utterances."""
    groups = between.groupby(["a", "b"])
    table = groups.agg(
        n=("accepted", "size"), accepted=("accepted", "sum"), mean=("cosine", "mean")
    )
    table["best"] = groups["cosine"].idxmax()
    table["share"], whole = table["accepted"] / table["n"], max(table["accepted"].sum(), 1)
    for (a, b), row in table.nlargest(SHOWN, ["share", "mean"]).iterrows():
        numbers = f"{100 * row['share']:.0f} % of {row['n']:.0f} pairs of utterances accepted"
        numbers += f", {100 * row['accepted'] / whole:.1f} % of all false alarms"
        yield f"{a} and {b}", numbers, first[int(row["best"])], second[int(row["best"])]


def _outliers(table: dict[str, np.ndarray], ids: np.ndarray) -> Iterator[tuple]:
    """The utterances nearest to another speaker for their own's distance, and a neighbour."""
    for row in np.argsort(table["own"] - table["other"], kind="stable")[:SHOWN]:
        own, other, nearest = (table[name][row] for name in ("own", "other", "nearest"))
        numbers = f"cosine with its own speaker {own:.2f}, with {nearest} {other:.2f}"
        yield ids[row], numbers, row, table["neighbours"][row][0]


def sounds(embeddings: Embeddings, folder: Path) -> list[str]:
    """A clip of each utterance as a data URI, short enough that all fit into one page.

    Empty if `folder` does not hold the corpus that the runs were measured on.
    """
    manifest = read_manifest(embeddings.runs["folder"].iloc[0])
    if not (folder / "corpus.json").exists():
        return []
    corpus, utterances = open_corpus(folder), embeddings.utterances
    if corpus.description["checksums"] != manifest["corpus"]["checksums"]:
        return []
    seconds = np.clip(SOUND_BYTES / BYTES_A_SECOND / len(utterances), *CLIP_SECONDS)
    rows = pd.Index(corpus.utterances["id"]).get_indexer(utterances["id"])
    return [player(corpus.samples(row), seconds).src_attr() for row in rows]


def export(embeddings: Embeddings, maps: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write coordinates and vectors for other tools.

    Parameters
    ----------
    maps : method -> DataFrame
        From `embedding_map`.
    folder : Path
        Gets coordinates.csv (method, and the columns of the maps), vectors.parquet (id, run, v0,
        v1 ...), metadata.tsv (with a header) and for each run <run>-<seed>.tsv, vectors without a
        header: the pair that embedding projectors read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    points = pd.concat(maps, names=["method", None]).reset_index("method")
    points.to_csv(folder / "coordinates.csv", index=False, float_format="%.6g")
    embeddings.utterances.to_csv(folder / "metadata.tsv", sep="\t", index=False)
    ids, tables = embeddings.utterances["id"], {}
    for run, vectors in embeddings.vectors.items():
        tables[run] = pd.DataFrame(vectors.astype(np.float32), ids).add_prefix("v")
        plain = {"sep": "\t", "header": False, "index": False, "float_format": "%.6g"}
        tables[run].to_csv(folder / f"{run}.tsv", **plain)
    pd.concat(tables, names=["run"]).reset_index().to_parquet(folder / "vectors.parquet")

"""Embeddings of several runs, of the same utterances: maps, neighbours, confusions, outliers.

All vectors have length 1, so that only directions count, as in cosine scoring. Scores are cosines
of the utterances' vectors, over all pairs of the utterances shown, for all losses alike. A pair is
judged at the threshold at which the run's misses equal its false alarms.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from studylib.corpora.store import open_corpus
from studylib.errors import StudyError
from studylib.evaluation.scores import mean_unit_embeddings
from studylib.files.tables import read_parquet
from studylib.reports.corpus import player
from studylib.reports.study import Study, experiments_in, read_manifest, some_utterances
from studylib.statistics.error_rates import equal_error_point, operating_points

NEIGHBOURS = 5
SHOWN = 10  # rows of each table
SOUND_BYTES = 4_300_000  # of all clips together, about
CLIP_SECONDS = (1.0, 3.0)  # a clip at least and at most
BYTES_A_SECOND = 5_400  # of MP3 as text


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of the same U utterances by each of R runs.

    Attributes
    ----------
    utterances : DataFrame
        U rows: id, speaker, and the corpus's other columns.
    runs : DataFrame
        Index <run>-<seed>; columns run, seed, loss (None for untrained networks and baselines),
        folder, and eer (a fraction), of the trial list named as the split, else of the first.
    vectors : dict
        <run>-<seed> -> (U, D) float64: the mean of each utterance's crops (each crop scaled to
        length 1), scaled to length 1.
    """

    utterances: pd.DataFrame
    runs: pd.DataFrame
    vectors: dict[str, np.ndarray]


def read_embeddings(
    study: Study, runs: Sequence[str], seeds: Sequence[int], split: str, size: tuple[int, int]
) -> Embeddings:
    """The same utterances of one split, as every run embeds them.

    Parameters
    ----------
    runs : sequence of str
        Runs, each with all `seeds`, and baselines (whose only seed is 0).
    size : (int, int)
        Most speakers, and most utterances of each: a larger split is sampled at random.

    Raises
    ------
    StudyError
        If a run has no results, results of other utterances than the first run, or no utterances
        of the split.
    """
    table = experiments_in(study.experiments(seeds, runs))
    table["eer"] = table.get(f"eer_{split}", table["eer"])
    vectors, first = {}, None
    for run, folder in table["folder"].items():
        utterances = read_parquet(folder / "utterances.parquet").reset_index(drop=True)
        first = utterances if first is None else first
        if not utterances["id"].equals(first["id"]):
            raise StudyError(f"{folder} holds other utterances than the results of {runs[0]}")
        chosen = some_utterances(first, split, *size)
        crops = np.load(folder / "embeddings.npy", mmap_mode="r")
        mean = mean_unit_embeddings(crops[chosen])
        vectors[run] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    shown = first.iloc[chosen].reset_index(drop=True)
    return Embeddings(shown, table[["run", "seed", "loss", "eer", "folder"]], vectors)


@threadpool_limits.wrap(limits=1)  # matrices this small take 100 times longer on busy cores
def embedding_map(embeddings: Embeddings, method: str = "pca") -> pd.DataFrame:
    """A map of the utterances for each run: one row an utterance and run.

    Each map is rotated to match the first (orthogonal Procrustes problem, Schönemann 1966), so a
    speaker lies at about the same place in all maps; distances do not change.

    Parameters
    ----------
    method : "pca", "umap" or "tsne"
        The two directions of most variance; or a map that preserves near neighbours by cosine.

    Returns
    -------
    DataFrame
        The columns of the utterances, and run (as <run>-<seed>), x and y.
    """
    parts, first = [], None
    for run, vectors in embeddings.vectors.items():
        points = _points(vectors, method)
        points -= points.mean(axis=0)
        first = points if first is None else first
        x, y = (points @ orthogonal_procrustes(points, first)[0]).T
        parts.append(embeddings.utterances.assign(run=run, x=x, y=y))
    return pd.concat(parts, ignore_index=True)


def _points(vectors: np.ndarray, method: str) -> np.ndarray:
    """Places (U, 2) of vectors (U, D); the same vectors give the same places."""
    if method == "pca":
        return PCA(2, random_state=0).fit_transform(vectors)
    if method == "tsne":
        tsne = TSNE(perplexity=min(30, len(vectors) / 4), metric="cosine", random_state=0)
        return tsne.fit_transform(vectors)
    if method != "umap":
        raise StudyError(f"no map {method!r}: expected pca, tsne or umap")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # no widgets wanted
        from umap import UMAP  # late: it is compiled at import, for many seconds
    umap = UMAP(min(15, len(vectors) - 1), metric="cosine", random_state=0, n_jobs=1)
    return umap.fit_transform(vectors)


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


def wrong_then_right(wrong: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The trials that one run gets wrong and another right, (at most SHOWN,) int.

    Parameters
    ----------
    wrong, right : (T,) float
        From `misjudged`. Trials on which the two differ most come first.
    """
    places = np.flatnonzero((wrong > 0) & (right <= 0))
    return places[np.argsort(right[places] - wrong[places], kind="stable")[:SHOWN]]


@threadpool_limits.wrap(limits=1)
def utterance_tables(embeddings: Embeddings) -> dict[str, pd.DataFrame]:
    """What each run makes of each utterance.

    Returns
    -------
    dict
        <run>-<seed> -> U rows: own, the mean cosine with the speaker's other utterances (nan where
        there are none); other, the highest mean cosine with the utterances of another speaker;
        nearest, this speaker; neighbour0 to neighbour4, the rows of the nearest utterances.
    """
    speakers, tables = embeddings.utterances["speaker"].to_numpy(), {}
    for run, vectors in embeddings.vectors.items():
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, np.nan)
        means = pd.DataFrame(cosines).groupby(speakers).mean()
        own = np.equal.outer(means.index.to_numpy(), speakers)
        others = means.mask(own)
        table = {"own": means.where(own).max(), "other": others.max(), "nearest": others.idxmax()}
        near = pd.DataFrame(np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBOURS])
        tables[run] = pd.DataFrame(table).join(near.add_prefix("neighbour"))
    return tables


@threadpool_limits.wrap(limits=1)
def findings(embeddings: Embeddings, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The most confused speakers and outliers of each run, and what another run gets right.

    Parameters
    ----------
    embeddings : Embeddings
    tables : dict
        From `utterance_tables`.

    Returns
    -------
    DataFrame
        kind ("speakers", "outliers" or "differences"), run, right (the run that is right; empty but
        for differences), what, numbers (texts), first and second (rows of the utterances to hear).
    """
    speakers, ids = (embeddings.utterances[name].to_numpy(str) for name in ("speaker", "id"))
    first, second = np.triu_indices(len(ids), 1)
    same = speakers[first] == speakers[second]
    sides = np.sort([speakers[first], speakers[second]], axis=0)
    pairs = pd.DataFrame({"a": sides[0], "b": sides[1], "first": first, "second": second})
    cosines, wrong, rows = {}, {}, []
    for run, vectors in embeddings.vectors.items():
        cosines[run] = (vectors @ vectors.T)[first, second].astype(np.float32)
        wrong[run] = misjudged(cosines[run], same).astype(np.float32)
        between = pairs.assign(accepted=wrong[run] > 0, cosine=cosines[run])[~same]
        rows += [("speakers", run, "", *row) for row in _confused(between)]
        rows += [("outliers", run, "", *row) for row in _outliers(tables[run], ids)]
    for run, right in permutations(wrong, 2):
        for place in wrong_then_right(wrong[run], wrong[right]):
            kind = "missed: one speaker" if same[place] else "accepted: two speakers"
            what = f"{ids[first[place]]} and {ids[second[place]]}, {kind}"
            numbers = f"cosine {cosines[run][place]:.2f}, under B {cosines[right][place]:.2f}"
            rows.append(("differences", run, right, what, numbers, first[place], second[place]))
    columns = ["kind", "run", "right", "what", "numbers", "first", "second"]
    return pd.DataFrame(rows, columns=columns)


def _confused(between: pd.DataFrame) -> Iterator[tuple]:
    """The pairs of speakers with most false alarms, and their most similar two utterances."""
    groups = between.groupby(["a", "b"])
    table = groups.agg(share=("accepted", "mean"), cosine=("cosine", "mean"), n=("a", "size"))
    table["alike"] = groups["cosine"].idxmax()
    for (a, b), row in table.nlargest(SHOWN, ["share", "cosine"]).iterrows():
        alike = between.loc[int(row["alike"])]
        numbers = f"{100 * row['share']:.0f} % of {row['n']:.0f} pairs of utterances accepted"
        yield f"{a} and {b}", numbers, alike["first"], alike["second"]


def _outliers(table: pd.DataFrame, ids: np.ndarray) -> Iterator[tuple]:
    """The utterances nearest to another speaker for their own's distance, and a neighbour."""
    for row in (table["own"] - table["other"]).nsmallest(SHOWN).index:
        own, other, nearest, neighbour = table.loc[row].iloc[:4]
        numbers = f"cosine with its own speaker {own:.2f}, with {nearest} {other:.2f}"
        yield ids[row], numbers, row, neighbour


def sounds(embeddings: Embeddings, folder: Path) -> list[str]:
    """A clip of each utterance as a data URI, short enough that all fit into one page.

    Empty if `folder` does not hold the corpus that the runs were measured on.
    """
    if not (folder / "corpus.json").exists():
        return []
    corpus, utterances = open_corpus(folder), embeddings.utterances
    measured_on = read_manifest(embeddings.runs["folder"].iloc[0])["corpus"]
    if corpus.description["checksums"] != measured_on["checksums"]:
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
        Gets coordinates.csv (method, row, and the columns of the maps), vectors.parquet (run, id,
        v0, v1 ...), metadata.tsv (with a header) and for each run <run>-<seed>.tsv, vectors without
        a header: the pair that embedding projectors read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(maps, names=["method", "row"]).to_csv(folder / "coordinates.csv", float_format="%.6g")
    embeddings.utterances.to_csv(folder / "metadata.tsv", sep="\t", index=False)
    for run, vectors in embeddings.vectors.items():
        np.savetxt(folder / f"{run}.tsv", vectors, "%.6g", "\t")
    ids = embeddings.utterances["id"]
    tables = {run: pd.DataFrame(each, ids) for run, each in embeddings.vectors.items()}
    vectors = pd.concat(tables, names=["run"]).astype(np.float32).add_prefix("v")
    vectors.reset_index().to_parquet(folder / "vectors.parquet")

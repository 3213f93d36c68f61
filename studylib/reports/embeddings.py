"""Embeddings of several runs, of the same utterances, and maps of them.

All vectors have length 1, so that only directions count, as in cosine scoring.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from studylib.errors import StudyError
from studylib.evaluation.scores import mean_unit_embeddings
from studylib.files.documents import unknown
from studylib.files.tables import read_parquet
from studylib.reports.study import Study, experiments_in, some_utterances

METHODS = ("pca", "umap", "tsne")


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
    study: Study,
    runs: Sequence[str],
    seeds: Sequence[int],
    *,
    split: str = "test",
    n_speakers: int = 200,
    n_utterances: int = 10,
) -> Embeddings:
    """The same utterances of one split, as every run embeds them.

    Parameters
    ----------
    runs : sequence of str
        Runs, each with all `seeds`, and baselines (whose only seed is 0).
    n_speakers, n_utterances : int
        Most speakers, and most utterances of each: a larger split is sampled at random.

    Raises
    ------
    StudyError
        If a run has no results, results of other utterances than the first run, or no utterances
        of the split.
    """
    named = [(run, s) for run in runs for s in ([0] if run in study.baselines else seeds)]
    table = experiments_in(study.experiment(run, seed) for run, seed in named)
    table["eer"] = table.get(f"eer_{split}", table["eer"])
    vectors, first = {}, None
    for run, folder in table["folder"].items():
        utterances = read_parquet(folder / "utterances.parquet").reset_index(drop=True)
        first = utterances if first is None else first
        if not utterances["id"].equals(first["id"]):
            raise StudyError(f"{folder} holds other utterances than the results of {runs[0]}")
        chosen = some_utterances(first, split, n_speakers, n_utterances)
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
    if method not in METHODS:
        raise StudyError(unknown("unknown method", method, METHODS))
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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # no widgets wanted
        from umap import UMAP  # late: it is compiled at import, for many seconds
    umap = UMAP(min(15, len(vectors) - 1), metric="cosine", random_state=0, n_jobs=1)
    return umap.fit_transform(vectors)
